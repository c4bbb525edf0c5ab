"""Month close: a closed month never changes, and what comes later lands in the next open one."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, select

from gateway.money import ledger
from gateway.money.periods import AlreadyClosed, Closed, NotOver, close_period, last_closed
from gateway.money.reports import statement
from gateway.store.schema_money import entries
from tests.unit.money.builders import NOON, billed

NOVEMBER = 1_793_491_200.0  # 2026-11-01T00:00:00Z
DECEMBER = NOVEMBER + 30 * 86_400


def periods(connection: Connection) -> list[str]:
    """The accounting month of every entry, as booked."""
    return list(connection.execute(select(entries.c.period).order_by(entries.c.id)).scalars())


def test_a_month_closes_when_it_is_over_and_not_before(connection: Connection) -> None:
    """The last instant of a month is too early."""
    billed(connection, "h", price=90, cost=90)
    assert close_period(connection, "2026-10", NOVEMBER - 0.001) == NotOver(NOVEMBER)
    closed = close_period(connection, "2026-10", NOVEMBER)
    assert closed == Closed("2026-10", 1, {"team:beta": 90, "provider:vendor": -90})
    assert close_period(connection, "2026-10", NOVEMBER) == AlreadyClosed("2026-10")
    assert last_closed(connection) == "2026-10"


def test_closing_a_month_closes_all_before_it(connection: Connection) -> None:
    """There is no way back."""
    close_period(connection, "2026-10", NOVEMBER)
    assert close_period(connection, "2026-09", NOVEMBER) == AlreadyClosed("2026-10")


def test_what_comes_after_the_close_lands_in_the_next_month(connection: Connection) -> None:
    """A late capture and a correction keep their time and take the first open month."""
    billed(connection, "h", price=90, cost=90)
    before = statement(connection, "beta", "2026-10")
    close_period(connection, "2026-10", NOVEMBER)
    billed(connection, "late", price=50, cost=50, at=NOON + 120)
    ledger.correct(connection, ledger.Correction("c", "margin", "team:beta", 10, NOON, "goodwill", hold_id="h"))
    assert periods(connection) == ["2026-10", "2026-11", "2026-11"]
    after = statement(connection, "beta", "2026-10")
    assert after.lines == before.lines
    assert (before.closed, after.closed) == (False, True)
    assert statement(connection, "beta", "2026-11").total_micros == 40
    assert ledger.check(connection) == []


def test_the_next_month_skips_every_closed_one(connection: Connection) -> None:
    """A booking for October finds December when October and November are closed."""
    close_period(connection, "2026-11", DECEMBER)
    billed(connection, "h", price=90, cost=90)
    assert periods(connection) == ["2026-12"]


@pytest.mark.parametrize("period", ["october", "2026-10-01", "2026-13"])
def test_what_is_no_month_is_not_closed(connection: Connection, period: str) -> None:
    """A mistyped month closes nothing."""
    with pytest.raises(ValueError):
        close_period(connection, period, DECEMBER)
