"""Holds past their time: no budget stays bound by a job that nobody can end."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from gateway import dispatcher, parking
from gateway.overdue import end_overdue
from gateway.store.schema import attempts, jobs
from gateway.store.schema_money import holds
from providers.contract import Pending
from tests.support.fixtures import Start
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio


def hold_of(connection: Connection, job_id: str) -> Any:
    return connection.execute(select(holds).where(holds.c.job_id == job_id)).one()


def end_rows(connection: Connection, job_id: str, at: float) -> None:
    """The job's rows as something else left them: ended, with the hold still open."""
    ended = {"status": "failed", "finished_at": at, "fence": jobs.c.fence + 1}
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(ended))
    closed = {"state": "failed", "finished_at": at}
    connection.execute(update(attempts).where(attempts.c.job_id == job_id).values(closed))


async def test_a_job_that_always_breaks_its_driver_ends_when_its_hold_is_over(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parked again and again: it expires, the budget is free, and what may have been charged is in suspense."""
    monkeypatch.setattr(parking, "CRASH_PAUSE_S", 1_000.0)
    alpha = Scripted(trouble=Pending(), trouble_s=9e9)

    async def broken(moment: str, call: str) -> None:
        if (moment, call) == ("before", "check"):
            raise ZeroDivisionError("a fault of the gateway's own")

    alpha.hook = broken
    gateway = await start(alpha, jobs={"in_doubt_s": 120, "lease_s": 600, "heartbeat_s": 200})
    job = await gateway.ended(await gateway.submit(), within_s=12_000)
    assert (job["status"], job["bill"]["status"], job["attempts"][0]["state"]) == ("expired", "expired", "failed")
    assert job["error"]["type"].endswith("/outcome-unknown")
    assert gateway.clock.now() >= (await gateway.read(hold_of, job["id"])).expires_at
    assert (await gateway.balances())["suspense"] == 100_000
    assert (await gateway.read(hold_of, job["id"])).state == "expired"
    counted = gateway.service.parts.meter.metrics.registry.get_sample_value
    ended = {"team": gateway.team_id, "route": "alpha/one", "status": "expired", "reason": "outcome-unknown"}
    assert counted("vidgate_jobs_ended_total", ended) == 1
    lost = {"provider": "alpha", "route": "alpha/one", "outcome": "lost"}
    assert counted("vidgate_attempts_total", lost) == 1


async def test_a_job_that_is_driven_keeps_its_hold(start: Start) -> None:
    """A lease is a live job, however late it is: its own deadlines end it."""
    gateway = await start(Scripted(trouble=Pending(), trouble_s=100.0))
    job_id = await gateway.submit()
    await gateway.until(job_id, "rendering")
    hold = await gateway.read(hold_of, job_id)
    assert await gateway.write(end_overdue, hold.id, hold.expires_at + 1) is None
    assert (await gateway.ended(job_id))["status"] == "succeeded"


async def test_every_hold_past_its_time_is_looked_at_whatever_becomes_of_those_before_it(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a page of them, two that stay and one that breaks: a minute later all the others are given back."""
    gateway = await start(Scripted(trouble=Pending(), trouble_s=9e9), jobs={"in_doubt_s": 120})
    names = [await gateway.submit() for _ in range(7)]
    found = []
    for name in names:
        await gateway.until(name, "rendering")
        await gateway.write(end_rows, name, gateway.clock.now())
        found.append(await gateway.read(hold_of, name))
    staying, broken = {found[0].id, found[1].id}, found[2].id

    def ending(connection: Connection, hold_id: str, at: float) -> Any:
        if hold_id == broken:
            raise ZeroDivisionError("a fault in the rows of one job")
        return None if hold_id in staying else end_overdue(connection, hold_id, at)

    with monkeypatch.context() as patched:
        patched.setattr(dispatcher, "end_overdue", ending)
        patched.setattr(dispatcher, "OVERDUE_AT_ONCE", 2)
        await gateway.clock.sleep(max(one.expires_at for one in found) + 61.0 - gateway.clock.now())
        assert [(await gateway.read(hold_of, name)).state for name in names] == ["open"] * 3 + ["expired"] * 4
    await gateway.clock.sleep(61.0)
    assert {(await gateway.read(hold_of, name)).state for name in names} == {"expired"}


async def test_the_open_hold_of_a_job_that_has_ended_is_given_back_once(start: Start) -> None:
    """Whoever ended the job forgot its hold: the hold expires, a second turn changes nothing."""
    gateway = await start(Scripted(trouble=Pending(), trouble_s=9e9))
    job_id = await gateway.submit()
    await gateway.until(job_id, "rendering")
    await gateway.write(end_rows, job_id, gateway.clock.now())
    hold = await gateway.read(hold_of, job_id)
    assert await gateway.write(end_overdue, hold.id, hold.expires_at) is not None
    assert await gateway.write(end_overdue, hold.id, hold.expires_at) is None
    assert (await gateway.read(hold_of, job_id)).state == "expired"
