"""A month of simulated traffic with every fault closes with exact books, explained bills and a vendor drift of 0."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import structlog
from sqlalchemy import Connection, select

import gateway.app
from gateway.jobs import AttemptState
from gateway.money import reports
from gateway.money.amounts import micros_from_usd
from gateway.money.margin import TeamPlan
from gateway.money.mending import mend
from gateway.money.periods import Closed, close_period
from gateway.money.reconcile import Reconciliation, import_charges, reconcile
from gateway.money.usage_files import read_usage
from gateway.store.schema import attempts, jobs
from gateway.store.schema_money import holds, settlements
from tests.e2e.month import IN_DOUBT_S, MONTH_S, Month, Vendors
from tests.support.clock import START, VirtualLoop
from tests.support.gateway import Gateway, Setting, make_template, running, unsound

JOBS = int(os.environ.get("VIDGATE_MONTH_JOBS", "400"))
SEED = int(os.environ.get("VIDGATE_MONTH_SEED", "1"))
PROVIDERS = ("segmind", "modelslab")
NOT_CHARGED = {
    "amount_micros": 0
}  # an answer that the vendor's edge spoiled is not billed, and can be found all the same
PERIODS = ("2027-01", "2027-02")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory where there is one: the month is about money, not about the disk."""
    memory = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(prefix="vidgate-month-", dir=memory if memory.is_dir() else None))
    yield path
    shutil.rmtree(path)


