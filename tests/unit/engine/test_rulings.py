"""An operator's word on an attempt in doubt: obeyed within a heartbeat, once, by whoever drives the job."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, select

from gateway.doubts import Ruling, give_ruling, open_doubts, ruling_of, rulings_on
from gateway.store.jobs import load_attempts
from gateway.store.schema_money import entries
from providers.contract import InDoubt, NoEvidence
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.scripted import Lost, Scripted

pytestmark = pytest.mark.anyio

PRICE, PRICE_OF_BETA = 100_000, 150_000
DARK = NoEvidence("the records cannot be read")
HEARTBEAT_S = 4.0
BEATING = {"in_doubt_s": 7_200, "lease_s": 15, "heartbeat_s": HEARTBEAT_S}
WORD = Ruling("not_accepted", 0.0, "mara", "seen in the dashboard")


def in_doubt(accepted: bool = True) -> Scripted:
    """A vendor that loses its first reply and whose records stay dark."""
    return Scripted(submits=[Lost(accepted=accepted)], billing="may_bill", looks_up=True, lookups=[DARK] * 500)


async def doubted(gateway: Gateway) -> str:
    """A job whose attempt has been in doubt for ten minutes, so that the looks are a minute apart."""
    job_id = await gateway.submit()
    await gateway.until(job_id, "in_doubt")
    await gateway.clock.sleep(600)
    return job_id


async def rule(gateway: Gateway, word: Ruling) -> bool:
    """Give a word on the one attempt in doubt, as another process does: through the database alone."""
    (attempt,) = await gateway.read(open_doubts)
    given: bool = await gateway.write(give_ruling, attempt, replace(word, at=gateway.clock.now()))
    return given


def losses(connection: Connection) -> list[tuple[str, int, str]]:
    rows = connection.execute(select(entries).where(entries.c.kind.in_(("loss", "suspend"))))
    return [(row.kind, row.amount_micros, row.reason) for row in rows]


async def test_a_word_that_it_was_not_accepted_is_obeyed_within_a_heartbeat(start: Start) -> None:
    """It is submitted again at once, nothing is suspected, and the story says who said so and why."""
    alpha = in_doubt(accepted=False)
    gateway = await start(alpha, jobs=BEATING)
    job_id = await doubted(gateway)
    ruled_at = gateway.clock.now()
    assert await rule(gateway, WORD)
    await gateway.when(lambda: len(alpha.asked) == 2, within_s=60)
    assert alpha.asked_at[1] - ruled_at < 2 * HEARTBEAT_S + 3
    job = await gateway.ended(job_id)
    assert (job["status"], len(alpha.asked), await gateway.read(losses)) == ("succeeded", 2, [])
    (retried,) = [event for event in job["attempts"][0]["events"] if event["what"] == "retry"]
    assert "settled by mara: seen in the dashboard" in retried["detail"]


async def test_a_word_that_it_was_accepted_is_followed_to_its_result(start: Start) -> None:
    """The render is delivered and billed like any other: one submit, one charge."""
    alpha = in_doubt()
    gateway = await start(alpha, jobs=BEATING)
    job_id = await doubted(gateway)
    assert await rule(gateway, replace(WORD, verdict="accepted", token={"id": "alpha-1"}))
    job = await gateway.ended(job_id)
    assert (job["status"], job["bill"]["price_micros"], len(alpha.asked)) == ("succeeded", PRICE, 1)
    assert await gateway.balances() == {f"team:{gateway.team_id}": PRICE, "provider:alpha": -PRICE}


async def test_a_word_on_a_charge_books_the_loss_and_the_next_route_is_tried(start: Start) -> None:
    """The operator bears what the vendor took for nothing; the team gets its video from another one."""
    alpha, beta = in_doubt(), Scripted("beta", price_micros=PRICE_OF_BETA)
    gateway = await start(alpha, beta, jobs={**BEATING, "deadline_s": 3_600})
    job_id = await doubted(gateway)
    assert await rule(gateway, replace(WORD, verdict="charged", charged_micros=70_000))
    job = await gateway.ended(job_id)
    assert (job["status"], job["route"], job["bill"]["price_micros"]) == ("succeeded", "beta/one", PRICE_OF_BETA)
    assert await gateway.read(losses) == [("loss", 70_000, "settled by mara: seen in the dashboard")]
    assert job["attempts"][0]["cost_micros"] == 70_000


async def test_a_word_that_it_is_lost_ends_the_job_before_its_deadline(start: Start) -> None:
    """Its price is the operator's loss, not a suspense that waits for ever; the team pays nothing."""
    alpha, beta = in_doubt(), Scripted("beta", price_micros=PRICE_OF_BETA)
    gateway = await start(alpha, beta, jobs=BEATING)
    job_id = await doubted(gateway)
    assert await rule(gateway, replace(WORD, verdict="lost"))
    job = await gateway.ended(job_id, within_s=60)
    assert (job["status"], job["bill"]["status"], beta.asked) == ("expired", "released", [])
    assert job["error"]["type"].endswith("/outcome-unknown")
    assert await gateway.read(losses) == [("loss", PRICE, "settled by mara: seen in the dashboard")]


