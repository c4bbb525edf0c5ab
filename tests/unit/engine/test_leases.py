"""Whose job it is: leases, fences, handing over on a drain, and going on after a death at any step."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest
from sqlalchemy import Connection, NullPool, create_engine, select, update

from gateway import settlement
from gateway.store.schema import jobs
from providers.contract import FailureKind, Pending, Refused
from tests.support.fixtures import Start
from tests.support.gateway import Gateway, database
from tests.support.scripted import Lost, Scripted

pytestmark = pytest.mark.anyio


def lease_of(connection: Connection, job_id: str) -> Any:
    row = select(jobs.c.lease_owner, jobs.c.lease_until, jobs.c.fence).where(jobs.c.id == job_id)
    return connection.execute(row).one()


def row_of(connection: Connection, job_id: str) -> dict[str, Any]:
    return dict(connection.execute(select(jobs).where(jobs.c.id == job_id)).mappings().one())


def steal(connection: Connection, job_id: str, until: float) -> None:
    taken = {"lease_owner": "another process", "lease_until": until, "fence": jobs.c.fence + 1}
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(taken))


async def test_a_drain_hands_a_running_job_over_and_the_next_process_finishes_it(start: Start) -> None:
    """Leases are given back at once; the render goes on at the vendor and is followed by its stored token."""
    alpha = Scripted(trouble=Pending(), trouble_s=100.0)
    gateway = await start(alpha)
    job_id = await gateway.submit()
    await gateway.until(job_id, "rendering")
    before = gateway.clock.now()
    await gateway.stop()
    assert gateway.clock.now() - before < 1
    engine = create_engine(f"sqlite:///{database(gateway.setting.folder)}", poolclass=NullPool)
    with engine.connect() as connection:
        assert tuple(lease_of(connection, job_id)) == (None, None, 1)
    again = await start(alpha)
    job = await again.ended(job_id)
    assert (job["status"], len(alpha.asked), len(job["attempts"])) == ("succeeded", 1, 1)


async def test_a_drain_waits_for_the_reply_to_a_submit(start: Start) -> None:
    """A reply that is on its way is written down, so that the next process is not left in doubt."""
    alpha = Scripted(looks_up=True)

    async def slow(moment: str, call: str) -> None:
        if (moment, call) == ("after", "submit"):
            await gateway.clock.sleep(5)

    alpha.hook = slow
    gateway = await start(alpha)
    job_id = await gateway.submit()
    await gateway.when(lambda: alpha.asked)
    await gateway.stop()
    again = await start(alpha)
    job = await again.ended(job_id)
    assert (job["status"], len(alpha.asked), alpha.looked_up) == ("succeeded", 1, [])


async def test_a_drain_that_comes_with_the_intent_leaves_no_doubt_behind(start: Start) -> None:
    """The intent is being committed when the drain begins: it is sent, or known not to have been."""
    alpha = Scripted(billing="may_bill")
    gateway = await start(alpha)
    writing, go_on = asyncio.Event(), asyncio.Event()

    async def stop_at(when: str, name: str) -> None:
        if (when, name) == ("after", "start_attempt"):
            writing.set()
            await go_on.wait()

    gateway.store.hook = stop_at
    job_id = await gateway.submit()
    await writing.wait()
    stopping = asyncio.ensure_future(gateway.stop())
    await gateway.clock.sleep(0.5)
    go_on.set()
    await stopping
    again = await start(alpha)
    job = await again.ended(job_id)
    assert (job["status"], len(alpha.asked)) == ("succeeded", 1)
    assert "in_doubt" not in [event["what"] for event in job["attempts"][0]["events"]]


async def test_a_reply_that_outlasts_the_drain_is_looked_up_by_the_next_process(start: Start) -> None:
    """The grace is over, the reply is lost: doubt, evidence, and still one render."""
    alpha = Scripted(looks_up=True)

    async def endless(moment: str, call: str) -> None:
        if (moment, call) == ("after", "submit"):
            await asyncio.sleep(1_000)

    alpha.hook = endless
    gateway = await start(alpha, server={"drain_s": 3})
    job_id = await gateway.submit()
    await gateway.when(lambda: alpha.asked)
    await gateway.stop()
    alpha.hook = None
    again = await start(alpha)
    job = await again.ended(job_id)
    assert (job["status"], len(alpha.asked), len(alpha.accepted)) == ("succeeded", 1, 1)
    assert [event["what"] for event in job["attempts"][0]["events"]][1:3] == ["in_doubt", "looked_up"]


async def test_a_draining_process_takes_no_new_job_on(start: Start) -> None:
    """What is still admitted while it drains is durable, and waits for the next process."""
    alpha = Scripted()
    gateway = await start(alpha)
    gateway.service.dispatcher.draining = True
    job_id = await gateway.submit()
    await gateway.clock.sleep(1)
    assert (await gateway.job(job_id))["status"] == "queued"
    await gateway.stop()
    again = await start(alpha)
    assert (await again.ended(job_id))["status"] == "succeeded"


async def test_a_process_whose_lease_was_taken_writes_nothing_more(start: Start) -> None:
    """The fence has moved: the old driver learns of the finished render and changes no row."""
    alpha = Scripted(trouble=Pending(), trouble_s=50.0)
    gateway = await start(alpha)
    job_id = await gateway.submit()
    await gateway.until(job_id, "rendering")
    await gateway.write(steal, job_id, gateway.clock.now() + 800)
    stolen = await gateway.read(row_of, job_id)
    await gateway.clock.sleep(300)
    assert len(alpha.charged) == 1  # the vendor's end was seen
    assert await gateway.read(row_of, job_id) == stolen
    assert (await gateway.job(job_id))["attempts"][0]["state"] == "accepted"
    assert (await gateway.counts())["settlements"] == 0
    registry = gateway.service.parts.meter.metrics.registry
    assert registry.get_sample_value("vidgate_stale_lease_writes_total") == 1


async def test_a_lease_that_ran_out_is_taken_up_by_the_ordinary_claim(start: Start) -> None:
    """An orphaned job is driven again within a lease and a turn of the claim loop."""
    alpha = Scripted(trouble=Pending(), trouble_s=50.0)
    gateway = await start(alpha)
    job_id = await gateway.submit()
    await gateway.until(job_id, "rendering")
    await gateway.write(steal, job_id, gateway.clock.now() + 30)
    job = await gateway.ended(job_id, within_s=200)
    assert (job["status"], len(alpha.asked)) == ("succeeded", 1)


async def test_a_heartbeat_keeps_a_long_job(start: Start) -> None:
    """A render far longer than the lease stays with its process."""
    alpha = Scripted(trouble=Pending(), trouble_s=300.0)
    gateway = await start(alpha, jobs={"lease_s": 15, "heartbeat_s": 4})
    job_id = await gateway.submit()
    job = await gateway.ended(job_id)
    assert (job["status"], (await gateway.read(lease_of, job_id)).fence) == ("succeeded", 1)


async def test_only_so_many_jobs_run_at_a_time_and_the_rest_wait_their_turn(start: Start) -> None:
    """Ten jobs over a limit of three: all end, never more than three at once."""
    alpha = Scripted(trouble=Pending(), trouble_s=20.0)
    jobs_section = {"running_max": 3, "lease_s": 600, "heartbeat_s": 200}
    gateway = await start(alpha, jobs=jobs_section, claim_interval_s=1.0)
    ids = [await gateway.submit() for _ in range(10)]
    most = 0
    for _ in range(60):
        most = max(most, len(gateway.service.dispatcher._runs))
        await gateway.clock.sleep(0.5)
    assert {(await gateway.ended(job_id))["status"] for job_id in ids} == {"succeeded"}
    assert most == 3


async def test_a_fault_of_ours_parks_one_job_and_the_others_go_on(start: Start) -> None:
    """A driver that crashes is tried again later; its job is neither lost nor run twice."""
    alpha = Scripted(trouble=Pending(), trouble_s=10.0)

    async def broken(moment: str, call: str) -> None:
        if (moment, call) == ("before", "check") and len(alpha.checked_at) == 0:
            alpha.hook = None
            raise ZeroDivisionError("a fault of the gateway's own")

    alpha.hook = broken
    gateway = await start(alpha)
    first = await gateway.submit()
    second = await gateway.submit()
    assert (await gateway.ended(second, within_s=25))["status"] == "succeeded"
    assert (await gateway.ended(first, within_s=100))["status"] == "succeeded"
    assert len(alpha.asked) == 2


async def test_a_render_on_a_route_that_left_the_configuration_is_outlasted_not_repeated(start: Start) -> None:
    """Nobody can ask for it any more: the hold stays until the published deadline, then goes back."""
    alpha, beta = Scripted(trouble=Pending(), trouble_s=9e9), Scripted("beta", price_micros=150_000)
    section = {"in_doubt_s": 120, "lease_s": 600, "heartbeat_s": 200}
    gateway = await start(alpha, beta, jobs=section)
    job_id = await gateway.submit()
    await gateway.until(job_id, "rendering")
    await gateway.stop()
    again = await start(beta, jobs=section)
    job = await again.ended(job_id)
    assert (job["status"], job["bill"]["status"], beta.asked) == ("expired", "released", [])
    assert (await again.balances())["suspense"] == 100_000


async def test_an_unsent_attempt_on_a_route_that_left_the_configuration_moves_on(start: Start) -> None:
    """Between two submits, and the route is gone after the restart: the next route is asked."""
    alpha = Scripted(submits=[Refused(FailureKind.RATE_LIMITED, "429", retry_after_s=100.0)])
    beta = Scripted("beta", price_micros=100_000)
    gateway = await start(alpha, beta)
    job_id = await gateway.submit(routing={"order": ["alpha/one"]})
    await gateway.until(job_id, "retrying")
    await gateway.stop()
    again = await start(beta)
    job = await again.ended(job_id)
    assert (job["status"], job["route"], len(alpha.asked)) == ("succeeded", "beta/one", 1)


async def test_what_is_in_flight_is_known_again_after_a_restart(start: Start) -> None:
    """A route's room is counted over the jobs that were taken up again."""
    alpha = Scripted(trouble=Pending(), trouble_s=100.0, concurrency_max=1)
    gateway = await start(alpha)
    first = await gateway.submit()
    await gateway.until(first, "rendering")
    await gateway.stop()
    again = await start(alpha)
    await again.until(first, "rendering")
    second = await again.submit()
    await again.clock.sleep(20)
    assert len(alpha.asked) == 1
    assert {(await again.ended(job_id))["status"] for job_id in (first, second)} == {"succeeded"}


