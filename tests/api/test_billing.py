"""Money over HTTP: usage, statements, budgets, drift and what is told to webhooks, each team seeing its own alone."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import pytest
from sqlalchemy import Connection, select, update
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import gateway.app
from gateway import webhooks
from gateway.money.budgets import Budget, set_budget
from gateway.money.mending import mend
from gateway.money.prices import PriceBook
from gateway.money.reconcile import import_charges, reconcile
from gateway.money.usage_files import VendorCharge
from gateway.money.windows import WindowKind, period_of
from gateway.signatures import new_secret, signature
from gateway.store.schema import teams
from gateway.store.schema_money import provider_balances
from gateway.webhooks import NewWebhook
from providers.contract import Failed, FailureKind
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.scripted import Lost, Scripted, delivers
from tests.support.wire import Wire

pytestmark = pytest.mark.anyio
PRICE = 100_000
DAY_S = 86_400.0
OUT_OF_TIME = (
    "since=0001-01-01&until=0001-01-02",
    "since=9999-12-30&until=9999-12-31&group_by=day",
    "until=1970-01-01",
)
METERING = "https://meter.test/usage"


class Receiver:
    """An endpoint of a customer, on the wire."""

    def __init__(self, status: int = 204) -> None:
        self.status = status
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.app = Starlette(routes=[Route("/{path:path}", self.take, methods=["POST"])])

    async def take(self, request: Request) -> Response:
        self.got.append((dict(request.headers), await request.body()))
        return Response(status_code=self.status)

    def types(self) -> list[str]:
        return [json.loads(body)["type"] for _, body in self.got]


def _margin(connection: Connection, team_id: str, plan: dict[str, Any]) -> None:
    connection.execute(update(teams).where(teams.c.id == team_id).values(plan=plan))


async def told(gateway: Gateway, receiver: Receiver, count: int) -> None:
    """Wait, in virtual time, until a receiver has been sent this many events."""
    for _ in range(40):
        if len(receiver.got) >= count:
            return
        await gateway.clock.sleep(5.0)
    raise AssertionError(receiver.types())


async def test_usage_counts_what_was_billed_and_what_was_not(start_on_both: Start) -> None:
    """Grouped by route and tag, with the margin of the team's plan, in JSON as in CSV."""
    vendor = Scripted(checks=[delivers(), Failed(FailureKind.MODERATED, "blocked")])
    gateway = await start_on_both(vendor)
    await gateway.write(_margin, gateway.team_id, {"kind": "percent", "percent": "25"})
    await gateway.made(metadata={"project": "=reel"})
    await gateway.made(metadata={"project": "=reel"})
    await gateway.clock.sleep(1.0)  # a report ends before the present instant
    answer = await gateway.client.get("/usage", params={"group_by": "route,tag:project"})
    rows = {row["route"]: row for row in answer.json()["rows"]}
    assert (rows["alpha/one"]["jobs_billed"], rows["alpha/one"]["price_micros"]) == (1, 125_000)
    assert (rows["alpha/one"]["cost_micros"], rows["alpha/one"]["margin_micros"]) == (PRICE, 25_000)
    assert rows[None]["jobs_not_billed"] == 1
    sheet = await gateway.client.get("/usage?group_by=tag:project&format=csv")
    (line,) = csv.DictReader(io.StringIO(sheet.text))
    assert (line["tag:project"], line["price_micros"], line["jobs_not_billed"]) == ("'=reel", "125000", "1")


async def test_a_statement_lists_every_bill_and_nothing_of_another_team(start_on_both: Start) -> None:
    """Its total is the sum of the jobs' bills."""
    gateway = await start_on_both(Scripted())
    bills = [(await gateway.made())["bill"]["price_micros"] for _ in range(3)]
    _, _, stranger = await gateway.new_key("other")
    mine = (await gateway.client.get("/billing/statement")).json()
    assert (mine["total_micros"], len(mine["lines"]), mine["closed"]) == (sum(bills), 3, False)
    theirs = (await gateway.client.get("/billing/statement", headers=stranger)).json()
    assert (theirs["total_micros"], theirs["lines"]) == (0, [])


