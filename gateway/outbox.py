"""The outbox: what was written with a change is told at least once, under one id, to a published schedule.

A delivery is claimed by a lease, sent through the guard of outbound.py, and its outcome written under the number of its
try, so that a sender whose lease was taken over changes nothing. A process that dies in between sends again: the same
id, the same bytes. Schedule and rules: Standard Webhooks 1.0.0.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from random import Random
from typing import Any

import structlog
from sqlalchemy import Connection, insert, or_, select, update

from gateway.clock import Clock
from gateway.outbound import Outbound, OutboundError
from gateway.signatures import SecretError, headers
from gateway.store.database import Store
from gateway.store.schema_events import events, webhook_deliveries, webhook_tries, webhooks
from gateway.webhooks import disable_webhook, secrets_in_use

log = structlog.get_logger()

HOUR_S = 3600.0
# Waits after each failed try: at once, then these, 75 h 35 min in all.
SCHEDULE_S = (
    5.0, 300.0, 1800.0, 2 * HOUR_S, 5 * HOUR_S, 10 * HOUR_S, 14 * HOUR_S, 20 * HOUR_S, 24 * HOUR_S
)  # fmt: skip
JITTER = 0.1
TIMEOUT_S = 20.0
LEASE_S = 3 * TIMEOUT_S
BATCH_MAX = 20
RETRY_AFTER_MAX_S = 24 * HOUR_S
GONE = 410


@dataclass(frozen=True, slots=True)
class Due:
    """One delivery that this process may try now. `tries` counts the earlier ones; `secrets` sign, newest first."""

    event_id: str
    webhook_id: str
    tries: int
    url: str
    secret: str
    old_secret: str | None
    old_secret_until: float | None
    content_type: str
    body: str


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one try: the receiver's status, or why there was none; `retry_after_s` is its own wish."""

    at: float
    took_s: float
    status: int | None = None
    fault: str | None = None
    retry_after_s: float | None = None

    @property
    def succeeded(self) -> bool:
        """Only a 2xx is success: a redirect is a failure."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Outbox:
    """Sends what is due. `send_due` is one turn of the loop."""

    store: Store
    outbound: Outbound
    clock: Clock
    random: Random

    async def send_due(self) -> int:
        """Try everything that is due now; how many tries were made."""
        made = 0
        while batch := await self.store.write(claim_due, self.clock.now(), LEASE_S, BATCH_MAX):
            await asyncio.gather(*(self._deliver(due) for due in batch))
            made += len(batch)
        return made

    async def _deliver(self, due: Due) -> None:
        tried = await self._try(due)
        wait_s = wait_after(due.tries, tried, self.random)
        state = await self.store.write(note_try, due, tried, wait_s)
        log.info(f"webhook.{state}", event_id=due.event_id, webhook=due.webhook_id, status=tried.status)

    async def _try(self, due: Due) -> Tried:
        began_at = self.clock.now()
        body = due.body.encode()
        try:
            used = secrets_in_use(due.secret, due.old_secret, due.old_secret_until, began_at)
            signed = headers(due.event_id, began_at, body, used) | {"content-type": due.content_type}
            answer = await self.outbound.post(due.url, body, signed, TIMEOUT_S)
        except (OutboundError, SecretError) as error:
            return Tried(began_at, self.clock.now() - began_at, fault=str(error)[:300])
        now = self.clock.now()
        fault = None if 200 <= answer.status < 300 else f"answered HTTP {answer.status}"
        return Tried(began_at, now - began_at, answer.status, fault, retry_after_s(answer.retry_after, now))


def wait_after(tries: int, tried: Tried, random: Random) -> float | None:
    """Seconds until the next try of a delivery that was tried `tries` times before this; None when it was the last.

    Never sooner than the receiver asked, and at most a day later because of it.
    """
    if tries >= len(SCHEDULE_S) or tried.succeeded or tried.status == GONE:
        return None
    planned_s = SCHEDULE_S[tries] * random.uniform(1 - JITTER, 1 + JITTER)
    return max(planned_s, min(tried.retry_after_s or 0.0, RETRY_AFTER_MAX_S))


def retry_after_s(text: str | None, now: float) -> float | None:
    """Seconds that a Retry-After asks for, in either form (RFC 9110 10.2.3); None for nothing and for nonsense."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:10])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now)


