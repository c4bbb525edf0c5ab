"""Who is told of what: endpoints of teams, of the operator and of the metering service, and their secrets.

Functions over a connection, as everywhere; the command line and the service use the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from gateway.signatures import new_secret, secret_bytes
from gateway.store.conflict import insert_new
from gateway.store.schema_events import webhook_deliveries, webhooks
from gateway.webhook_urls import WebhookError, check_url

TEAM_EVENTS = ("job.succeeded", "job.failed", "job.canceled", "job.expired", "budget.soft_limit")
OPERATOR_EVENTS = ("account.low_water", "job.parked", "price.drift", "webhook.disabled")
USAGE_ID = "usage"
ROTATION_S = 24 * 3600.0
IN_USE: Mapping[str, Any] = {"disabled_at": None, "disabled_why": None, "failing_since": None, "paused_until": None}


@dataclass(frozen=True, slots=True)
class Webhook:
    """An endpoint as it is shown; its secrets are not. `events` None means all that it may hear of."""

    id: str
    team_id: str | None
    kind: str
    url: str
    events: tuple[str, ...] | None
    created_at: float
    disabled_at: float | None
    disabled_why: str | None
    failing_since: float | None = None
    paused_until: float | None = None


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """An endpoint to be made, of a team or, with `team_id` None, of the operator."""

    webhook_id: str
    team_id: str | None
    url: str
    at: float
    events: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_url(self.url)
        known = OPERATOR_EVENTS if self.team_id is None else TEAM_EVENTS
        unknown = [name for name in self.events or () if name not in known]
        if unknown:
            raise WebhookError(f"there is no event {unknown[0]!r} here; choose from {', '.join(known)}")


def add_webhook(connection: Connection, new: NewWebhook) -> str:
    """Make an endpoint and answer with its secret, which is shown only here."""
    secret = new_secret()
    chosen = None if new.events is None else json.dumps(list(new.events))
    connection.execute(
        insert(webhooks).values(
            id=new.webhook_id, team_id=new.team_id, url=new.url, secret=secret, events=chosen, created_at=new.at
        )
    )
    return secret


def list_webhooks(connection: Connection, team_id: str | None = None) -> list[Webhook]:
    """Every endpoint, or a team's, the oldest first."""
    query = select(webhooks).order_by(webhooks.c.created_at, webhooks.c.id)
    rows = connection.execute(query if team_id is None else query.where(webhooks.c.team_id == team_id))
    return [_shown(row) for row in rows]


def rotate_webhook(connection: Connection, webhook_id: str, at: float, overlap_s: float = ROTATION_S) -> str | None:
    """Give an endpoint a new secret and answer with it; the old one signs too until the overlap ends. None: unknown.

    An endpoint that was disabled is taken back into use.
    """
    row = connection.execute(select(webhooks.c.secret).where(_is_own(webhook_id))).one_or_none()
    if row is None:
        return None
    secret = new_secret()
    changes = {
        "secret": secret,
        "old_secret": row.secret if overlap_s > 0 else None,
        "old_secret_until": at + overlap_s if overlap_s > 0 else None,
        **IN_USE,
    }
    connection.execute(update(webhooks).where(_is_own(webhook_id)).values(changes))
    return secret


def enable_webhook(connection: Connection, webhook_id: str) -> bool:
    """Take an endpoint into use again, with what waits for it; False: unknown."""
    return connection.execute(update(webhooks).where(_is_own(webhook_id)).values(IN_USE)).rowcount == 1


def remove_webhook(connection: Connection, webhook_id: str) -> bool:
    """Forget an endpoint, its deliveries and what was still to be sent to it. False: unknown."""
    connection.execute(delete(webhook_deliveries).where(webhook_deliveries.c.webhook_id == webhook_id))
    return connection.execute(delete(webhooks).where(_is_own(webhook_id))).rowcount == 1


def disable_webhook(connection: Connection, webhook_id: str, at: float, why: str) -> bool:
    """Send nothing more to an endpoint; False when it was disabled before."""
    still = update(webhooks).where(webhooks.c.id == webhook_id, webhooks.c.disabled_at.is_(None))
    return connection.execute(still.values(disabled_at=at, disabled_why=why)).rowcount == 1


def keep_usage_webhook(connection: Connection, url: str | None, secret: str, *, source: str, at: float) -> None:
    """Make the metering endpoint what the configuration says; None sends nothing more.

    `source` is this installation's own URI in the events. The secret before signs along for a day.
    """
    if url is None:
        disable_webhook(connection, USAGE_ID, at, "no longer in the configuration")
        return
    row = connection.execute(select(webhooks).where(webhooks.c.id == USAGE_ID)).one_or_none()
    values: dict[str, Any] = {"url": url, "source": source}
    if row is None:
        values |= {"id": USAGE_ID, "kind": "usage", "secret": secret, "created_at": at}
        insert_new(connection, webhooks, values)
        return
    if row.secret != secret:
        values |= {"secret": secret, "old_secret": row.secret, "old_secret_until": at + ROTATION_S}
    if row.url != url or row.secret != secret or row.disabled_why == "no longer in the configuration":
        values |= IN_USE
    connection.execute(update(webhooks).where(webhooks.c.id == USAGE_ID).values(values))


def subscribed(connection: Connection, event_type: str, team_id: str | None) -> list[str]:
    """The endpoints in use that want to hear of this: a team's own, or the operator's where `team_id` is None."""
    of_team = webhooks.c.team_id.is_(None) if team_id is None else webhooks.c.team_id == team_id
    query = select(webhooks.c.id, webhooks.c.events).where(
        of_team, webhooks.c.kind == "events", webhooks.c.disabled_at.is_(None)
    )
    # Kept, where the database locks rows, until what they are to be sent is written: none is removed in between.
    rows = connection.execute(query.order_by(webhooks.c.id).with_for_update(read=True, key_share=True))
    return [row.id for row in rows if row.events is None or event_type in json.loads(row.events)]


def secrets_in_use(secret: str, old_secret: str | None, old_secret_until: float | None, at: float) -> Sequence[str]:
    """The secrets that sign at an instant, the newest first. Raises SecretError for one that no key is in."""
    used = [secret] if old_secret is None or (old_secret_until or 0.0) <= at else [secret, old_secret]
    for one in used:
        secret_bytes(one)
    return used


def _is_own(webhook_id: str) -> Any:
    """What the command line may change: not the metering endpoint, which is the configuration's."""
    return (webhooks.c.id == webhook_id) & (webhooks.c.kind == "events")


def _shown(row: Any) -> Webhook:
    chosen = None if row.events is None else tuple(json.loads(row.events))
    return Webhook(
        row.id,
        row.team_id,
        row.kind,
        row.url,
        chosen,
        row.created_at,
        row.disabled_at,
        row.disabled_why,
        row.failing_since,
        row.paused_until,
    )