@pytest.mark.parametrize("path", ["/usage?group_by=route,tag:project", "/billing/statement?period=2020-01"])
async def test_a_sheet_of_nothing_has_its_columns(start: Start, path: str) -> None:
    """They are those that a sheet with rows has."""
    gateway = await start(Scripted())
    sheet = (await gateway.client.get(f"{path}&format=csv")).text
    await gateway.made()
    await gateway.clock.sleep(1.0)
    full = (await gateway.client.get(f"{path.partition('period')[0]}&format=csv")).text
    assert (sheet.count("\n"), sheet.strip()) == (1, full.partition("\r\n")[0])


@pytest.mark.parametrize("period", ["2026-13", "0001-01", "9999-12"])
async def test_a_statement_of_no_month_is_refused(start: Start, period: str) -> None:
    """As a problem that says how a month is written."""
    gateway = await start(Scripted())
    answer = await gateway.client.get(f"/billing/statement?period={period}")
    assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[1]) == (400, "bad-request")


@pytest.mark.parametrize(
    "query", ["group_by=colour", "since=yesterday", "since=2000-01-01", "format=xlsx", *OUT_OF_TIME]
)
async def test_a_report_that_cannot_be_made_is_refused(start: Start, query: str) -> None:
    """Unknown groups, times and forms, and stretches beyond the longest."""
    gateway = await start(Scripted())
    assert (await gateway.client.get(f"/usage?{query}")).status_code == 400


async def test_budgets_show_what_is_spent_and_held(start_on_both: Start) -> None:
    """While a job runs its worst case is held; afterwards its price is spent."""
    gateway = await start_on_both(Scripted())
    await gateway.set_budget(10 * PRICE)
    job_id = await gateway.submit()
    (held,) = (await gateway.client.get("/budgets")).json()["budgets"]
    await gateway.ended(job_id)
    (spent,) = (await gateway.client.get("/budgets")).json()["budgets"]
    assert (held["spent_micros"], held["held_micros"]) == (0, PRICE)
    assert (spent["spent_micros"], spent["held_micros"]) == (PRICE, 0)


