"""Latency and outcome estimates learn, forget and stay sane."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.estimates import FailureShape, LatencyEstimate, LatencyLaw, OutcomeEstimate
from policies.settings import RoutingSettings

SETTINGS = RoutingSettings()
seconds = st.floats(0.2, 2000.0)


def fed(times: list[float], every_s: float = 10.0, nominal_s: float = 30.0) -> LatencyEstimate:
    """An estimate that has seen these renders."""
    estimate = LatencyEstimate(SETTINGS, nominal_s)
    for i, elapsed_s in enumerate(times):
        estimate.learn(elapsed_s, every_s * i)
    return estimate


def test_the_prior_can_be_bettered_until_something_was_seen() -> None:
    """Machines of our own measure their pace; what renders really took counts for more."""
    estimate = LatencyEstimate(SETTINGS, 45.0)
    estimate.expect(9.0)
    assert estimate.law(0.0).p50_s == pytest.approx(9.0)
    estimate.learn(20.0, 1.0)
    learned = estimate.law(1.0).p50_s
    estimate.expect(100.0)
    assert estimate.law(1.0).p50_s == learned > 9.0


def test_before_anything_is_seen_the_published_latency_is_believed() -> None:
    """The catalogue's figure is the prior."""
    law = LatencyEstimate(SETTINGS, 30.0).law(0.0)
    assert law.p50_s == pytest.approx(30.0)
    assert law.p95_s > 45.0


def test_renders_move_the_median_and_narrow_the_spread() -> None:
    """Forty renders near 60 s outweigh a published 30 s."""
    random = Random(1)
    law = fed([random.lognormvariate(math.log(60.0), 0.1) for _ in range(40)]).law(400.0)
    assert 55.0 < law.p50_s < 65.0
    assert law.p95_s < 85.0


def test_what_was_learned_fades_and_the_doubt_returns() -> None:
    """A route unseen for hours is predicted with more doubt and nearer to what is usual for it."""
    estimate = fed([90.0] * 5)
    soon, later = estimate.law(60.0), estimate.law(60.0 + 20_000.0)
    assert later.sigma > soon.sigma
    assert 30.0 < later.p50_s < soon.p50_s


def test_one_wild_render_moves_the_median_little() -> None:
    """An outlier is clipped."""
    calm, wild = fed([30.0] * 20), fed([30.0] * 19 + [3000.0])
    assert wild.law(200.0).p50_s < 1.5 * calm.law(200.0).p50_s


def test_old_unfinished_renders_are_evidence_of_slowness() -> None:
    """Three renders in flight at twice the expected age raise the prediction before any has finished."""
    estimate = fed([30.0] * 10)
    assert estimate.law(100.0, [70.0, 75.0, 80.0]).p50_s > 1.15 * estimate.law(100.0).p50_s
    assert estimate.law(100.0, [5.0, 10.0]).p50_s == estimate.law(100.0).p50_s


def test_a_vendors_estimate_counts_by_how_right_it_was() -> None:
    """Once its estimates were seen to be half the truth, a vendor's 30 s means a minute."""
    trusting, corrected = fed([60.0] * 3), fed([60.0] * 3)
    for _ in range(40):
        corrected.check_eta(30.0, 60.0)
    trusting.learn_eta(30.0, 30.0)
    corrected.learn_eta(30.0, 30.0)
    assert corrected.law(30.0).p50_s > trusting.law(30.0).p50_s


@given(st.lists(seconds, max_size=30), st.floats(0.0, 1e5), st.lists(seconds, max_size=5))
def test_a_law_is_always_a_law(times: list[float], later_s: float, ages_s: list[float]) -> None:
    """Whatever was seen, chances rise with time, stay between nought and one, and p50 is at most p95."""
    law = fed(times).law(10.0 * len(times) + later_s, ages_s)
    assert 0.0 < law.p50_s <= law.p95_s
    chances = [law.chance_within(x) for x in (0.0, 1.0, law.p50_s, law.p95_s, 10.0 * law.p95_s)]
    assert chances == sorted(chances)
    assert 0.0 <= chances[0] <= chances[-1] <= 1.0


def test_the_median_of_a_law_is_where_half_have_finished() -> None:
    """The stated quantiles agree with the chances."""
    law = LatencyLaw(math.log(20.0), 0.3, 0.0, 50.0)
    assert law.chance_within(law.p50_s) == pytest.approx(0.5)
    assert law.chance_within(law.p95_s) == pytest.approx(0.95, abs=1e-3)
    assert law.mean_s == pytest.approx(20.0 * math.exp(0.045))


def test_failures_lower_the_odds_and_time_forgives() -> None:
    """Ten failures in a row leave little hope; an hour later the route is nearly trusted again."""
    outcome = OutcomeEstimate(SETTINGS)
    fresh = outcome.success_rate(0.0)
    for i in range(10):
        outcome.learn(False, float(i))
    assert outcome.success_rate(10.0) < 0.5
    assert outcome.success_rate(3600.0) == pytest.approx(fresh, abs=0.01)
    assert outcome.count(10.0) > 3.0 > outcome.count(3600.0)


def test_overdue_renders_count_against_a_route_before_they_fail() -> None:
    """A vendor that hangs is noticed while it hangs."""
    outcome = OutcomeEstimate(SETTINGS)
    assert outcome.success_rate(0.0, overdue=4) < outcome.success_rate(0.0)


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 100.0), st.floats(0.1, 1.0)), max_size=40))
def test_odds_stay_between_nought_and_one(seen: list[tuple[bool, float, float]]) -> None:
    """No history makes success certain or impossible."""
    outcome, now = OutcomeEstimate(SETTINGS), 0.0
    for good, gap_s, weight in seen:
        now += gap_s
        outcome.learn(good, now, weight=weight)
    assert 0.0 < outcome.success_rate(now) < 1.0


@given(st.lists(st.floats(0.1, 300.0), max_size=30), st.floats(0.0, 600.0))
def test_failures_not_shown_yet_only_dwindle(times: list[float], age_s: float) -> None:
    """The share of failures still to show falls with age, whatever their times were."""
    shape = FailureShape(0.25, 2.0, 40.0)
    for elapsed_s in times:
        shape = shape.learned(elapsed_s, slow=elapsed_s > 15.0)
    assert 0.0 <= shape.unseen(age_s + 1.0) <= shape.unseen(age_s) <= 1.0
    assert shape.fast_s <= shape.mean_s <= max(shape.slow_s, shape.fast_s)
