"""The schema on PostgreSQL: the history leads to the tables of the code, and what no caller may do is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import IntegrityError

from gateway.money.accounts import record_balance
from gateway.money.drift import PriceObservation, observe_price
from gateway.money.periods import close_period
from gateway.money.reconcile import import_charges
from gateway.money.usage_files import VendorCharge
from gateway.store import schema_audit
from gateway.store.metadata import metadata
from gateway.store.migrate import SCRIPTS, migrate
from gateway.store.triggers_money import APPEND_ONLY, AUDIT_RULES, RULES
from tests.stateful.money_support import add_teams
from tests.support.plain_postgres import PlainPostgres, plain_postgres
from tests.support.postgres import PostgresServer
from tests.unit.money.builders import NOON, billed, budget, hold

TRIGGERS = text("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal")
FUNCTIONS = text("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace")

assert schema_audit.audit.metadata is metadata


@pytest.fixture
def empty(postgres: PostgresServer) -> Iterator[PlainPostgres]:
    """A database with nothing in it."""
    name = postgres.create()
    with plain_postgres(postgres.url(name)) as database:
        yield database
    postgres.drop(name)


@pytest.fixture
def books(postgres_url: str) -> Iterator[PlainPostgres]:
    """A database with at least one row in every table of money."""
    with plain_postgres(postgres_url) as database:
        database.run(in_transaction, database, fill)
        yield database


def in_transaction(database: PlainPostgres, act: Callable[[Connection], object]) -> None:
    """Run a function in a transaction that is kept."""
    with database.engine.begin() as connection:
        act(connection)


def fill(connection: Connection) -> None:
    """A history of everything."""
    add_teams(connection)
    budget(connection)
    billed(connection, "h")
    hold(connection, "open")
    record_balance(connection, "vendor", 5, at=NOON, source="polled")
    observe_price(connection, PriceObservation("a", "vendor/model", NOON, 1, 1, {}))
    import_charges(connection, [VendorCharge("vendor", "r", 1, NOON)], NOON)
    close_period(connection, "2026-09", NOON)


def refused(database: PlainPostgres, statement: str, match: str) -> None:
    """A statement that the database itself does not carry out."""

    def act(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    with pytest.raises(IntegrityError, match=match):
        database.run(in_transaction, database, act)


def test_the_history_leads_to_the_tables_of_the_code(empty: PlainPostgres) -> None:
    """After all migrations nothing differs from the metadata, and every rule has its trigger."""

    def act(connection: Connection) -> None:
        migrate(connection)
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert set(inspect(connection).get_table_names()) - {"alembic_version"} == set(metadata.tables)
        assert set(connection.execute(TRIGGERS).scalars()) == {rule[1] for rule in (*RULES, *AUDIT_RULES)}

    empty.run(in_transaction, empty, act)


def test_the_way_down_leaves_nothing_and_the_way_up_works_again(empty: PlainPostgres) -> None:
    """Each migration can be undone and done once more, its functions too."""

    def act(connection: Connection) -> None:
        migrate(connection)
        config = Config()
        config.set_main_option("script_location", str(SCRIPTS))
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        assert set(inspect(connection).get_table_names()) == {"alembic_version"}
        assert list(connection.execute(FUNCTIONS).scalars()) == []
        migrate(connection)
        assert set(inspect(connection).get_table_names()) - {"alembic_version"} == set(metadata.tables)

    empty.run(in_transaction, empty, act)


@pytest.mark.parametrize("table", APPEND_ONLY)
def test_history_is_neither_changed_nor_deleted(books: PlainPostgres, table: str) -> None:
    """Not even a direct statement rewrites what was booked."""
    column = {"hold_budgets": "starts_at", "period_closes": "closed_at"}.get(table, "at")
    refused(books, f"UPDATE {table} SET {column} = {column} + 1", f"{table} is append-only")
    refused(books, f"DELETE FROM {table}", f"{table} is append-only")


@pytest.mark.parametrize(
    ("statement", "match"),
    [
        ("UPDATE holds SET state = 'open' WHERE id = 'h'", "a hold settles once"),
        ("UPDATE holds SET amount_micros = 1 WHERE id = 'open'", "a hold settles once"),
        ("DELETE FROM holds WHERE id = 'open'", "holds is append-only"),
        ("UPDATE budget_windows SET held_micros = -1", "held_micros_range"),
        ("INSERT INTO period_closes VALUES ('2026-08', 1, 0, '{}')", "a later accounting month is closed already"),
        (
            "INSERT INTO settlements (hold_id, kind, at, reason) VALUES ('open', 'released', 1, 'x')",
            "a settlement is of the kind its hold became",
        ),
        (
            (
                "INSERT INTO entries (reference, kind, debit, credit, amount_micros, at, period, reason) "
                "VALUES ('x', 'loss', 'loss', 'provider:v', 1, 1, '2026-08', 'x')"
            ),
            "the accounting month is closed",
        ),
        (
            (
                "INSERT INTO entries (reference, kind, debit, credit, amount_micros, at, period, reason) "
                "VALUES ('x', 'loss', 'loss', 'loss', 1, 1, '2026-12', 'x')"
            ),
            "two_accounts",
        ),
    ],
)
def test_what_no_caller_may_do_is_refused(books: PlainPostgres, statement: str, match: str) -> None:
    """The rules stand in the database: a buggy caller cannot break them."""
    refused(books, statement, match)
