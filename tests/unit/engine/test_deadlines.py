"""Waiting and giving up: a route that is out for now is waited for, and never beyond the job's own limits."""

from __future__ import annotations

import asyncio

import pytest

from providers.contract import Failed, FailureKind, Pending, Refused
from tests.support.fixtures import Start
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio


async def test_a_job_waits_for_a_route_that_is_only_full_for_now(start: Start) -> None:
    """One render at a time, two jobs: the second starts when the first has ended, and is not refused."""
    alpha = Scripted(trouble=Pending(), trouble_s=30.0, concurrency_max=1)
    gateway = await start(alpha)
    first, second = await gateway.submit(), await gateway.submit()
    shown = await gateway.until(second, "waiting")
    await gateway.until(first, "rendering")
    assert (shown["status"], len(alpha.asked)) == ("queued", 1)
    assert {(await gateway.ended(job_id))["status"] for job_id in (first, second)} == {"succeeded"}
    assert alpha.asked_at[1] >= alpha.checked_at[0]


async def test_jobs_that_come_together_share_a_routes_room_without_overfilling_it(start: Start) -> None:
    """Eight at once on a route with room for three: the vendor never sees a fourth."""
    alpha = Scripted(trouble=Pending(), trouble_s=60.0, concurrency_max=3)
    gateway = await start(alpha)
    ids = await asyncio.gather(*(gateway.submit() for _ in range(8)))
    await gateway.clock.sleep(15)
    assert len(alpha.asked) == 3
    assert {(await gateway.ended(job_id))["status"] for job_id in ids} == {"succeeded"}


async def test_a_job_waits_out_the_pause_of_an_account_that_refused_the_key(start: Start) -> None:
    """The only vendor says 401: the job waits until the account may be tried again, and is then rendered."""
    alpha = Scripted(submits=[Refused(FailureKind.UNAUTHORIZED, "401")])
    gateway = await start(alpha)
    job = await gateway.made()
    assert (job["status"], len(alpha.asked)) == ("succeeded", 2)
    assert alpha.asked_at[1] - alpha.asked_at[0] >= 30


async def test_a_job_is_admitted_while_every_route_is_out_for_now_and_expires_at_its_own_end(start: Start) -> None:
    """Nothing became free in time: the job expires, the hold goes back, and the error says nothing was tried."""
    alpha = Scripted(balance_micros=0)
    gateway = await start(alpha, jobs={"give_up_s": 30, "lease_s": 600, "heartbeat_s": 200})
    await gateway.clock.sleep(1)
    at = gateway.clock.now()
    job = await gateway.made(routing={"deadline_s": 20})
    assert (job["status"], job["bill"]["status"], alpha.asked) == ("expired", "released", [])
    assert job["error"]["type"].endswith("/deadline-passed")
    assert "nothing was tried" in job["error"]["detail"]
    assert 50 <= gateway.clock.now() - at <= 70


async def test_credit_that_comes_in_lets_a_waiting_job_start(start: Start) -> None:
    """An operator tops the account up: the next look at the balance sets the job free."""
    alpha = Scripted(balance_micros=0)
    gateway = await start(alpha)
    await gateway.clock.sleep(1)
    job_id = await gateway.submit()
    await gateway.until(job_id, "waiting")
    alpha.balance_micros = 10_000_000
    job = await gateway.ended(job_id)
    assert (job["status"], len(alpha.asked)) == ("succeeded", 1)


async def test_a_last_attempt_is_not_begun_after_the_give_up_time(start: Start) -> None:
    """A render that fails at the very end is not followed by one that nobody waits for."""
    alpha = Scripted(trouble=Pending(), trouble_s=80.0)
    beta = Scripted("beta", price_micros=150_000)
    alpha.checks.append(Failed(FailureKind.RENDER_FAILED, "boom"))
    gateway = await start(alpha, beta, jobs={"give_up_s": 10, "lease_s": 600, "heartbeat_s": 200})
    job = await gateway.made(routing={"deadline_s": 30})
    assert (job["status"], beta.asked) == ("expired", [])
    assert "alpha/one: render_failed" in job["error"]["detail"]


async def test_a_retry_that_would_miss_the_deadline_is_not_waited_for(start: Start) -> None:
    """With 20 seconds to go a hint of a minute means the next route."""
    alpha = Scripted(submits=[Refused(FailureKind.RATE_LIMITED, "429", retry_after_s=60.0)])
    beta = Scripted("beta", price_micros=150_000)
    gateway = await start(alpha, beta)
    job = await gateway.made(routing={"deadline_s": 40, "order": ["alpha/one"]})
    assert [attempt["route"] for attempt in job["attempts"]] == ["alpha/one", "beta/one"]
    assert beta.asked_at == alpha.asked_at


async def test_a_hundred_virtual_hours_cost_no_real_time(start: Start) -> None:
    """What these tests rest on: an idle service waits in virtual time alone."""
    gateway = await start(Scripted(), claim_interval_s=3_600.0)
    loop = asyncio.get_running_loop()
    before = loop.time()
    await gateway.clock.sleep(100 * 3_600.0)
    assert loop.time() - before == pytest.approx(360_000.0)
