"""A caller's wish to stop: at once where nothing is under way, passed on where the vendor can stop, never a lie."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.store.jobs import request_cancel
from providers.contract import FailureKind, InDoubt, NoEvidence, Pending, Refused
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.scripted import Lost, Scripted

pytestmark = pytest.mark.anyio


async def cancel(gateway: Gateway, job_id: str) -> None:
    response = await gateway.client.post(f"/jobs/{job_id}/cancel")
    assert response.status_code == 202, response.text
    assert response.json()["cancel_requested_at"] is not None


async def test_a_job_that_waits_for_a_route_is_canceled_at_once(start: Start) -> None:
    """Nothing was sent: the hold goes back the moment the caller says so."""
    alpha = Scripted(balance_micros=0)
    gateway = await start(alpha)
    await gateway.clock.sleep(1)
    job_id = await gateway.submit()
    await gateway.until(job_id, "waiting")
    await cancel(gateway, job_id)
    job = await gateway.ended(job_id, within_s=1)
    assert (job["status"], job["bill"]["status"], alpha.asked) == ("canceled", "released", [])
    assert job["error"]["type"].endswith("/job-canceled")


async def test_a_job_between_two_submits_is_canceled_without_the_second(start: Start) -> None:
    """The pause of a backoff ends with the wish, and no further submit leaves."""
    alpha = Scripted(submits=[Refused(FailureKind.RATE_LIMITED, "429", retry_after_s=300.0)])
    gateway = await start(alpha)
    job_id = await gateway.submit()
    await gateway.until(job_id, "retrying")
    await cancel(gateway, job_id)
    job = await gateway.ended(job_id, within_s=1)
    assert (job["status"], job["bill"]["status"], len(alpha.asked)) == ("canceled", "released", 1)
    assert job["attempts"][0]["state"] == "failed"


@pytest.mark.parametrize("billing", ["may_bill", "success_only", "free"])
async def test_a_stopped_render_that_its_vendor_may_bill_stands_in_suspense(start: Start, billing: Any) -> None:
    """The team pays nothing; what may be on the vendor's list for the work begun is the operator's open question."""
    alpha = Scripted(trouble=Pending(), trouble_s=500.0, cancels=True, billing=billing)
    gateway = await start(alpha)
    job_id = await gateway.submit()
    await gateway.until(job_id, "rendering")
    await cancel(gateway, job_id)
    job = await gateway.ended(job_id, within_s=60)
    assert (job["status"], job["bill"]["price_micros"]) == ("canceled", 0)
    assert (await gateway.balances()).get("suspense", 0) == (100_000 if billing == "may_bill" else 0)


@pytest.mark.parametrize("stops", [True, False, None])
async def test_an_accepted_render_is_stopped_where_the_vendor_can_and_billed_where_it_cannot(
    start: Start, stops: bool | None
) -> None:
    """True: canceled and free. False or unable: it runs to its end, is delivered and paid."""
    alpha = Scripted(trouble=Pending(), trouble_s=100.0, cancels=stops)
    gateway = await start(alpha)
    job_id = await gateway.submit()
    await gateway.until(job_id, "rendering")
    await cancel(gateway, job_id)
    job = await gateway.ended(job_id)
    assert job["status"] == ("canceled" if stops else "succeeded")
    assert job["bill"]["status"] == ("released" if stops else "captured")
    assert len(alpha.cancel_asked) == (0 if stops is None else 1)


async def test_a_vendor_is_asked_to_stop_without_waiting_for_the_next_poll(start: Start) -> None:
    """The wish wakes the job at once."""
    alpha = Scripted(trouble=Pending(eta_s=500.0), trouble_s=500.0, cancels=True)
    gateway = await start(alpha, polling={"delay_max_s": 300})
    job_id = await gateway.submit()
    await gateway.until(job_id, "rendering")
    await gateway.clock.sleep(20)
    await cancel(gateway, job_id)
    assert (await gateway.ended(job_id, within_s=1))["status"] == "canceled"


async def test_a_wish_during_the_submit_is_passed_on_once_the_vendor_has_answered(start: Start) -> None:
    """The reply is waited for, because a render may hang on it; then the render is stopped."""
    asked, answering = asyncio.Event(), asyncio.Event()
    alpha = Scripted(cancels=True)

    async def slow(moment: str, call: str) -> None:
        if (moment, call) == ("before", "submit"):
            asked.set()
            await answering.wait()

    alpha.hook = slow
    gateway = await start(alpha)
    job_id = await gateway.submit()
    await asked.wait()
    await cancel(gateway, job_id)
    await gateway.clock.sleep(5)
    assert (await gateway.job(job_id))["status"] == "running"
    answering.set()
    job = await gateway.ended(job_id)
    assert (job["status"], len(alpha.accepted), len(alpha.cancel_asked)) == ("canceled", 1, 1)


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_wish_in_the_middle_of_the_first_write_is_not_lost(start: Start, moment: str) -> None:
    """The wish comes while the intent is being committed: the vendor is still asked to stop."""
    alpha = Scripted(trouble=Pending(), trouble_s=100.0, cancels=True)
    gateway = await start(alpha)
    writing, go_on = asyncio.Event(), asyncio.Event()

    async def stop_at(when: str, name: str) -> None:
        if (when, name) == (moment, "start_attempt"):
            writing.set()
            await go_on.wait()

    gateway.store.hook = stop_at
    job_id = await gateway.submit()
    await writing.wait()
    await cancel(gateway, job_id)
    go_on.set()
    job = await gateway.ended(job_id)
    assert (job["status"], job["bill"]["status"]) == ("canceled", "released")


async def test_a_job_in_doubt_is_not_canceled_while_a_render_may_hang_on_it(start: Start) -> None:
    """Nobody knows whether it runs: the wish waits for evidence, and then no second submit is made."""
    alpha = Scripted(
        submits=[Lost(accepted=False)],
        billing="may_bill",
        looks_up=True,
        lookups=[NoEvidence("dark")] * 3,
    )
    gateway = await start(alpha)
    job_id = await gateway.submit()
    await gateway.until(job_id, "in_doubt")
    await cancel(gateway, job_id)
    job = await gateway.ended(job_id)
    assert (job["status"], len(alpha.asked), job["bill"]["status"]) == ("canceled", 1, "released")
    assert len(alpha.looked_up) == 4


async def test_a_render_found_after_the_wish_is_stopped(start: Start) -> None:
    """In doubt, then found in the records: the vendor is asked to stop it."""
    alpha = Scripted(submits=[Lost(accepted=True)], looks_up=True, cancels=True)
    gateway = await start(alpha, retry={"verify_settle_s": 10})
    job_id = await gateway.submit()
    await gateway.until(job_id, "in_doubt")
    await cancel(gateway, job_id)
    job = await gateway.ended(job_id)
    assert (job["status"], len(alpha.cancel_asked), len(alpha.charged)) == ("canceled", 1, 0)


async def test_a_render_whose_record_is_gone_can_still_be_stopped(start: Start) -> None:
    """A vendor that no longer shows a job may stop it all the same."""
    alpha = Scripted(trouble=InDoubt("404", gone=True), trouble_s=9e9, cancels=True)
    gateway = await start(alpha)
    job_id = await gateway.submit()
    await gateway.until(job_id, "in_doubt")
    await cancel(gateway, job_id)
    assert (await gateway.ended(job_id))["status"] == "canceled"


async def test_a_wish_outlives_the_process_it_was_told(start: Start) -> None:
    """The wish is in the job's row: whoever takes the job over obeys it."""
    alpha = Scripted(trouble=Pending(), trouble_s=500.0, cancels=True)
    gateway = await start(alpha)
    job_id = await gateway.submit()
    await gateway.until(job_id, "rendering")
    await gateway.write(request_cancel, job_id, gateway.clock.now())  # as a process does that does not drive this job
    await gateway.stop()
    again = await start(alpha)
    assert (await again.ended(job_id))["status"] == "canceled"
    assert len(alpha.asked) == 1


async def test_what_has_ended_cannot_be_canceled(start: Start) -> None:
    """409, and the bill stays as it is."""
    gateway = await start(Scripted())
    job = await gateway.made()
    response = await gateway.client.post(f"/jobs/{job['id']}/cancel")
    assert response.status_code == 409
    assert await gateway.job(job["id"]) == job


async def test_canceling_twice_is_canceling_once(start: Start) -> None:
    """The second wish changes nothing."""
    alpha = Scripted(trouble=Pending(), trouble_s=50.0, cancels=False)
    gateway = await start(alpha)
    job_id = await gateway.submit()
    await gateway.until(job_id, "rendering")
    await cancel(gateway, job_id)
    first = (await gateway.job(job_id))["cancel_requested_at"]
    await gateway.clock.sleep(3)
    await cancel(gateway, job_id)
    assert (await gateway.job(job_id))["cancel_requested_at"] == first
    await gateway.ended(job_id)
    assert len(alpha.cancel_asked) == 1
