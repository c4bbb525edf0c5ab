"""The router's decisions, as its caller sees them."""

from __future__ import annotations

import re
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.router import Router
from policies.settings import RoutingSettings
from policies.values import Candidate, InFlight, JobFacts, Observation, Ranking, Tried, Weights
from tests.unit.policies.builders import CHEAP, FAST, JOB, LOCAL, busy, due, failed, router, succeeded


def first(ranking: Ranking) -> str:
    """The route at the front."""
    return ranking.ranked[0].route


def refusal(ranking: Ranking, route: str) -> str:
    """Every reason against one route, as one text."""
    return "; ".join(reason for one in ranking.refused if one.route == route for reason in one.reasons)


def test_with_time_the_cheap_route_goes_first_and_without_it_the_fast_one() -> None:
    """The default objective is the cheapest route that meets the deadline."""
    assert first(router().rank(due(180.0), [FAST, CHEAP], 0.0)) == CHEAP.route
    assert first(router().rank(due(20.0), [FAST, CHEAP], 0.0)) == FAST.route


def test_a_route_too_slow_for_the_promised_chance_ranks_last() -> None:
    """A cheap route that is rarely in time stands behind every route that is."""
    ranking = router().rank(replace(due(40.0), value_micros=50_000), [CHEAP, FAST], 0.0)
    assert first(ranking) == FAST.route
    assert ranking.ranked[1].probability_on_time < 0.95 <= ranking.ranked[0].probability_on_time


def test_the_objectives_differ() -> None:
    """Cheapest, fastest and balanced by weights."""
    tight = due(20.0)
    assert first(router().rank(replace(tight, objective="cheapest"), [FAST, CHEAP], 0.0)) == CHEAP.route
    assert first(router().rank(replace(JOB, objective="fastest"), [FAST, CHEAP], 0.0)) == FAST.route
    thrifty = replace(JOB, objective="balanced", weights=Weights(cost=10.0, time=0.1, failure=1.0))
    hasty = replace(JOB, objective="balanced", weights=Weights(cost=0.1, time=10.0, failure=1.0))
    assert first(router().rank(thrifty, [FAST, CHEAP], 0.0)) == CHEAP.route
    assert first(router().rank(hasty, [FAST, CHEAP], 0.0)) == FAST.route


def test_pin_only_ignore_and_order_are_obeyed() -> None:
    """Routes and whole providers can be named."""
    both = [FAST, CHEAP]
    assert [q.route for q in router().rank(replace(JOB, pin="fastco"), both, 0.0).ranked] == [FAST.route]
    assert [q.route for q in router().rank(replace(JOB, only=("fastco/svd",)), both, 0.0).ranked] == [FAST.route]
    assert [q.route for q in router().rank(replace(JOB, ignore=("slowco",)), both, 0.0).ranked] == [FAST.route]
    assert first(router().rank(replace(JOB, order=("fastco",)), both, 0.0)) == FAST.route
    assert "ignores" in refusal(router().rank(replace(JOB, ignore=("slowco",)), both, 0.0), CHEAP.route)
    assert not router().rank(replace(JOB, ignore=("slow",)), both, 0.0).refused


def test_a_preview_is_only_used_when_asked_for() -> None:
    """It is refused by default and taken when pinned."""
    preview = Candidate("preview/camera", "preview", "sync", 0, 1.0, preview=True)
    assert "preview" in refusal(router().rank(JOB, [preview, CHEAP], 0.0), preview.route)
    assert first(router().rank(replace(JOB, pin="preview/camera"), [preview, CHEAP], 0.0)) == preview.route


def test_reasons_found_before_are_kept() -> None:
    """A route that cannot honour a parameter is refused with that sentence, and there is nothing to wait for."""
    ranking = router().rank(JOB, [replace(CHEAP, refusals=("it cannot make 25 frames",))], 0.0)
    assert refusal(ranking, CHEAP.route) == "it cannot make 25 frames"
    assert ranking.ranked == ()
    assert ranking.wait_s is None


def test_the_cost_limit_counts_what_was_spent_and_what_is_running() -> None:
    """A job never plans past its limit."""
    spent = replace(JOB, max_cost_micros=130_000, spent_micros=65_000)
    assert "limit" in refusal(router().rank(spent, [CHEAP, FAST], 0.0), CHEAP.route)
    running = replace(JOB, max_cost_micros=130_000, in_flight=((CHEAP.route, InFlight("a", 0.0)),))
    assert "limit" in refusal(router().rank(running, [CHEAP, FAST], 5.0), FAST.route)


