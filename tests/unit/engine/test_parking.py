"""Jobs that break whoever drives them: counted, parked with an alarm, and sent back to work by an operator."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from gateway import parking, webhooks
from gateway.inputs import Inputs
from gateway.overdue import end_overdue
from gateway.store.schema import jobs
from gateway.store.schema_events import events
from gateway.webhooks import NewWebhook
from providers.contract import FailureKind, Pending, Refused
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio
LIMITS = {"crashes_max": 3, "lease_s": 600, "heartbeat_s": 200}


def told(connection: Connection) -> list[tuple[str, dict[str, Any]]]:
    """The operator's events, as they are sent."""
    rows = connection.execute(select(events.c.type, events.c.body).where(events.c.team_id.is_(None)))
    return [(row.type, json.loads(row.body)["data"]) for row in rows]


def row_of(connection: Connection, job_id: str) -> Any:
    return connection.execute(select(jobs).where(jobs.c.id == job_id)).one()


def orphan(connection: Connection, job_id: str, at: float) -> None:
    """The job as a process leaves it that dies now."""
    held = {"lease_owner": "dead", "lease_until": at - 1, "fence": jobs.c.fence + 1}
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(held))


async def broken_gateway(start: Start, alpha: Scripted, **sections: Any) -> Gateway:
    """A gateway whose every check of a render is a fault of its own, and an operator who listens."""

    async def broken(moment: str, call: str) -> None:
        if (moment, call) == ("before", "check"):
            raise ZeroDivisionError("a fault of the gateway's own")

    alpha.hook = broken
    gateway = await start(alpha, jobs=LIMITS, **sections)
    await gateway.write(webhooks.add_webhook, NewWebhook("hook_1", None, "https://operator.example/x", 1.0))
    return gateway


async def test_a_job_that_always_breaks_its_driver_is_parked_with_an_alarm(start: Start) -> None:
    """After the last crash allowed nobody claims it; its hold stays, the operator is told once, others go on."""
    alpha = Scripted()
    gateway = await broken_gateway(start, alpha)
    job_id = await gateway.submit()
    await gateway.clock.sleep(1_000)
    row = await gateway.read(row_of, job_id)
    assert (row.status, row.crashes, row.lease_owner) == ("running", 3, None)
    assert row.parked_at is not None
    assert await gateway.read(told) == [
        ("job.parked", {"job_id": job_id, "team_id": gateway.team_id, "route": "alpha/one", "crashes": 3})
    ]
    assert [job.id for job in await gateway.read(parking.list_parked)] == [job_id]
    assert (await gateway.counts())["settlements"] == 0
    alpha.hook = None
    assert (await gateway.made())["status"] == "succeeded"


async def test_an_operator_sends_a_parked_job_back_to_work(start: Start) -> None:
    """The fault is mended: the same render is followed to its end, and a job that is not parked is left alone."""
    alpha = Scripted()
    gateway = await broken_gateway(start, alpha)
    job_id = await gateway.submit()
    await gateway.clock.sleep(1_000)
    alpha.hook = None
    assert await gateway.write(parking.requeue, job_id, gateway.clock.now()) is True
    assert await gateway.write(parking.requeue, job_id, gateway.clock.now()) is False
    job = await gateway.ended(job_id)
    assert (job["status"], len(alpha.asked)) == ("succeeded", 1)
    assert (await gateway.read(row_of, job_id)).crashes == 0
    assert await gateway.read(parking.list_parked) == []


async def test_the_time_of_its_hold_ends_a_parked_job(start: Start) -> None:
    """Nobody decides: the job expires with its hold, and what may have been charged is the operator's suspense."""
    gateway = await broken_gateway(start, Scripted())
    job_id = await gateway.submit()
    await gateway.clock.sleep(1_000)
    hold_id = (await gateway.read(row_of, job_id)).hold_id
    assert await gateway.write(end_overdue, hold_id, gateway.clock.now()) is not None
    job = await gateway.job(job_id)
    assert (job["status"], job["bill"]["status"]) == ("expired", "expired")
    assert (await gateway.balances())["suspense"] == 100_000


async def test_a_step_forgets_the_crashes_before_it(start: Start) -> None:
    """Processes that die around a job are not its fault, as long as it comes on in between."""
    alpha = Scripted(trouble=Pending(), trouble_s=400.0)
    gateway = await start(alpha, jobs=LIMITS)
    job_id = await gateway.submit()
    await gateway.until(job_id, "rendering")
    for _ in range(5):
        await gateway.write(orphan, job_id, gateway.clock.now())
        await gateway.clock.sleep(6)
        assert (await gateway.read(row_of, job_id)).lease_owner != "dead"
        await gateway.clock.sleep(40)
        assert (await gateway.read(row_of, job_id)).crashes == 0
    assert (await gateway.ended(job_id))["status"] == "succeeded"
    assert len(alpha.asked) == 1


