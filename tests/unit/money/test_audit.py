"""The audit finds every kind of damage: each rule is broken on purpose, past the triggers, and must be named."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, text

from gateway.money import ledger
from gateway.money.periods import close_period
from tests.unit.money.builders import NOON, billed, budget, hold


def damage(connection: Connection, *statements: str) -> list[str]:
    """Do something that the triggers would refuse, and return what the audit says."""
    triggers = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars().all()
    for name in triggers:
        connection.execute(text(f"DROP TRIGGER {name}"))
    for statement in statements:
        connection.execute(text(statement))
    return ledger.check(connection)


@pytest.fixture
def connection(sqlite_connection: Connection) -> Connection:
    """SQLite's own words and ways; tests/unit/store/test_postgres_schema.py has PostgreSQL's."""
    return sqlite_connection


@pytest.fixture
def books(connection: Connection) -> Connection:
    """One billed hold and one open hold under a budget."""
    budget(connection)
    billed(connection, "done", price=90, cost=80)
    hold(connection, "open", amount=50)
    assert ledger.check(connection) == []
    return connection


def test_sound_books_have_nothing_to_report(books: Connection) -> None:
    """No news is good news."""
    assert ledger.check(books) == []


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("UPDATE holds SET state = 'released' WHERE id = 'open'", "its settlement is None"),
        ("UPDATE holds SET state = 'open' WHERE id = 'done'", "is open but its settlement is captured"),
        ("UPDATE holds SET state = 'expired' WHERE id = 'done'", "is expired but its settlement is captured"),
        ("UPDATE settlements SET price_micros = 91", "its entries say 90 and 80"),
        ("UPDATE settlements SET cost_micros = 81", "its entries say 90 and 80"),
        ("UPDATE settlements SET excess_micros = 1", "its excess is wrong"),
        ("UPDATE entries SET amount_micros = 79 WHERE reference = 'capture:done:cost'", "its entries say 89 and 79"),
        ("DELETE FROM entries", "its entries say 0 and 0"),
        ("UPDATE budget_windows SET held_micros = 49", "counts held 49 and spent 90, but its holds say 50 and 90"),
        ("UPDATE budget_windows SET spent_micros = 0", "counts held 50 and spent 0, but its holds say 50 and 90"),
        ("DELETE FROM hold_budgets WHERE hold_id = 'open'", "but its holds say 0 and 90"),
    ],
)
def test_damage_is_found_and_named(books: Connection, statement: str, finding: str) -> None:
    """Each rule that the rows together must keep is checked."""
    assert any(finding in violation for violation in damage(books, statement))


def test_an_attempt_paid_by_the_team_and_by_the_operator_is_found(books: Connection) -> None:
    """One vendor charge is booked on one side."""
    ledger.book_loss(books, ledger.Loss("job-done", "attempt-done", "vendor", 5, NOON, "why"))
    assert ledger.check(books) == ["attempt attempt-done was both captured and booked as a loss"]


def test_a_closed_month_that_changed_is_found(books: Connection) -> None:
    """Entries smuggled into a closed month show."""
    close_period(books, "2026-10", NOON + 40 * 86_400)
    smuggled = (
        "INSERT INTO entries (reference, kind, debit, credit, amount_micros, at, period, reason) "
        "VALUES ('x', 'loss', 'loss', 'provider:vendor', 1, 1, '2026-10', 'x')"
    )
    assert damage(books, smuggled) == ["accounting month 2026-10 is closed, but its balances have changed since"]