def claim_due(connection: Connection, now: float, lease_s: float, count_max: int) -> list[Due]:
    """Take the lease of deliveries that are due and that nobody is sending, the oldest first."""
    free = or_(webhook_deliveries.c.lease_until.is_(None), webhook_deliveries.c.lease_until < now)
    query = (
        select(webhook_deliveries, events.c.content_type, events.c.body, webhooks)
        .join(events, events.c.id == webhook_deliveries.c.event_id)
        .join(webhooks, webhooks.c.id == webhook_deliveries.c.webhook_id)
        .where(webhook_deliveries.c.state == "pending", webhook_deliveries.c.due_at <= now, free)
        .where(webhooks.c.disabled_at.is_(None))
        .order_by(webhook_deliveries.c.due_at)
        .limit(count_max)
        .with_for_update(skip_locked=True, of=webhook_deliveries)
    )
    claimed = [_due(row) for row in connection.execute(query).mappings()]
    for due in claimed:
        connection.execute(update(webhook_deliveries).where(_is(due)).values(lease_until=now + lease_s))
    return claimed


def note_try(connection: Connection, due: Due, tried: Tried, wait_s: float | None) -> str:
    """Write what came of a try, and what follows from it: `delivered`, `again`, `failed`, or `superseded`.

    A receiver that says 410 is not sent anything more.
    """
    changes: dict[str, Any] = {"tries": due.tries + 1, "lease_until": None}
    if tried.succeeded:
        changes |= {"state": "delivered", "delivered_at": tried.at + tried.took_s}
    elif wait_s is None:
        changes |= {"state": "failed"}
    else:
        changes |= {"due_at": tried.at + tried.took_s + wait_s}
    mine = update(webhook_deliveries).where(_is(due), webhook_deliveries.c.tries == due.tries)
    mine = mine.where(webhook_deliveries.c.state == "pending")
    connection.execute(
        insert(webhook_tries).values(
            event_id=due.event_id,
            webhook_id=due.webhook_id,
            at=tried.at,
            took_s=tried.took_s,
            status=tried.status,
            fault=tried.fault,
        )
    )
    if connection.execute(mine.values(changes)).rowcount != 1:
        return "superseded"
    if tried.status == GONE:
        disable_webhook(connection, due.webhook_id, tried.at, "the receiver answered 410")
    return str(changes.get("state", "again"))


def replay(connection: Connection, event_id: str, at: float, webhook_id: str | None = None) -> int:
    """Send an event again, under its old id, to every endpoint that was to have it or to one; how many that are."""
    statement = update(webhook_deliveries).where(webhook_deliveries.c.event_id == event_id)
    if webhook_id is not None:
        statement = statement.where(webhook_deliveries.c.webhook_id == webhook_id)
    fresh = {"state": "pending", "tries": 0, "due_at": at, "lease_until": None, "delivered_at": None}
    return connection.execute(statement.values(fresh)).rowcount


def deliveries(
    connection: Connection, *, team_id: str | None = None, state: str | None = None, count_max: int = 50
) -> list[dict[str, Any]]:
    """The latest deliveries, the newest first, each with its tries; a team's own, or with None the operator's view."""
    query = (
        select(webhook_deliveries, events.c.type, events.c.at, webhooks.c.url)
        .join(events, events.c.id == webhook_deliveries.c.event_id)
        .join(webhooks, webhooks.c.id == webhook_deliveries.c.webhook_id)
        .order_by(events.c.at.desc(), webhook_deliveries.c.event_id, webhook_deliveries.c.webhook_id)
        .limit(count_max)
    )
    if team_id is not None:
        query = query.where(webhooks.c.team_id == team_id)
    if state is not None:
        query = query.where(webhook_deliveries.c.state == state)
    found: list[dict[str, Any]] = [dict(row) for row in connection.execute(query).mappings()]
    for one in found:
        one["log"] = _log(connection, one["event_id"], one["webhook_id"])
    return found


def _log(connection: Connection, event_id: str, webhook_id: str) -> list[dict[str, Any]]:
    query = select(webhook_tries.c.at, webhook_tries.c.took_s, webhook_tries.c.status, webhook_tries.c.fault).where(
        webhook_tries.c.event_id == event_id, webhook_tries.c.webhook_id == webhook_id
    )
    return [dict(row) for row in connection.execute(query.order_by(webhook_tries.c.id)).mappings()]


def _due(row: Any) -> Due:
    return Due(
        event_id=row["event_id"],
        webhook_id=row["webhook_id"],
        tries=row["tries"],
        url=row["url"],
        secret=row["secret"],
        old_secret=row["old_secret"],
        old_secret_until=row["old_secret_until"],
        content_type=row["content_type"],
        body=row["body"],
    )


def _is(due: Due) -> Any:
    return (webhook_deliveries.c.event_id == due.event_id) & (webhook_deliveries.c.webhook_id == due.webhook_id)
