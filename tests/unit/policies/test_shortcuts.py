"""The router takes shortcuts to be quick. They change no decision: a slow, plain reckoning beside it agrees."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest

from policies.objective import Flight, Option, Stakes, ValueCurve, best_backup, curve_offsets, interpolate, value_curve
from policies.plans import assess_all, shortlist
from policies.screening import Screen
from policies.values import Candidate, InFlight, JobFacts, Observation, Reasons
from tests.unit.policies.builders import CHEAP, FAST, JOB, SETTINGS, router

ROUTES = 12
NOW = 900.0


def decision(seed: int) -> tuple[list[Observation], list[Candidate], JobFacts]:
    """A history, a market and a job, drawn by seed."""
    random = Random(seed)
    names = [(f"p{i % 4}/m{i}", f"p{i % 4}") for i in range(ROUTES)]
    history = []
    for step in range(random.randrange(200)):
        route, account = random.choice(names)
        bad = random.random() < 0.1
        history.append(
            Observation(
                kind="failed" if bad else "succeeded",
                at=4.0 * step,
                route=route,
                account=account,
                elapsed_s=random.lognormvariate(3.4, 0.7),
                failure="unavailable" if bad else None,
                billed_micros=0 if bad else 80_000,
            )
        )
    candidates = [
        Candidate(
            route=route,
            account=account,
            mode="async",
            price_micros=random.randrange(20_000, 250_000),
            nominal_latency_s=random.uniform(5.0, 90.0),
            balance_micros=random.choice([None, 2_000_000, 100_000_000]),
            in_flight=tuple(InFlight(str(n), NOW - random.uniform(0.0, 120.0)) for n in range(random.randrange(4))),
        )
        for route, account in names
    ]
    deadline_s = random.uniform(5.0, 600.0)
    value = random.randrange(1_000, 1_500_000)
    job = JobFacts(
        "job",
        created_at=NOW,
        deadline_at=NOW + deadline_s,
        give_up_at=NOW + deadline_s * random.uniform(1.0, 3.0),
        max_cost_micros=None,
        value_micros=value,
        late_fraction=random.random(),
    )
    return history, candidates, job


def slow_curve(stakes: Stakes, options: Sequence[Option]) -> ValueCurve:
    """The value curve without leaving anything out: every option is reckoned at every point."""
    offsets = curve_offsets(stakes, options)
    costs, prices = [stakes.value] * len(offsets), [0.0] * len(offsets)
    for i in reversed(range(len(offsets) - 1)):
        costs[i] = costs[i + 1]
        found = [(stakes.value, 0.0)]
        for option in sorted(options, key=lambda one: one.price):
            cost = slow_cost(
                stakes, option, max(offsets[i], option.delay_s), ValueCurve(tuple(offsets), tuple(costs), ())
            )
            found.append((cost, option.price))
        costs[i], prices[i] = min(found, key=lambda pair: pair[0])
    return ValueCurve(tuple(offsets), tuple(costs), tuple(prices))


def slow_cost(stakes: Stakes, option: Option, start_s: float, curve: ValueCurve, loss: float | None = None) -> float:
    """The definition: a success pays the price and loses what it is late by, a failure goes on by the curve."""
    shape = option.failure
    soon = interpolate(curve.offsets_s, curve.costs, start_s + shape.fast_s)
    late = interpolate(curve.offsets_s, curve.costs, start_s + shape.slow_s)
    failed = option.failure_cost + (1.0 - shape.slow_share) * soon + shape.slow_share * late
    lost = stakes.expected_loss(option.law, start_s) if loss is None else loss
    return option.success * (option.price + lost) + (1.0 - option.success) * failed


def slow_assessment(stakes: Stakes, option: Option, curve: ValueCurve) -> float:
    """The cost of one option with its best second attempt, whether or not it can win."""
    loss = stakes.expected_loss(option.law, option.delay_s)
    if option.delay_s <= SETTINGS.start_slack_s and loss > 0.02 * option.price:
        dead = SETTINGS.stuck_share + (1.0 - option.success) * option.failure.slow_share
        loss = min(loss, best_backup(stakes, Flight(option.law, 0.0, dead), curve).cost_later)
    return min(stakes.value, slow_cost(stakes, option, option.delay_s, curve, loss))


@pytest.mark.parametrize("first_seed", range(0, 300, 50))
def test_the_quick_ranking_agrees_with_the_slow_reckoning(first_seed: int) -> None:
    """On three hundred drawn decisions curve and best are equal, and nothing passed over would have won."""
    for seed in range(first_seed, first_seed + 50):
        history, candidates, job = decision(seed)
        one = router()
        for seen in history:
            one.observe(seen)
        ranking = one.rank(job, candidates, NOW)
        screened = Screen(SETTINGS, one._memory, NOW).candidates(job, candidates)
        options = [found.option for found in screened if found.option is not None]
        stakes = Stakes(job.deadline_at - NOW, job.give_up_at - NOW, float(job.value_micros), job.late_fraction)
        few = shortlist(stakes, options, SETTINGS.shortlist)
        curve = slow_curve(stakes, few)
        quick = value_curve(stakes, few)
        assert quick.costs == pytest.approx(curve.costs, rel=1e-9)
        assert quick.prices == curve.prices
        slow = {option.route: slow_assessment(stakes, option, curve) for option in options}
        assessed = assess_all(stakes, options, quick, SETTINGS)
        assert min(one.cost for one in assessed) == pytest.approx(min(slow.values()), rel=1e-9)
        for quote in ranking.ranked:
            assert quote.score >= slow[quote.route] * (1.0 - 1e-9)
        assert {quote.route for quote in ranking.ranked} == set(slow)


def test_reasons_are_written_once_and_only_when_read() -> None:
    """They behave as the tuple that they stand for."""
    calls = []

    def write() -> tuple[str, ...]:
        calls.append(1)
        return ("one", "two")

    reasons = Reasons(write)
    assert calls == []
    assert (list(reasons), len(reasons), reasons[0], reasons[1:]) == (["one", "two"], 2, "one", ("two",))
    assert reasons == ("one", "two") == tuple(reasons)
    assert reasons != ("one",)
    assert hash(reasons) == hash(("one", "two"))
    assert repr(reasons) == "('one', 'two')"
    assert calls == [1]


def test_a_quote_read_late_says_what_was_true_when_it_was_made() -> None:
    """What the router learns afterwards does not change the words of an earlier decision."""
    one = router()
    before, words = one.rank(JOB, [CHEAP, FAST], 0.0), one.rank(JOB, [CHEAP, FAST], 0.0).ranked[0].reasons[0]
    for i in range(30):
        one.observe(Observation("succeeded", float(i), CHEAP.route, CHEAP.account, elapsed_s=90.0))
    assert before.ranked[0].reasons[0] == words