def test_an_account_is_out_before_it_is_empty() -> None:
    """Renders in flight count; the sentence names no amount; money may come, so the router says when to ask again."""
    poor = replace(busy(CHEAP, 5.0, 6.0, 7.0, now=10.0), balance_micros=230_000)
    ranking = router().rank(JOB, [poor], 10.0)
    assert refusal(ranking, poor.route) == "the account's balance after 3 renders in flight is under the price"
    assert ranking.wait_s is not None
    assert first(router().rank(JOB, [poor, FAST], 10.0)) == FAST.route


def test_quotes_and_reasons_have_numbers() -> None:
    """A sentence names times and chance but no amount, and the numbers agree with the fields."""
    quote = router().rank(JOB, [CHEAP], 0.0).ranked[0]
    assert quote.reasons[0].startswith("p50 30 s, p95 ")
    assert "before the deadline in 180 s" in quote.reasons[0]
    assert quote.price_micros == 70_000
    assert quote.expected_cost_micros >= quote.price_micros
    assert quote.p50_s < quote.p95_s
    assert 0.9 < quote.probability_on_time <= quote.probability_success < 1.0


def test_scarce_credit_counts_for_more_than_it_bills() -> None:
    """A nearly dry account is spared, the quote still states the true price, and a sentence says why."""
    one = router()
    for i in range(100):
        one.observe(replace(succeeded(CHEAP, 6.0 * i, 30.0), billed_micros=70_000))
    scarce = replace(CHEAP, balance_micros=500_000)
    twin = Candidate("twin/svd", "twin", "async", price_micros=80_000, nominal_latency_s=30.0)
    ranking = one.rank(JOB, [scarce, twin], 600.0)
    assert first(ranking) == twin.route
    quote = ranking.ranked[1]
    assert quote.price_micros == 70_000
    assert re.fullmatch(r"the account's credit is running out: counted as [1-9]\d* % dearer", quote.reasons[1])


def test_a_rate_limit_is_waited_for_when_nothing_else_is_there() -> None:
    """The wait is never shorter than the hint, in steps that the engine can take."""
    one = router()
    one.observe(failed(CHEAP, 0.0, "rate_limited", retry_after_s=7.0))
    ranking = one.rank(JOB, [CHEAP], 0.2)
    assert "rate limit: next call allowed in 6.8 s" in refusal(ranking, CHEAP.route)
    assert ranking.wait_s == pytest.approx(6.8)
    assert one.rank(JOB, [CHEAP], 7.1).wait_s is None


def test_a_hint_longer_than_the_slack_moves_on_at_once() -> None:
    """The next route is taken instead of waiting past the deadline."""
    one = router()
    one.observe(failed(CHEAP, 0.0, "rate_limited", retry_after_s=300.0))
    ranking = one.rank(due(60.0), [CHEAP, FAST], 0.5)
    assert first(ranking) == FAST.route
    assert ranking.wait_s is None


def test_an_outage_opens_the_breaker_and_one_probe_goes_after_it() -> None:
    """Failures in a row take a route out; the reason says for how long; a success brings it back."""
    one = router()
    for i in range(4):
        one.observe(failed(CHEAP, float(i)))
    ranking = one.rank(JOB, [CHEAP, FAST], 4.0)
    assert first(ranking) == FAST.route
    assert "breaker open for another" in refusal(ranking, CHEAP.route)
    assert one.snapshot(CHEAP.route, 4.0).breaker == "open"
    assert one.snapshot(CHEAP.route, 60.0).breaker == "half_open"
    one.observe(succeeded(CHEAP, 60.0, 30.0))
    assert one.snapshot(CHEAP.route, 60.0).breaker == "closed"


def test_an_account_that_says_it_is_empty_is_out_until_money_comes() -> None:
    """A refusal for credit pauses all routes of the account; a balance ends the pause."""
    one, sibling = router(), replace(CHEAP, route="slowco/other")
    one.observe(failed(CHEAP, 0.0, "no_credit"))
    assert "no_credit" in refusal(one.rank(JOB, [sibling, FAST], 1.0), sibling.route)
    one.observe(Observation("balance", 2.0, CHEAP.route, CHEAP.account, balance_micros=5_000_000))
    assert refusal(one.rank(JOB, [sibling, FAST], 3.0), sibling.route) == ""


