"""Quotes: every route with its numbers and reasons, the same plan as a real request, and not a trace left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from gateway.money.accounts import record_balance
from gateway.store.jobs import load_job
from gateway.store.schema import keys, teams
from providers.contract import Failed, FailureKind, Pending
from tests.support.clock import VirtualLoop
from tests.support.gateway import NOTHING, Gateway, Setting, fresh_database, make_template, running
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio
Start = Callable[..., Awaitable[Gateway]]
QUOTE = "/generate/video/quote"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
async def start(tmp_path: Path, template: Path) -> AsyncIterator[Start]:
    """Start a gateway over a cheap slow vendor and a dear fast one; settings are sections by name."""
    fresh_database(tmp_path, template)
    async with AsyncExitStack() as stack:

        async def begin(*vendors: Scripted, **settings: Any) -> Gateway:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            usual = (
                Scripted(price_micros=10_000, latency_s=60.0),
                Scripted("beta", price_micros=90_000, latency_s=5.0),
            )
            setting = Setting(tmp_path, loop, vendors or usual, settings)
            return await stack.enter_async_context(running(setting))

        yield begin


async def quoted(gateway: Gateway, **fields: Any) -> dict[str, Any]:
    answer = await gateway.post(QUOTE, **fields)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def grant(gateway: Gateway, *, team: dict[str, Any] | None = None, key: dict[str, Any] | None = None) -> None:
    """Put a plan on the tests' team and grants on its key."""
    if team is not None:
        await gateway.write(lambda connection: connection.execute(update(teams).values(plan=team)))
    if key is not None:
        await gateway.write(lambda connection: connection.execute(update(keys).values(grants=key)))


async def test_a_quote_leaves_nothing_behind(start: Start) -> None:
    """No job, hold, entry or idempotency row, no stored picture, no call to a vendor, no money reserved."""
    gateway = await start()
    before = await gateway.counts()
    artifacts = gateway.setting.folder / "artifacts"
    stored = sorted(artifacts.rglob("*"))
    await quoted(gateway)
    assert before == await gateway.counts() == NOTHING
    assert sorted(artifacts.rglob("*")) == stored
    assert all(not vendor.asked for vendor in gateway.setting.scripted())


async def test_every_route_is_shown_with_price_times_chances_credit_and_receipt(start: Start) -> None:
    """The first choice and the second, each with all its numbers; they are the numbers of the ranking."""
    answer = await quoted(await start())
    alpha, beta = answer["routes"]["alpha/one"], answer["routes"]["beta/one"]
    assert [one["route"] for one in answer["ranked"]] == ["alpha/one", "beta/one"]
    assert (alpha["rank"], beta["rank"]) == (1, 2)
    assert (alpha["price_micros"], alpha["worst_micros"], alpha["eligible"]) == (10_000, 10_000, True)
    (line,) = alpha["price"]["lines"]
    assert (line["label"], line["amount_micros"]) == ("per call", 10_000)
    assert (alpha["price"]["confidence"], alpha["price"]["source"]) == ("published", "alpha/one@2020-01-01")
    time = alpha["time"]
    assert 0 < time["p50_s"] < time["p95_s"]
    assert 0 < time["probability_on_time"] <= time["probability_success"] <= 1
    assert (time["published_s"], time["observations"]) == (60.0, 0)
    assert {line["parameter"] for line in alpha["receipt"]} >= {"num_frames", "fps", "seed"}
    assert alpha["reasons"]
    assert alpha["refused"] == []


async def test_the_hold_of_a_quote_is_the_hold_of_the_job(start: Start) -> None:
    """Quote and request plan alike: same order, same hold."""
    gateway = await start()
    asked = await quoted(gateway, routing={"objective": "fastest"})
    job = await gateway.job(await gateway.submit(routing={"objective": "fastest"}))
    assert [one["route"] for one in job["plan"]["ranked"]] == [one["route"] for one in asked["ranked"]]
    assert job["bill"]["held_micros"] == asked["hold_micros"]
    await gateway.ended(job["id"])


