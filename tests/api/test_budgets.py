"""A budget that does not cover a request: 402 with the numbers, kept for its key, and never overspent."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest

from providers.contract import FailureKind, Pending, Refused
from tests.support.fixtures import Start
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio


async def test_a_request_over_the_budget_is_402_with_the_numbers_and_no_job(start_on_both: Start) -> None:
    """The caller reads what is needed, what is left and when it begins anew."""
    gateway = await start_on_both(Scripted())
    await gateway.set_budget(250_000)
    assert {(await gateway.post()).status_code for _ in range(2)} == {202}
    response = await gateway.post()
    body = response.json()
    assert (response.status_code, response.headers["content-type"]) == (402, "application/problem+json")
    assert body["type"].endswith("/budget-exceeded")
    assert (body["scope"], body["window"]) == ("team", "month")
    assert body["limit_micros"] == 250_000
    assert body["needed_micros"] == 100_000
    assert body["spent_micros"] + body["held_micros"] == 200_000
    assert datetime.fromisoformat(body["resets_at"]).timestamp() > gateway.clock.now()
    assert body["detail"] == "this needs at most $0.10 and the team's month budget of $0.25 has $0.05 left"
    counts = await gateway.counts()
    assert (counts["jobs"], counts["holds"]) == (2, 2)


async def test_a_402_says_what_would_fit_and_that_does(start: Start) -> None:
    """The dear route's worst case is reserved; without it there is money enough. Each way out is then taken."""
    for position, name in enumerate(("max_cost_usd", "only")):
        cheap, dear = Scripted(price_micros=10_000), Scripted("beta", price_micros=90_000)
        gateway = await start(cheap, dear, fresh=bool(position))
        await gateway.set_budget(60_000)
        await gateway.set_budget(50_000, window="day", key_id=gateway.key_id)
        refused = await gateway.post()
        assert refused.status_code == 402
        assert refused.json()["would_fit"] == {"max_cost_usd": "0.05", "only": ["alpha/one"]}
        assert refused.json()["detail"].endswith('left; it would fit with "routing": {"max_cost_usd": 0.05}')
        taken = await gateway.post(routing={name: refused.json()["would_fit"][name]})
        assert taken.status_code == 202, taken.text


async def test_a_402_without_a_way_out_suggests_none(start: Start) -> None:
    """Where even the cheapest route costs more than what is left."""
    gateway = await start(Scripted(price_micros=10_000), Scripted("beta", price_micros=90_000))
    await gateway.set_budget(9_999)
    refused = (await gateway.post()).json()
    assert (refused["status"], refused["would_fit"]) == (402, None)
    assert refused["detail"].endswith("has $0.009999 left")


async def test_a_402_is_kept_for_its_key(start_on_both: Start) -> None:
    """A retry does not change the outcome; a new key does, once there is money."""
    gateway = await start_on_both(Scripted())
    await gateway.set_budget(50_000)
    first = await gateway.post(headers={"idempotency-key": "k"})
    await gateway.set_budget(500_000)
    again = await gateway.post(headers={"idempotency-key": "k"})
    assert (first.status_code, again.status_code, again.content) == (402, 402, first.content)
    assert again.headers["content-type"] == "application/problem+json"
    assert again.headers["idempotent-replayed"] == "true"
    assert (await gateway.post(headers={"idempotency-key": "k2"})).status_code == 202


async def test_a_key_can_have_a_budget_of_its_own(start_on_both: Start) -> None:
    """The key runs dry, its team does not."""
    gateway = await start_on_both(Scripted())
    await gateway.set_budget(150_000, window="day", key_id=gateway.key_id)
    assert (await gateway.post()).status_code == 202
    refused = await gateway.post()
    assert (refused.status_code, refused.json()["scope"], refused.json()["window"]) == (402, "key", "day")
    _, _, colleague = await gateway.new_key()
    assert (await gateway.post(headers=colleague)).status_code == 202


async def test_many_at_once_never_overspend(start_on_both: Start) -> None:
    """Money for ten, sixty-four requests: ten jobs."""
    gateway = await start_on_both(Scripted(trouble=Pending(), trouble_s=60.0))
    await gateway.set_budget(1_000_000)
    answers = await asyncio.gather(*(gateway.post() for _ in range(64)))
    assert sorted(answer.status_code for answer in answers) == [202] * 10 + [402] * 54
    counts = await gateway.counts()
    assert (counts["jobs"], counts["holds"]) == (10, 10)


async def test_a_failed_job_gives_its_money_back_to_the_budget(start_on_both: Start) -> None:
    """Held, released, and there for the next one."""
    alpha = Scripted(submits=[Refused(FailureKind.MODERATED, "blocked")])
    gateway = await start_on_both(alpha)
    await gateway.set_budget(100_000)
    assert (await gateway.made())["status"] == "failed"
    assert (await gateway.made())["status"] == "succeeded"
    assert (await gateway.post()).status_code == 402


async def test_a_teams_margin_is_part_of_what_is_held_and_billed(start_on_both: Start) -> None:
    """The team sees its own price; what the vendor took stands beside it."""
    gateway = await start_on_both(Scripted(), money={"margin_percent": 25})
    job = await gateway.made()
    assert (job["bill"]["held_micros"], job["bill"]["price_micros"]) == (125_000, 125_000)
    assert (job["bill"]["cost_micros"], job["bill"]["margin_micros"]) == (100_000, 25_000)
    assert await gateway.balances() == {
        f"team:{gateway.team_id}": 125_000,
        "provider:alpha": -100_000,
        "margin": -25_000,
    }
