"""Budgets, holds, the ledger, idempotency keys and what vendors charge."""

import sqlalchemy as sa
from alembic import op

from gateway.store.triggers_money import create_triggers, drop_functions

revision = "0002"
down_revision = "0001"

SECONDS: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
WIDE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

RULES = (
    ("hold_budgets", "hold_budgets_no_update", "UPDATE", "", "hold_budgets is append-only"),
    ("settlements", "settlements_no_update", "UPDATE", "", "settlements is append-only"),
    ("entries", "entries_no_update", "UPDATE", "", "entries is append-only"),
    ("period_closes", "period_closes_no_update", "UPDATE", "", "period_closes is append-only"),
    ("provider_balances", "provider_balances_no_update", "UPDATE", "", "provider_balances is append-only"),
    ("price_observations", "price_observations_no_update", "UPDATE", "", "price_observations is append-only"),
    ("vendor_charges", "vendor_charges_no_update", "UPDATE", "", "vendor_charges is append-only"),
    ("hold_budgets", "hold_budgets_no_delete", "DELETE", "", "hold_budgets is append-only"),
    ("settlements", "settlements_no_delete", "DELETE", "", "settlements is append-only"),
    ("entries", "entries_no_delete", "DELETE", "", "entries is append-only"),
    ("period_closes", "period_closes_no_delete", "DELETE", "", "period_closes is append-only"),
    ("provider_balances", "provider_balances_no_delete", "DELETE", "", "provider_balances is append-only"),
    ("price_observations", "price_observations_no_delete", "DELETE", "", "price_observations is append-only"),
    ("vendor_charges", "vendor_charges_no_delete", "DELETE", "", "vendor_charges is append-only"),
    ("holds", "holds_no_delete", "DELETE", "", "holds is append-only"),
    (
        "holds",
        "holds_settle_once",
        "UPDATE",
        (
            "OLD.state <> 'open' OR NEW.state = 'open' OR NEW.id {differs} OLD.id OR NEW.job_id {differs} OLD.job_id "
            "OR NEW.team_id {differs} OLD.team_id OR NEW.key_id {differs} OLD.key_id "
            "OR NEW.amount_micros {differs} OLD.amount_micros OR NEW.tags {differs} OLD.tags "
            "OR NEW.created_at {differs} OLD.created_at OR NEW.expires_at {differs} OLD.expires_at"
        ),
        "a hold settles once and changes in no other way",
    ),
    (
        "settlements",
        "settlements_match",
        "INSERT",
        "(SELECT state FROM holds WHERE id = NEW.hold_id) {differs} NEW.kind",
        "a settlement is of the kind its hold became",
    ),
    (
        "entries",
        "entries_period_open",
        "INSERT",
        "EXISTS (SELECT 1 FROM period_closes WHERE period >= NEW.period)",
        "the accounting month is closed",
    ),
    (
        "period_closes",
        "period_closes_forward",
        "INSERT",
        "EXISTS (SELECT 1 FROM period_closes WHERE period >= NEW.period)",
        "a later accounting month is closed already",
    ),
)


def upgrade() -> None:
    """Make the tables, each after those it refers to."""
    _period_closes()
    _price_observations()
    _provider_balances()
    _vendor_charges()
    _budgets()
    _holds()
    _idempotency()
    _budget_windows()
    _entries()
    _hold_budgets()
    _settlements()
    create_triggers(op.get_bind(), RULES)


def downgrade() -> None:
    """Take them away again."""
    for table in (
        "settlements",
        "hold_budgets",
        "entries",
        "budget_windows",
        "idempotency",
        "holds",
        "budgets",
        "vendor_charges",
        "provider_balances",
        "price_observations",
        "period_closes",
    ):
        op.drop_table(table)
    drop_functions(op.get_bind(), RULES)


def _period_closes() -> None:
    op.create_table(
        "period_closes",
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("closed_at", SECONDS, nullable=False),
        sa.Column("entries_count", WIDE, nullable=False),
        sa.Column("balances", sa.Text(), nullable=False),
        sa.CheckConstraint("period LIKE '____-__'", name=op.f("ck_period_closes_period")),
        sa.PrimaryKeyConstraint("period", name=op.f("pk_period_closes")),
        sqlite_strict=True,
    )