@pytest.mark.parametrize("kind", ["moderated", "invalid_request"])
def test_the_callers_faults_say_nothing_against_a_route(kind: str) -> None:
    """Blocked and malformed requests leave the odds and the breaker alone."""
    one = router()
    one.observe(succeeded(CHEAP, 0.0, 30.0))
    before = one.snapshot(CHEAP.route, 1.0)
    for _ in range(10):
        one.observe(failed(CHEAP, 1.0, kind))
    assert one.snapshot(CHEAP.route, 1.0) == before


def test_failures_of_one_route_cast_doubt_on_its_account() -> None:
    """Routes of one vendor go down together more often than not."""
    one, sibling = router(), replace(CHEAP, route="slowco/other")
    one.rank(JOB, [CHEAP, sibling], 0.0)
    before = one.snapshot(sibling.route, 10.0).success_rate
    for i in range(5):
        one.observe(failed(CHEAP, float(i)))
    assert one.snapshot(CHEAP.route, 10.0).success_rate < one.snapshot(sibling.route, 10.0).success_rate < before


def test_a_render_that_failed_is_not_expected_to_work_there_for_the_same_job() -> None:
    """Another route goes first for this job; others keep the route."""
    tried = replace(JOB, tried=(Tried(CHEAP.route, "render_failed", 0.0), Tried(CHEAP.route, "render_failed", 1.0)))
    assert first(router().rank(tried, [CHEAP, FAST], 2.0)) == FAST.route


def test_a_full_route_is_refused_with_its_number() -> None:
    """The limit on renders at once is kept."""
    full = replace(busy(CHEAP, 1.0, 2.0, now=5.0), concurrency_max=2)
    ranking = router().rank(JOB, [full], 5.0)
    assert "2 renders in flight" in refusal(ranking, full.route)
    assert ranking.wait_s is not None


def test_a_free_local_slot_is_taken_at_once() -> None:
    """The team's own worker costs least."""
    ranking = router().rank(JOB, [CHEAP, LOCAL], 0.0)
    assert first(ranking) == LOCAL.route
    assert ranking.wait_s is None


def test_a_patient_job_is_held_for_a_local_slot_and_a_hasty_one_is_not() -> None:
    """With minutes left it waits for the slot; with a minute left it goes to a vendor."""
    taken = replace(LOCAL, in_flight=(InFlight("other", -5.0),))
    patient = router().rank(due(300.0), [CHEAP, taken], 0.0)
    assert first(patient) == LOCAL.route
    assert patient.wait_s is not None
    hasty = router().rank(due(60.0), [FAST, taken], 0.0)
    assert first(hasty) == FAST.route
    assert hasty.wait_s is None


def test_a_held_job_is_handed_over_just_before_the_slot_is_free() -> None:
    """Binding late lets a more urgent job go first meanwhile."""
    taken = replace(LOCAL, in_flight=(InFlight("other", -48.0),))
    assert router().rank(due(300.0), [CHEAP, taken], 0.0).wait_s is None


def test_a_job_that_is_overtaken_keeps_waiting_while_waiting_is_free() -> None:
    """One more urgent job ahead is one turn more, and no sign that the queue stands still."""
    taken, patient = replace(LOCAL, in_flight=(InFlight("other", -5.0),)), replace(due(300.0), id="patient")
    held = router()
    assert held.rank(patient, [CHEAP, taken], 0.0).wait_s is not None
    assert held.rank(replace(due(220.0), id="urgent"), [CHEAP, taken], 1.0).wait_s is not None
    again = held.rank(patient, [CHEAP, taken], 4.0)
    assert (first(again), again.wait_s is not None) == (LOCAL.route, True)


