"""What the seeded simulation (tests/sim) found about leases and waits, each as the smallest story that shows it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import Connection, select

import tests.support.clock
from gateway import settlement
from gateway.jobs import AttemptState, JobStatus
from gateway.money.true_cost import TrueCost
from gateway.runs import load_rows
from gateway.settlement import Success
from gateway.store.jobs import LeaseLostError
from gateway.store.schema import jobs
from providers.contract import FailureKind, Pending, Refused
from tests.support.clock import START
from tests.support.fixtures import Start
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio


def fence_of(connection: Connection, job_id: str) -> int:
    return int(connection.execute(select(jobs.c.fence).where(jobs.c.id == job_id)).scalar_one())


async def test_a_wait_that_a_vendor_asked_for_outlives_the_process(start: Start) -> None:
    """Retry-After is kept by whoever drives the job next: no submit comes early because of a crash."""
    alpha = Scripted(submits=[Refused(FailureKind.RATE_LIMITED, "429", retry_after_s=60.0)])
    gateway = await start(alpha)
    job_id = await gateway.submit()
    await gateway.until(job_id, "retrying")
    await gateway.crash()
    await gateway.stop()
    again = await start(alpha)
    job = await again.ended(job_id)
    refused_at, repeated_at = alpha.asked_at
    assert (job["status"], repeated_at - refused_at >= 60.0) == ("succeeded", True)


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_wait_is_no_longer_than_was_meant_when_the_clock_is_set_back(
    start: Start, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    """An hour that is set back in the middle of a Retry-After of 60 s is not added to it, nor is it cut short."""
    alpha = Scripted(submits=[Refused(FailureKind.RATE_LIMITED, "429", retry_after_s=60.0)])
    gateway = await start(alpha)
    job_id = await gateway.submit()
    await gateway.until(job_id, "retrying")
    monkeypatch.setattr(tests.support.clock, "START", START - 3_600.0)
    if restarted:
        await gateway.crash()
        await gateway.stop()
        gateway = await start(alpha)
    job = await gateway.ended(job_id)
    refused_at, repeated_at = alpha.asked_at
    waited_s = repeated_at - (refused_at - 3_600.0)
    assert (job["status"], 60.0 <= waited_s < 70.0) == ("succeeded", True), waited_s


async def test_a_process_does_not_claim_what_it_drives_itself(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a jump of the clock past the lease the job stays with the task that drives it, under the same fence."""
    alpha = Scripted(trouble=Pending(), trouble_s=7_200.0)
    gateway = await start(alpha)
    job_id = await gateway.submit()
    await gateway.until(job_id, "rendering")
    monkeypatch.setattr(tests.support.clock, "START", START + 3_600.0)
    await gateway.clock.sleep(20.0)
    assert await gateway.read(fence_of, job_id) == 1


async def test_a_run_that_is_canceled_before_its_first_step_is_forgotten(start: Start) -> None:
    """A drain that comes with a resumed job does not wait for a task that never began; the next claim drives it."""
    alpha = Scripted(trouble=Pending(), trouble_s=60.0)
    gateway = await start(alpha)
    job_id = await gateway.submit()
    await gateway.until(job_id, "rendering")
    dispatcher = gateway.service.dispatcher
    await gateway.when(lambda: job_id not in dispatcher._tasks)
    dispatcher.wake(job_id)
    task = dispatcher._tasks[job_id]
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert (dispatcher._tasks, dispatcher.run_of(job_id)) == ({}, None)
    assert (await gateway.ended(job_id))["status"] == "succeeded"


async def test_a_success_after_another_process_has_ended_the_job_is_a_lost_lease(start: Start) -> None:
    """A process paused over its delivery finds the hold captured: the job is another's, and nothing broke."""
    gateway = await start(Scripted())
    job_id = await gateway.submit()
    await gateway.ended(job_id)
    job, (attempt,) = await gateway.read(load_rows, job_id)
    late = replace(job, status=JobStatus.RUNNING), replace(attempt, state=AttemptState.ACCEPTED)
    success = Success({}, TrueCost(100_000, "reported"), 100_000, attempt.account, gateway.clock.now())
    before = await gateway.balances()
    with pytest.raises(LeaseLostError):
        await gateway.write(settlement.succeed, *late, success, {})
    assert await gateway.balances() == before
