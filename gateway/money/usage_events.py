"""Usage as CloudEvents 1.0, so that a metering or invoicing service can take over from the settlement on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select

from gateway.money.tags import tags_from
from gateway.money.transfers import team_account
from gateway.store.schema_money import entries, holds, settlements

BILLED = "vidgate.job.billed.v1"
CORRECTED = "vidgate.job.corrected.v1"
_OF_HOLD = (holds.c.team_id, holds.c.key_id, holds.c.job_id, holds.c.tags)


def usage_event(connection: Connection, hold_id: str, *, source: str) -> dict[str, Any] | None:
    """The event of a captured hold, None for one that was not billed. `source` is this installation's own URI.

    Its id is the hold's, so that a receiver that has seen it can drop a repetition; `subject` is the team.
    """
    query = (
        select(settlements, *_OF_HOLD)
        .join_from(settlements, holds, holds.c.id == settlements.c.hold_id)
        .where(settlements.c.hold_id == hold_id, settlements.c.kind == "captured")
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    amounts = {"price_micros": row.price_micros, "excess_micros": row.excess_micros}
    return _cloud_event(BILLED, row.hold_id, source, row, amounts)


def correction_event(connection: Connection, reference: str, *, source: str) -> dict[str, Any] | None:
    """The event of an entry that changed what a billed job cost its team; None for any other entry.

    `price_micros` is the change, negative for money given back; it adds to what was told before.
    """
    query = (
        select(entries.c.debit, entries.c.credit, entries.c.amount_micros, entries.c.reason, entries.c.at)
        .add_columns(settlements.c.route, settlements.c.provider, *_OF_HOLD)
        .join_from(entries, holds, holds.c.id == entries.c.hold_id)
        .join(settlements, settlements.c.hold_id == entries.c.hold_id)
        .where(entries.c.reference == reference, entries.c.kind == "correct", settlements.c.kind == "captured")
    )
    row = connection.execute(query).one_or_none()
    change = 0 if row is None else {row.debit: 1, row.credit: -1}.get(team_account(row.team_id), 0) * row.amount_micros
    if row is None or change == 0:
        return None
    return _cloud_event(CORRECTED, reference, source, row, {"price_micros": change, "reason": row.reason})


def _cloud_event(kind: str, name: str, source: str, row: Any, amounts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": name,
        "source": source,
        "type": kind,
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
            **amounts,
        },
    }
