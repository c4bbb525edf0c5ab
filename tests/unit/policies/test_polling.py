"""Poll schedules put their polls where completions are."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.polling import PollSchedules, learned_law, schedule
from policies.settings import RoutingSettings
from policies.values import Observation

SETTINGS = RoutingSettings()


def delay_s(polls: PollSchedules, elapsed_s: float, eta_s: float | None = None) -> float:
    """The next delay of one route with a published 30 s."""
    return polls.next_delay_s("p/m", "default", elapsed_s=elapsed_s, eta_s=eta_s, nominal_latency_s=30.0)


def poll_ages(polls: PollSchedules, until_s: float, eta_s: float | None = None) -> list[float]:
    """The ages at which a render is polled."""
    ages, age_s = [], 0.0
    while age_s < until_s:
        age_s += delay_s(polls, age_s, eta_s)
        ages.append(age_s)
    return ages


def trained(median_s: float, eta_factor: float | None = None, jobs: int = 60) -> PollSchedules:
    """Schedules after renders around a median, each seen at the next poll."""
    polls, random = PollSchedules(SETTINGS), Random(5)
    for i in range(jobs):
        took_s = random.lognormvariate(math.log(median_s), 0.2)
        eta_s = took_s * eta_factor if eta_factor else None
        if eta_s:
            polls.observe(Observation("accepted", 0.0, "p/m", "p", attempt=str(i), eta_s=eta_s))
        seen_s = poll_ages(polls, took_s, eta_s)[-1]
        polls.observe(Observation("succeeded", 0.0, "p/m", "p", attempt=str(i), elapsed_s=seen_s))
    return polls


def test_polls_are_dense_where_renders_finish() -> None:
    """Few polls before any render is done, most around the usual time, fewer again after."""
    ages = poll_ages(trained(60.0), 240.0)
    early = sum(1 for age in ages if age < 35.0)
    middle = sum(1 for age in ages if 40.0 <= age < 90.0)
    late = sum(1 for age in ages if 150.0 <= age < 200.0)
    assert early <= 2
    assert middle > 3 * max(1, early)
    assert late < middle


def test_a_new_route_is_polled_around_its_published_time() -> None:
    """Before anything is learned the catalogue's latency is the guess."""
    ages = poll_ages(PollSchedules(SETTINGS), 60.0)
    assert 8.0 < ages[0] < 30.0


def test_a_vendors_estimate_moves_the_schedule() -> None:
    """With estimates that were right, a render promised in 100 s is left alone longer than one promised in 20 s."""
    polls = trained(60.0, eta_factor=1.0)
    assert delay_s(polls, 0.0, 100.0) > 3.0 * delay_s(polls, 0.0, 20.0)


def test_a_changed_latency_is_followed() -> None:
    """After sixty renders at half the time the first poll comes sooner."""
    polls = trained(60.0)
    before_s = delay_s(polls, 0.0)
    for i in range(60):
        polls.observe(Observation("succeeded", 0.0, "p/m", "p", attempt=f"x{i}", elapsed_s=25.0 + 0.1 * i))
    assert delay_s(polls, 0.0) < 0.75 * before_s


def test_the_lag_beats_a_fixed_interval_at_as_many_polls() -> None:
    """Over renders around a minute, the mean lag is well under that of a fixed interval with as many polls."""
    polls, random = trained(60.0, jobs=80), Random(9)
    lag_s, count, took = 0.0, 0, [random.lognormvariate(math.log(60.0), 0.2) for _ in range(200)]
    for took_s in took:
        ages = poll_ages(polls, took_s)
        lag_s += ages[-1] - took_s
        count += len(ages)
    interval_s = sum(took) / (count - 0.5 * len(took))
    assert lag_s / len(took) < 0.6 * interval_s / 2.0


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(0.2, 900.0), max_size=15),
    st.floats(0.0, 2000.0),
    st.one_of(st.none(), st.floats(0.5, 600.0)),
)
def test_delays_are_always_usable(seen: list[float], elapsed_s: float, eta_s: float | None) -> None:
    """No history asks for a poll at once, or never."""
    polls = PollSchedules(SETTINGS)
    for i, took_s in enumerate(seen):
        polls.observe(Observation("succeeded", 0.0, "p/m", "p", attempt=str(i), elapsed_s=took_s))
    delay = delay_s(polls, elapsed_s, eta_s)
    assert math.isfinite(delay)
    assert delay >= SETTINGS.poll_gap_min_s
    if elapsed_s > 1500.0:
        assert delay <= SETTINGS.poll_gap_max_s


def test_cheaper_polls_make_a_denser_schedule() -> None:
    """A quarter of the cost gives about twice the polls."""
    law = learned_law([math.log(60.0) + 0.02 * i for i in range(-10, 11)], math.log(60.0), SETTINGS)
    cheap = RoutingSettings(poll_cost_s=0.25)
    ratio = len(schedule(law, 1.0, cheap)) / len(schedule(law, 1.0, SETTINGS))
    assert 1.5 < ratio < 3.0


def test_a_law_falls_from_one_to_nought() -> None:
    """The chance to be unfinished never rises."""
    law = learned_law([], math.log(30.0), SETTINGS)
    assert law.unfinished[0] == pytest.approx(1.0, abs=0.02)
    assert list(law.unfinished) == sorted(law.unfinished, reverse=True)