@pytest.mark.parametrize("order", [("dear", "cheap"), ("cheap", "dear")])
def test_of_two_held_jobs_the_one_with_the_dearer_way_out_gets_the_slot(order: tuple[str, str]) -> None:
    """Their deadlines are alike: the slot goes to the job that would otherwise pay more."""
    dear_way = replace(CHEAP, price_micros=200_000)
    ways = {"dear": dear_way, "cheap": CHEAP}
    held = router()
    for at, name in enumerate(order):
        held.rank(replace(due(300.0), id=name), [ways[name], busy(LOCAL, 5.0)], float(at))
    soon_free = busy(LOCAL, 48.0, now=4.0)
    other = held.rank(replace(due(300.0), id="cheap"), [CHEAP, soon_free], 4.0)
    assert first(other) != LOCAL.route or other.wait_s is not None
    gets_it = held.rank(replace(due(300.0), id="dear"), [dear_way, soon_free], 4.0)
    assert (first(gets_it), gets_it.wait_s) == (LOCAL.route, None)


def test_asking_without_a_job_holds_no_place() -> None:
    """A quote does not push real jobs back."""
    taken = replace(LOCAL, in_flight=(InFlight("other", -5.0),))
    asked, plain = router(), router()
    for i in range(20):
        asked.rank(replace(due(250.0 + i), id=""), [CHEAP, taken], 0.0)
    assert asked.rank(due(300.0), [CHEAP, taken], 1.0) == plain.rank(due(300.0), [CHEAP, taken], 1.0)


def test_a_running_attempt_in_time_is_left_alone() -> None:
    """No second attempt while the first is likely to arrive."""
    running = replace(JOB, in_flight=((CHEAP.route, InFlight("mine", 0.0)),))
    ranking = router().rank(running, [busy(CHEAP, 10.0, now=10.0), FAST], 10.0)
    assert ranking.wait_s is not None
    assert CHEAP.route not in [quote.route for quote in ranking.ranked]
    assert refusal(ranking, CHEAP.route) == "an attempt of this job is running there"


def test_an_attempt_that_hangs_gets_a_second_one_before_the_deadline() -> None:
    """Far past its usual time, with the deadline near, the fast route is started beside it."""
    one = router()
    for i in range(20):
        one.observe(succeeded(CHEAP, float(i), 30.0))
    hanging = replace(JOB, in_flight=((CHEAP.route, InFlight("mine", 0.0)),))
    ranking = one.rank(hanging, [busy(CHEAP, 160.0, now=160.0), FAST], 160.0)
    assert ranking.wait_s is None
    assert first(ranking) == FAST.route


def test_a_second_attempt_needs_a_loss_worth_its_price() -> None:
    """A job of little value waits for what it has."""
    one = router()
    hanging = replace(JOB, value_micros=20_000, in_flight=((CHEAP.route, InFlight("mine", 0.0)),))
    assert one.rank(hanging, [busy(CHEAP, 160.0, now=160.0), FAST], 160.0).wait_s is not None


def test_a_job_in_the_local_queue_leaves_when_it_would_be_late() -> None:
    """Its place is given up for a vendor while there is still time."""
    mine = InFlight("mine", 0.0, state="queued")
    stuck = replace(LOCAL, in_flight=(InFlight("other", 20.0), mine), queued=1)
    waiting = replace(due(60.0), in_flight=((LOCAL.route, mine),))
    ranking = router().rank(waiting, [FAST, stuck], 25.0)
    assert first(ranking) == FAST.route
    assert ranking.wait_s is None


def test_on_a_scarce_account_the_job_that_gains_most_goes_first() -> None:
    """After a 429 a job worth little lets one worth much pass."""
    one = router()
    one.observe(failed(FAST, 0.0, "rate_limited", retry_after_s=5.0))
    rich = replace(due(60.0), id="rich", value_micros=900_000)
    poor = replace(due(60.0), id="poor", value_micros=300_000)
    for job in (rich, poor):
        assert one.rank(job, [FAST], 1.0).wait_s is not None
    assert one.rank(poor, [FAST], 5.1).wait_s is not None
    assert one.rank(rich, [FAST], 5.1).wait_s is None


def test_a_route_never_seen_has_empty_statistics() -> None:
    """The live view does not invent numbers."""
    seen = router().snapshot("nobody/svd", 0.0)
    assert (seen.p50_s, seen.observations, seen.breaker) == (0.0, 0.0, "closed")