async def test_deaths_without_a_step_in_between_park_the_job_at_its_claim(start: Start) -> None:
    """What kills its process leaves no exception behind: the leases that it leaves tell."""
    gateway = await start(Scripted(trouble=Pending(), trouble_s=9e9), jobs=LIMITS)
    job_id = await gateway.submit()
    await gateway.until(job_id, "rendering")

    def thrice_dead(connection: Connection) -> None:
        orphan(connection, job_id, gateway.clock.now())
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(crashes=2))

    await gateway.write(thrice_dead)
    await gateway.clock.sleep(20)
    row = await gateway.read(row_of, job_id)
    assert (row.crashes, row.lease_owner, row.lease_until) == (3, None, None)
    assert row.parked_at is not None


async def test_a_crash_of_everything_is_soon_over_when_no_job_is_to_blame(start: Start) -> None:
    """Jobs whose process died three times come back one at first, and twice as many each turn that goes well."""
    alpha = Scripted(trouble=Pending(), trouble_s=9e9)
    gateway = await start(alpha)
    for _ in range(15):
        await gateway.until(await gateway.submit(), "rendering")
    await gateway.write(lambda connection: connection.execute(update(jobs).values(crashes=2)) and None)
    await gateway.crash()
    await gateway.stop()
    again, taken = await start(alpha), []
    for _ in range(6):
        await again.clock.sleep(again.setting.claim_interval_s - 0.1)
        taken.append(len(again.service.dispatcher.stages()))
    assert (taken[0], taken[-1]) == (1, 15), taken  # one a turn would be 6 by now


async def parked(
    start: Start, monkeypatch: pytest.MonkeyPatch, *, fine: int = 0, **options: Any
) -> tuple[Gateway, str]:
    """A job that nobody drives any more: every picture but the first `fine` ones broke its driver."""
    request, left = Inputs.request, [True] * fine

    async def breaks(self: Inputs, *args: Any) -> Any:
        if not left or not left.pop():
            raise ZeroDivisionError("a fault of the gateway's own")
        return await request(self, *args)

    monkeypatch.setattr(Inputs, "request", breaks)
    gateway = await start(Scripted(submits=[Refused(FailureKind.RATE_LIMITED, "429")]), jobs=LIMITS)
    job_id = await gateway.submit(**options)
    await gateway.clock.sleep(200)
    progress = (await gateway.job(job_id))["progress"]
    assert (progress["stage"], progress["reason"].endswith("waits for an operator")) == ("parked", True)
    return gateway, job_id


@pytest.mark.parametrize("fine", [0, 1], ids=["no attempt", "an attempt that is not sent"])
async def test_a_caller_cancels_a_parked_job_that_nobody_works_for(
    start: Start, monkeypatch: pytest.MonkeyPatch, fine: int
) -> None:
    """The reply to the cancel says that it is over; the hold is given back and nothing is suspected."""
    gateway, job_id = await parked(start, monkeypatch, fine=fine)
    reply = await gateway.client.post(f"/jobs/{job_id}/cancel")
    job = reply.json()
    assert (reply.status_code, job["status"], job["bill"]["status"]) == (202, "canceled", "released")
    assert [one["failure"]["kind"] for one in job["attempts"]] == ["canceled"] * fine
    assert (await gateway.balances(), await gateway.read(parking.list_parked)) == ({}, [])
    assert gateway.service.dispatcher.run_of(job_id) is None


async def test_a_parked_job_that_nobody_works_for_ends_by_its_own_time(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a minute of its time to give up, not a day later with its hold."""
    gateway, job_id = await parked(start, monkeypatch, fine=1, routing={"deadline_s": 600})
    give_up_at = (await gateway.read(row_of, job_id)).give_up_at
    job = await gateway.ended(job_id)
    assert (job["status"], job["bill"]["status"], await gateway.balances()) == ("expired", "released", {})
    assert job["error"]["type"].endswith("/deadline-passed")
    assert give_up_at <= gateway.clock.now() <= give_up_at + 70
    counted = gateway.service.parts.meter.metrics.registry.get_sample_value
    ended = {"team": gateway.team_id, "route": "alpha/one", "status": "expired", "reason": "deadline-passed"}
    assert counted("vidgate_jobs_ended_total", ended) == 1


async def test_a_parked_job_that_a_vendor_works_for_is_not_ended_by_its_caller(start: Start) -> None:
    """The render may be delivered yet, and will be billed: the wish is noted, and obeyed when it is driven again."""
    gateway = await broken_gateway(start, Scripted())
    job_id = await gateway.submit()
    await gateway.clock.sleep(1_000)
    reply = await gateway.client.post(f"/jobs/{job_id}/cancel")
    await gateway.clock.sleep(200)
    job = await gateway.job(job_id)
    assert (reply.status_code, job["status"], job["bill"]["status"]) == (202, "running", "held")
    assert job["progress"]["stage"] == "parked"
