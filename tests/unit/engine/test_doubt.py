"""A submit whose outcome nobody knows: looked up first, repeated only where that is safe, never billed twice."""

from __future__ import annotations

from typing import Any

import pytest

from providers.contract import NoEvidence
from tests.support.fixtures import Start
from tests.support.scripted import Lost, Scripted

pytestmark = pytest.mark.anyio

DARK = NoEvidence("the records cannot be read")
PRICE = 100_000
SOON = {"in_doubt_s": 120, "lease_s": 600, "heartbeat_s": 200}


async def outcome_of(start: Start, alpha: Scripted, mode: str, **settings: Any) -> tuple[dict[str, Any], int]:
    """A job whose first submit was lost: the job when it has ended, and what stands in suspense."""
    alpha.price_micros = PRICE
    gateway = await start(alpha, retry={"ambiguous": mode}, jobs=SOON, **settings)
    job = await gateway.made()
    return job, (await gateway.balances()).get("suspense", 0)


@pytest.mark.parametrize("mode", ["verify", "never"])
async def test_a_lost_submit_that_the_vendors_records_have_is_followed_and_not_repeated(
    start: Start, mode: str
) -> None:
    """Found in the records: one submit, one render, one charge, nothing in suspense."""
    alpha = Scripted(submits=[Lost(accepted=True)], looks_up=True)
    job, suspense = await outcome_of(start, alpha, mode)
    assert (job["status"], len(alpha.asked), alpha.charged_micros, suspense) == ("succeeded", 1, PRICE, 0)
    assert [event["what"] for event in job["attempts"][0]["events"]] == [
        "submit",
        "in_doubt",
        "looked_up",
        "accepted",
        "delivered",
    ]


async def test_a_lost_submit_that_the_records_do_not_have_is_repeated(start: Start) -> None:
    """Not in complete records: a second submit is safe, and nothing is suspected."""
    alpha = Scripted(submits=[Lost(accepted=False)], looks_up=True)
    job, suspense = await outcome_of(start, alpha, "verify")
    assert (job["status"], len(alpha.asked), alpha.charged_micros, suspense) == ("succeeded", 2, PRICE, 0)
    assert job["attempts"][0]["submits"] == 2


async def test_evidence_is_looked_for_only_after_the_books_could_settle(start: Start) -> None:
    """The lookup waits the configured pause, and asks about the time since the submit."""
    alpha = Scripted(submits=[Lost(accepted=True)], looks_up=True)
    gateway = await start(alpha, retry={"verify_settle_s": 7})
    await gateway.made()
    (sent,) = alpha.looked_up
    assert sent.sent_at == alpha.asked_at[0]
    assert sent.until == alpha.asked_at[0] + 7


@pytest.mark.parametrize("accepted", [True, False])
@pytest.mark.parametrize("looks_up", [True, False])
async def test_without_evidence_a_vendor_that_bills_results_only_is_asked_again(
    start: Start, accepted: bool, looks_up: bool
) -> None:
    """The possible duplicate stands in suspense; the team pays once."""
    alpha = Scripted(submits=[Lost(accepted=accepted)], looks_up=looks_up, lookups=[DARK])
    job, suspense = await outcome_of(start, alpha, "verify")
    assert (job["status"], len(alpha.asked), suspense) == ("succeeded", 2, PRICE)
    assert job["bill"]["price_micros"] == PRICE


async def test_silence_is_not_repeated_even_where_only_results_are_billed(start: Start) -> None:
    """No reply at all: a render may go on behind it and succeed, so nothing is repeated without evidence."""
    alpha = Scripted(submits=[Lost(accepted=True, status=None)])
    job, suspense = await outcome_of(start, alpha, "verify")
    assert (job["status"], len(alpha.asked), suspense) == ("expired", 1, PRICE)


async def test_silence_that_the_records_clear_is_repeated(start: Start) -> None:
    """Evidence is worth the same however the reply was lost."""
    alpha = Scripted(submits=[Lost(accepted=False, status=None)], looks_up=True)
    job, suspense = await outcome_of(start, alpha, "verify")
    assert (job["status"], len(alpha.asked), suspense) == ("succeeded", 2, 0)


