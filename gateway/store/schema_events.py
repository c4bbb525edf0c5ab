"""The tables of what is told to the outside: who wants to hear, what happened, and every try to tell it.

An event and its deliveries are written in the transaction of the change they tell of. `webhook_tries` is the log.
"""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Table, Text, text

from gateway.store.metadata import metadata
from gateway.store.schema_money import Seconds, Whole

# `team_id` None is the operator's own: it hears of accounts and prices. `kind` usage receives CloudEvents of billed
# jobs and comes from the configuration. `events` is a JSON list of types, None for all. `old_secret` signs beside
# `secret` until `old_secret_until`. `failing_since` is the first failed try since the last success; nothing is sent
# before `paused_until`.
webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("team_id", Text, ForeignKey("teams.id")),
    Column("kind", Text, nullable=False, server_default="events"),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("old_secret", Text),
    Column("old_secret_until", Seconds),
    Column("events", Text),
    Column("source", Text),
    Column("created_at", Seconds, nullable=False),
    Column("disabled_at", Seconds),
    Column("disabled_why", Text),
    Column("failing_since", Seconds),
    Column("paused_until", Seconds),
    CheckConstraint("kind IN ('events', 'usage')", name="kind"),
    CheckConstraint("(disabled_at IS NULL) = (disabled_why IS NULL)", name="disabled"),
    sqlite_strict=True,
)
Index("ix_webhooks_team", webhooks.c.team_id)

# `id` follows from what happened, so that a fact is an event once; `body` is what is signed and sent, to the byte.
# `trace` is the span of the job that it tells of.
events = Table(
    "events",
    metadata,
    Column("id", Text, primary_key=True),
    Column("team_id", Text),
    Column("type", Text, nullable=False),
    Column("at", Seconds, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("trace", Text),
    sqlite_strict=True,
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("event_id", Text, ForeignKey("events.id"), primary_key=True),
    Column("webhook_id", Text, ForeignKey("webhooks.id", ondelete="CASCADE"), primary_key=True),
    Column("state", Text, nullable=False, server_default="pending"),
    Column("tries", Whole, nullable=False, server_default="0"),
    Column("due_at", Seconds, nullable=False),
    Column("lease_until", Seconds),
    Column("delivered_at", Seconds),
    CheckConstraint("state IN ('pending', 'delivered', 'failed')", name="state"),
    CheckConstraint("(state = 'delivered') = (delivered_at IS NOT NULL)", name="delivered"),
    sqlite_strict=True,
)
Index(
    "ix_webhook_deliveries_due",
    webhook_deliveries.c.due_at,
    sqlite_where=text("state = 'pending'"),
    postgresql_where=text("state = 'pending'"),
)
Index("ix_webhook_deliveries_webhook", webhook_deliveries.c.webhook_id)
Index(
    "ix_webhook_deliveries_turn",
    webhook_deliveries.c.webhook_id,
    webhook_deliveries.c.due_at,
    sqlite_where=text("state = 'pending'"),
    postgresql_where=text("state = 'pending'"),
)
Index(
    "ix_webhook_deliveries_leased",
    webhook_deliveries.c.webhook_id,
    sqlite_where=text("lease_until IS NOT NULL"),
    postgresql_where=text("lease_until IS NOT NULL"),
)

# One row a try. `status` is the receiver's HTTP status, `fault` why there was none or why it did not count.
webhook_tries = Table(
    "webhook_tries",
    metadata,
    Column("id", Whole, primary_key=True, autoincrement=True),
    Column("event_id", Text, nullable=False),
    Column("webhook_id", Text, nullable=False),
    Column("at", Seconds, nullable=False),
    Column("took_s", Seconds, nullable=False),
    Column("status", Whole),
    Column("fault", Text),
    sqlite_strict=True,
)
Index("ix_webhook_tries_delivery", webhook_tries.c.webhook_id, webhook_tries.c.event_id)
