"""The vendor's balance against our account, day by day."""

from __future__ import annotations

from sqlalchemy import Connection

from gateway.money import ledger
from gateway.money.accounts import record_balance
from gateway.money.balances import BalanceDay, balance_drift
from tests.unit.money.builders import NOON, billed

DAY_S = 86_400.0


def balance(connection: Connection, amount: int, at: float) -> None:
    """The vendor says what is left."""
    record_balance(connection, "vendor", amount, at=at, source="polled")


def test_a_balance_that_moves_with_our_books_does_not_drift(connection: Connection) -> None:
    """Charges and credit bought move both sides alike."""
    balance(connection, 1_000, NOON)
    billed(connection, "h", price=120, cost=100, at=NOON + 10)
    ledger.top_up(connection, ledger.TopUp("t", "vendor", 500, NOON + 20, "invoice"))
    balance(connection, 1_400, NOON + 30)
    (day,) = balance_drift(connection, "vendor", since=NOON, until=NOON + DAY_S)
    assert day == BalanceDay("2026-10-01", NOON, NOON + 30, 400, 400)
    assert day.drift_micros == 0


def test_what_only_the_vendor_knows_is_drift_on_its_day(connection: Connection) -> None:
    """A charge that we never booked shows on the day on which the balance fell, and not again."""
    for day, amount in enumerate((1_000, 1_000, 960, 960)):
        balance(connection, amount + 7, NOON + day * DAY_S)
        balance(connection, amount, NOON + day * DAY_S + 60)
    drifts = balance_drift(connection, "vendor", since=NOON + 60, until=NOON + 4 * DAY_S)
    assert [(day.day, day.drift_micros) for day in drifts] == [
        ("2026-10-01", 0),
        ("2026-10-02", 0),
        ("2026-10-03", 40),
        ("2026-10-04", 0),
    ]


def test_without_balances_nothing_is_said(connection: Connection) -> None:
    """No snapshot, no opinion."""
    billed(connection, "h")
    assert balance_drift(connection, "vendor", since=NOON, until=NOON + DAY_S) == []
