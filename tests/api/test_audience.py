"""What a team is shown of money: its own price, and the operator's costs only where it is told them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, update

from gateway.audience import RESTRICTED, Audience, audience_of, columns_for, visible
from gateway.money.exports import USAGE_COLUMNS
from gateway.store.schema import teams
from providers.contract import Failed, FailureKind, Report
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.scripted import Scripted, delivers

pytestmark = pytest.mark.anyio

COST, PRICE, LOSS = 100_003, 125_004, 77_001
BALANCE = 9_000_009
# Where the name of a restricted column means nothing: a route's own price in `GET /routes` is the team's.
EVERYWHERE = {name for view in RESTRICTED.values() for name in view} - {"price", "in_flight_micros"}
SECRETS = (str(COST), str(PRICE - COST), str(LOSS), str(BALANCE), "0.100003", "0.1000 ", "$9.0")


def _terms(connection: Connection, team_id: str, plan: dict[str, Any]) -> None:
    connection.execute(update(teams).where(teams.c.id == team_id).values(plan=plan))


def keys_of(value: Any) -> Iterator[str]:
    """Every member's name in a JSON value, however deep."""
    if isinstance(value, dict):
        for name, inside in value.items():
            yield name
            yield from keys_of(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from keys_of(inside)


async def bench_with(start: Start, plan: dict[str, Any], *, show_cost: bool = False) -> tuple[Gateway, str]:
    """A gateway whose vendor fails a job's first render at a charge and delivers its second; the job's id."""
    failure = Failed(FailureKind.RENDER_FAILED, "out of memory", report=Report(cost_micros=LOSS))
    vendor = Scripted(price_micros=COST, balance_micros=BALANCE, checks=[failure, delivers(), delivers(), delivers()])
    gateway = await start(vendor, money={"show_cost": show_cost})
    await gateway.write(_terms, gateway.team_id, plan)
    job_id = (await gateway.made())["id"]
    await gateway.clock.sleep(1.0)
    return gateway, job_id


async def everything(gateway: Gateway, job_id: str) -> dict[str, str]:
    """What a team can ask for, by where it asked."""
    posted = await gateway.post(headers={"idempotency-key": "k"})
    again = await gateway.post(headers={"idempotency-key": "k"})
    quoted = await gateway.post("/generate/video/quote")
    asked = {
        path: (await gateway.client.get(path)).text
        for path in (
            f"/jobs/{job_id}",
            f"/jobs/{job_id}/events",
            "/jobs",
            "/usage?group_by=route",
            "/usage?format=csv",
            "/billing/statement",
            "/billing/statement?format=csv",
            "/budgets",
            "/routes",
        )
    }
    await gateway.ended(posted.json()["id"])
    return {**asked, "posted": posted.text, "again": again.text, "quoted": quoted.text}


async def test_no_answer_tells_a_team_what_the_operator_pays(start: Start) -> None:
    """Neither by a column nor by an amount in a sentence; its own price stands in all of them."""
    gateway, job_id = await bench_with(start, {"percent": "25"})
    told = await everything(gateway, job_id)
    for where, text in told.items():
        for secret in SECRETS:
            assert secret not in text, (where, secret)
        if text.startswith("{"):
            assert EVERYWHERE.isdisjoint(keys_of(json.loads(text))), where
    usage = json.loads(told["/usage?group_by=route"])["rows"]
    assert sum(row["price_micros"] for row in usage) == PRICE
    job = json.loads(told[f"/jobs/{job_id}"])
    assert (job["bill"]["price_micros"], job["bill"].keys()) == (PRICE, {"status", "held_micros", "price_micros"})
    (route,) = json.loads(told["/routes"])["routes"]
    assert (route["price"]["usual_micros"], json.loads(told["quoted"])["routes"]["alpha/one"]["credit"]) == (
        PRICE,
        {"state": "fine"},
    )
    header = (await gateway.client.get(f"/jobs/{job_id}")).headers["x-vidgate-cost-usd"]
    assert header == "0.125004"


async def test_a_plan_may_show_what_the_vendor_charged(start: Start) -> None:
    """Cost and margin then stand in bills, attempts, usage, quotes and routes; what failures cost does not."""
    gateway, job_id = await bench_with(start, {"percent": "25", "show_cost": True})
    told = await everything(gateway, job_id)
    job = json.loads(told[f"/jobs/{job_id}"])
    assert (job["bill"]["cost_micros"], job["bill"]["margin_micros"]) == (COST, PRICE - COST)
    assert (job["attempts"][-1]["cost_micros"], job["attempts"][-1]["cost_source"]) == (COST, "reported")
    usage = json.loads(told["/usage?group_by=route"])["rows"]
    assert sum(row["cost_micros"] for row in usage) == COST
    assert "loss_micros" not in usage[0]
    assert "margin_micros" in told["/usage?format=csv"]
    assert "loss_micros" not in told["/usage?format=csv"]
    (route,) = json.loads(told["/routes"])["routes"]
    assert (route["price"]["cost_micros"], route["credit"]["balance_micros"] is not None) == (COST, True)
    assert json.loads(told["quoted"])["routes"]["alpha/one"]["price"]["cost_micros"] == COST


@pytest.mark.parametrize(
    ("plan", "usual", "seen"),
    [
        ({}, False, Audience.TEAM),
        ({}, True, Audience.INFORMED_TEAM),
        ({"show_cost": True}, False, Audience.INFORMED_TEAM),
        ({"show_cost": False}, True, Audience.TEAM),
        ({"show_cost": None}, True, Audience.INFORMED_TEAM),
    ],
)
def test_the_plan_goes_before_the_configuration(plan: dict[str, Any], usual: bool, seen: Audience) -> None:
    """A plan that says nothing leaves it to `money.show_cost`."""
    assert audience_of(plan, usual) is seen


def test_each_audience_sees_what_those_before_it_see() -> None:
    """The operator sees every column; columns keep their order."""
    row = dict.fromkeys(USAGE_COLUMNS, 1)
    seen = [set(visible("usage", row, audience)) for audience in Audience]
    assert seen[0] < seen[1] < seen[2] == set(USAGE_COLUMNS)
    assert columns_for("usage", USAGE_COLUMNS, Audience.OPERATOR) == USAGE_COLUMNS
    assert columns_for("usage", USAGE_COLUMNS, Audience.TEAM) == (
        "jobs_billed",
        "jobs_not_billed",
        "price_micros",
        "excess_micros",
    )