async def test_margin_is_in_the_teams_price_and_not_in_the_vendors(start: Start) -> None:
    """The team sees what it pays; the lines below are the vendor's."""
    answer = await quoted(await start(money={"margin_percent": 50}))
    alpha = answer["routes"]["alpha/one"]
    assert (alpha["price_micros"], alpha["price"]["cost_micros"]) == (15_000, 10_000)


async def test_a_refused_route_says_every_reason_and_promises_nothing(start: Start) -> None:
    """A route out for its price and for the caller's wish names both; its chances are unknown, its price is not."""
    gateway = await start()
    answer = await quoted(gateway, routing={"ignore": ["beta"], "max_cost_usd": 0.05})
    beta = answer["routes"]["beta/one"]
    assert (beta["rank"], beta["eligible"], beta["price_micros"]) == (None, False, 90_000)
    assert any("over the limit" in reason for reason in beta["refused"])
    assert any("ignores it" in reason for reason in beta["refused"])
    assert (beta["time"]["probability_on_time"], beta["time"]["p50_s"]) == (None, 5.0)


async def test_what_was_learned_shows_in_the_next_quote(start: Start) -> None:
    """After a render the times are seen ones, and it says how many."""
    gateway = await start()
    await gateway.made()
    time = (await quoted(gateway))["routes"]["alpha/one"]["time"]
    assert time["observations"] > 0
    assert time["p50_s"] != 60.0


async def test_credit_and_runway_are_shown_where_they_are_known(start: Start) -> None:
    """Balance as last seen, burn of the first hour, runway from both; null where the vendor has no meter."""
    alpha = Scripted(price_micros=240_000, balance_micros=10_000_000)
    gateway = await start(alpha, Scripted("beta", price_micros=900_000))
    await gateway.made()
    now = gateway.clock.now()
    await gateway.write(lambda connection: record_balance(connection, "alpha", 9_760_000, at=now, source="polled"))
    routes = (await quoted(gateway))["routes"]
    credit = routes["alpha/one"]["credit"]
    assert credit["burn_micros_per_hour"] == 240_000
    assert credit["runway_h"] == pytest.approx(9_760 / 240)
    assert routes["beta/one"]["credit"]["balance_micros"] is None
    assert routes["beta/one"]["credit"]["runway_h"] is None
    listed = {route["name"]: route["credit"] for route in (await gateway.client.get("/routes")).json()["routes"]}
    assert listed == {name: route["credit"] for name, route in routes.items()}


async def test_what_is_in_flight_counts_against_the_credit_of_its_account(start: Start) -> None:
    """The live view of the routes shows a render under way, and its price as taken from what is left."""
    alpha = Scripted(price_micros=240_000, balance_micros=10_000_000, checks=[Pending()] * 50)
    gateway = await start(alpha)
    await gateway.submit()
    await gateway.clock.sleep(5.0)
    (route,) = (await gateway.client.get("/routes")).json()["routes"]
    assert (route["in_flight"], route["credit"]["in_flight_micros"]) == (1, 240_000)


async def test_a_bad_picture_is_refused_as_in_a_request(start: Start) -> None:
    """The picture is read and checked, only not kept."""
    answer = await (await start()).post(QUOTE, image="bm90IGEgcGljdHVyZQ==")
    assert answer.status_code == 422
    assert answer.json()["type"].endswith("/invalid-image")


async def test_an_image_quote_lists_image_routes_only(start: Start) -> None:
    """No video vendor here makes pictures: an empty quote, not a fault."""
    answer = await (await start()).post("/generate/image/quote")
    assert (answer.status_code, answer.json()["routes"]) == (200, {})


async def test_request_goes_over_key_over_team_over_configuration(start: Start) -> None:
    """Each nearer word about the objective wins; where nobody speaks the configuration holds."""
    gateway = await start(routing={"objective": "cheapest"})
    assert (await quoted(gateway))["objective"] == "cheapest"
    await grant(gateway, team={"routing": {"objective": "fastest"}})
    assert (await quoted(gateway))["objective"] == "fastest"
    await grant(gateway, key={"routing": {"objective": "balanced"}})
    assert (await quoted(gateway))["objective"] == "balanced"
    assert (await quoted(gateway, routing={"objective": "default"}))["objective"] == "default"


