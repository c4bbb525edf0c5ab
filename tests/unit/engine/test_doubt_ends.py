"""How a doubt ends: the last look before every verdict, the published deadline, and success that comes late."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

import pytest

from gateway.money.losses import in_suspense
from gateway.settings import JobsSection
from providers.contract import Accepted, Failed, FailureKind, Finished, InDoubt, InlineFile, NoEvidence, Refused, Report
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.scripted import Lost, Scripted

pytestmark = pytest.mark.anyio

DARK = NoEvidence("the records cannot be read")
PRICE, PRICE_OF_BETA = 100_000, 150_000
SOON = {"in_doubt_s": 120, "lease_s": 600, "heartbeat_s": 200}
BROKEN = Refused(FailureKind.SERVER_ERROR, "HTTP 500", status=500)


def seconds(shown: str) -> float:
    """A time as a job shows it, as unix seconds."""
    return datetime.fromisoformat(shown).timestamp()


async def test_a_hint_to_wait_for_a_month_does_not_skip_the_last_look(start: Start) -> None:
    """The vendor asks to be left alone; at the published deadline it is asked once more before anything is decided."""
    alpha = Scripted(trouble=InDoubt("HTTP 429", retry_after_s=30 * 86_400.0), trouble_s=9e9)
    gateway = await start(alpha, jobs=SOON)
    job = await gateway.made()
    assert (job["status"], len(alpha.checked_at)) == ("expired", 2)
    assert alpha.checked_at[-1] - alpha.asked_at[0] >= 120
    assert seconds(job["finished_at"]) - alpha.checked_at[-1] < 0.1


async def test_a_success_that_the_last_look_finds_is_captured(start: Start) -> None:
    """Dark until the deadline, done at the deadline: delivered and billed once, nothing suspected."""
    alpha = Scripted(trouble=InDoubt("HTTP 500", retry_after_s=9_999.0), trouble_s=119.0)
    gateway = await start(alpha, jobs=SOON)
    job = await gateway.made()
    assert (job["status"], len(alpha.checked_at), len(alpha.asked)) == ("succeeded", 2, 1)
    assert (await gateway.balances()).get("suspense", 0) == 0
    assert (await gateway.counts())["settlements"] == 1


@pytest.mark.parametrize("known", ["by its token", "by the records"])
async def test_a_process_that_comes_back_after_the_deadline_asks_before_it_decides(start: Start, known: str) -> None:
    """Everything was down through the deadline: the render that finished meanwhile is delivered, not expired."""
    lost = [Lost(accepted=True)] if known == "by the records" else []
    alpha = Scripted(submits=lost, trouble=InDoubt("HTTP 500"), trouble_s=50.0, looks_up=True, lookups=[DARK] * 3)
    alpha.billing = "may_bill"
    gateway = await start(alpha, jobs=SOON)
    job_id = await gateway.submit()
    await gateway.when(lambda: alpha.checked_at or alpha.looked_up)
    assert gateway.stop is not None
    await gateway.stop()
    await gateway.clock.sleep(3_600)
    alpha.lookups.clear()
    again = await start(alpha, jobs=SOON)
    job = await again.ended(job_id)
    assert (job["status"], job["bill"]["price_micros"], len(alpha.asked)) == ("succeeded", PRICE, 1)


async def test_the_deadline_of_a_doubt_is_published_and_kept(start: Start) -> None:
    """Since when, until when, what was looked at and what is next; a change of the setting moves nothing published."""
    alpha = Scripted(submits=[Lost(accepted=True)], billing="may_bill", looks_up=True, lookups=[DARK] * 99)
    gateway = await start(alpha, jobs=SOON)
    job_id = await gateway.submit()
    await gateway.until(job_id, "in_doubt")
    await gateway.clock.sleep(20)
    (attempt,) = (await gateway.job(job_id))["attempts"]
    first = attempt["doubt"]
    assert (attempt["state"], first["found"], first["why"][:8]) == ("in_doubt", DARK.detail, "HTTP 502")
    assert seconds(first["until"]) == pytest.approx(alpha.asked_at[0] + 120, abs=0.01)
    assert "expires" in first["next"]
    parts = gateway.service.parts
    parts.settings = parts.settings.model_copy(update={"jobs": JobsSection(in_doubt_s=7_200, lease_s=600)})
    await gateway.clock.sleep(60)
    (attempt,) = (await gateway.job(job_id))["attempts"]
    later = attempt["doubt"]
    assert (later["until"], later["since"]) == (first["until"], first["since"])
    assert later["looks"] == len(alpha.looked_up) > first["looks"]
    assert seconds(later["looked_at"]) > seconds(first["looked_at"])
    assert [event["what"] for event in attempt["events"]] == ["submit", "in_doubt", "looked_up"]
    job = await gateway.ended(job_id)
    (attempt,) = job["attempts"]
    assert (job["status"], attempt["doubt"]) == ("expired", None)
    assert seconds(job["finished_at"]) - seconds(first["until"]) < 10


async def late(start: Start, *, found: bool, beta: Scripted, **settings: Any) -> tuple[Gateway, Scripted, Any]:
    """A submit to alpha is lost, its records are dark and it is given up; then beta is tried."""
    lookups = [DARK] if found else [DARK, *([DARK] * 9)]
    alpha = Scripted(submits=[Lost(accepted=found)], looks_up=True, lookups=lookups)
    alpha.submits.extend([BROKEN] * 5)
    gateway = await start(alpha, beta, **settings)
    return gateway, alpha, await gateway.made()


async def test_a_render_that_was_given_up_is_taken_up_before_another_one_is_paid(start: Start) -> None:
    """Given up in doubt, the next vendor fails too, and now the records show it: captured once, the suspense over."""
    beta = Scripted("beta", price_micros=PRICE_OF_BETA, submits=[BROKEN])
    gamma = Scripted("gamma", price_micros=200_000)
    alpha = Scripted(submits=[Lost(accepted=True), BROKEN], looks_up=True, lookups=[DARK])
    gateway = await start(alpha, beta, gamma)
    job = await gateway.made()
    assert (job["status"], job["route"], job["bill"]["price_micros"]) == ("succeeded", "alpha/one", PRICE)
    assert [(one["route"], one["state"]) for one in job["attempts"]] == [
        ("alpha/one", "failed"),
        ("beta/one", "failed"),
        ("alpha/one", "succeeded"),
    ]
    assert job["attempts"][2]["events"][0]["what"] == "taken_up"
    assert (gamma.asked, alpha.charged_micros) == ([], PRICE)
    assert await gateway.balances() == {f"team:{gateway.team_id}": PRICE, "provider:alpha": -PRICE, "suspense": 0}
    assert next(line for line in job["receipt"] if line["parameter"] == "seed")["sent"] == job["result"]["seed"]


async def test_a_render_that_was_given_up_is_looked_for_once_more_before_the_job_ends(start: Start) -> None:
    """Every route has failed; the last thing done before the verdict finds the paid render."""
    beta = Scripted("beta", price_micros=PRICE_OF_BETA, submits=[BROKEN] * 9)
    gateway, alpha, job = await late(start, found=True, beta=beta)
    assert (job["status"], job["route"], alpha.charged_micros) == ("succeeded", "alpha/one", PRICE)
    assert (await gateway.balances())["suspense"] == 0
    assert (await gateway.counts())["settlements"] == 1


async def test_a_last_look_that_stays_dark_leaves_the_charge_in_suspense(start: Start) -> None:
    """No evidence is no evidence: the job fails for its own reason, and the operator keeps the open question."""
    beta = Scripted("beta", price_micros=PRICE_OF_BETA, submits=[BROKEN] * 9)
    gateway, alpha, job = await late(start, found=False, beta=beta)
    assert (job["status"], job["error"]["type"].rsplit("/", 1)[1]) == ("failed", "no-route-left")
    assert (await gateway.balances())["suspense"] == PRICE
    (open_one,) = await gateway.read(in_suspense)
    assert (open_one.job_id, open_one.amount_micros) == (job["id"], PRICE)
    assert len(alpha.looked_up) >= 2


async def test_a_last_look_into_complete_records_clears_what_was_suspected(start: Start) -> None:
    """The records can be read again and do not have it: nothing was charged, and the books say why."""
    alpha = Scripted(submits=[Lost(accepted=False), BROKEN], looks_up=True, lookups=[DARK])
    beta = Scripted("beta", price_micros=PRICE_OF_BETA, submits=[BROKEN] * 9)
    alpha.submits.extend([BROKEN] * 9)
    gateway = await start(alpha, beta)
    job = await gateway.made()
    assert job["status"] == "failed"
    assert await gateway.read(in_suspense) == []
    assert set((await gateway.balances()).values()) == {0}


async def test_every_lost_submit_of_an_attempt_is_looked_for(start: Start) -> None:
    """Two submits were lost and repeated in the dark: complete records clear both, and not the second alone."""
    alpha = Scripted(submits=[Lost(accepted=False)] * 2, looks_up=True, lookups=[DARK] * 2)
    alpha.submits.extend([BROKEN] * 9)
    gateway = await start(alpha, Scripted("beta", price_micros=PRICE_OF_BETA, submits=[BROKEN] * 9))
    job = await gateway.made()
    doubted = [event["what"] for event in job["attempts"][0]["events"]].count("in_doubt")
    assert (job["status"], doubted, await gateway.read(in_suspense)) == ("failed", 2, [])
    assert (await gateway.balances())["suspense"] == 0


@pytest.mark.parametrize("mode", ["async", "sync"])
async def test_a_lost_submit_is_looked_for_after_a_later_one_was_rendered_and_failed(start: Start, mode: str) -> None:
    """The repeat was accepted and came to nothing; the first render is in the records all the same, and is taken up."""
    alpha = Scripted(submits=[Lost(accepted=True)], looks_up=True, lookups=[DARK], mode=mode)
    if mode == "sync":
        alpha.submits.append(Finished((InlineFile(b"no video"),), Report(request_id="alpha-2", cost_micros=0)))
    alpha.checks.extend([Failed(FailureKind.RENDER_FAILED, "failed")] if mode == "async" else [])
    beta = Scripted("beta", price_micros=PRICE_OF_BETA)
    gateway = await start(alpha, beta)
    job = await gateway.made()
    assert (job["status"], job["route"], beta.asked) == ("succeeded", "alpha/one", [])
    assert [one["events"][0]["what"] for one in job["attempts"]] == ["submit", "taken_up"]
    assert (await gateway.balances())["suspense"] == 0


async def test_records_that_show_the_later_submit_alone_say_nothing_of_the_lost_one(start: Start) -> None:
    """The render that failed is not taken up as the lost one's: the charge stays suspected, the next route is tried."""
    later = Accepted({"id": "alpha-2"})
    alpha = Scripted(submits=[Lost(accepted=True)], looks_up=True, lookups=[DARK, later, later])
    alpha.checks.append(Failed(FailureKind.RENDER_FAILED, "failed"))
    gateway = await start(alpha, Scripted("beta", price_micros=PRICE_OF_BETA))
    job = await gateway.made()
    assert (job["status"], job["route"], len(alpha.looked_up)) == ("succeeded", "beta/one", 2)
    assert [one.amount_micros for one in await gateway.read(in_suspense)] == [PRICE]


