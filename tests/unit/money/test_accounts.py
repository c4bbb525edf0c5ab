"""Provider accounts: balance, burn rate, runway, and one alarm a fall."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from gateway.money import ledger
from gateway.money.accounts import LowWater, provider_state, record_balance
from gateway.money.amounts import AmountError
from tests.unit.money.builders import NOON, billed

HOUR_S = 3600.0


def lose(connection: Connection, number: int, amount: int, at: float) -> None:
    """The vendor charges something."""
    ledger.book_loss(connection, ledger.Loss("job", f"a{number}", "vendor", amount, at, "failed"))


def test_available_is_the_balance_less_what_came_after_it(connection: Connection) -> None:
    """What is charged since the balance was read, and what is under way, is gone already."""
    lose(connection, 1, 70, NOON - 10)
    record_balance(connection, "vendor", 1_000, at=NOON, source="polled")
    billed(connection, "h", price=100, cost=200, at=NOON + 10)
    state = provider_state(connection, "vendor", at=NOON + 60, in_flight_micros=300)
    assert (state.balance_micros, state.balance_at) == (1_000, NOON)
    assert (state.charged_since_micros, state.available_micros) == (200, 500)


def test_runway_is_what_is_available_at_the_days_rate(connection: Connection) -> None:
    """480 micros in a day are 20 an hour."""
    lose(connection, 1, 999, NOON - 25 * HOUR_S)
    for number in range(2, 10):
        lose(connection, number, 60, NOON - number * HOUR_S)
    record_balance(connection, "vendor", 100, at=NOON, source="reported")
    state = provider_state(connection, "vendor", at=NOON)
    assert (state.burn_micros_per_hour, state.runway_h) == (20, 5.0)


@pytest.mark.parametrize(("since_s", "burn"), [(6 * HOUR_S, 40), (60.0, 240)])
def test_a_young_account_burns_over_its_own_time(connection: Connection, since_s: float, burn: int) -> None:
    """240 micros in the first six hours are 40 an hour; a first charge just now is taken as an hour's."""
    lose(connection, 1, 240, NOON - since_s)
    assert provider_state(connection, "vendor", at=NOON).burn_micros_per_hour == burn


def test_an_idle_account_has_no_runway_and_an_unknown_one_no_balance(connection: Connection) -> None:
    """What cannot be known is None, never a guess."""
    record_balance(connection, "vendor", 100, at=NOON, source="polled")
    assert provider_state(connection, "vendor", at=NOON).runway_h is None
    unknown = provider_state(connection, "other", at=NOON, floor_micros=5)
    assert (unknown.balance_micros, unknown.available_micros, unknown.is_low) == (None, None, False)


def test_an_account_over_its_last_cent_has_no_runway_left(connection: Connection) -> None:
    """A negative balance is possible and lasts no time."""
    lose(connection, 1, 240, NOON - HOUR_S)
    record_balance(connection, "vendor", -50, at=NOON, source="polled")
    state = provider_state(connection, "vendor", at=NOON, floor_micros=0)
    assert (state.runway_h, state.is_low) == (0.0, True)


def test_the_alarm_rings_once_a_fall(connection: Connection) -> None:
    """The first balance under the floor rings; the next ones do not, until it has been above again."""
    amounts = [120, 99, 50, 100, 99]
    rang = [
        record_balance(connection, "vendor", amount, at=NOON + number, source="polled", floor_micros=100)
        for number, amount in enumerate(amounts)
    ]
    assert rang == [
        None,
        LowWater("vendor", 99, 100, NOON + 1),
        None,
        None,
        LowWater("vendor", 99, 100, NOON + 4),
    ]


def test_a_first_balance_under_the_floor_rings(connection: Connection) -> None:
    """An account that starts empty is said to be."""
    assert record_balance(connection, "vendor", 1, at=NOON, source="polled", floor_micros=100) is not None


@pytest.mark.parametrize("amount", [1.5, float("nan"), 10**16, -(10**16), True])
def test_an_impossible_balance_is_refused(connection: Connection, amount: int) -> None:
    """A balance is a whole number of micro-USD."""
    with pytest.raises(AmountError):
        record_balance(connection, "vendor", amount, at=NOON, source="polled")