def test_statistics_follow_what_was_seen() -> None:
    """Median and count come from observations alone, as when they are replayed at start."""
    one = Router(RoutingSettings(), Random(0))
    for i in range(30):
        one.observe(succeeded(CHEAP, 10.0 * i, 50.0 + i % 5))
    seen = one.snapshot(CHEAP.route, 300.0)
    assert 48.0 < seen.p50_s < 56.0
    assert seen.p50_s < seen.p95_s
    assert seen.observations > 3.0


candidates = st.builds(
    Candidate,
    route=st.sampled_from(["a/x", "a/y", "b/x", "c/x"]),
    account=st.sampled_from(["a", "b"]),
    mode=st.sampled_from(["sync", "async", "local"]),
    price_micros=st.integers(0, 400_000),
    nominal_latency_s=st.floats(0.5, 300.0),
    balance_micros=st.one_of(st.none(), st.integers(0, 1_000_000)),
    slots=st.one_of(st.none(), st.integers(0, 3)),
    queued=st.integers(0, 5),
)
observations = st.builds(
    Observation,
    kind=st.sampled_from(["dispatched", "accepted", "started", "succeeded", "failed", "abandoned", "balance", "eta"]),
    at=st.floats(0.0, 100.0),
    route=st.sampled_from(["a/x", "a/y", "b/x", "c/x"]),
    account=st.sampled_from(["a", "b"]),
    attempt=st.sampled_from(["1", "2", "3"]),
    elapsed_s=st.floats(0.0, 500.0),
    failure=st.sampled_from(["rate_limited", "no_credit", "unavailable", "timeout", "moderated", None]),
    retry_after_s=st.one_of(st.none(), st.floats(0.0, 100.0)),
    eta_s=st.one_of(st.none(), st.floats(0.0, 500.0)),
    billed_micros=st.integers(0, 200_000),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(candidates, max_size=4, unique_by=lambda one: one.route),
    st.lists(observations, max_size=15),
    st.floats(1.0, 900.0),
    st.sampled_from(["default", "cheapest", "fastest", "balanced"]),
    st.integers(0, 1_000_000),
)
def test_every_ranking_is_sound(
    offered: list[Candidate], seen: list[Observation], deadline_s: float, objective: str, value: int
) -> None:
    """Whatever happened: each route is ranked or refused with a reason, numbers are sane, and asking twice agrees."""
    one = router()
    for observation in sorted(seen, key=lambda o: o.at):
        one.observe(observation)
    job = replace(due(100.0 + deadline_s), objective=objective, value_micros=value, id="")
    ranking = one.rank(job, offered, 100.0)
    assert ranking == one.rank(job, offered, 100.0)
    assert {q.route for q in ranking.ranked} | {r.route for r in ranking.refused} == {c.route for c in offered}
    for refused in ranking.refused:
        assert refused.reasons
    for quote in ranking.ranked:
        assert 0.0 <= quote.probability_on_time <= 1.0
        assert 0.0 < quote.p50_s <= quote.p95_s
        assert quote.price_micros >= 0
    assert ranking.wait_s is None or ranking.wait_s >= 0.3


def test_a_decision_changes_nothing_that_a_later_one_depends_on() -> None:
    """Ranking many jobs that are not held leaves the statistics as they were."""
    one, other = router(), router()
    for i in range(50):
        one.rank(replace(JOB, id=str(i)), [CHEAP, FAST], 0.1 * i)
    assert one.rank(JOB, [CHEAP, FAST], 6.0) == other.rank(JOB, [CHEAP, FAST], 6.0)


def test_the_give_up_time_bounds_the_wait_for_an_attempt() -> None:
    """The timeout of an attempt reaches to the give-up time of the job and no further."""
    job: JobFacts = JOB
    assert router().rank(job, [CHEAP], 60.0).ranked[0].timeout_s == pytest.approx(300.0)


def test_thousands_in_flight_are_weighed_by_the_oldest() -> None:
    """What the oldest tell is enough: thousands of younger ones change no estimate, and so cost no time."""
    oldest = [200.0 + age_s for age_s in range(RoutingSettings().flights_weighed, 0, -1)]
    few = router().rank(JOB, [busy(CHEAP, *oldest), FAST], 0.0)
    many = router().rank(JOB, [busy(CHEAP, *oldest, *[100.0] * 5000), FAST], 0.0)
    assert few.ranked == many.ranked
    assert few.ranked != router().rank(JOB, [CHEAP, FAST], 0.0).ranked