async def test_a_word_given_while_nobody_runs_is_obeyed_by_the_next_process(start: Start) -> None:
    """It is a row, not a message: a gateway that starts later finds it before it looks anything up."""
    alpha = in_doubt()
    gateway = await start(alpha, jobs=BEATING)
    job_id = await doubted(gateway)
    assert await rule(gateway, replace(WORD, verdict="accepted", token={"id": "alpha-1"}))
    looks = len(alpha.looked_up)
    await gateway.crash()
    assert gateway.stop is not None
    await gateway.stop()
    again = await start(alpha, jobs=BEATING)
    job = await again.ended(job_id)
    assert (job["status"], len(alpha.asked)) == ("succeeded", 1)
    assert len(alpha.looked_up) <= looks + 1


async def test_a_doubt_is_ruled_on_once_and_a_new_one_anew(start: Start) -> None:
    """A second word on the same doubt is refused; a token that the vendor does not know opens a new doubt."""
    alpha = in_doubt()
    gateway = await start(alpha, jobs=BEATING)
    job_id = await doubted(gateway)
    wrong = replace(WORD, verdict="accepted", token={"id": "alpha-9"})
    alpha.checks.extend([_unknown_token] * 3)
    assert await rule(gateway, wrong)
    assert not await rule(gateway, replace(WORD, verdict="lost"))
    await gateway.clock.sleep(30)
    (attempt,) = await gateway.read(open_doubts)
    assert await gateway.read(ruling_of, attempt) is None
    assert await rule(gateway, replace(WORD, verdict="accepted", token={"id": "alpha-1"}))
    job = await gateway.ended(job_id)
    assert (job["status"], len(alpha.asked)) == ("succeeded", 1)
    assert [one.token for one in await gateway.read(rulings_on, attempt.id)] == [wrong.token, {"id": "alpha-1"}]


async def test_a_render_that_the_vendor_forgot_and_never_accepted_is_submitted_again(start: Start) -> None:
    """The word ends the token too: the vendor is asked for the second render, and the first costs nobody anything."""
    alpha = Scripted(checks=[_unknown_token] * 500)
    gateway = await start(alpha, jobs=BEATING)
    job_id = await doubted(gateway)
    alpha.checks.clear()
    assert await rule(gateway, WORD)
    job = await gateway.ended(job_id, within_s=120)
    assert (job["status"], len(alpha.asked), await gateway.read(losses)) == ("succeeded", 2, [])
    assert job["bill"]["price_micros"] == PRICE
    (attempt,) = await gateway.read(load_attempts, job_id)
    assert (attempt.submits, attempt.token, attempt.vendor_request_id) == (2, {"id": "alpha-2"}, "alpha-2")


def _unknown_token(vendor: Scripted, token: Any) -> Any:
    return InDoubt("HTTP 404", status=404, gone=True)


async def test_a_word_on_a_route_that_left_the_configuration_is_obeyed_too(start: Start) -> None:
    """Nobody can ask that vendor any more, so a person's word is all there is."""
    alpha, beta = in_doubt(accepted=False), Scripted("beta", price_micros=PRICE_OF_BETA)
    jobs = {**BEATING, "deadline_s": 3_600}
    gateway = await start(alpha, beta, jobs=jobs)
    job_id = await doubted(gateway)
    assert gateway.stop is not None
    await gateway.stop()
    again = await start(beta, jobs=jobs)
    await again.clock.sleep(60)
    assert await rule(again, WORD)
    job = await again.ended(job_id)
    assert (job["status"], job["route"], len(alpha.asked)) == ("succeeded", "beta/one", 1)
    assert await again.read(losses) == []
