"""Asking how an accepted render is doing: a timeout is not a verdict, and nothing is settled twice."""

from __future__ import annotations

import pytest

from providers.contract import Accepted, Failed, FailureKind, InDoubt, Pending, Report
from tests.support.fixtures import Start
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio

HOUR_S = 3600.0
TROUBLES = [
    InDoubt("HTTP 429", status=429, retry_after_s=20.0),
    InDoubt("HTTP 500", status=500),
    InDoubt("ReadTimeout"),
    InDoubt("something new", unrecognised=True),
]
GONE = InDoubt("HTTP 404", status=404, gone=True)
SOON = {"in_doubt_s": 120, "lease_s": 600, "heartbeat_s": 200}


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.detail)
async def test_an_hour_of_failing_status_calls_ends_in_the_success_that_came_captured_once(
    start: Start, trouble: InDoubt
) -> None:
    """The hold stays open through the hour; the late success is billed like any other, with the one submit."""
    alpha = Scripted(trouble=trouble, trouble_s=HOUR_S)
    gateway = await start(alpha)
    job_id = await gateway.submit()
    await gateway.clock.sleep(HOUR_S - 60)
    assert (await gateway.job(job_id))["bill"]["status"] == "held"
    job = await gateway.ended(job_id)
    assert (job["status"], job["bill"]["status"], len(alpha.asked)) == ("succeeded", "captured", 1)
    assert ((await gateway.counts())["settlements"], len(alpha.charged)) == (1, 1)


async def test_an_hour_of_failing_status_calls_ends_in_the_failure_that_came_released_once(start: Start) -> None:
    """Only the vendor's own word ends it; then the hold goes back, once, and nothing was run twice."""
    failed = Failed(FailureKind.MODERATED, "blocked")
    alpha = Scripted(trouble=InDoubt("HTTP 500"), trouble_s=HOUR_S, checks=[failed])
    gateway = await start(alpha)
    job = await gateway.made()
    assert (job["status"], job["bill"]["status"], len(alpha.asked)) == ("failed", "released", 1)
    assert ((await gateway.counts())["settlements"], await gateway.balances()) == (1, {})


async def test_a_success_after_the_callers_deadline_is_still_delivered(start: Start) -> None:
    """Late is late, not lost: the render was paid for, so the caller gets it."""
    alpha = Scripted(trouble=Pending(), trouble_s=1_000.0)
    gateway = await start(alpha)
    job = await gateway.made(routing={"deadline_s": 60})
    assert job["status"] == "succeeded"
    assert job["finished_at"] > job["deadline_at"]


async def test_polls_keep_their_distance(start: Start) -> None:
    """Between two status calls lie at least the configured minimum and at most the maximum."""
    alpha = Scripted(trouble=Pending(), trouble_s=200.0)
    gateway = await start(alpha, polling={"delay_min_s": 2, "delay_max_s": 9})
    await gateway.made()
    gaps_s = [after - before for before, after in zip(alpha.checked_at, alpha.checked_at[1:], strict=False)]
    assert len(gaps_s) > 15
    assert all(2 - 1e-6 <= gap_s <= 9 + 1e-6 for gap_s in gaps_s)


async def test_a_hint_on_a_status_call_is_obeyed(start: Start) -> None:
    """After a 429 on a read the vendor is left alone for as long as it asked."""
    alpha = Scripted(checks=[InDoubt("HTTP 429", status=429, retry_after_s=90.0)])
    gateway = await start(alpha)
    await gateway.made()
    assert alpha.checked_at[1] - alpha.checked_at[0] >= 90.0


async def test_a_hint_cannot_hold_a_job_beyond_the_published_deadline(start: Start) -> None:
    """A vendor that asks for a month is left alone until the in-doubt deadline, and no longer."""
    alpha = Scripted(trouble=InDoubt("HTTP 429", retry_after_s=30 * 86_400.0), trouble_s=9e9)
    gateway = await start(alpha, jobs=SOON)
    job = await gateway.made()
    assert job["status"] == "expired"
    assert gateway.clock.now() - alpha.asked_at[0] < 200


