"""A submit whose process is gone may still be under way: records that do not have it yet prove nothing."""

from __future__ import annotations

import asyncio

import pytest

from providers.contract import RenderRequest, SubmitOutcome
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio
PRICE, UNDERWAY_S = 100_000, 60.0


async def hangs(_request: RenderRequest) -> SubmitOutcome:
    """The vendor has the request and says nothing while the process lives."""
    await asyncio.sleep(1e6)
    raise AssertionError("nobody waits so long")


async def killed_over_a_submit(start: Start, alpha: Scripted) -> tuple[Gateway, str]:
    """The next process, and the job whose submit the one before died over."""
    alpha.submits.append(hangs)
    gateway = await start(alpha)
    job_id = await gateway.submit()
    await gateway.when(lambda: alpha.asked)
    await gateway.crash()
    assert gateway.stop is not None
    await gateway.stop()
    return await start(alpha), job_id


async def test_a_submit_that_is_accepted_after_the_first_look_is_found_and_paid_once(start: Start) -> None:
    """The vendor takes its time: the records are asked before and after, and no second submit is made."""
    alpha = Scripted(looks_up=True)
    gateway, job_id = await killed_over_a_submit(start, alpha)
    await gateway.when(lambda: alpha.looked_up)
    alpha.accept(alpha.asked[0])
    job = await gateway.ended(job_id)
    assert (job["status"], len(alpha.asked), alpha.charged_micros) == ("succeeded", 1, PRICE)
    assert await gateway.balances() == {f"team:{gateway.team_id}": PRICE, "provider:alpha": -PRICE}


async def test_a_submit_that_never_arrived_is_repeated_once_that_is_sure(start: Start) -> None:
    """Not before the time in which it could have been accepted, and no more than a look later."""
    alpha = Scripted(looks_up=True)
    gateway, job_id = await killed_over_a_submit(start, alpha)
    job = await gateway.ended(job_id)
    assert (job["status"], len(alpha.asked), alpha.charged_micros) == ("succeeded", 2, PRICE)
    assert UNDERWAY_S <= alpha.asked_at[1] - alpha.asked_at[0] <= UNDERWAY_S + 61.0
    told = [event["detail"] for event in job["attempts"][0]["events"] if event["what"] == "looked_up"]
    assert told == ["not in the records; the submit may still be under way", "not in the records"]
    assert await gateway.balances() == {f"team:{gateway.team_id}": PRICE, "provider:alpha": -PRICE}


async def test_a_given_up_submit_that_may_be_under_way_stays_in_suspense(start: Start) -> None:
    """A look back that comes too early does not clear what may be charged yet."""
    alpha = Scripted(looks_up=True)
    alpha.submits.append(hangs)
    gateway = await start(alpha, retry={"ambiguous": "retry", "submits_max": 1})
    job_id = await gateway.submit()
    await gateway.when(lambda: alpha.asked)
    await gateway.crash()
    assert gateway.stop is not None
    await gateway.stop()
    again = await start(alpha, retry={"ambiguous": "retry", "submits_max": 1}, jobs={"attempts_max": 1})
    job = await again.ended(job_id, within_s=50)
    assert (job["status"], len(alpha.looked_up), (await again.balances())["suspense"]) == ("failed", 1, PRICE)
