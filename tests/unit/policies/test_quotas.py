"""Quotas: never more than was promised in any stretch of time, and what callers are told of them is kept."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from policies.quotas import MICROSECONDS, Left, Meter, Quota, draw, leaked, left

quotas = st.builds(Quota, st.integers(1, 50), st.integers(1, 3600))
START_US = 1_800_000_000 * MICROSECONDS
# Pauses from nothing to twice the longest window.
pauses = st.lists(st.one_of(st.just(0), st.integers(0, 2_000_000), st.integers(0, 7_200_000_000)), max_size=80)


def played(quota: Quota, between: list[int]) -> list[tuple[int, bool, Left]]:
    """Each request with its time, whether it was taken, and what was told after it."""
    meter, now_us, told = Meter(), START_US, []
    for pause_us in between:
        now_us += pause_us
        taken, (meter,), (standing,) = draw([meter], [quota], now_us)
        told.append((now_us, taken, standing))
    return told


@given(quotas, pauses)
def test_no_stretch_of_time_sees_more_than_the_quota_and_what_leaked(quota: Quota, between: list[int]) -> None:
    """From any request taken to any later one: at most the quota, and the share of it that the time between gives."""
    taken = [at for at, was_taken, _ in played(quota, between) if was_taken]
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            allowed = quota.requests * (quota.window_us + taken[last] - taken[first])
            assert (last - first + 1) * quota.window_us <= allowed


@given(quotas, pauses)
def test_a_request_is_refused_only_with_nothing_left(quota: Quota, between: list[int]) -> None:
    """What was told to be left can be had at once; a refusal takes nothing and says so."""
    for (_, _, before), (_, taken, after) in pairwise(played(quota, between)):
        if before.requests > 0:
            assert taken
        if not taken:
            assert after.requests == 0
            assert after.wait_us > 0


@given(quotas, pauses)
def test_who_waits_as_told_is_taken_and_not_a_microsecond_sooner(quota: Quota, between: list[int]) -> None:
    """The wait is exact, so that Retry-After neither lies nor wastes a caller's time."""
    meter, now_us = Meter(), START_US
    for pause_us in between:
        now_us += pause_us
        taken, (meter,), (standing,) = draw([meter], [quota], now_us)
        if not taken:
            assert draw([meter], [quota], now_us + standing.wait_us)[0]
            assert not draw([meter], [quota], now_us + standing.wait_us - 1)[0]


@given(quotas, pauses)
def test_what_is_told_to_be_whole_again_is(quota: Quota, between: list[int]) -> None:
    """After the reset the whole quota is there, and just before it is not."""
    for at_us, _, standing in played(quota, between):
        assert 0 <= standing.requests <= quota.requests
        assert standing.whole_us <= quota.window_us
        assert standing.reset_s * MICROSECONDS >= (standing.whole_us if standing.requests else standing.wait_us)
        assert at_us >= START_US
    meter = Meter(quota.window_us * quota.requests, START_US)
    whole_us = left(meter, quota).whole_us
    assert left(leaked(meter, quota, START_US + whole_us), quota).requests == quota.requests
    assert left(leaked(meter, quota, START_US + whole_us - 1), quota).requests == quota.requests - 1


@given(st.lists(quotas, min_size=2, max_size=3), pauses)
def test_of_several_quotas_all_are_drawn_or_none(several: list[Quota], between: list[int]) -> None:
    """A team's quota is not used up by a request that its key's quota refuses."""
    meters, now_us = [Meter() for _ in several], START_US
    for pause_us in between:
        now_us += pause_us
        before = [leaked(meter, quota, now_us) for meter, quota in zip(meters, several, strict=True)]
        taken, meters, _ = draw(meters, several, now_us)
        changed = [after != earlier for after, earlier in zip(meters, before, strict=True)]
        assert changed == [taken] * len(several)


@given(quotas, st.integers(1, 10**9))
def test_a_clock_set_back_locks_nobody_out(quota: Quota, back_s: int) -> None:
    """However far the clock jumps, a window later by the new clock the quota is whole."""
    full = Meter(quota.window_us * quota.requests, START_US)
    jumped_us = START_US - back_s * MICROSECONDS
    meter = leaked(full, quota, jumped_us)
    assert left(leaked(meter, quota, jumped_us + quota.window_us), quota).requests == quota.requests


def test_a_narrower_quota_counts_what_was_taken_of_the_wider_one() -> None:
    """A limit that is lowered while requests come does not begin anew, and is never less than nothing."""
    wide, narrow = Quota(100, 60), Quota(10, 60)
    meter = Meter()
    for _ in range(50):
        _, (meter,), _ = draw([meter], [wide], START_US)
    taken, _, (standing,) = draw([meter], [narrow], START_US)
    assert not taken
    assert standing.requests == 0
    assert standing.wait_us == 41 * 6 * MICROSECONDS
