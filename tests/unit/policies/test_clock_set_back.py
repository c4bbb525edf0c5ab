"""A clock that is set back makes nothing wait longer than was meant, and nothing go earlier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.breaker import Breaker
from policies.credit import Burn
from policies.estimates import LatencyEstimate, OutcomeEstimate
from policies.local_queue import WaitingRoom, call_place, slot_wait_s
from policies.rates import RateGuard
from policies.retry import RetryBudget
from policies.settings import RoutingSettings
from policies.waits import Waits
from tests.unit.policies.builders import CHEAP, JOB, failed, router

SETTINGS = RoutingSettings()
HOUR_S = 3_600.0
T = 10_000.0

asks = st.tuples(st.just("ask"), st.floats(0.0, 100.0))
passes = st.tuples(st.just("pass"), st.floats(0.0, 50.0))
set_back = st.tuples(st.just("back"), st.floats(0.0, 5_000.0))
looks = st.tuples(st.just("look"), st.just(0.0))


@given(st.lists(st.one_of(asks, passes, set_back, looks), max_size=40))
def test_a_wait_is_what_was_meant(story: list[tuple[str, float]]) -> None:
    """However often the clock is set back: never over early, never more left than asked for, over in that time."""
    waits, elapsed_s, clock_s = Waits(), 0.0, T
    asked: list[tuple[float, float]] = []
    for what, seconds in story:
        elapsed_s += seconds if what == "pass" else 0.0
        clock_s += {"pass": seconds, "back": -seconds}.get(what, 0.0)
        if what == "ask":
            waits.ask(clock_s, seconds)
            asked.append((elapsed_s, seconds))
        if what != "look":
            continue
        left_s = waits.left_s(clock_s)
        meant_s = max((meant for _, meant in asked), default=0.0)
        must_s = max((at + meant - elapsed_s for at, meant in asked), default=0.0)
        assert must_s - 1e-6 <= left_s <= meant_s + 1e-6
    waits.left_s(clock_s)
    assert waits.left_s(clock_s + max((meant for _, meant in asked), default=0.0) + 1e-6) == 0.0


@given(st.lists(st.tuples(st.floats(0.0, 60.0), st.floats(0.0, 60.0)), min_size=1, max_size=12), st.floats(0.0, 200.0))
def test_without_a_step_the_longest_wait_counts(asked: list[tuple[float, float]], later_s: float) -> None:
    """On a clock that only goes on, what is left is to the latest end of all, in whatever order they were told."""
    waits = Waits()
    for at, seconds in asked:
        waits.ask(T + at, seconds)
    now = T + 60.0 + later_s
    assert waits.left_s(now) == pytest.approx(max(0.0, *(T + at + seconds - now for at, seconds in asked)), abs=1e-6)


def guard_refused() -> Callable[[float], float]:
    guard = RateGuard(SETTINGS)
    guard.refused(T, 5.0)
    return guard.delay_s


def guard_full() -> Callable[[float], float]:
    guard = RateGuard(SETTINGS)
    for _ in range(3):
        guard.dispatched(T)
    return lambda now: guard.delay_s(now, 3)


def breaker_open() -> Callable[[float], float]:
    breaker = Breaker(SETTINGS)
    for _ in range(SETTINGS.breaker_failures):
        breaker.failed(T, 0.2)
    return breaker.delay_s


def probe_out() -> Callable[[float], float]:
    breaker = Breaker(SETTINGS)
    for _ in range(SETTINGS.breaker_failures):
        breaker.failed(T - 100.0, 0.2)
    breaker.dispatched(T)
    return breaker.delay_s


@pytest.mark.parametrize(
    ("made", "meant_s"),
    [
        (guard_refused, 5.0),
        (guard_full, 60.0),
        (breaker_open, SETTINGS.breaker_open_s),
        (probe_out, SETTINGS.probe_timeout_s),
    ],
)
def test_what_holds_calls_up_lasts_as_long_as_was_meant(
    made: Callable[[], Callable[[float], float]], meant_s: float
) -> None:
    """A hint, a full minute, an open breaker and a lost probe: an hour back and each is over after its own time."""
    delay_s = made()
    back = T - HOUR_S
    assert 0.0 < delay_s(back) <= meant_s
    assert delay_s(back + meant_s + 0.001) == 0.0


def test_an_account_that_is_out_comes_back_in_time() -> None:
    """The pause after a 401 is not longer by the hour that the clock was set back."""
    one, job = router(), replace(JOB, created_at=T - HOUR_S, deadline_at=T, give_up_at=T + 60.0)
    one.observe(failed(CHEAP, T, "unauthorized"))
    back = T - HOUR_S
    assert not one.rank(job, [CHEAP], back).ranked
    assert one.rank(job, [CHEAP], back + SETTINGS.unauthorized_pause_s + 1.0).ranked


def test_a_budget_that_is_spent_fills_again() -> None:
    """Repeats are refused for one window, and not until the clock is where it was."""
    budget = RetryBudget(ratio=0.0, reserve_per_s=0.2, ttl_s=10.0)
    assert [budget.withdraw(T) for _ in range(3)] == [True, True, False]
    back = T - HOUR_S
    assert not budget.allows(back)
    assert not budget.allows(back + 9.0)
    assert budget.allows(back + 10.001)


def test_what_was_learned_fades_from_the_step_on() -> None:
    """Failures, a level and a burn rate are half forgotten one half-life after the clock was set back."""
    outcome, burn, latency = OutcomeEstimate(SETTINGS), Burn(600.0), LatencyEstimate(SETTINGS, 10.0)
    outcome.learn(False, T)
    burn.spend(1_000_000, T)
    for _ in range(5):
        latency.learn(40.0, T)
    back = T - HOUR_S
    bad, rate, slow = outcome.success_rate(back), burn.rate_per_s(back), latency.law(back).p50_s
    assert outcome.success_rate(back + SETTINGS.failure_half_life_s) > bad
    assert burn.rate_per_s(back + 600.0) == pytest.approx(0.5 * rate)
    assert latency.law(back + SETTINGS.latency_half_life_s).p50_s < slow


def test_whoever_left_a_waiting_room_does_not_hold_the_others_up() -> None:
    """A job that was seen last before the clock was set back has left; one that is seen again is there."""
    room = WaitingRoom(12.0)
    room.enter("gone", call_place(9.0), T)
    assert room.ahead("mine", call_place(1.0), T) == 1
    assert room.ahead("mine", call_place(1.0), T - HOUR_S) == 0


def test_a_render_from_the_future_takes_one_render_more() -> None:
    """A local slot is not waited for by the hour because the render on it began ahead of the clock."""
    assert slot_wait_s(1, (-HOUR_S,), 0, 45.0) == 45.0