async def test_a_render_found_after_its_own_deadline_is_not_taken_up(start: Start) -> None:
    """What was published as the end is the end: beyond it the vendor's records are no longer asked for this job."""
    beta = Scripted("beta", price_micros=PRICE_OF_BETA, trouble=InDoubt("HTTP 500"), trouble_s=100.0, latency_s=5.0)
    beta.checks.append(Failed(FailureKind.RENDER_FAILED, "failed"))
    alpha = Scripted(submits=[Lost(accepted=True), *([BROKEN] * 9)], looks_up=True, lookups=[DARK])
    beta.submits.extend([lambda request: _accept(beta, request), *([BROKEN] * 9)])
    gateway = await start(alpha, beta, jobs={**SOON, "in_doubt_s": 60})
    job = await gateway.made()
    assert (job["status"], len(alpha.looked_up)) == ("expired", 1)


async def _accept(vendor: Scripted, request: Any) -> Any:
    return vendor.accept(request)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("ending", ["moderated", "lost"])
async def test_a_death_at_the_verdict_never_sends_the_job_to_another_vendor(
    start: Start, moment: str, ending: str
) -> None:
    """Attempt and job end in one transaction: whoever comes next finds both open or both closed."""
    failed = Failed(FailureKind.MODERATED, "blocked")
    alpha = Scripted(trouble=failed if ending == "moderated" else InDoubt("HTTP 500"), trouble_s=9e9)
    beta = Scripted("beta", price_micros=PRICE_OF_BETA)
    gateway = await start(alpha, beta, jobs=SOON)
    reached: list[str] = []

    async def die(when: str, name: str) -> None:
        if (when, name) == (moment, "fail_and_end"):
            reached.append(name)
            await asyncio.Event().wait()

    gateway.store.hook = die
    job_id = await gateway.submit()
    await gateway.when(lambda: reached, within_s=900)
    await gateway.crash()
    assert gateway.stop is not None
    await gateway.stop()
    again = await start(alpha, beta, jobs=SOON)
    job = await again.ended(job_id)
    assert job["status"] == ("failed" if ending == "moderated" else "expired")
    assert (beta.asked, len(job["attempts"]), len(alpha.asked)) == ([], 1, 1)
    assert (await again.counts())["settlements"] == 1
