"""Expected losses, value curves and second attempts agree with what they stand for."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.estimates import FailureShape, LatencyLaw
from policies.objective import Flight, Flights, Option, Stakes, best_backup, value_curve

SHAPE = FailureShape(0.25, 2.0, 40.0)
STAKES = Stakes(deadline_s=60.0, give_up_s=120.0, value=400_000.0, late_fraction=0.5)


def law(median_s: float, sigma: float = 0.3) -> LatencyLaw:
    """A law without stragglers."""
    return LatencyLaw(math.log(median_s), sigma, 0.0, 10.0 * median_s)


def option(route: str, price: float, median_s: float, success: float = 0.97, delay_s: float = 0.0) -> Option:
    """One way to get a job done."""
    return Option(route, round(price), price, delay_s, 0.0, law(median_s), success, SHAPE, 0.0)


def test_the_loss_jumps_at_the_deadline_and_is_whole_at_the_end() -> None:
    """Nothing is lost in time; half at once after; all of it at the give-up time."""
    assert STAKES.loss(60.0) == 0.0
    assert STAKES.loss(60.001) == pytest.approx(200_000.0, rel=1e-3)
    assert STAKES.loss(90.0) == pytest.approx(300_000.0)
    assert STAKES.loss(120.0) == STAKES.value


@settings(max_examples=40)
@given(
    median_s=st.floats(5.0, 150.0),
    sigma=st.floats(0.1, 0.7),
    start_s=st.floats(0.0, 130.0),
    late_fraction=st.floats(0.0, 1.0),
)
def test_the_expected_loss_is_the_mean_of_losses(
    median_s: float, sigma: float, start_s: float, late_fraction: float
) -> None:
    """The closed form equals an average over the law's quantiles."""
    stakes = Stakes(60.0, 120.0, 1000.0, late_fraction)
    random = Random(4)
    draws = sorted(random.gauss(0.0, 1.0) for _ in range(4000))
    sampled = sum(stakes.loss(start_s + median_s * math.exp(sigma * z)) for z in draws) / len(draws)
    assert stakes.expected_loss(law(median_s, sigma), start_s) == pytest.approx(sampled, abs=35.0)


@given(st.floats(0.0, 140.0), st.floats(0.0, 50.0))
def test_starting_later_never_loses_less(start_s: float, later_s: float) -> None:
    """The expected loss does not fall with the start."""
    slow = law(25.0)
    early, late = STAKES.expected_loss(slow, start_s), STAKES.expected_loss(slow, start_s + later_s)
    assert early <= late + 1e-6


def test_the_value_curve_moves_to_the_fast_route_when_time_runs_out() -> None:
    """With time the cheap route decides the cost, near the deadline the fast one, at the end the loss."""
    curve = value_curve(STAKES, [option("cheap", 70_000.0, 20.0), option("fast", 120_000.0, 6.0)])
    assert 70_000.0 < curve.cost_at(0.0) < 90_000.0
    assert 118_000.0 < curve.cost_at(42.0) < 180_000.0
    assert curve.cost_at(119.0) > 300_000.0


@given(st.floats(0.0, 300_000.0))
def test_waiting_is_free_until_the_other_routes_cost_more(rise: float) -> None:
    """The curve stays under the limit up to that moment and no longer; a limit never reached lasts to the end."""
    curve = value_curve(STAKES, [option("cheap", 70_000.0, 20.0), option("fast", 120_000.0, 6.0)])
    until_s = curve.level_until_s(rise)
    assert max(curve.cost_at(until_s * share / 10.0) for share in range(11)) <= curve.costs[0] + rise + 1.0
    assert until_s == curve.offsets_s[-1] or curve.cost_at(until_s + 0.5) > curve.costs[0] + rise
    assert curve.level_until_s(STAKES.value) == STAKES.give_up_s


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.floats(1e3, 5e5), st.floats(3.0, 200.0), st.floats(0.05, 0.99)), max_size=5),
    st.floats(1.0, 400.0),
)
def test_the_value_curve_never_exceeds_the_value(routes: list[tuple[float, float, float]], deadline_s: float) -> None:
    """Giving up is always possible, so nothing costs more than the job is worth, and offsets rise."""
    stakes = Stakes(deadline_s, 2.0 * deadline_s, 400_000.0, 0.5)
    curve = value_curve(stakes, [option(f"r{i}", *numbers) for i, numbers in enumerate(routes)])
    assert list(curve.offsets_s) == sorted(set(curve.offsets_s))
    assert max(curve.costs) <= 400_000.0 + 1e-6
    assert curve.cost_at(-1.0) == curve.costs[0]
    assert curve.cost_at(1e9) == 400_000.0


def test_a_flight_that_should_be_done_is_probably_dead() -> None:
    """The older an attempt is beyond its law, the less it is expected to finish at all."""
    young = Flight(law(20.0), 5.0, 0.05).chance_within(100.0)
    old = Flight(law(20.0), 60.0, 0.05).chance_within(100.0)
    assert young > 0.9
    assert old < 0.2


def test_two_flights_are_better_than_one() -> None:
    """The first of several to finish counts."""
    one = Flight(law(20.0), 0.0, 0.1)
    assert Flights((one, one)).chance_within(20.0) > one.chance_within(20.0)
    assert Flights(()).chance_within(20.0) == 0.0


def test_a_second_attempt_waits_while_the_first_is_likely_to_arrive() -> None:
    """Right after a start a backup only costs; it pays near the deadline."""
    curve = value_curve(STAKES, [option("fast", 120_000.0, 6.0)])
    backup = best_backup(STAKES, Flight(law(30.0), 0.0, 0.02), curve)
    assert backup.cost_later < backup.cost_now
    assert backup.later_s is not None
    assert 30.0 < backup.later_s < 60.0


def test_a_second_attempt_goes_at_once_when_the_first_is_overdue() -> None:
    """An attempt at four times its usual age with the deadline near is not waited for."""
    stakes = Stakes(12.0, 72.0, 400_000.0, 0.5)
    curve = value_curve(stakes, [option("fast", 50_000.0, 6.0)])
    backup = best_backup(stakes, Flight(law(12.0), 48.0, 0.05), curve)
    assert backup.cost_now < backup.cost_later


def test_no_second_attempt_for_a_job_worth_less_than_its_price() -> None:
    """Never is the best time when the loss is smaller than the bill."""
    stakes = Stakes(60.0, 120.0, 10_000.0, 0.5)
    curve = value_curve(stakes, [option("fast", 50_000.0, 6.0)])
    assert best_backup(stakes, Flight(law(30.0), 0.0, 0.02), curve).cost < 10_000.0
