"""The outbox: what was written with a change is told at least once, under one id, to a published schedule.

A delivery is claimed by a lease, sent through the guard of outbound.py, and its outcome written under the number of its
try, so that a sender whose lease was taken over changes nothing. A process that dies in between sends again: the same
id, the same bytes. Schedule and rules: Standard Webhooks 1.0.0.

No endpoint holds up another: each has a few sends at a time in all replicas, one that fails has one. An endpoint that
says 429, 502 or 504, or nothing at all, is left alone for a while with everything that is to go there.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from random import Random
from typing import Any

import structlog
from sqlalchemy import Connection, and_, func, insert, literal_column, or_, select, tuple_, update

from gateway.clock import Clock
from gateway.events import webhook_disabled
from gateway.outbound import Outbound, OutboundError
from gateway.signatures import SecretError, headers
from gateway.store.database import Store
from gateway.store.schema_events import events, webhook_deliveries, webhook_tries, webhooks
from gateway.telemetry.trace_context import Trace
from gateway.telemetry.tracing import TraceContext, Tracing, span
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
TURN_S = 1.0
SENDING_MAX = 64
ENDPOINT_SENDING_MAX = 4
RETRY_AFTER_MAX_S = 24 * HOUR_S
GONE = 410
THROTTLING = frozenset({429, 502, 504})
# An endpoint that is out is left alone for a tenth of the time that it has been failing, between these.
PAUSE_SHARE = 0.1
PAUSE_MIN_S, PAUSE_MAX_S = 5.0, 300.0
# An endpoint that took nothing for so long is disabled, and the operator told.
FAILING_MAX_S = 5 * 24 * HOUR_S
# As it stands in the partial index, for a database knows only of a literal that it means the same.
_IS_PENDING = webhook_deliveries.c.state == literal_column("'pending'")


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
    trace: str | None = None


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


@dataclass(slots=True)
class Outbox:
    """Sends what is due. `turn` is one turn of the service's loop; it waits for no slow receiver."""

    store: Store
    outbound: Outbound
    clock: Clock
    random: Random
    tracing: Tracing
    _sending: set[asyncio.Task[None]] = field(default_factory=set)

    async def begin(self) -> int:
        """Begin what is due and what there is room for; how many tries were begun."""
        room = SENDING_MAX - len(self._sending)
        begun = await self.store.write(claim_due, self.clock.now(), LEASE_S, room) if room > 0 else []
        for due in begun:
            task = asyncio.create_task(self._send(due), name=f"send {due.event_id}")
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        return len(begun)

    async def turn(self) -> None:
        """Begin what is due, and go on as receivers answer, for as long as that makes room for more."""
        while await self.begin():
            await asyncio.wait(self._sending, timeout=TURN_S, return_when=asyncio.FIRST_COMPLETED)

    async def close(self) -> None:
        """Leave what is being sent: its lease runs out, and whoever comes next sends it again under the same id."""
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    async def _send(self, due: Due) -> None:
        place = TraceContext(Trace.parse(due.trace), {"event_id": due.event_id, "webhook": due.webhook_id})
        with self.tracing.at(place):
            try:
                await self._deliver(due)
            except Exception:  # the boundary of a send: its lease runs out and it is tried again, the others go on
                log.exception("webhook.crashed", event_id=due.event_id, webhook=due.webhook_id)

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
            with span("send webhook", "client") as sending:
                traced = {"traceparent": str(sending.trace)} if sending.trace is not None else {}
                answer = await self.outbound.post(due.url, body, signed | traced, TIMEOUT_S)
                sending.note({"http.response.status_code": answer.status, "vidgate.webhook.try": due.tries + 1})
                if not 200 <= answer.status < 300:
                    sending.fail(str(answer.status))
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
        return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def claim_due(connection: Connection, now: float, lease_s: float, count_max: int) -> list[Due]:
    """Take the lease of deliveries that are due and that nobody is sending, an endpoint's oldest first.

    Each endpoint has its own room, so that a pile of one is not in the way of another.
    """
    claimed: list[Due] = []
    for webhook_id, room in _endpoints_with_room(connection, now):
        claimed += _claim_of(connection, webhook_id, now, min(room, count_max - len(claimed)))
        if len(claimed) >= count_max:
            break
    for due in claimed:
        connection.execute(update(webhook_deliveries).where(_is(due)).values(lease_until=now + lease_s))
    return claimed


def _endpoints_with_room(connection: Connection, now: float) -> list[tuple[str, int]]:
    """The endpoints to which something is due, and how many sends each has room for; longest waiting first.

    Each is looked up by index, so that a pile of a hundred thousand costs no more than one delivery.
    """
    of_one = webhook_deliveries.c.webhook_id == webhooks.c.id, _IS_PENDING
    leased = select(func.count()).where(*of_one, webhook_deliveries.c.lease_until >= now)
    free = select(webhook_deliveries.c.due_at).where(*of_one, webhook_deliveries.c.due_at <= now, _is_free(now))
    first = free.order_by(webhook_deliveries.c.due_at).limit(1)
    in_use = webhooks.c.paused_until.is_(None) | (webhooks.c.paused_until <= now)
    query = select(
        webhooks.c.id,
        webhooks.c.failing_since,
        first.scalar_subquery().label("first"),
        leased.scalar_subquery().label("leased"),
    ).where(webhooks.c.disabled_at.is_(None), in_use)
    found = [row for row in connection.execute(query) if row.first is not None]
    rooms = [
        (row.id, (ENDPOINT_SENDING_MAX if row.failing_since is None else 1) - row.leased)
        for row in sorted(found, key=lambda row: (row.first, row.id))
    ]
    return [(webhook_id, room) for webhook_id, room in rooms if room > 0]


