"""Retrying without paying twice: the decision tables, the waits, and the shared budget."""

from __future__ import annotations

import heapq
import math
from dataclasses import replace
from itertools import product
from random import Random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.retry import (
    Ambiguous,
    Evidence,
    LookForEvidence,
    NextRoute,
    RetryBudget,
    RetryHere,
    RetryRules,
    Situation,
    StayInDoubt,
    Stop,
    after_doubt,
    after_failure,
    after_refusal,
    backoff_s,
)
from providers.capability import AmbiguousBilling
from providers.contract import FAULTS, FailureKind

EASY = Situation(submits=1, slack_s=1e9, budget_allows=True, answered=True)
RULES = RetryRules()
REFUSALS = {
    FailureKind.INVALID_REQUEST: Stop,
    FailureKind.MODERATED: Stop,
    FailureKind.UNAUTHORIZED: NextRoute,
    FailureKind.FORBIDDEN: NextRoute,
    FailureKind.NO_CREDIT: NextRoute,
    FailureKind.RATE_LIMITED: RetryHere,
    FailureKind.MODEL_GONE: NextRoute,
    FailureKind.UNAVAILABLE: RetryHere,
    FailureKind.SERVER_ERROR: NextRoute,
    FailureKind.RENDER_FAILED: NextRoute,
    FailureKind.NOT_AS_ORDERED: NextRoute,
    FailureKind.BAD_OUTPUT: NextRoute,
    FailureKind.TIMEOUT: NextRoute,
    FailureKind.LOST: NextRoute,
}
# DESIGN section 6, written out: (retry.ambiguous, evidence, what an ambiguous submit costs there) -> what to do.
DOUBTS: dict[tuple[Ambiguous, Evidence, AmbiguousBilling], type] = {
    ("verify", "not_looked", "success_only"): LookForEvidence,
    ("verify", "not_looked", "may_bill"): LookForEvidence,
    ("verify", "not_looked", "free"): LookForEvidence,
    ("verify", "not_accepted", "success_only"): RetryHere,
    ("verify", "not_accepted", "may_bill"): RetryHere,
    ("verify", "not_accepted", "free"): RetryHere,
    ("verify", "none", "success_only"): RetryHere,
    ("verify", "none", "may_bill"): StayInDoubt,
    ("verify", "none", "free"): RetryHere,
    ("retry", "not_looked", "success_only"): RetryHere,
    ("retry", "not_looked", "may_bill"): RetryHere,
    ("retry", "not_looked", "free"): RetryHere,
    ("retry", "not_accepted", "success_only"): RetryHere,
    ("retry", "not_accepted", "may_bill"): RetryHere,
    ("retry", "not_accepted", "free"): RetryHere,
    ("retry", "none", "success_only"): RetryHere,
    ("retry", "none", "may_bill"): RetryHere,
    ("retry", "none", "free"): RetryHere,
    ("never", "not_looked", "success_only"): LookForEvidence,
    ("never", "not_looked", "may_bill"): LookForEvidence,
    ("never", "not_looked", "free"): LookForEvidence,
    ("never", "not_accepted", "success_only"): NextRoute,
    ("never", "not_accepted", "may_bill"): NextRoute,
    ("never", "not_accepted", "free"): NextRoute,
    ("never", "none", "success_only"): StayInDoubt,
    ("never", "none", "may_bill"): StayInDoubt,
    ("never", "none", "free"): StayInDoubt,
}


def test_the_tables_of_this_test_are_complete() -> None:
    """Every kind of failure and every doubtful case has its row here, so that a new one must be decided."""
    assert set(REFUSALS) == set(FailureKind) == set(FAULTS)
    assert set(DOUBTS) == set(product(get_args(Ambiguous), get_args(Evidence), get_args(AmbiguousBilling)))


@pytest.mark.parametrize(("kind", "expected"), REFUSALS.items(), ids=[kind.value for kind in REFUSALS])
def test_a_refused_submit_is_repeated_moved_or_stopped(kind: FailureKind, expected: type) -> None:
    """Only what may pass by itself is repeated here, and only the caller's own fault stops the job."""
    assert type(after_refusal(kind, None, EASY, RULES, Random(1))) is expected