# What is counted: every transaction of admission and engine, and every call to a vendor; not the service's own loops.
TRANSACTIONS = {
    name for name, one in vars(settlement).items() if inspect.isfunction(one) and one.__module__ == settlement.__name__
}
STEPS = TRANSACTIONS | {"admit", "submit", "check"}


async def run_until_death(gateway: Gateway, alpha: Scripted, step: int) -> tuple[str | None, str]:
    """Post a job and freeze the process at its `step`th write or call; the job's id if one was told, and the step."""
    seen: list[str] = []
    dead = asyncio.Event()

    async def count(moment: str, name: str) -> None:
        if dead.is_set() or name not in STEPS:
            return
        seen.append(f"{moment} {name}")
        if len(seen) == step:
            dead.set()
            await asyncio.Event().wait()

    gateway.store.hook = alpha.hook = count
    posted = asyncio.ensure_future(gateway.post(headers={"idempotency-key": f"step-{step}"}))
    died = asyncio.ensure_future(dead.wait())
    await asyncio.wait([posted, died], return_when=asyncio.FIRST_COMPLETED)
    job_id = str(posted.result().json()["id"]) if posted.done() else None
    if job_id is not None:
        ended = asyncio.ensure_future(gateway.ended(job_id))
        await asyncio.wait([ended, died], return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
    posted.cancel()
    died.cancel()
    await asyncio.gather(posted, died, return_exceptions=True)
    alpha.hook = None
    return job_id, seen[step - 1] if len(seen) >= step else "the end"


@pytest.mark.parametrize("script", ["refused, then lost", "failing over"])
async def test_a_death_at_any_step_ends_as_if_it_had_not_happened(start: Start, script: str) -> None:
    """Killed before and after every write and every call: one job, one hold, one paid render, sound books."""
    steps: list[str] = []
    while not steps or steps[-1] != "the end":
        alpha = Scripted(looks_up=True)
        beta = Scripted("beta", price_micros=150_000, looks_up=True)
        if script == "refused, then lost":
            alpha.submits.extend([Refused(FailureKind.RATE_LIMITED, "429"), Lost(accepted=True)])
        if script == "failing over":
            alpha.submits.extend([Refused(FailureKind.SERVER_ERROR, "500")] * 9)
        gateway = await start(alpha, beta, fresh=True)
        told, step = await run_until_death(gateway, alpha, len(steps) + 1)
        steps.append(step)
        await gateway.crash()
        await gateway.stop()
        again = await start(alpha, beta)
        key = {"idempotency-key": f"step-{len(steps)}"}
        said = await again.post(headers=key)
        assert said.status_code == 202, f"{step}: {said.text}"
        job = await again.ended(told or str(said.json()["id"]))
        assert (told or job["id"]) == said.json()["id"], f"{step}: what was acknowledged was lost"
        assert job["status"] == "succeeded", f"{step}: {job}"
        counts = await again.counts()
        assert (counts["jobs"], counts["holds"], counts["settlements"]) == (1, 1, 1), step
        provider = beta if job["route"] == "beta/one" else alpha
        assert len(provider.accepted) == 1, f"{step}: rendered {len(provider.accepted)} times"
        assert job["bill"]["price_micros"] == provider.price_micros, step
        assert (await again.balances()).get("suspense", 0) == 0, step
        await again.stop()
    assert {"after admit", "before start_attempt", "after submit", "after succeed"} <= set(steps), steps
    assert len(steps) >= 13