def _claim_of(connection: Connection, webhook_id: str, now: float, count_max: int) -> list[Due]:
    query = (
        select(webhook_deliveries, events.c.content_type, events.c.body, events.c.trace, webhooks)
        .join(events, events.c.id == webhook_deliveries.c.event_id)
        .join(webhooks, webhooks.c.id == webhook_deliveries.c.webhook_id)
        .where(webhook_deliveries.c.webhook_id == webhook_id, _IS_PENDING)
        .where(webhook_deliveries.c.due_at <= now, _is_free(now))
        .order_by(webhook_deliveries.c.due_at)
        .limit(count_max)
        .with_for_update(skip_locked=True, of=webhook_deliveries)
    )
    return [_due(row) for row in connection.execute(query).mappings()]


def _is_free(now: float) -> Any:
    return or_(webhook_deliveries.c.lease_until.is_(None), webhook_deliveries.c.lease_until < now)


def note_try(connection: Connection, due: Due, tried: Tried, wait_s: float | None) -> str:
    """Write what came of a try, and what follows from it: `delivered`, `again`, `failed`, or `superseded`.

    A receiver that says 410 is not sent anything more, and neither is one that took nothing for days.
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
    _note_health(connection, due, tried)
    return str(changes.get("state", "again"))


def _note_health(connection: Connection, due: Due, tried: Tried) -> None:
    """Keep how an endpoint stands: since when it fails, until when it is left alone, and whether it is still used."""
    mine = update(webhooks).where(webhooks.c.id == due.webhook_id)
    if tried.succeeded:
        ill = or_(webhooks.c.failing_since.is_not(None), webhooks.c.paused_until.is_not(None))
        connection.execute(mine.where(ill).values(failing_since=None, paused_until=None))
        return
    known = select(webhooks.c.failing_since).where(webhooks.c.id == due.webhook_id)
    since = connection.execute(known).scalar_one_or_none() or tried.at
    changes: dict[str, Any] = {"failing_since": since}
    pause_s = endpoint_pause_s(tried, tried.at - since)
    if pause_s > 0:
        changes["paused_until"] = tried.at + tried.took_s + pause_s
    connection.execute(mine.values(changes))
    why = None
    if tried.status == GONE:
        why = "the receiver answered 410"
    elif due.tries > 0 and tried.at - since >= FAILING_MAX_S:
        why = f"nothing was taken for {(tried.at - since) / (24 * HOUR_S):.0f} days"
    if why is not None and disable_webhook(connection, due.webhook_id, tried.at, why):
        webhook_disabled(connection, due.webhook_id, tried.at, why)


def endpoint_pause_s(tried: Tried, failing_s: float) -> float:
    """How long an endpoint is left alone after a try that failed: as long as it asked, or a while when it is out."""
    is_out = tried.status is None or tried.status in THROTTLING
    usual_s = min(PAUSE_MAX_S, max(PAUSE_MIN_S, PAUSE_SHARE * failing_s)) if is_out else 0.0
    return max(usual_s, min(tried.retry_after_s or 0.0, RETRY_AFTER_MAX_S))


def replay(connection: Connection, event_id: str, at: float, webhook_id: str | None = None) -> int:
    """Send an event again, under its old id, to every endpoint that was to have it or to one; how many that are."""
    statement = update(webhook_deliveries).where(webhook_deliveries.c.event_id == event_id)
    if webhook_id is not None:
        statement = statement.where(webhook_deliveries.c.webhook_id == webhook_id)
    fresh = {"state": "pending", "tries": 0, "due_at": at, "lease_until": None, "delivered_at": None}
    return connection.execute(statement.values(fresh)).rowcount


def disabled_targets(connection: Connection, event_id: str) -> list[str]:
    """The endpoints that are to have an event and are disabled: it waits until they are used again."""
    query = select(webhooks.c.id).join(webhook_deliveries, webhook_deliveries.c.webhook_id == webhooks.c.id)
    waiting = webhook_deliveries.c.event_id == event_id, webhook_deliveries.c.state == "pending"
    return list(connection.execute(query.where(*waiting, webhooks.c.disabled_at.is_not(None))).scalars())


def deliveries(
    connection: Connection,
    *,
    team_id: str | None = None,
    state: str | None = None,
    count_max: int = 50,
    after: tuple[float, str, str] | None = None,
) -> list[dict[str, Any]]:
    """The latest deliveries, the newest first, each with its tries; a team's own, or with None the operator's view.

    `after` has time, event and webhook of the one that they follow.
    """
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
    if after is not None:
        at, event_id, webhook_id = after
        place = tuple_(webhook_deliveries.c.event_id, webhook_deliveries.c.webhook_id)
        query = query.where(or_(events.c.at < at, and_(events.c.at == at, place > tuple_(event_id, webhook_id))))
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
        trace=row["trace"],
    )


def _is(due: Due) -> Any:
    return (webhook_deliveries.c.event_id == due.event_id) & (webhook_deliveries.c.webhook_id == due.webhook_id)
