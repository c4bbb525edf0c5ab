"""The tables of money, with the rules that no caller can break.

Three layers say the same thing: CHECK constraints bound every amount, unique indexes make a hold settle once and a fact
be booked once, and triggers refuse any change to a row that is history. `entries` holds transfers from one account to
another, so that every booking balances by its shape.
"""

from __future__ import annotations

from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeEngine

from gateway.money.amounts import AMOUNT_MAX_MICROS
from gateway.store.metadata import metadata
from gateway.store.triggers_money import attach_triggers

# SQLite's STRICT tables know five types and refuse a value of another: no float can end up in a column of money.
Whole: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")
Seconds: TypeEngine[float] = Double().with_variant(REAL(), "sqlite")

TIME_MAX_S = 10**11
FIXED_ACCOUNTS = ("margin", "suspense", "loss", "treasury")


def _amount(column: str, *, least: int = 0) -> CheckConstraint:
    return CheckConstraint(f"{column} BETWEEN {least} AND {AMOUNT_MAX_MICROS}", name=f"{column}_range")


def _time(column: str) -> CheckConstraint:
    return CheckConstraint(f"{column} BETWEEN 0 AND {TIME_MAX_S}", name=f"{column}_range")


def _account(column: str) -> CheckConstraint:
    fixed = ", ".join(f"'{name}'" for name in FIXED_ACCOUNTS)
    named = f"{column} LIKE 'team:_%' OR {column} LIKE 'provider:_%'"
    return CheckConstraint(f"{column} IN ({fixed}) OR {named}", name=f"{column}_account")


# What a team, or one key of a team, may spend in a calendar window. A budget that ends is retired, never deleted.
budgets = Table(
    "budgets",
    metadata,
    Column("id", Text, primary_key=True),
    Column("team_id", Text, ForeignKey("teams.id"), nullable=False),
    Column("key_id", Text),
    Column("window", Text, nullable=False),
    Column("limit_micros", Whole),
    Column("soft_micros", Whole),
    Column("created_at", Seconds, nullable=False),
    Column("retired_at", Seconds),
    CheckConstraint("\"window\" IN ('day', 'week', 'month', 'total')", name="window"),
    CheckConstraint("limit_micros IS NOT NULL OR soft_micros IS NOT NULL", name="limits_something"),
    _amount("limit_micros"),
    _amount("soft_micros"),
    sqlite_strict=True,
)
_ACTIVE_OF_TEAM = text("retired_at IS NULL AND key_id IS NULL")
_ACTIVE_OF_KEY = text("retired_at IS NULL AND key_id IS NOT NULL")
Index(
    "uq_budgets_team_window",
    budgets.c.team_id,
    budgets.c.window,
    unique=True,
    sqlite_where=_ACTIVE_OF_TEAM,
    postgresql_where=_ACTIVE_OF_TEAM,
)
Index(
    "uq_budgets_key_window",
    budgets.c.team_id,
    budgets.c.key_id,
    budgets.c.window,
    unique=True,
    sqlite_where=_ACTIVE_OF_KEY,
    postgresql_where=_ACTIVE_OF_KEY,
)

# The state of a budget in one window: what is spent and what is reserved. `spent + held <= limit` is kept by the
# conditional UPDATE that reserves; a capture above its hold may pass the limit and is recorded in full.
budget_windows = Table(
    "budget_windows",
    metadata,
    Column("budget_id", Text, ForeignKey("budgets.id"), primary_key=True),
    Column("starts_at", Seconds, primary_key=True),
    Column("ends_at", Seconds),
    Column("spent_micros", Whole, nullable=False, server_default="0"),
    Column("held_micros", Whole, nullable=False, server_default="0"),
    Column("warned_at", Seconds),
    CheckConstraint("spent_micros >= 0", name="spent_micros_range"),
    CheckConstraint("held_micros >= 0", name="held_micros_range"),
    CheckConstraint("ends_at IS NULL OR ends_at > starts_at", name="ends_after_start"),
    sqlite_strict=True,
)

holds = Table(
    "holds",
    metadata,
    Column("id", Text, primary_key=True),
    Column("job_id", Text, nullable=False, unique=True),
    Column("team_id", Text, ForeignKey("teams.id"), nullable=False),
    Column("key_id", Text),
    Column("amount_micros", Whole, nullable=False),
    Column("tags", Text, nullable=False, server_default="{}"),
    Column("created_at", Seconds, nullable=False),
    Column("expires_at", Seconds, nullable=False),
    Column("state", Text, nullable=False, server_default="open"),
    _amount("amount_micros"),
    _time("created_at"),
    _time("expires_at"),
    CheckConstraint("expires_at > created_at", name="expires_later"),
    CheckConstraint("state IN ('open', 'captured', 'released', 'expired')", name="state"),
    sqlite_strict=True,
)
Index("ix_holds_team_created", holds.c.team_id, holds.c.created_at)
Index(
    "ix_holds_open_expiry",
    holds.c.expires_at,
    sqlite_where=text("state = 'open'"),
    postgresql_where=text("state = 'open'"),
)

# Which windows a hold counts in: those of the instant it was made, for ever, whenever it is settled.
hold_budgets = Table(
    "hold_budgets",
    metadata,
    Column("hold_id", Text, ForeignKey("holds.id"), primary_key=True),
    Column("budget_id", Text, primary_key=True),
    Column("starts_at", Seconds, primary_key=True),
    sqlite_strict=True,
)