def _price_observations() -> None:
    op.create_table(
        "price_observations",
        sa.Column("attempt_id", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("at", SECONDS, nullable=False),
        sa.Column("reported_micros", WIDE, nullable=False),
        sa.Column("book_micros", WIDE, nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.CheckConstraint("at BETWEEN 0 AND 100000000000", name=op.f("ck_price_observations_at_range")),
        sa.CheckConstraint(
            "book_micros BETWEEN 0 AND 1000000000000000", name=op.f("ck_price_observations_book_micros_range")
        ),
        sa.CheckConstraint(
            "reported_micros BETWEEN 0 AND 1000000000000000", name=op.f("ck_price_observations_reported_micros_range")
        ),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("pk_price_observations")),
        sqlite_strict=True,
    )
    op.create_index("ix_price_observations_route_at", "price_observations", ["route", "at"], unique=False)


def _provider_balances() -> None:
    op.create_table(
        "provider_balances",
        sa.Column("id", WIDE, autoincrement=True, nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("amount_micros", WIDE, nullable=False),
        sa.Column("at", SECONDS, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.CheckConstraint("source IN ('polled', 'reported')", name=op.f("ck_provider_balances_source")),
        sa.CheckConstraint(
            "amount_micros BETWEEN -1000000000000000 AND 1000000000000000",
            name=op.f("ck_provider_balances_amount_micros_range"),
        ),
        sa.CheckConstraint("at BETWEEN 0 AND 100000000000", name=op.f("ck_provider_balances_at_range")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provider_balances")),
        sqlite_strict=True,
    )
    op.create_index("ix_provider_balances_provider_at", "provider_balances", ["provider", "at"], unique=False)


def _vendor_charges() -> None:
    op.create_table(
        "vendor_charges",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("amount_micros", WIDE, nullable=False),
        sa.Column("at", SECONDS, nullable=False),
        sa.Column("imported_at", SECONDS, nullable=False),
        sa.CheckConstraint(
            "amount_micros BETWEEN 0 AND 1000000000000000", name=op.f("ck_vendor_charges_amount_micros_range")
        ),
        sa.CheckConstraint("at BETWEEN 0 AND 100000000000", name=op.f("ck_vendor_charges_at_range")),
        sa.PrimaryKeyConstraint("provider", "request_id", name=op.f("pk_vendor_charges")),
        sqlite_strict=True,
    )


def _budgets() -> None:
    op.create_table(
        "budgets",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("team_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("window", sa.Text(), nullable=False),
        sa.Column("limit_micros", WIDE, nullable=True),
        sa.Column("soft_micros", WIDE, nullable=True),
        sa.Column("created_at", SECONDS, nullable=False),
        sa.Column("retired_at", SECONDS, nullable=True),
        sa.CheckConstraint("\"window\" IN ('day', 'week', 'month', 'total')", name=op.f("ck_budgets_window")),
        sa.CheckConstraint("limit_micros BETWEEN 0 AND 1000000000000000", name=op.f("ck_budgets_limit_micros_range")),
        sa.CheckConstraint(
            "limit_micros IS NOT NULL OR soft_micros IS NOT NULL", name=op.f("ck_budgets_limits_something")
        ),
        sa.CheckConstraint("soft_micros BETWEEN 0 AND 1000000000000000", name=op.f("ck_budgets_soft_micros_range")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_budgets_team_id_teams")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_budgets")),
        sqlite_strict=True,
    )
    op.create_index(
        "uq_budgets_key_window",
        "budgets",
        ["team_id", "key_id", "window"],
        unique=True,
        sqlite_where=sa.text("retired_at IS NULL AND key_id IS NOT NULL"),
        postgresql_where=sa.text("retired_at IS NULL AND key_id IS NOT NULL"),
    )
    op.create_index(
        "uq_budgets_team_window",
        "budgets",
        ["team_id", "window"],
        unique=True,
        sqlite_where=sa.text("retired_at IS NULL AND key_id IS NULL"),
        postgresql_where=sa.text("retired_at IS NULL AND key_id IS NULL"),
    )


def _holds() -> None:
    op.create_table(
        "holds",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("team_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("amount_micros", WIDE, nullable=False),
        sa.Column("tags", sa.Text(), server_default="{}", nullable=False),
        sa.Column("created_at", SECONDS, nullable=False),
        sa.Column("expires_at", SECONDS, nullable=False),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        sa.CheckConstraint("state IN ('open', 'captured', 'released', 'expired')", name=op.f("ck_holds_state")),
        sa.CheckConstraint("amount_micros BETWEEN 0 AND 1000000000000000", name=op.f("ck_holds_amount_micros_range")),
        sa.CheckConstraint("created_at BETWEEN 0 AND 100000000000", name=op.f("ck_holds_created_at_range")),
        sa.CheckConstraint("expires_at > created_at", name=op.f("ck_holds_expires_later")),
        sa.CheckConstraint("expires_at BETWEEN 0 AND 100000000000", name=op.f("ck_holds_expires_at_range")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_holds_team_id_teams")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_holds")),
        sa.UniqueConstraint("job_id", name=op.f("uq_holds_job_id")),
        sqlite_strict=True,
    )
    op.create_index(
        "ix_holds_open_expiry",
        "holds",
        ["expires_at"],
        unique=False,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index("ix_holds_team_created", "holds", ["team_id", "created_at"], unique=False)


def _idempotency() -> None:
    op.create_table(
        "idempotency",
        sa.Column("team_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("created_at", SECONDS, nullable=False),
        sa.Column("status", WIDE, nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("headers", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(status IS NULL) = (body IS NULL) AND (status IS NULL) = (headers IS NULL)",
            name=op.f("ck_idempotency_stored_whole"),
        ),
        sa.CheckConstraint("length(key) BETWEEN 1 AND 255", name=op.f("ck_idempotency_key_length")),
        sa.CheckConstraint("status BETWEEN 100 AND 599", name=op.f("ck_idempotency_status")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_idempotency_team_id_teams")),
        sa.PrimaryKeyConstraint("team_id", "key", name=op.f("pk_idempotency")),
        sqlite_strict=True,
    )
    op.create_index("ix_idempotency_created_at", "idempotency", ["created_at"], unique=False)


def _budget_windows() -> None:
    op.create_table(
        "budget_windows",
        sa.Column("budget_id", sa.Text(), nullable=False),
        sa.Column("starts_at", SECONDS, nullable=False),
        sa.Column("ends_at", SECONDS, nullable=True),
        sa.Column("spent_micros", WIDE, server_default="0", nullable=False),
        sa.Column("held_micros", WIDE, server_default="0", nullable=False),
        sa.Column("warned_at", SECONDS, nullable=True),
        sa.CheckConstraint("ends_at IS NULL OR ends_at > starts_at", name=op.f("ck_budget_windows_ends_after_start")),
        sa.CheckConstraint("held_micros >= 0", name=op.f("ck_budget_windows_held_micros_range")),
        sa.CheckConstraint("spent_micros >= 0", name=op.f("ck_budget_windows_spent_micros_range")),
        sa.ForeignKeyConstraint(["budget_id"], ["budgets.id"], name=op.f("fk_budget_windows_budget_id_budgets")),
        sa.PrimaryKeyConstraint("budget_id", "starts_at", name=op.f("pk_budget_windows")),
        sqlite_strict=True,
    )


def _entries() -> None:
    op.create_table(
        "entries",
        sa.Column("id", WIDE, autoincrement=True, nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("debit", sa.Text(), nullable=False),
        sa.Column("credit", sa.Text(), nullable=False),
        sa.Column("amount_micros", WIDE, nullable=False),
        sa.Column("at", SECONDS, nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("hold_id", sa.Text(), nullable=True),
        sa.Column("job_id", sa.Text(), nullable=True),
        sa.Column("attempt_id", sa.Text(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("route", sa.Text(), nullable=True),
        sa.Column("provider_request_id", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "credit IN ('margin', 'suspense', 'loss', 'treasury') "
            "OR credit LIKE 'team:_%' OR credit LIKE 'provider:_%'",
            name=op.f("ck_entries_credit_account"),
        ),
        sa.CheckConstraint(
            "debit IN ('margin', 'suspense', 'loss', 'treasury') OR debit LIKE 'team:_%' OR debit LIKE 'provider:_%'",
            name=op.f("ck_entries_debit_account"),
        ),
        sa.CheckConstraint(
            "kind IN ('capture', 'loss', 'suspend', 'clear', 'correct', 'top_up')", name=op.f("ck_entries_kind")
        ),
        sa.CheckConstraint("period LIKE '____-__'", name=op.f("ck_entries_period")),
        sa.CheckConstraint("amount_micros BETWEEN 1 AND 1000000000000000", name=op.f("ck_entries_amount_micros_range")),
        sa.CheckConstraint("at BETWEEN 0 AND 100000000000", name=op.f("ck_entries_at_range")),
        sa.CheckConstraint("debit <> credit", name=op.f("ck_entries_two_accounts")),
        sa.ForeignKeyConstraint(["hold_id"], ["holds.id"], name=op.f("fk_entries_hold_id_holds")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_entries")),
        sa.UniqueConstraint("reference", name=op.f("uq_entries_reference")),
        sqlite_strict=True,
    )
    op.create_index("ix_entries_hold_id", "entries", ["hold_id"], unique=False)
    op.create_index("ix_entries_job_id", "entries", ["job_id"], unique=False)
    op.create_index("ix_entries_period", "entries", ["period"], unique=False)
    op.create_index("ix_entries_provider_at", "entries", ["provider", "at"], unique=False)


def _hold_budgets() -> None:
    op.create_table(
        "hold_budgets",
        sa.Column("hold_id", sa.Text(), nullable=False),
        sa.Column("budget_id", sa.Text(), nullable=False),
        sa.Column("starts_at", SECONDS, nullable=False),
        sa.ForeignKeyConstraint(["hold_id"], ["holds.id"], name=op.f("fk_hold_budgets_hold_id_holds")),
        sa.PrimaryKeyConstraint("hold_id", "budget_id", "starts_at", name=op.f("pk_hold_budgets")),
        sqlite_strict=True,
    )
    op.create_index("ix_hold_budgets_budget_id_starts_at", "hold_budgets", ["budget_id", "starts_at"], unique=False)


def _settlements() -> None:
    op.create_table(
        "settlements",
        sa.Column("hold_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("price_micros", WIDE, server_default="0", nullable=False),
        sa.Column("cost_micros", WIDE, server_default="0", nullable=False),
        sa.Column("excess_micros", WIDE, server_default="0", nullable=False),
        sa.Column("cost_source", sa.Text(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("route", sa.Text(), nullable=True),
        sa.Column("attempt_id", sa.Text(), nullable=True),
        sa.Column("provider_request_id", sa.Text(), nullable=True),
        sa.Column("at", SECONDS, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "(kind = 'captured') = (provider IS NOT NULL AND cost_source IS NOT NULL)",
            name=op.f("ck_settlements_explained"),
        ),
        sa.CheckConstraint(
            "kind = 'captured' OR (price_micros = 0 AND cost_micros = 0 AND excess_micros = 0)",
            name=op.f("ck_settlements_only_captures_cost"),
        ),
        sa.CheckConstraint("kind IN ('captured', 'released', 'expired')", name=op.f("ck_settlements_kind")),
        sa.CheckConstraint("at BETWEEN 0 AND 100000000000", name=op.f("ck_settlements_at_range")),
        sa.CheckConstraint("cost_micros BETWEEN 0 AND 1000000000000000", name=op.f("ck_settlements_cost_micros_range")),
        sa.CheckConstraint(
            "excess_micros BETWEEN 0 AND 1000000000000000", name=op.f("ck_settlements_excess_micros_range")
        ),
        sa.CheckConstraint(
            "price_micros BETWEEN 0 AND 1000000000000000", name=op.f("ck_settlements_price_micros_range")
        ),
        sa.ForeignKeyConstraint(["hold_id"], ["holds.id"], name=op.f("fk_settlements_hold_id_holds")),
        sa.PrimaryKeyConstraint("hold_id", name=op.f("pk_settlements")),
        sqlite_strict=True,
    )
    op.create_index("ix_settlements_at", "settlements", ["at"], unique=False)
