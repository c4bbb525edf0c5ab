"""What a process may still do when it was paused, drains, or died in doubt: it pays under a living lease only."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, select, update

from gateway.store.jobs import LeaseLostError
from gateway.store.schema import jobs
from gateway.vendor_transport import VendorTransport, permitted_by
from providers.contract import RenderRequest, SubmitOutcome
from tests.support.fixtures import Start
from tests.support.scripted import Lost, Scripted

pytestmark = pytest.mark.anyio


def lease_of(connection: Connection, job_id: str) -> Any:
    return connection.execute(select(jobs.c.lease_until, jobs.c.fence).where(jobs.c.id == job_id)).one()


def steal(connection: Connection, job_id: str, until: float) -> None:
    taken = {"lease_owner": "another process", "lease_until": until, "fence": jobs.c.fence + 1}
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(taken))


async def test_a_drain_keeps_the_leases_of_what_it_waits_for(start: Start) -> None:
    """A reply may take longer than a lease: another process must not take the job over meanwhile and pay again."""
    seen: list[float] = []

    async def slow(request: RenderRequest) -> SubmitOutcome:
        for _ in range(10):
            await gateway.clock.sleep(5)
            (job_id,) = list(gateway.service.dispatcher._runs)
            seen.append((await gateway.read(lease_of, job_id)).lease_until - gateway.clock.now())
        return alpha.finished(alpha._run(request))

    alpha = Scripted(mode="sync", submits=[slow])
    gateway = await start(alpha, jobs={"lease_s": 15, "heartbeat_s": 4}, server={"drain_s": 60})
    job_id = await gateway.submit()
    await gateway.when(lambda: alpha.asked)
    await gateway.stop()
    assert len(seen) == 10
    assert min(seen) > 0
    again = await start(alpha)
    job = await again.job(job_id)
    assert (job["status"], len(alpha.asked)) == ("succeeded", 1)


async def test_a_drain_settles_a_result_that_came_with_the_reply(start: Start) -> None:
    """Such a result cannot be asked for again: the drain does not end its driver between the reply and the bill."""
    alpha = Scripted(mode="sync")
    gateway = await start(alpha)
    settling, go_on = asyncio.Event(), asyncio.Event()

    async def stop_at(when: str, name: str) -> None:
        if (when, name) == ("before", "succeed"):
            settling.set()
            await go_on.wait()

    gateway.store.hook = stop_at
    job_id = await gateway.submit()
    await settling.wait()
    stopping = asyncio.ensure_future(gateway.stop())
    await gateway.clock.sleep(0.5)
    go_on.set()
    await stopping
    again = await start(alpha)
    job = await again.job(job_id)
    assert (job["status"], len(alpha.asked)) == ("succeeded", 1)


async def test_a_process_that_was_paused_asks_for_its_lease_before_it_submits(start: Start) -> None:
    """The lease ran out between intent and submit, and another process has the job: nothing is sent."""
    alpha = Scripted()
    gateway = await start(alpha, jobs={"lease_s": 15, "heartbeat_s": 4})

    async def paused(when: str, name: str) -> None:
        if (when, name) == ("after", "start_attempt"):
            (run,) = gateway.service.dispatcher._runs.values()
            run.lease_until = gateway.clock.now() - 1
            await gateway.write(steal, run.job_id, gateway.clock.now() + 800)

    gateway.store.hook = paused
    job_id = await gateway.submit()
    await gateway.clock.sleep(60)
    assert alpha.asked == []
    job = await gateway.job(job_id)
    assert [event["what"] for event in job["attempts"][0]["events"]] == ["submit"]


async def test_a_lease_that_ran_out_and_was_not_taken_is_taken_again(start: Start) -> None:
    """Nobody was quicker: the job goes on, under the same fence."""
    alpha = Scripted()
    gateway = await start(alpha)

    async def paused(when: str, name: str) -> None:
        if (when, name) == ("after", "start_attempt"):
            (run,) = gateway.service.dispatcher._runs.values()
            run.lease_until = gateway.clock.now() - 1

    gateway.store.hook = paused
    job = await gateway.made()
    assert (job["status"], len(alpha.asked)) == ("succeeded", 1)
    assert (await gateway.read(lease_of, job["id"])).fence == 1


async def test_a_request_without_permission_never_leaves() -> None:
    """The last question is asked by the transport itself, after everything that takes time."""

    def refuse() -> None:
        raise LeaseLostError("job")

    async with httpx.AsyncClient(transport=VendorTransport(), trust_env=False) as http:
        with permitted_by(refuse), pytest.raises(LeaseLostError):
            await http.post("http://127.0.0.1:1/submit")
        with pytest.raises(httpx.ConnectTimeout):
            await http.post("http://127.0.0.1:1/submit")


async def test_that_a_doubt_was_answered_outlives_the_process(start: Start) -> None:
    """A 502 from a vendor that bills only successes may be repeated, also by the next process: it is no silence."""
    alpha = Scripted(submits=[Lost(accepted=False, status=502)])
    gateway = await start(alpha)
    died = asyncio.Event()

    async def die(when: str, name: str) -> None:
        if (when, name) == ("before", "repeat_suspected"):
            died.set()
            await asyncio.Event().wait()

    gateway.store.hook = die
    job_id = await gateway.submit()
    await died.wait()
    await gateway.crash()
    await gateway.stop()
    again = await start(alpha)
    job = await again.ended(job_id, within_s=300)
    assert (job["status"], len(alpha.asked)) == ("succeeded", 2)
    assert (await again.balances())["suspense"] == 100_000