# One row a hold, by the primary key. `excess_micros` is what the price came to above the amount held.
settlements = Table(
    "settlements",
    metadata,
    Column("hold_id", Text, ForeignKey("holds.id"), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("price_micros", Whole, nullable=False, server_default="0"),
    Column("cost_micros", Whole, nullable=False, server_default="0"),
    Column("excess_micros", Whole, nullable=False, server_default="0"),
    Column("cost_source", Text),
    Column("provider", Text),
    Column("route", Text),
    Column("attempt_id", Text),
    Column("provider_request_id", Text),
    Column("at", Seconds, nullable=False),
    Column("reason", Text, nullable=False),
    CheckConstraint("kind IN ('captured', 'released', 'expired')", name="kind"),
    CheckConstraint(
        "kind = 'captured' OR (price_micros = 0 AND cost_micros = 0 AND excess_micros = 0)", name="only_captures_cost"
    ),
    CheckConstraint("(kind = 'captured') = (provider IS NOT NULL AND cost_source IS NOT NULL)", name="explained"),
    _amount("price_micros"),
    _amount("cost_micros"),
    _amount("excess_micros"),
    _time("at"),
    sqlite_strict=True,
)
Index("ix_settlements_at", settlements.c.at)

# A transfer. The debit side grows, the credit side shrinks: a team's account is what it was billed, a provider's
# what is left of the credit bought there. `reference` names the fact booked, so that none is booked twice. `period`
# is the accounting month (UTC): a later one than that of `at` when that month was closed already.
entries = Table(
    "entries",
    metadata,
    Column("id", Whole, primary_key=True, autoincrement=True),
    Column("reference", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("debit", Text, nullable=False),
    Column("credit", Text, nullable=False),
    Column("amount_micros", Whole, nullable=False),
    Column("at", Seconds, nullable=False),
    Column("period", Text, nullable=False),
    Column("hold_id", Text, ForeignKey("holds.id")),
    Column("job_id", Text),
    Column("attempt_id", Text),
    Column("provider", Text),
    Column("route", Text),
    Column("provider_request_id", Text),
    Column("reason", Text, nullable=False),
    UniqueConstraint("reference"),
    CheckConstraint("kind IN ('capture', 'loss', 'suspend', 'clear', 'correct', 'top_up')", name="kind"),
    CheckConstraint("debit <> credit", name="two_accounts"),
    CheckConstraint("period LIKE '____-__'", name="period"),
    _account("debit"),
    _account("credit"),
    _amount("amount_micros", least=1),
    _time("at"),
    sqlite_strict=True,
)
Index("ix_entries_hold_id", entries.c.hold_id)
Index("ix_entries_job_id", entries.c.job_id)
Index("ix_entries_period", entries.c.period)
Index("ix_entries_provider_at", entries.c.provider, entries.c.at)
Index(
    "ix_entries_suspended",
    entries.c.at,
    sqlite_where=text("kind = 'suspend'"),
    postgresql_where=text("kind = 'suspend'"),
)

# Months that do not change any more. Closing one closes all before it.
period_closes = Table(
    "period_closes",
    metadata,
    Column("period", Text, primary_key=True),
    Column("closed_at", Seconds, nullable=False),
    Column("entries_count", Whole, nullable=False),
    Column("balances", Text, nullable=False),
    CheckConstraint("period LIKE '____-__'", name="period"),
    sqlite_strict=True,
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("team_id", Text, ForeignKey("teams.id"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("created_at", Seconds, nullable=False),
    Column("status", Whole),
    Column("body", LargeBinary),
    Column("headers", Text),
    CheckConstraint("length(key) BETWEEN 1 AND 255", name="key_length"),
    CheckConstraint("(status IS NULL) = (body IS NULL) AND (status IS NULL) = (headers IS NULL)", name="stored_whole"),
    CheckConstraint("status BETWEEN 100 AND 599", name="status"),
    sqlite_strict=True,
)
Index("ix_idempotency_created_at", idempotency.c.created_at)

# What a vendor said is left on the account, asked for (`polled`) or found on a reply (`reported`).
provider_balances = Table(
    "provider_balances",
    metadata,
    Column("id", Whole, primary_key=True, autoincrement=True),
    Column("provider", Text, nullable=False),
    Column("amount_micros", Whole, nullable=False),
    Column("at", Seconds, nullable=False),
    Column("source", Text, nullable=False),
    CheckConstraint("source IN ('polled', 'reported')", name="source"),
    _amount("amount_micros", least=-AMOUNT_MAX_MICROS),
    _time("at"),
    sqlite_strict=True,
)
Index("ix_provider_balances_provider_at", provider_balances.c.provider, provider_balances.c.at)

# What a render was reported to cost, beside what the price book said at the time.
price_observations = Table(
    "price_observations",
    metadata,
    Column("attempt_id", Text, primary_key=True),
    Column("route", Text, nullable=False),
    Column("at", Seconds, nullable=False),
    Column("reported_micros", Whole, nullable=False),
    Column("book_micros", Whole, nullable=False),
    Column("parameters", Text, nullable=False),
    _amount("reported_micros"),
    _amount("book_micros"),
    _time("at"),
    sqlite_strict=True,
)
Index("ix_price_observations_route_at", price_observations.c.route, price_observations.c.at)

# The vendor's own list of charges, as imported: the other side of every reconciliation.
vendor_charges = Table(
    "vendor_charges",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("amount_micros", Whole, nullable=False),
    Column("at", Seconds, nullable=False),
    Column("imported_at", Seconds, nullable=False),
    _amount("amount_micros"),
    _time("at"),
    sqlite_strict=True,
)

MONEY_TABLES = (
    budgets,
    budget_windows,
    holds,
    hold_budgets,
    settlements,
    entries,
    period_closes,
    idempotency,
    provider_balances,
    price_observations,
    vendor_charges,
)
attach_triggers(metadata.tables)