async def test_the_vendors_progress_is_shown_while_it_works(start: Start) -> None:
    """Fraction and remaining time come through as the vendor tells them."""
    alpha = Scripted(trouble=Pending(eta_s=42.0, progress=0.25), trouble_s=100.0)
    gateway = await start(alpha)
    job_id = await gateway.submit()
    await gateway.clock.sleep(50)
    assert (await gateway.job(job_id))["progress"] == {"stage": "rendering", "fraction": 0.25, "eta_s": 42.0}
    assert (await gateway.ended(job_id))["status"] == "succeeded"


async def test_a_record_that_is_gone_for_a_moment_is_asked_for_again(start: Start) -> None:
    """A vendor that forgets and remembers: the job goes on with the render it had, and no second submit."""
    alpha = Scripted(checks=[GONE, GONE, Pending()])
    gateway = await start(alpha)
    job = await gateway.made()
    assert (job["status"], len(alpha.asked)) == ("succeeded", 1)
    assert [event["what"] for event in job["attempts"][0]["events"]] == [
        "submit",
        "accepted",
        "in_doubt",
        "accepted",
        "delivered",
    ]


async def test_a_record_that_is_gone_for_good_expires_at_the_published_deadline(start: Start) -> None:
    """Nothing is repeated on a guess: hold released, possible charge in suspense, the error says what happened."""
    alpha, beta = Scripted(trouble=GONE, trouble_s=9e9), Scripted("beta", price_micros=150_000)
    gateway = await start(alpha, beta, jobs=SOON)
    job = await gateway.made()
    assert (job["status"], job["bill"]["status"], beta.asked) == ("expired", "released", [])
    assert job["error"]["type"].endswith("/outcome-unknown")
    assert await gateway.balances() == {"suspense": 100_000, "provider:alpha": -100_000}
    assert (await gateway.counts())["settlements"] == 1


async def test_a_render_that_never_ends_expires_after_one_last_look(start: Start) -> None:
    """Pending until the published deadline: the last thing done before giving up is to ask."""
    alpha = Scripted(trouble=Pending(), trouble_s=9e9)
    gateway = await start(alpha, jobs=SOON)
    job = await gateway.made()
    assert job["status"] == "expired"
    assert gateway.clock.now() - alpha.checked_at[-1] < 1
    assert alpha.checked_at[-1] - alpha.asked_at[0] >= 120


async def test_the_vendors_own_estimate_says_when_to_ask_first(start: Start) -> None:
    """A long estimate is not answered with a storm of polls."""
    alpha = Scripted(latency_s=5.0)
    alpha.submits.append(lambda request: _accepted(alpha, request, 400.0))
    gateway = await start(alpha, polling={"delay_max_s": 300})
    await gateway.made()
    assert alpha.checked_at[0] - alpha.asked_at[0] > 100


async def _accepted(alpha: Scripted, request: object, eta_s: float) -> Accepted:
    return alpha.accept(request, eta_s)


async def test_the_true_cost_is_what_the_vendor_reports(start: Start) -> None:
    """A reported charge replaces the price book's figure on the bill."""
    alpha = Scripted(checks=[lambda provider, token: provider.finished(str(token["id"]), cost_micros=87_654)])
    gateway = await start(alpha, money={"margin_percent": 10})
    job = await gateway.made()
    assert (job["bill"]["cost_micros"], job["bill"]["cost_source"]) == (87_654, "reported")
    assert job["bill"]["price_micros"] == 96_420  # 10 % on top, rounded up to the micro-dollar
    assert job["bill"]["margin_micros"] == 96_420 - 87_654


async def test_without_a_report_the_price_book_is_billed(start: Start) -> None:
    """No word on the cost: the book's figure is the cost, and the bill says so."""
    alpha = Scripted(checks=[lambda provider, token: provider.finished(str(token["id"]), cost_micros=None)])
    gateway = await start(alpha)
    job = await gateway.made()
    assert (job["bill"]["cost_micros"], job["bill"]["cost_source"]) == (100_000, "book")
    assert Report().cost_micros is None