@pytest.mark.parametrize(("case", "expected"), DOUBTS.items(), ids=["-".join(case) for case in DOUBTS])
def test_a_doubtful_submit_is_never_repeated_blindly(
    case: tuple[Ambiguous, Evidence, AmbiguousBilling], expected: type
) -> None:
    """Evidence first; then the vendor's way of billing and the operator's setting decide."""
    ambiguous, evidence, billing = case
    decision = after_doubt(evidence, billing, EASY, RetryRules(ambiguous=ambiguous), Random(1))
    assert type(decision) is expected


@pytest.mark.parametrize("kind", FailureKind, ids=lambda kind: kind.value)
def test_a_failed_render_goes_to_the_next_route_unless_the_request_is_at_fault(kind: FailureKind) -> None:
    """A moderation block or an invalid request is final; every other failure is worth another route."""
    final = kind in {FailureKind.INVALID_REQUEST, FailureKind.MODERATED}
    assert isinstance(after_failure(kind), Stop if final else NextRoute)


TRANSIENT = st.sampled_from([FailureKind.RATE_LIMITED, FailureKind.UNAVAILABLE])
SECONDS = st.floats(0, 10_000)


@given(
    TRANSIENT,
    st.none() | st.floats(-100, 10_000),
    st.integers(1, 6),
    SECONDS,
    st.booleans(),
    st.integers(0, 2**32),
)
def test_a_repeat_is_never_early_never_late_and_never_one_too_many(
    kind: FailureKind, hint_s: float | None, submits: int, slack_s: float, allowed: bool, chance: int
) -> None:
    """A repeat waits at least the vendor's hint, ends inside the slack, and respects the submits and the budget."""
    situation = Situation(submits, slack_s, allowed)
    decision = after_refusal(kind, hint_s, situation, RULES, Random(chance))
    if isinstance(decision, RetryHere):
        assert decision.delay_s >= max(0.0, hint_s or 0.0)
        assert decision.delay_s <= slack_s
        assert submits < RULES.submits_max
        assert allowed
    else:
        assert isinstance(decision, NextRoute)
        longest_s = max(0.0, hint_s or 0.0) + RULES.cap_s
        assert submits >= RULES.submits_max or not allowed or longest_s > slack_s


@given(SECONDS, st.integers(0, 2**32))
def test_a_hint_beyond_the_slack_moves_on_at_once(hint_s: float, chance: int) -> None:
    """A vendor that says to come back too late is left at once, not after the wait."""
    tight = Situation(submits=1, slack_s=math.nextafter(hint_s, -1), budget_allows=True)
    assert isinstance(after_refusal(FailureKind.RATE_LIMITED, hint_s, tight, RULES, Random(chance)), NextRoute)


def test_a_hint_that_is_no_number_is_no_hint() -> None:
    """NaN neither holds a job for ever nor lets it retry in the past."""
    decision = after_refusal(FailureKind.RATE_LIMITED, math.nan, EASY, RULES, Random(1))
    assert isinstance(decision, RetryHere)
    assert 0.0 <= decision.delay_s <= RULES.cap_s


def test_the_reason_names_what_ran_out() -> None:
    """The story of an attempt tells whether submits, budget or time ended it."""
    cases = {
        "the most allowed": Situation(RULES.submits_max, 1e9, True),
        "retry budget": Situation(1, 1e9, False),
        "miss the deadline": Situation(1, -1.0, True),
    }
    for words, situation in cases.items():
        decision = after_refusal(FailureKind.UNAVAILABLE, None, situation, RULES, Random(1))
        assert isinstance(decision, NextRoute)
        assert words in decision.why


def test_jitter_survives_the_cap() -> None:
    """At the cap a thousand clients still wait a thousand different times, spread over the whole range."""
    random = Random(7)
    delays_s = [backoff_s(20, RULES, random) for _ in range(1_000)]
    assert len(set(delays_s)) >= 900
    assert max(delays_s) <= RULES.cap_s
    tenths = [sum(RULES.cap_s * i / 10 <= delay < RULES.cap_s * (i + 1) / 10 for delay in delays_s) for i in range(10)]
    assert min(tenths) >= 60


