"""Repeating a submit that the vendor refused: when, how often, and never before the vendor's own word."""

from __future__ import annotations

import asyncio

import pytest

from providers.contract import FailureKind, Refused
from tests.support.fixtures import Start
from tests.support.scripted import Lost, Scripted

pytestmark = pytest.mark.anyio


def limited(retry_after_s: float | None = None) -> Refused:
    return Refused(FailureKind.RATE_LIMITED, "HTTP 429", retry_after_s=retry_after_s, status=429)


@pytest.mark.parametrize("hint_s", [0.0, 1.5, 30.0, 300.0])
async def test_a_429_is_repeated_on_the_same_route_and_never_before_the_vendors_hint(
    start: Start, hint_s: float
) -> None:
    """Each repeat waits at least the hint and at most the hint plus the capped backoff."""
    alpha = Scripted(submits=[limited(hint_s), limited(hint_s)])
    gateway = await start(alpha)
    job = await gateway.made()
    waits_s = [later - sooner for sooner, later in zip(alpha.asked_at, alpha.asked_at[1:], strict=False)]
    assert all(hint_s <= wait_s <= hint_s + 20.0 for wait_s in waits_s), waits_s
    assert (job["status"], len(job["attempts"]), job["attempts"][0]["submits"]) == ("succeeded", 1, 3)
    assert len(alpha.accepted) == 1


async def test_a_429_without_a_hint_backs_off_with_jitter(start: Start) -> None:
    """The waits are drawn between zero and the doubling limit, so no two jobs come back together."""
    alpha = Scripted(submits=[limited()] * 8)
    gateway = await start(alpha)
    for _ in range(4):
        assert (await gateway.made())["status"] == "succeeded"
    by_attempt: dict[str, list[float]] = {}
    for request, at in zip(alpha.asked, alpha.asked_at, strict=True):
        by_attempt.setdefault(request.attempt_id, []).append(at)
    firsts = [times[1] - times[0] for times in by_attempt.values() if len(times) > 1]
    assert len(firsts) >= 2
    assert len(set(firsts)) == len(firsts)
    assert all(0 < wait_s <= 1.0 for wait_s in firsts)


async def test_a_hint_beyond_the_jobs_slack_moves_on_at_once(start: Start) -> None:
    """A vendor that asks for more time than the job has is left without waiting."""
    alpha, beta = Scripted(submits=[limited(2_000.0)]), Scripted("beta", price_micros=150_000)
    gateway = await start(alpha, beta)
    job = await gateway.made()
    assert [attempt["route"] for attempt in job["attempts"]] == ["alpha/one", "beta/one"]
    assert beta.asked_at == alpha.asked_at
    assert "would miss the deadline" in job["attempts"][0]["events"][-1]["detail"]


async def test_a_submit_is_made_three_times_at_most_and_then_the_next_route_is_asked(start: Start) -> None:
    """A vendor that keeps refusing gets three submits of one attempt, and none of them is billed."""
    alpha = Scripted(submits=[Refused(FailureKind.UNAVAILABLE, "connect refused")] * 9)
    beta = Scripted("beta", price_micros=150_000)
    gateway = await start(alpha, beta)
    job = await gateway.made()
    assert [(attempt["route"], attempt["submits"]) for attempt in job["attempts"]] == [
        ("alpha/one", 3),
        ("beta/one", 1),
    ]
    assert await gateway.balances() == {f"team:{gateway.team_id}": 150_000, "provider:beta": -150_000}


async def test_each_repeat_sends_the_very_same_body(start: Start) -> None:
    """A repeat carries the seed drawn for the attempt, so the vendor's records can tell whose it is."""
    alpha = Scripted(submits=[limited(), limited()])
    gateway = await start(alpha)
    await gateway.made()
    bodies = [dict(request.parameters) for request in alpha.asked]
    assert len(bodies) == 3
    assert bodies[0] == bodies[1] == bodies[2]
    assert bodies[0]["seed"] >= 0


async def test_the_retry_budget_of_a_provider_is_shared_by_all_jobs(start: Start) -> None:
    """In an outage 40 jobs make at most a fifth more calls than they have attempts."""
    alpha = Scripted(submits=[Refused(FailureKind.UNAVAILABLE, "connect refused")] * 500)
    beta = Scripted("beta", price_micros=150_000)
    retry = {"budget_ratio": 0.2, "budget_reserve_per_s": 0, "budget_ttl_s": 600}
    gateway = await start(alpha, beta, retry=retry)
    ids = [await gateway.submit(routing={"order": ["alpha/one"]}) for _ in range(40)]
    jobs = [await gateway.ended(job_id) for job_id in ids]
    assert {job["status"] for job in jobs} == {"succeeded"}
    attempts = [attempt for job in jobs for attempt in job["attempts"] if attempt["route"] == "alpha/one"]
    extra = sum(attempt["submits"] - 1 for attempt in attempts)
    assert 0 < extra <= 0.2 * len(attempts)
    assert len(alpha.asked) == len(attempts) + extra


async def test_a_burst_in_doubt_stays_inside_the_budget_too(start: Start) -> None:
    """Forty submits that end in a 502 together, all repeated blindly: no two of them spend the same allowance."""
    alpha = Scripted(submits=[Lost(accepted=False)] * 500)
    beta = Scripted("beta", price_micros=150_000)
    retry = {"ambiguous": "retry", "budget_ratio": 0.2, "budget_reserve_per_s": 0, "budget_ttl_s": 600}
    gateway = await start(alpha, beta, retry=retry)
    ids = await asyncio.gather(*(gateway.submit(routing={"order": ["alpha/one"]}) for _ in range(40)))
    jobs = [await gateway.ended(job_id) for job_id in ids]
    attempts = [attempt for job in jobs for attempt in job["attempts"] if attempt["route"] == "alpha/one"]
    extra = sum(attempt["submits"] - 1 for attempt in attempts)
    assert 0 < extra <= 0.2 * len(attempts)


async def test_without_any_retry_budget_nothing_is_repeated(start: Start) -> None:
    """A budget of nothing leaves one submit a route."""
    alpha, beta = Scripted(submits=[limited(1.0)] * 3), Scripted("beta", price_micros=150_000)
    gateway = await start(alpha, beta, retry={"budget_ratio": 0, "budget_reserve_per_s": 0})
    job = await gateway.made()
    assert [(attempt["route"], attempt["submits"]) for attempt in job["attempts"]] == [
        ("alpha/one", 1),
        ("beta/one", 1),
    ]
    assert "retry budget" in job["attempts"][0]["events"][-1]["detail"]