async def test_a_teams_weights_and_deadline_hold_for_its_requests(start: Start) -> None:
    """Balanced by time alone takes the fast vendor; the team's deadline is the job's, capped like a caller's."""
    gateway = await start()
    weights = {"cost": 0, "time": 1, "failure": 0}
    await grant(gateway, team={"routing": {"objective": "balanced", "weights": weights, "deadline_s": 33}})
    job = await gateway.made()
    assert job["route"] == "beta/one"
    row = await gateway.read(load_job, job["id"])
    assert row.deadline_at - row.created_at == 33


@pytest.mark.parametrize(
    ("team", "key", "left"),
    [
        ({"only": ["alpha"]}, {"routing": {"only": ["alpha", "beta"]}}, {"alpha/one"}),
        ({"only": ["alpha", "beta"]}, {"routing": {"only": ["beta/one"]}}, {"beta/one"}),
        ({"ignore": ["alpha"]}, {"routing": {"ignore": ["beta"]}}, set()),
        ({"only": ["alpha"]}, {"providers": ["beta"]}, set()),
        ({}, {"routes": ["beta/one"]}, {"beta/one"}),
        ({}, {"routes": []}, set()),
        ({}, {"max_cost_micros": 50_000}, {"alpha/one"}),
    ],
)
async def test_a_key_never_widens_what_its_team_allows(
    start: Start, team: dict[str, Any], key: dict[str, Any], left: set[str]
) -> None:
    """What may be used is what team, key and request all allow."""
    gateway = await start()
    await grant(gateway, team={"routing": team}, key=key)
    answer = await quoted(gateway, routing={"only": ["alpha", "beta"]})
    assert {one["route"] for one in answer["ranked"]} == left
    for name in answer["routes"].keys() - left:
        assert answer["routes"][name]["refused"]


async def test_a_key_without_an_objective_may_not_ask_for_it(start: Start) -> None:
    """403, by quote as by request; without asking it has what its team has."""
    gateway = await start()
    await grant(gateway, key={"objectives": ["cheapest"]})
    for path in (QUOTE, "/generate/video"):
        assert (await gateway.post(path, routing={"objective": "fastest"})).status_code == 403
    assert (await quoted(gateway, routing={"objective": "cheapest"}))["objective"] == "cheapest"
    assert (await quoted(gateway))["objective"] == "default"


async def test_bounds_hold_for_a_job_that_is_planned_again(start: Start) -> None:
    """After the allowed vendor failed, the forbidden one is not taken either: the bounds are kept on the job."""
    alpha, beta = Scripted(price_micros=10_000), Scripted("beta", price_micros=90_000)
    gateway = await start(alpha, beta)
    alpha.checks.extend([Failed(FailureKind.RENDER_FAILED, "no")] * 8)
    await grant(gateway, key={"providers": ["alpha"]})
    job = await gateway.made()
    assert job["status"] == "failed"
    assert beta.asked == []


async def test_a_job_keeps_its_plan_and_every_later_one(start: Start) -> None:
    """GET /jobs/{id} shows the plan it was admitted with and each re-plan, with what was refused by then and why."""
    alpha, beta = Scripted(price_micros=10_000), Scripted("beta", price_micros=90_000)
    gateway = await start(alpha, beta)
    alpha.checks.append(Failed(FailureKind.RENDER_FAILED, "no"))
    job = await gateway.made()
    assert job["route"] == "beta/one"
    assert job["plan"]["ranked"][0]["route"] == "alpha/one"
    (again,) = job["replans"]
    assert [one["route"] for one in again["ranked"]] == ["beta/one"]
    (refused,) = again["refused"]
    assert refused["route"] == "alpha/one"
    assert "given it up: render_failed" in refused["reasons"][0]
    assert again["decided_at"] > job["plan"]["decided_at"]