@given(st.integers(0, 60), st.integers(0, 2**32))
def test_the_backoff_lies_between_zero_and_the_capped_exponential(submits: int, chance: int) -> None:
    """Full jitter: any moment up to the bound, which doubles with every submit until the cap."""
    bound_s = min(RULES.cap_s, RULES.base_s * 2**submits)
    assert 0.0 <= backoff_s(submits, RULES, Random(chance)) <= bound_s


def outage(budget: RetryBudget, arrivals: list[float], rules: RetryRules) -> int:
    """Calls that reach a vendor which refuses everything, from requests at these times; virtual time, nobody sleeps."""
    random, calls = Random(3), 0
    events = [(at, number, 1) for number, at in enumerate(sorted(arrivals))]
    heapq.heapify(events)
    while events:
        now, number, submits = heapq.heappop(events)
        calls += 1
        if submits == 1:
            budget.deposit(now)
        situation = Situation(submits, 1e9, budget.allows(now))
        decision = after_refusal(FailureKind.UNAVAILABLE, None, situation, rules, random)
        if isinstance(decision, RetryHere):
            assert budget.withdraw(now)
            heapq.heappush(events, (now + decision.delay_s, number, submits + 1))
    return calls


@pytest.mark.parametrize("rate_per_s", [1, 5, 20, 100, 1_000_000])
def test_a_total_outage_is_not_amplified(rate_per_s: float) -> None:
    """A thousand requests into a dead vendor cost at most a fifth more calls, and the small steady reserve."""
    arrivals = [number / rate_per_s for number in range(1_000)]
    budget = RetryBudget()
    calls = outage(budget, arrivals, RULES)
    reserve = budget.reserve_per_s * (arrivals[-1] + RULES.cap_s * RULES.submits_max + budget.ttl_s)
    assert calls <= 1.2 * len(arrivals) + reserve
    assert outage(RetryBudget(reserve_per_s=0.0), arrivals, RULES) <= 1.2 * len(arrivals)


def test_without_a_budget_the_same_outage_would_be_tripled() -> None:
    """The test above can fail: with an allowance of everything each request is sent the full three times."""
    assert outage(RetryBudget(ratio=10.0), [number / 100 for number in range(1_000)], RULES) == 3_000


@given(st.lists(st.floats(0, 200), min_size=1, max_size=120))
def test_no_pattern_of_arrivals_overdraws_the_budget(arrivals: list[float]) -> None:
    """However requests are bunched, retries stay within the share and the reserve of the time they took."""
    budget = RetryBudget(reserve_per_s=0.1)
    retries = outage(budget, arrivals, RULES) - len(arrivals)
    span_s = max(arrivals) - min(arrivals) + RULES.cap_s * RULES.submits_max
    assert retries <= 0.2 * len(arrivals) + 0.1 * (span_s + budget.ttl_s)


def test_a_lone_request_may_always_be_retried() -> None:
    """The reserve keeps a quiet gateway able to retry at all."""
    budget = RetryBudget()
    budget.deposit(100.0)
    assert budget.withdraw(100.5)
    assert budget.withdraw(101.0)


def test_the_budget_forgets_after_its_time() -> None:
    """Yesterday's calm does not pay for today's storm, nor yesterday's storm for today's."""
    budget = RetryBudget(ratio=1.0, reserve_per_s=0.0, ttl_s=10.0)
    for _ in range(5):
        budget.deposit(0.0)
    assert budget.allows(9.9)
    assert not budget.allows(10.0)
    budget.deposit(20.0)
    assert budget.withdraw(20.0)
    assert not budget.withdraw(20.0)


def test_silence_from_a_vendor_that_bills_only_successes_stays_in_doubt() -> None:
    """Behind a timeout the render may go on, succeed and be billed; only an error that arrived rules that out."""
    silent = replace(EASY, answered=False)
    decision = after_doubt("none", "success_only", silent, RetryRules(), Random(1))
    assert isinstance(decision, StayInDoubt)
    assert isinstance(after_doubt("none", "success_only", EASY, RetryRules(), Random(1)), RetryHere)
    assert isinstance(after_doubt("none", "free", silent, RetryRules(), Random(1)), RetryHere)
