"""What a vendor says that it charged is believed within reason: a team never pays a figure that cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.money import ledger
from gateway.money.losses import in_suspense
from providers.contract import Failed, FailureKind, Report
from tests.support.fixtures import Start
from tests.support.gateway import Gateway, unsound
from tests.support.scripted import Scripted, delivers

pytestmark = pytest.mark.anyio

PRICE = 100_000
ABSURD = [5 * PRICE + 1, 10**15, 10**400]
MARGIN = {"money": {"margin_percent": "12.5"}}


async def disputed(gateway: Gateway) -> list[tuple[str, int]]:
    """What stands in dispute: the end of each name, and how much."""
    assert await gateway.read(unsound) == []
    return [(one.name.partition("/")[2], one.amount_micros) for one in await gateway.read(in_suspense)]


@pytest.mark.parametrize("reported", ABSURD, ids=["above", "the most", "endless"])
@pytest.mark.parametrize("mode", ["async", "sync"])
async def test_a_cost_beyond_belief_is_not_billed(start: Start, reported: int, mode: str) -> None:
    """The team pays what was expected, the rest waits for the operator, and the job ends at once."""
    alpha = Scripted(mode=mode, checks=[delivers(cost_micros=reported)])
    if mode == "sync":
        alpha.finished = told(alpha, cost_micros=reported)  # type: ignore[method-assign]
    gateway = await start(alpha, **MARGIN)
    job = await gateway.made()
    bill = job["bill"]
    assert (job["status"], bill["price_micros"], bill["cost_micros"]) == ("succeeded", PRICE * 9 // 8, PRICE)
    assert (bill["cost_source"], job["attempts"][0]["cost_source"]) == ("book", "book")
    assert await disputed(gateway) == [("cost", min(reported, 10**15) - PRICE)]
    assert "beyond belief" in job["attempts"][0]["events"][-1]["detail"]
    metrics = (await gateway.client.get("/metrics")).text
    assert 'vidgate_outcomes_unrecognised_total{route="alpha/one"} 1' in metrics


def told(vendor: Scripted, data: bytes | None = None, **report: Any) -> Any:
    """The vendor's delivery with these bytes, and these words in its report."""
    plain = vendor.finished
    return lambda request_id: plain(request_id, data, **report)


@pytest.mark.parametrize("reported", [0, 1, 5 * PRICE])
async def test_a_cost_within_reason_is_billed_as_reported(start: Start, reported: int) -> None:
    """Up to the stated multiple of the worst price a vendor's word is the cost."""
    gateway = await start(Scripted(checks=[delivers(cost_micros=reported)]))
    bill = (await gateway.made())["bill"]
    assert (bill["price_micros"], bill["cost_source"], await disputed(gateway)) == (reported, "reported", [])


async def test_how_far_a_vendor_is_believed_is_a_setting(start: Start) -> None:
    """`money.reported_cost_max_ratio`."""
    alpha = Scripted(checks=[delivers(cost_micros=2 * PRICE + 1)])
    gateway = await start(alpha, money={"reported_cost_max_ratio": 2})
    assert (await gateway.made())["bill"]["price_micros"] == PRICE
    assert await disputed(gateway) == [("cost", PRICE + 1)]


@pytest.mark.parametrize("reported", [-1, 1.5, "0.1"])
async def test_what_is_no_amount_was_not_reported(start: Start, reported: Any) -> None:
    """A refund, a fraction or a word in the place of a cost: the price book's figure, and nothing in dispute."""
    gateway = await start(Scripted(checks=[delivers(cost_micros=reported)]))
    bill = (await gateway.made())["bill"]
    assert (bill["price_micros"], bill["cost_source"], await disputed(gateway)) == (PRICE, "book", [])


@pytest.mark.parametrize("reported", ABSURD, ids=["above", "the most", "endless"])
async def test_a_failed_attempt_loses_no_more_than_was_expected(start: Start, reported: int) -> None:
    """The operator's loss is the price; the rest is in dispute, and the account is not held to be empty for it."""
    report = Report(request_id="alpha-1", cost_micros=reported)
    alpha = Scripted(checks=[Failed(FailureKind.RENDER_FAILED, "out of memory", report)], balance_micros=10_000_000)
    gateway = await start(alpha, Scripted("beta", price_micros=2 * PRICE))
    job = await gateway.made()
    assert (job["status"], [one["route"] for one in job["attempts"]]) == ("succeeded", ["alpha/one", "beta/one"])
    assert (await gateway.balances())["loss"] == PRICE
    assert await disputed(gateway) == [("cost", min(reported, 10**15) - PRICE)]
    assert (await gateway.made(routing={"pin": "alpha/one"}))["status"] == "succeeded"


@pytest.mark.parametrize("reported", ABSURD, ids=["above", "the most", "endless"])
async def test_a_bad_result_at_an_absurd_cost_is_a_loss_and_not_looked_for_again(start: Start, reported: int) -> None:
    """Delivered and unusable: its price is lost; the dispute is no submit in doubt, so the records are not asked."""
    alpha = Scripted(mode="sync", looks_up=True)
    alpha.finished = told(alpha, b"no video", cost_micros=reported)  # type: ignore[method-assign]
    gateway = await start(alpha)
    job = await gateway.made()
    assert (job["status"], alpha.looked_up) == ("expired", [])
    assert (await gateway.balances())["loss"] == PRICE * len(job["attempts"])
    assert [name for name, _ in await disputed(gateway)] == ["cost"] * len(job["attempts"])


async def test_an_operator_ends_a_dispute_once(start: Start) -> None:
    """What was charged of it is the operator's loss, the rest goes back; the team's bill stays."""
    gateway = await start(Scripted(checks=[delivers(cost_micros=7 * PRICE)]))
    job = await gateway.made()
    (one,) = await gateway.read(in_suspense)

    def settle(connection: Any) -> Any:
        return ledger.clear_suspense(connection, one.name, charged_micros=PRICE, at=one.at, reason="invoice 117")

    assert await gateway.write(settle) == ledger.ClearedSuspense(PRICE, 5 * PRICE)
    assert isinstance(await gateway.write(settle), ledger.AlreadyBooked)
    balances = await gateway.balances()
    assert (balances["loss"], balances.get("suspense", 0), await disputed(gateway)) == (PRICE, 0, [])
    assert balances["provider:alpha"] == -2 * PRICE
    assert (await gateway.job(job["id"]))["bill"]["price_micros"] == PRICE
