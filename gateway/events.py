"""Events, written in the transaction of the change they tell of, for every endpoint that wants to hear of it.

An event's id follows from the fact itself: the same fact is one event, whatever is repeated. Nothing is written where
nobody listens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from gateway.money.accounts import LowWater
from gateway.money.budgets import SoftLimit
from gateway.money.drift import PriceDrift
from gateway.money.usage_events import correction_event, usage_event
from gateway.store.conflict import insert_new
from gateway.store.jobs import Job
from gateway.store.schema_events import events, webhook_deliveries, webhooks
from gateway.telemetry.trace_context import Trace, trace_id_in
from gateway.webhooks import USAGE_ID, subscribed

JSON_TYPE = "application/json"
CLOUD_EVENT_TYPE = "application/cloudevents+json"


@dataclass(frozen=True, slots=True)
class Event:
    """A fact worth telling. `reference` names it once and for all; `team_id` None is the operator's business.

    `trace` is the span of the job that it is about.
    """

    reference: str
    type: str
    team_id: str | None
    at: float
    data: Mapping[str, Any]
    trace: str | None = None

    @property
    def id(self) -> str:
        """The event's id, the same at every try and in every process."""
        return event_id(self.reference)


def event_id(reference: str) -> str:
    """The id of the event of this fact."""
    return "evt_" + hashlib.sha256(reference.encode()).hexdigest()[:32]


def emit(connection: Connection, event: Event) -> bool:
    """Write an event for all that listen; False when nobody does, or when it was written before."""
    listeners = subscribed(connection, event.type, event.team_id)
    body = {"type": event.type, "timestamp": _rfc3339(event.at), "data": dict(event.data)}
    return _write(connection, event.id, event, JSON_TYPE, body, listeners)


def emit_usage(connection: Connection, hold_id: str, at: float) -> bool:
    """Write the CloudEvent of a billed job for the metering service, where one is configured."""
    return _meter(connection, usage_event, hold_id, at)


def emit_correction(connection: Connection, reference: str, at: float) -> bool:
    """Write the CloudEvent of a correction of a job's bill for the metering service, where one is configured."""
    return _meter(connection, correction_event, reference, at)


def _meter(connection: Connection, make: Callable[..., dict[str, Any] | None], name: str, at: float) -> bool:
    in_use = select(webhooks.c.source).where(webhooks.c.id == USAGE_ID, webhooks.c.disabled_at.is_(None))
    row = connection.execute(in_use.with_for_update(read=True, key_share=True)).one_or_none()
    told = make(connection, name, source=row.source or "urn:vidgate") if row is not None else None
    if told is None:
        return False
    event = Event(f"usage:{name}", told["type"], told["subject"], at, {})
    return _write(connection, event.id, event, CLOUD_EVENT_TYPE, told, [USAGE_ID])


def job_ended(connection: Connection, job: Job) -> None:
    """Tell of a job's end: what became of it and what it cost, not the result itself."""
    assert job.finished_at is not None
    assert job.bill is not None
    problem = job.error or {}
    data = {
        "job_id": job.id,
        "status": job.status,
        "media": job.media,
        "route": job.route,
        "price_micros": job.bill["price_micros"],
        "metadata": job.request.get("metadata", {}),
        "error": {name: problem[name] for name in ("type", "title", "detail")} if problem else None,
        "links": {"self": f"/jobs/{job.id}"},
        "trace_id": trace_id_in(job.trace),
    }
    kind = f"job.{job.status}"
    emit(connection, Event(f"{kind}:{job.id}", kind, job.team_id, job.finished_at, data, _span(job)))


def soft_limits_crossed(connection: Connection, job: Job, warnings: Sequence[SoftLimit]) -> None:
    """Tell of the soft limits that a hold was the first to cross in their window."""
    for one in warnings:
        if not one.first:
            continue
        data = {
            "scope": one.scope,
            "key_id": job.key_id if one.scope == "key" else None,
            "window": one.window,
            "soft_micros": one.soft_micros,
            "spent_micros": one.spent_micros,
            "held_micros": one.held_micros,
            "resets_at": None if one.resets_at is None else _rfc3339(one.resets_at),
        }
        emit(
            connection,
            Event(
                f"budget.soft_limit:{job.id}:{one.scope}:{one.window}",
                "budget.soft_limit",
                job.team_id,
                job.created_at,
                data,
                _span(job),
            ),
        )


def _span(job: Job) -> str | None:
    root = Trace.parse(job.trace)
    return str(root.at_row(job.id)) if root is not None else None


def account_low(connection: Connection, low: LowWater) -> None:
    """Tell the operator of an account that fell under its floor."""
    data = {"provider": low.provider, "balance_micros": low.balance_micros, "floor_micros": low.floor_micros}
    emit(connection, Event(f"account.low_water:{low.provider}:{low.at:.3f}", "account.low_water", None, low.at, data))


def job_parked(connection: Connection, job: Job, at: float, crashes: int) -> bool:
    """Tell the operator of a job that nobody can drive: its hold stays until somebody decides."""
    data = {"job_id": job.id, "team_id": job.team_id, "route": job.route, "crashes": crashes}
    return emit(connection, Event(f"job.parked:{job.id}:{at:.3f}", "job.parked", None, at, data, _span(job)))


def price_drifted(connection: Connection, drift: PriceDrift, day: str, at: float) -> bool:
    """Tell the operator, once a day and route, that what a vendor charges is not what the price book says."""
    data = {
        "route": drift.route,
        "observations": drift.observations,
        "reported_micros": drift.reported_micros,
        "book_micros": drift.book_micros,
        "ratio": drift.ratio,
    }
    return emit(connection, Event(f"price.drift:{drift.route}:{day}", "price.drift", None, at, data))


def webhook_disabled(connection: Connection, webhook_id: str, at: float, why: str) -> bool:
    """Tell the operator, at its other endpoints, of one that nothing is sent to any more."""
    row = connection.execute(select(webhooks.c.team_id, webhooks.c.url).where(webhooks.c.id == webhook_id)).one()
    data = {"webhook_id": webhook_id, "team_id": row.team_id, "url": row.url, "why": why}
    return emit(connection, Event(f"webhook.disabled:{webhook_id}:{at:.3f}", "webhook.disabled", None, at, data))


def _write(
    connection: Connection,
    name: str,
    event: Event,
    content_type: str,
    body: Mapping[str, Any],
    listeners: Sequence[str],
) -> bool:
    if not listeners:
        return False
    row = {
        "id": name,
        "team_id": event.team_id,
        "type": event.type,
        "at": event.at,
        "content_type": content_type,
        "trace": event.trace,
        # What a vendor wrote may hold half a character, which no database takes.
        "body": json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode(errors="replace").decode(),
    }
    if not insert_new(connection, events, row):
        return False
    due = [{"event_id": name, "webhook_id": webhook_id, "due_at": event.at} for webhook_id in listeners]
    connection.execute(insert(webhook_deliveries), due)
    return True


def _rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
