"""Usage as CloudEvents 1.0, so that a metering or invoicing service can take over from the settlement on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select

from gateway.money.tags import tags_from
from gateway.store.schema_money import holds, settlements

EVENT_TYPE = "vidgate.job.billed.v1"


def usage_event(connection: Connection, hold_id: str, *, source: str) -> dict[str, Any] | None:
    """The event of a captured hold, None for one that was not billed. `source` is this installation's own URI.

    Its id is the hold's, so that a receiver that has seen it can drop a repetition; `subject` is the team.
    """
    query = (
        select(settlements, holds.c.team_id, holds.c.key_id, holds.c.job_id, holds.c.tags)
        .join_from(settlements, holds, holds.c.id == settlements.c.hold_id)
        .where(settlements.c.hold_id == hold_id, settlements.c.kind == "captured")
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return {
        "specversion": "1.0",
        "id": row.hold_id,
        "source": source,
        "type": EVENT_TYPE,
        "subject": row.team_id,
        "time": datetime.fromtimestamp(row.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": {
            "job": row.job_id,
            "team": row.team_id,
            "key": row.key_id,
            "route": row.route,
            "provider": row.provider,
            "tags": tags_from(row.tags),
            "currency": "USD",
            "price_micros": row.price_micros,
            "excess_micros": row.excess_micros,
        },
    }