@pytest.mark.parametrize("mode", ["verify", "never"])
@pytest.mark.parametrize("looks_up", [True, False])
async def test_without_evidence_a_vendor_that_may_bill_is_never_asked_again(
    start: Start, mode: str, looks_up: bool
) -> None:
    """One submit; at the published deadline the job expires, the hold goes back, the charge is suspected."""
    alpha = Scripted(submits=[Lost(accepted=True)], billing="may_bill", looks_up=looks_up, lookups=[DARK] * 99)
    job, suspense = await outcome_of(start, alpha, mode)
    assert (job["status"], len(alpha.asked), suspense) == ("expired", 1, PRICE)
    assert job["error"]["type"].endswith("/outcome-unknown")
    assert (job["bill"]["status"], job["bill"]["price_micros"]) == ("released", 0)
    assert job["attempts"][0]["failure"]["kind"] == "lost"


async def test_an_attempt_in_doubt_is_looked_up_until_the_records_tell(start: Start) -> None:
    """Records that are dark at first and then show the render: it is followed to its end, with one submit."""
    alpha = Scripted(submits=[Lost(accepted=True)], billing="may_bill", looks_up=True, lookups=[DARK, DARK, DARK])
    job, suspense = await outcome_of(start, alpha, "verify")
    assert (job["status"], len(alpha.asked), len(alpha.looked_up), suspense) == ("succeeded", 1, 4, 0)


@pytest.mark.parametrize("accepted", [True, False])
async def test_mode_retry_repeats_without_asking_and_books_the_possible_duplicate(start: Start, accepted: bool) -> None:
    """Configured to repeat: no lookup, two submits, the risk in suspense and never on the team."""
    alpha = Scripted(submits=[Lost(accepted=accepted)], billing="may_bill", looks_up=True)
    job, suspense = await outcome_of(start, alpha, "retry")
    assert (job["status"], len(alpha.asked), len(alpha.looked_up), suspense) == ("succeeded", 2, 0, PRICE)
    assert job["bill"]["price_micros"] == PRICE


async def test_mode_never_goes_to_the_next_route_once_the_records_clear_the_first(start: Start) -> None:
    """Proven not accepted, and configured never to repeat: another vendor may be asked, this one not."""
    alpha = Scripted(submits=[Lost(accepted=False)], looks_up=True)
    beta = Scripted("beta", price_micros=150_000)
    gateway = await start(alpha, beta, retry={"ambiguous": "never"})
    job = await gateway.made()
    assert (job["status"], job["route"], len(alpha.asked)) == ("succeeded", "beta/one", 1)
    assert await gateway.balances() == {f"team:{gateway.team_id}": 150_000, "provider:beta": -150_000}


async def test_no_other_route_is_started_while_one_is_in_doubt(start: Start) -> None:
    """Two renders of one job never run side by side on a guess."""
    alpha = Scripted(submits=[Lost(accepted=True)], billing="may_bill")
    beta = Scripted("beta", price_micros=150_000)
    gateway = await start(alpha, beta, jobs=SOON)
    job = await gateway.made()
    assert (job["status"], len(beta.asked)) == ("expired", 0)


async def test_a_render_that_belongs_to_another_attempt_is_not_taken_for_a_lost_one(start: Start) -> None:
    """A lookup is told which of the vendor's ids are taken."""
    alpha = Scripted(submits=[], looks_up=True)
    gateway = await start(alpha)
    first = await gateway.made()
    alpha.submits.append(Lost(accepted=False))
    second = await gateway.made()
    assert first["status"] == second["status"] == "succeeded"
    assert alpha.looked_up[0].claimed == frozenset() or "alpha-1" in alpha.looked_up[0].claimed
    assert len(alpha.accepted) == 2


async def test_three_lost_submits_in_a_row_end_the_attempt(start: Start) -> None:
    """Lost every time and cleared every time: three submits, then the next route."""
    alpha = Scripted(submits=[Lost(accepted=False)] * 3, looks_up=True)
    beta = Scripted("beta", price_micros=150_000)
    gateway = await start(alpha, beta)
    job = await gateway.made()
    assert [(attempt["route"], attempt["submits"]) for attempt in job["attempts"]] == [
        ("alpha/one", 3),
        ("beta/one", 1),
    ]
