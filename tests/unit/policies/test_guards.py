"""The credit guard, the rate guard and the breaker."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.breaker import Breaker
from policies.credit import Burn, credit_state, most_micros, scarcity
from policies.rates import RateGuard
from policies.settings import RoutingSettings

SETTINGS = RoutingSettings()


def test_renders_in_flight_are_counted_against_the_balance() -> None:
    """An account with money for two renders and two in flight takes no third."""
    burn = Burn(600.0)
    assert most_micros(credit_state(200_000, 200_000, burn, 0.0), SETTINGS) == 0.0
    assert 190_000.0 < most_micros(credit_state(200_000, 0, burn, 0.0), SETTINGS) < 200_000.0


def test_an_account_that_is_not_metered_is_never_refused() -> None:
    """No balance means no limit and no scarcity."""
    state = credit_state(None, 10**9, Burn(600.0), 0.0)
    assert most_micros(state, SETTINGS) == math.inf
    assert scarcity(state, SETTINGS) == 1.0


@given(st.integers(0, 10**8), st.integers(0, 10**8), st.integers(1, 10**6))
def test_a_render_that_passes_the_guard_can_be_paid(balance: int, committed: int, price: int) -> None:
    """Whatever is admitted leaves the balance above the floor."""
    if price <= most_micros(credit_state(balance, committed, Burn(600.0), 0.0), SETTINGS):
        assert balance - committed - price >= SETTINGS.credit_floor_micros


def test_money_gets_dearer_as_the_runway_shortens() -> None:
    """The same render costs more in routing on an account that is about to be dry."""
    burn = Burn(600.0)
    for i in range(100):
        burn.spend(100_000, 6.0 * i)
    long, short = credit_state(10**9, 0, burn, 600.0), credit_state(2_000_000, 0, burn, 600.0)
    assert scarcity(long, SETTINGS) == 1.0
    assert 1.5 < scarcity(short, SETTINGS) <= 1.0 + SETTINGS.credit_scarcity
    assert short.runway_s is not None
    assert short.runway_s < 400.0


def test_the_burn_rate_fades_when_nothing_is_spent() -> None:
    """Half of the rate is gone after one half-life."""
    burn = Burn(600.0)
    burn.spend(1_000_000, 0.0)
    assert burn.rate_per_s(600.0) == pytest.approx(0.5 * burn.rate_per_s(0.0))


@given(st.floats(0.1, 3600.0), st.lists(st.floats(0.0, 30.0), max_size=6))
def test_a_retry_hint_is_never_called_early(hint_s: float, later_s: list[float]) -> None:
    """After a 429 with a hint no call goes before it is over, whatever other 429s follow."""
    guard, at = RateGuard(SETTINGS), 100.0
    guard.refused(at, hint_s)
    for gap_s in later_s:
        at += gap_s
        guard.refused(at, None)
    assert guard.delay_s(at) >= 100.0 + hint_s - at - 1e-6


def test_without_a_hint_the_pause_grows() -> None:
    """Each further 429 waits longer, up to the limit."""
    pauses, at = [], 0.0
    guard = RateGuard(SETTINGS)
    for _ in range(8):
        guard.refused(at, None)
        pauses.append(guard.delay_s(at))
        at += pauses[-1]
    assert pauses == sorted(pauses)
    assert pauses[0] == pytest.approx(SETTINGS.rate_backoff_s)
    assert pauses[-1] == pytest.approx(SETTINGS.rate_backoff_max_s)


def test_a_configured_limit_is_kept() -> None:
    """The call after as many as a minute allows waits until the first is a minute old."""
    guard = RateGuard(SETTINGS)
    for i in range(3):
        guard.dispatched(float(i))
    assert guard.delay_s(10.0, 3) == pytest.approx(50.0)
    assert guard.delay_s(10.0, 4) == 0.0
    assert guard.delay_s(10.0) == 0.0


def test_a_learned_spacing_is_forgotten_when_calls_are_accepted() -> None:
    """A limit that was lifted stops slowing calls."""
    guard = RateGuard(SETTINGS)
    guard.refused(0.0, 10.0)
    assert guard.gap_s >= 2.0
    guard.dispatched(10.0)
    assert guard.delay_s(10.0) > 0.0
    for _ in range(30):
        guard.accepted()
    assert guard.gap_s == 0.0


def opened(failures: int = 3) -> Breaker:
    """A breaker after failures in a row on a route that does badly."""
    breaker = Breaker(SETTINGS)
    for i in range(failures):
        breaker.failed(float(i), 0.3)
    return breaker


def test_the_breaker_opens_after_failures_in_a_row_only() -> None:
    """Two failures, or three on a route that does well, change nothing."""
    assert opened(2).state(2.0) == "closed"
    lucky = Breaker(SETTINGS)
    for i in range(5):
        lucky.failed(float(i), 0.9)
    assert lucky.state(5.0) == "closed"
    assert opened(3).state(3.0) == "open"


def test_one_probe_goes_after_the_pause() -> None:
    """Half open lets one call through and holds the others until it has told."""
    breaker = opened()
    after = 2.0 + SETTINGS.breaker_open_s
    assert breaker.delay_s(3.0) == pytest.approx(after - 3.0)
    assert breaker.state(after) == "half_open"
    assert breaker.delay_s(after) == 0.0
    breaker.dispatched(after)
    assert breaker.delay_s(after + 0.1) > 0.0
    breaker.forgotten()
    assert breaker.delay_s(after + 0.1) == 0.0


def test_a_failed_probe_doubles_the_pause_and_a_good_one_closes() -> None:
    """The pause grows while the outage lasts and is gone with the first success."""
    breaker = opened()
    at = 2.0 + SETTINGS.breaker_open_s
    breaker.dispatched(at)
    breaker.failed(at, 0.2)
    assert breaker.delay_s(at) == pytest.approx(2.0 * SETTINGS.breaker_open_s)
    breaker.succeeded()
    assert breaker.state(at) == "closed"
    assert breaker.delay_s(at) == 0.0


def test_a_lost_probe_does_not_block_for_ever() -> None:
    """When a probe never tells, another may go after its time."""
    breaker = opened()
    at = 2.0 + SETTINGS.breaker_open_s
    breaker.dispatched(at)
    assert breaker.delay_s(at + SETTINGS.probe_timeout_s) == 0.0