def test_a_month_of_faults_closes_with_exact_books(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every job ends, every bill is explained by its attempts, and the vendors' own invoices differ by nothing."""
    make_template(folder)
    structlog.configure(processors=[_drop])
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        try:
            figures = runner.run(_month(folder))
        finally:
            structlog.reset_defaults()
    with capsys.disabled():
        print(f"\nmonth of {JOBS} requests, seed {SEED}:")
        for name, value in figures.items():
            print(f"  {name:<28} {value}")


def _drop(_logger: Any, _method: str, _event: Any) -> Any:
    raise structlog.DropEvent


async def _month(folder: Path) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    vendors = Vendors(loop, SEED, credit_micros=max(3_000_000, JOBS * 20_000))
    settings = {
        "server": {"public_base_url": "http://vidgate.test"},
        "jobs": {"lease_s": 600, "heartbeat_s": 200, "in_doubt_s": IN_DOUBT_S},
        "outbound": {"allow_hosts": ["segmind.test", "modelslab.test"]},
        "polling": {"balance_every_s": 1800},
    }
    setting = Setting(folder, loop, vendors.members(), settings, http=vendors.http, seed=SEED, claim_interval_s=3600.0)
    began = time.perf_counter()
    with patch.object(gateway.app, "Outbound", vendors.wire.outbound()):
        async with running(setting) as bench:
            vendors.wire.apps["vidgate.test"] = bench.app
            month = Month(bench, vendors, JOBS, SEED)
            await month.run()
            wall_s = time.perf_counter() - began
            return {"wall time": f"{wall_s:.1f} s"} | await _audit(bench, vendors, month)


async def _audit(bench: Gateway, vendors: Vendors, month: Month) -> dict[str, Any]:
    now = bench.clock.now()
    assert await bench.read(unsound) == []
    rows = await bench.read(_job_rows)
    assert {row.id for row in rows} == month.tally.job_ids
    assert [row.id for row in rows if row.finished_at is None] == []
    assert sum((await bench.balances()).values()) == 0
    assert await bench.read(_open_holds) == 0
    charges = {provider: _netted(vendors, provider) for provider in PROVIDERS}
    assert await bench.read(_unexplained_bills, charges) == []
    await _statements_agree(bench, month)
    closed = await bench.write(close_period, PERIODS[0], now)
    assert isinstance(closed, Closed)
    suspense = (await bench.balances()).get("suspense", 0)
    figures: dict[str, Any] = {}
    for provider in PROVIDERS:
        figures |= await _reconciled(bench, vendors, provider, charges[provider])
    balances = await bench.balances()
    assert balances.get("suspense", 0) == 0
    assert await bench.read(unsound) == []
    return {
        "jobs": dict(Counter(row.status for row in rows)),
        "replies": month.tally.statuses,
        "repeats, cancels, top-ups": (month.tally.repeats, month.tally.cancels, month.tally.top_ups),
        "attempts": dict(await bench.read(_attempt_counts)),
        "in suspense before, micros": suspense,
        **figures,
        "balances, micros": balances,
    }


async def _reconciled(bench: Gateway, vendors: Vendors, provider: str, charges: dict[str, Any]) -> dict[str, Any]:
    """Import the vendor's invoice, end every suspense by it, and find nothing left on either side."""
    now = bench.clock.now()
    usage = json.dumps([{"request_id": name, **charge} for name, charge in charges.items()])
    await bench.write(import_charges, read_usage(usage, provider), now)
    before = await _compare(bench, provider)
    mended = await bench.write(mend, before, now)
    after = await _compare(bench, provider)
    assert (after.only_ours, after.only_theirs, after.differences, after.verdicts) == ((), (), (), ())
    assert [day for day in after.days if day.drift_micros != 0] == []
    ours = (await bench.balances())[f"provider:{provider}"]
    assert ours == vendors.balance_micros(provider), "what our books have left is what the vendor has left"
    return {
        f"{provider}: charges": len(charges),
        f"{provider}: agreed at once": before.agreed,
        f"{provider}: mended": mended,
        f"{provider}: drift": (before.drift_micros, after.drift_micros),
    }


async def _compare(bench: Gateway, provider: str) -> Reconciliation:
    since, until = START, START + 2 * MONTH_S
    found: Reconciliation = await bench.service.parts.store.read(
        reconcile, provider, since=since, until=until, complete_until=until
    )
    return found


def _netted(vendors: Vendors, provider: str) -> dict[str, Any]:
    """A vendor's invoice by request: what is left after refunds, with the time of the charge."""
    net: dict[str, Any] = {}
    for charge in vendors.invoice(provider):
        line = net.setdefault(charge.request_id, {"amount_micros": 0, "at": charge.at})
        line["amount_micros"] += charge.amount_micros
    return {name: line for name, line in net.items() if line["amount_micros"]}


async def _statements_agree(bench: Gateway, month: Month) -> None:
    """A team's statements come to the sum of its bills."""
    rows = await bench.read(_job_rows)
    for team_id in month.team_ids.values():
        total = 0
        for period in PERIODS:
            total += (await bench.read(reports.statement, team_id, period)).total_micros
        assert total == sum(row.bill["price_micros"] for row in rows if row.team_id == team_id)


def _job_rows(connection: Connection) -> list[Any]:
    columns = (jobs.c.id, jobs.c.status, jobs.c.team_id, jobs.c.finished_at, jobs.c.bill)
    return list(connection.execute(select(*columns)))


def _open_holds(connection: Connection) -> int:
    return len(connection.execute(select(holds.c.id).where(holds.c.state == "open")).all())


def _attempt_counts(connection: Connection) -> Counter[str]:
    rows = connection.execute(select(attempts.c.account, attempts.c.state, attempts.c.failure_kind))
    return Counter(f"{row.account} {row.failure_kind or row.state}" for row in rows)


def _unexplained_bills(connection: Connection, charges: dict[str, dict[str, Any]]) -> list[str]:
    """Jobs whose bill is not what the vendor's charge for their delivering attempt comes to under the team's plan."""
    delivered = {
        row.job_id: row
        for row in connection.execute(select(attempts).where(attempts.c.state == AttemptState.SUCCEEDED))
    }
    settled = {row.hold_id: row for row in connection.execute(select(settlements))}
    faults = []
    for job in connection.execute(select(jobs)):
        attempt = delivered.get(job.id)
        expected = (0, 0)
        if attempt is not None:
            cost = charges[attempt.account].get(attempt.vendor_request_id, NOT_CHARGED)["amount_micros"]
            expected = (_team_price(job, attempt.route, cost), cost)
        row = settled[job.hold_id]
        found = (row.price_micros, row.cost_micros)
        shown = (job.bill["price_micros"], job.bill["cost_micros"])
        if found != expected or shown != expected or (job.status == "succeeded") != (attempt is not None):
            faults.append(f"{job.id} {job.status}: bill {shown}, settled {found}, expected {expected}")
    return faults


def _team_price(job: Any, route: str, cost_micros: int) -> int:
    price = TeamPlan.model_validate(job.request["team_plan"]).price_micros(cost_micros, route)
    limit = job.request["routing"].get("max_cost_usd")
    return price if limit is None else min(price, micros_from_usd(limit))