async def test_a_team_hears_of_its_jobs_and_soft_limits_signed_and_once(start_on_both: Start) -> None:
    """One event a job's end, one for the soft limit, none for another team; the log shows each."""
    wire, receiver = Wire(), Receiver()
    wire.apps["hook.test"] = receiver.app
    with patch.object(gateway.app, "Outbound", wire.outbound()):
        bench = await start_on_both(Scripted(checks=[delivers(), Failed(FailureKind.MODERATED, "blocked")]))
    hook = NewWebhook("hook_1", bench.team_id, "https://hook.test/in", bench.clock.now())
    secret = await bench.write(webhooks.add_webhook, hook)
    soft = Budget("b", bench.team_id, WindowKind.MONTH, soft_micros=PRICE // 2)
    await bench.write(set_budget, soft, bench.clock.now())
    jobs = [await bench.made(), await bench.made()]
    await told(bench, receiver, 3)
    assert sorted(receiver.types()) == ["budget.soft_limit", "job.failed", "job.succeeded"]
    for headers, body in receiver.got:
        message = (headers["webhook-id"], int(headers["webhook-timestamp"]), body)
        assert headers["webhook-signature"] == signature(secret, *message)
    ended = {json.loads(body)["data"].get("job_id"): json.loads(body)["data"] for _, body in receiver.got}
    assert ended[jobs[0]["id"]]["price_micros"] == PRICE
    assert ended[jobs[1]["id"]]["error"]["title"]
    shown = (await bench.client.get("/webhooks/deliveries?state=delivered")).json()["deliveries"]
    assert [one["tries"][0]["status"] for one in shown] == [204, 204, 204]
    _, _, stranger = await bench.new_key("other")
    assert (await bench.client.get("/webhooks/deliveries", headers=stranger)).json()["deliveries"] == []


async def test_a_billed_job_is_metered_as_a_cloud_event(start_on_both: Start) -> None:
    """To the endpoint of the configuration, once, under the hold's id; a job that is not billed is not metered."""
    wire, receiver, secret = Wire(), Receiver(), new_secret()
    wire.apps["meter.test"] = receiver.app
    with patch.object(gateway.app, "Outbound", wire.outbound()):
        bench = await start_on_both(
            Scripted(checks=[delivers(), Failed(FailureKind.MODERATED, "blocked")]),
            money={"usage_webhook": {"url": METERING, "secret": secret}},
        )
    await bench.clock.sleep(1.0)  # the first turn of the watch takes the endpoint in
    await bench.made(metadata={"project": "reel"})
    await bench.made()
    await told(bench, receiver, 1)
    await bench.clock.sleep(60.0)
    ((headers, body),) = receiver.got
    event = json.loads(body)
    assert (event["specversion"], event["type"], event["subject"]) == ("1.0", "vidgate.job.billed.v1", bench.team_id)
    assert (event["data"]["price_micros"], event["data"]["tags"]) == (PRICE, {"project": "reel"})
    assert headers["content-type"] == "application/cloudevents+json"


async def test_the_operator_hears_of_an_account_under_its_floor_once(start_on_both: Start) -> None:
    """The balance falls under the floor: one event, however often it is read again."""
    wire, receiver = Wire(), Receiver()
    wire.apps["ops.test"] = receiver.app
    vendor = Scripted(balance_micros=PRICE)
    with patch.object(gateway.app, "Outbound", wire.outbound()):
        bench = await start_on_both(vendor, polling={"balance_every_s": 30})
    await bench.write(webhooks.add_webhook, NewWebhook("hook_0", None, "https://ops.test/", bench.clock.now()))
    account = bench.service.parts.fleet.accounts["alpha"]
    account.settings = account.settings.model_copy(update={"floor_micros": 2 * PRICE})
    vendor.balance_micros = 3 * PRICE
    await bench.clock.sleep(60.0)
    vendor.balance_micros = PRICE
    await told(bench, receiver, 1)
    await bench.clock.sleep(300.0)
    assert receiver.types() == ["account.low_water"]


async def test_a_balance_named_in_replies_is_kept_and_told_when_it_falls_under_the_floor(start: Start) -> None:
    """Only where it changed, at most one in five seconds, each with its source; the operator hears of the fall once."""
    wire, receiver = Wire(), Receiver()
    wire.apps["ops.test"] = receiver.app
    left = [300_000, 300_000, 150_000, 150_000]
    with patch.object(gateway.app, "Outbound", wire.outbound()):
        bench = await start(Scripted(checks=[delivers(credits_remaining_micros=micros) for micros in left]))
    await bench.write(webhooks.add_webhook, NewWebhook("hook_0", None, "https://ops.test/", bench.clock.now()))
    account = bench.service.parts.fleet.accounts["alpha"]
    account.settings = account.settings.model_copy(update={"floor_micros": 2 * PRICE})
    for _ in left:
        await bench.made()
        await bench.clock.sleep(10.0)
    rows = await bench.read(lambda connection: connection.execute(select(provider_balances)).all())
    assert [(row.amount_micros, row.source) for row in rows] == [(300_000, "reported"), (150_000, "reported")]
    await told(bench, receiver, 1)
    assert receiver.types() == ["account.low_water"]
    for micros in range(40):
        bench.service.parts.fleet.note_balance("alpha", micros)
        await bench.clock.sleep(0.5)
    rows = await bench.read(lambda connection: connection.execute(select(provider_balances)).all())
    assert 2 + 4 <= len(rows) <= 2 + 5
    assert rows[-1].amount_micros >= 29


async def test_a_statement_is_summed_up_as_asked(start: Start) -> None:
    """In JSON as in a sheet; nothing can be grouped by what it does not have."""
    gateway = await start(Scripted())
    for project in ("reel", "reel", "trailer"):
        await gateway.made(metadata={"project": project})
    bill = (await gateway.client.get("/billing/statement?group_by=provider,tag:project")).json()
    assert [(one["tag:project"], one["lines"], one["amount_micros"]) for one in bill["groups"]] == [
        ("reel", 2, 2 * PRICE),
        ("trailer", 1, PRICE),
    ]
    assert bill["total_micros"] == 3 * PRICE
    sheet = (await gateway.client.get("/billing/statement?group_by=route&format=csv")).text
    assert sheet.splitlines() == ["route,lines,amount_micros,amount_usd", "alpha/one,3,300000,0.30"]
    assert (await gateway.client.get("/billing/statement?group_by=colour")).status_code == 400


async def test_a_budget_says_when_it_stands_over_its_soft_limit(start: Start) -> None:
    """The figure behind a gauge: true as soon as what is held reaches it."""
    gateway = await start(Scripted())
    soft = Budget("b", gateway.team_id, WindowKind.MONTH, soft_micros=PRICE)
    await gateway.write(set_budget, soft, gateway.clock.now())
    (before,) = (await gateway.client.get("/budgets")).json()["budgets"]
    await gateway.submit()
    (after,) = (await gateway.client.get("/budgets")).json()["budgets"]
    assert (before["over_soft"], after["over_soft"]) == (False, True)


DATED = """
currency: USD
routes:
  alpha/one:
    - {effective_from: 2020-01-01, terms: [{per: call, usd: "0.1", confidence: published, source: x}]}
  beta/one:
    - {effective_from: 2020-01-01, terms: [{per: call, usd: "0.15", confidence: published, source: x}]}
    - {effective_from: "%s", terms: [{per: call, usd: "0.3", confidence: published, source: x}]}
"""


async def test_the_quoted_price_holds_when_the_book_changes_while_a_job_runs(start: Start) -> None:
    """The route that is tried after the change costs what the book said when the job was admitted; a new job pays."""
    alpha = Scripted(checks=[Failed(FailureKind.RENDER_FAILED, "out of memory")])
    beta = Scripted("beta", price_micros=150_000, checks=[delivers(cost_micros=None), delivers(cost_micros=None)])
    gateway = await start(alpha, beta)
    changes_at = datetime.fromtimestamp(gateway.clock.now() + 1.0, UTC).isoformat()
    parts = gateway.service.parts
    parts.planner = replace(parts.planner, prices=PriceBook.load(DATED % changes_at))
    job = await gateway.made()
    assert [one["route"] for one in job["attempts"]] == ["alpha/one", "beta/one"]
    assert (job["bill"]["held_micros"], job["bill"]["price_micros"], job["bill"]["cost_source"]) == (
        150_000,
        150_000,
        "book",
    )
    later = await gateway.made(routing={"pin": "beta/one"})
    assert (later["status"], later["bill"]["price_micros"]) == ("succeeded", 300_000)


GPU = """
currency: USD
routes:
  alpha/one:
    - effective_from: 2020-01-01
      worst_factor: "2"
      terms:
        - {per: gpu_second, usd: "0.001", confidence: measured, source: x, estimate: {base_s: "100"}}
"""


async def test_a_gpu_of_our_own_is_billed_by_the_seconds_it_took(start: Start) -> None:
    """Estimated at admission, measured at the end; above the hold in full, with the excess flagged."""
    took = [delivers(cost_micros=None, inference_s=seconds) for seconds in (80.5, 300.0, None)]
    gateway = await start(Scripted(checks=took))
    parts = gateway.service.parts
    parts.planner = replace(parts.planner, prices=PriceBook.load(GPU))
    bills = [(await gateway.made())["bill"] for _ in took]
    assert [(bill["price_micros"], bill["cost_source"]) for bill in bills] == [
        (80_500, "measured"),
        (300_000, "measured"),
        (100_000, "book"),
    ]
    assert {bill["held_micros"] for bill in bills} == {200_000}
    await gateway.clock.sleep(1.0)
    (row,) = (await gateway.client.get("/usage")).json()["rows"]
    assert (row["price_micros"], row["excess_micros"]) == (480_500, 100_000)


async def test_prices_that_drift_are_told_and_shown_with_the_routes(start: Start) -> None:
    """A vendor that charges half more than the book: an event a day, and the ratio in GET /routes."""
    wire, receiver = Wire(), Receiver()
    wire.apps["ops.test"] = receiver.app
    with patch.object(gateway.app, "Outbound", wire.outbound()):
        bench = await start(Scripted(checks=[delivers(cost_micros=150_000) for _ in range(6)]))
    await bench.write(webhooks.add_webhook, NewWebhook("hook_0", None, "https://ops.test/", bench.clock.now()))
    for _ in range(6):
        await bench.made()
    await bench.clock.sleep(3 * 3600.0)
    (route,) = (await bench.client.get("/routes")).json()["routes"]
    assert route["price_drift"] == {"ratio": 1.5, "observations": 6, "beyond_threshold": True}
    assert receiver.types() == ["price.drift"]


async def test_every_submit_in_doubt_is_a_suspense_of_its_own_and_found_on_the_vendors_list(
    start_on_both: Start,
) -> None:
    """Two submits were lost and rendered all the same: the team pays once, the operator's doubt is twice the price."""
    vendor = Scripted(submits=[Lost(accepted=True), Lost(accepted=True)])
    gateway = await start_on_both(vendor, retry={"ambiguous": "retry", "base_s": 0})
    job = await gateway.made()
    assert (job["status"], job["bill"]["price_micros"], len(vendor.accepted)) == ("succeeded", PRICE, 3)
    balances = await gateway.balances()
    assert (balances["suspense"], balances[f"team:{gateway.team_id}"]) == (2 * PRICE, PRICE)
    now = gateway.clock.now()
    charges = [VendorCharge("alpha", name, PRICE, now) for name in vendor.running]
    await gateway.write(import_charges, charges, now)
    found = await gateway.service.parts.store.read(reconcile, "alpha", since=now - DAY_S, until=now + DAY_S)
    await gateway.write(mend, found, now)
    balances = await gateway.balances()
    assert (balances["suspense"], balances["loss"]) == (0, 2 * PRICE)


async def test_a_doubt_that_lasts_a_day_is_still_matched_with_its_charge(start: Start) -> None:
    """The suspense stands at the time of the submit, where the vendor charged, not where it was given up."""
    vendor = Scripted(billing="may_bill", submits=[Lost(accepted=True)])
    gateway = await start(vendor, claim_interval_s=600.0)
    charged_at = gateway.clock.now() + 20
    job = await gateway.ended(await gateway.submit(), within_s=2 * DAY_S)
    assert (job["status"], job["bill"]["price_micros"]) == ("expired", 0)
    now = gateway.clock.now()
    assert now - charged_at > DAY_S - 60
    await gateway.write(import_charges, [VendorCharge("alpha", "alpha-1", PRICE, charged_at)], now)
    found = await gateway.service.parts.store.read(
        reconcile, "alpha", since=charged_at - DAY_S, until=now, complete_until=now
    )
    await gateway.write(mend, found, now)
    balances = await gateway.balances()
    assert (balances["suspense"], balances["loss"], found.only_theirs) == (0, PRICE, ())


async def test_reports_need_a_key(start: Start) -> None:
    """Nobody's money is anybody's business."""
    gateway = await start(Scripted())
    for path in ("/usage", "/billing/statement", "/budgets", "/webhooks/deliveries"):
        answer = await gateway.client.get(path, headers={"authorization": ""})
        assert answer.status_code == 401
    assert period_of(gateway.clock.now()) == "2027-01"
