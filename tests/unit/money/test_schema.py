"""The rules of money hold in the database itself, whatever the caller does."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateTable

from gateway.money import idempotency, ledger
from gateway.money.accounts import record_balance
from gateway.money.drift import PriceObservation, observe_price
from gateway.money.periods import close_period
from gateway.money.reconcile import import_charges
from gateway.money.usage_files import VendorCharge
from gateway.store.schema_money import MONEY_TABLES
from gateway.store.triggers_money import APPEND_ONLY, trigger_statements
from tests.unit.money.builders import NOON, billed, budget, hold


def refused(connection: Connection, statement: str, match: str) -> None:
    """The database refuses this statement."""
    with pytest.raises(IntegrityError, match=match):
        connection.execute(text(statement))


@pytest.fixture
def connection(sqlite_connection: Connection) -> Connection:
    """SQLite's own words and ways; tests/unit/store/test_postgres_schema.py has PostgreSQL's."""
    return sqlite_connection


@pytest.fixture
def history(connection: Connection) -> Connection:
    """At least one row in every table of money."""
    budget(connection)
    billed(connection, "h")
    record_balance(connection, "vendor", 5, at=NOON, source="polled")
    observe_price(connection, PriceObservation("a", "vendor/model", NOON, 1, 1, {}))
    import_charges(connection, [VendorCharge("vendor", "r", 1, NOON)], NOON)
    close_period(connection, "2026-09", NOON)
    idempotency.claim(connection, "beta", "key", "f", NOON, idempotency.Replay(202, b"", {}))
    return connection


@pytest.mark.parametrize("table", APPEND_ONLY)
def test_history_is_neither_changed_nor_deleted(history: Connection, table: str) -> None:
    """Rows that are history stay as they were written."""
    column = {"hold_budgets": "hold_id", "period_closes": "period"}.get(table, "at")
    assert history.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() > 0
    refused(history, f"UPDATE {table} SET {column} = {column}", "append-only")
    refused(history, f"DELETE FROM {table}", "append-only")


@pytest.mark.parametrize(
    "change",
    [
        "state = 'open'",
        "state = 'released'",
        "amount_micros = 1",
    ],
)
def test_a_settled_hold_does_not_change(history: Connection, change: str) -> None:
    """A hold settles once."""
    refused(history, f"UPDATE holds SET {change}", "settles once")


@pytest.mark.parametrize(
    "change",
    [
        "amount_micros = amount_micros + 1",
        "team_id = 'alpha'",
        "key_id = NULL",
        "job_id = 'other'",
        "id = 'other'",
        "created_at = created_at - 1",
        "expires_at = expires_at + 1",
        'tags = \'{"a":"b"}\'',
    ],
)
def test_settling_a_hold_changes_nothing_else_of_it(connection: Connection, change: str) -> None:
    """Not even the one change of state carries another with it."""
    hold(connection)
    refused(connection, f"UPDATE holds SET state = 'captured', {change}", "settles once")


def test_a_hold_is_never_deleted(history: Connection) -> None:
    """What was held stays on record."""
    refused(history, "DELETE FROM holds", "append-only")


def test_a_settlement_is_of_the_kind_its_hold_became(connection: Connection) -> None:
    """Neither before the hold is settled nor with another word."""
    hold(connection)
    insert = "INSERT INTO settlements (hold_id, kind, at, reason) VALUES ('h', 'released', 1, 'x')"
    refused(connection, insert, "of the kind its hold became")
    connection.execute(text("UPDATE holds SET state = 'expired'"))
    refused(connection, insert, "of the kind its hold became")


def test_a_hold_has_one_settlement(history: Connection) -> None:
    """The second settlement meets the primary key."""
    refused(
        history,
        "INSERT INTO settlements (hold_id, kind, cost_source, provider, at, reason)"
        " VALUES ('h', 'captured', 'book', 'vendor', 1, 'x')",
        "UNIQUE",
    )


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"amount_micros": "0"}, "amount_micros_range"),
        ({"amount_micros": "-5"}, "amount_micros_range"),
        ({"amount_micros": "1000000000000001"}, "amount_micros_range"),
        ({"amount_micros": "1.5"}, "cannot store REAL"),
        ({"amount_micros": "NULL"}, "NOT NULL"),
        ({"credit": "'loss'"}, "two_accounts"),
        ({"debit": "'somewhere'"}, "debit_account"),
        ({"credit": "'team:'"}, "credit_account"),
        ({"kind": "'gift'"}, "kind"),
        ({"at": "-1"}, "at_range"),
        ({"period": "'2026'"}, "period"),
        ({"period": "'2026-08'"}, "the accounting month is closed"),
        ({"reference": "'capture:h:cost'"}, "UNIQUE"),
        ({"hold_id": "'nothing'"}, "FOREIGN KEY"),
    ],
)
def test_an_impossible_entry_is_refused(history: Connection, changes: dict[str, str], rule: str) -> None:
    """Every entry balances, between two real accounts, by a real amount, in an open month, once."""
    row = {
        "reference": "'x'",
        "kind": "'loss'",
        "debit": "'loss'",
        "credit": "'provider:vendor'",
        "amount_micros": "1",
        "at": "1",
        "period": "'2026-10'",
        "hold_id": "NULL",
        "reason": "'x'",
    } | changes
    refused(history, f"INSERT INTO entries ({', '.join(row)}) VALUES ({', '.join(row.values())})", rule)


def test_a_budget_never_counts_below_nothing(history: Connection) -> None:
    """Giving back more than was held is a fault, and is stopped."""
    refused(history, "UPDATE budget_windows SET held_micros = held_micros - 1", "held_micros_range")
    refused(history, "UPDATE budget_windows SET spent_micros = -1", "spent_micros_range")


def test_a_scope_has_one_active_budget_a_window(history: Connection) -> None:
    """Two limits for the same thing cannot be."""
    insert = (
        'INSERT INTO budgets (id, team_id, key_id, "window", limit_micros, created_at) '
        "VALUES ('{0}', 'beta', {1}, 'day', 5, 1)"
    )
    refused(history, insert.format("other", "NULL"), "UNIQUE")
    history.execute(text(insert.format("key", "'b1'")))
    refused(history, insert.format("key2", "'b1'"), "UNIQUE")


def test_a_capture_says_who_was_paid_and_how_the_cost_is_known(connection: Connection) -> None:
    """A bill without its explanation is refused."""
    hold(connection)
    connection.execute(text("UPDATE holds SET state = 'captured'"))
    refused(
        connection,
        "INSERT INTO settlements (hold_id, kind, price_micros, at, reason) VALUES ('h', 'captured', 5, 1, 'x')",
        "explained",
    )


def test_a_release_carries_no_price(connection: Connection) -> None:
    """What was given back was not billed."""
    hold(connection)
    connection.execute(text("UPDATE holds SET state = 'released'"))
    refused(
        connection,
        "INSERT INTO settlements (hold_id, kind, price_micros, at, reason) VALUES ('h', 'released', 5, 1, 'x')",
        "only_captures_cost",
    )


def test_accounting_months_close_forwards(history: Connection) -> None:
    """An earlier month cannot be closed after a later one."""
    insert = "INSERT INTO period_closes (period, closed_at, entries_count, balances) VALUES ('{0}', 1, 0, '{{}}')"
    refused(history, insert.format("2026-08"), "closed already")
    history.execute(text(insert.format("2026-10")))


def test_every_table_and_trigger_is_written_for_postgresql_too() -> None:
    """The same rules exist in the words of the other database."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    for table in MONEY_TABLES:
        ddl = str(CreateTable(table).compile(dialect=dialect))
        assert "STRICT" not in ddl
        assert "BIGINT" in ddl or "BIGSERIAL" in ddl or table.name == "hold_budgets"
    sqlite, postgres = (trigger_statements(name) for name in ("sqlite", "postgresql"))  # type: ignore[arg-type]
    assert 2 * len(sqlite) == len(postgres)  # a function and its trigger for each
    assert all(
        "IS DISTINCT FROM" in statement for _, statement in postgres if "OLD.state" in statement and "IF" in statement
    )


def test_the_ledger_of_the_history_is_sound(history: Connection) -> None:
    """What the refusals left behind is untouched."""
    assert ledger.check(history) == []
