"""A month of business in virtual time: vendors that fail in every way, two teams, an operator who tops up.

The engine, the store, the HTTP edge, the adapters and the simulators are the real ones; only the wire between them is
in process and time is virtual. Everything is drawn from one seed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx
from sqlalchemy import Connection, update

from gateway.money import ledger
from gateway.money.budgets import Budget, set_budget
from gateway.money.windows import WindowKind
from gateway.store.schema import teams
from providers.contract import SimulatorTools
from providers.modelslab import PLUGIN as MODELSLAB
from providers.modelslab.simulator.app import Vendor as ModelsLabVendor
from providers.modelslab.simulator.switches import SANDBOX_KEY
from providers.segmind import PLUGIN as SEGMIND
from providers.segmind.simulator import build_simulator
from providers.simulation import Charge
from tests.support.clock import VirtualClock, VirtualLoop
from tests.support.gateway import Gateway
from tests.support.pictures import picture_base64
from tests.support.wire import Wire

DAY_S = 86_400.0
HOUR_S = 3_600.0
MONTH_S = 30 * DAY_S
IN_DOUBT_S = HOUR_S
CLUMP_S = 90.0
PRICE_USUAL_MICROS = 165_900
DRY_MICROS = 400_000

SUBMIT_FAULTS = {
    "429": 0.02,
    "500": 0.01,
    "502_before_accept": 0.01,
    "502_after_accept": 0.01,
    "504_before_accept": 0.006,
    "504_after_accept": 0.006,
    "reset_before_accept": 0.006,
    "reset_before_reply": 0.006,
    "reset_mid_body": 0.006,
    "timeout_before_accept": 0.003,
    "timeout": 0.003,
    "slow_drip": 0.005,
    "html_error": 0.004,
}
READ_FAULTS = {"429": 0.02, "500": 0.02, "502_after_accept": 0.01, "504_before_accept": 0.01, "reset_mid_body": 0.01}
FILE_FAULTS = {"500": 0.01, "502_before_accept": 0.01, "reset_mid_body": 0.01}
SEGMIND_FAULTS = {
    "submit": SUBMIT_FAULTS,
    "status": READ_FAULTS,
    "result": READ_FAULTS,
    "file": FILE_FAULTS,
    "history": READ_FAULTS,
    "balance": READ_FAULTS,
}
MODELSLAB_FAULTS = {"submit": SUBMIT_FAULTS, "fetch": READ_FAULTS, "file": FILE_FAULTS, "balance": READ_FAULTS}
LATE = {"kind": "lognormal", "mean_s": 40.0, "sigma": 0.9}
PLANS: Mapping[str, Mapping[str, Any]] = {
    "film": {"kind": "percent", "percent": "20"},
    "ads": {"kind": "flat", "flat_usd": "0.03"},
}
# What is asked for, with how often; a route that cannot honour it is not taken, or moves the value to its nearest.
WISHES: tuple[tuple[float, Mapping[str, Any]], ...] = (
    (0.30, {}),
    (0.10, {"routing": {"order": ["modelslab/svd"]}}),
    (0.20, {"routing": {"pin": "modelslab"}}),
    (0.10, {"routing": {"pin": "segmind/svd-sync"}}),
    (0.10, {"camera_motion": "zoom_in"}),
    (0.08, {"camera_motion": "pan_left", "routing": {"pin": "segmind/motionctrl-svd-sync"}}),
    (0.05, {"routing": {"objective": "fastest", "max_cost_usd": 0.19}}),
    (0.07, {"num_frames": 25, "routing": {"only": ["segmind/svd"], "deadline_s": 300}}),
)


@dataclass
class Tally:
    """What the callers were told."""

    statuses: dict[int, int] = field(default_factory=dict)
    job_ids: set[str] = field(default_factory=set)
    repeats: int = 0
    cancels: int = 0
    top_ups: int = 0


class Vendors:
    """The two simulators on one wire, and what the gateway is told of them."""

    def __init__(self, loop: VirtualLoop, seed: int, *, credit_micros: int, wire: Wire | None = None) -> None:
        clock, random = VirtualClock(loop), Random(seed)
        self.wire = wire or Wire()
        self.http = self.wire.client()
        usual = {"clip": "cached", "hang_s": 300.0, "drip_s": 0.01}
        segmind = {
            **usual,
            "long_side_px": 64,
            "fault_rates": SEGMIND_FAULTS,
            "failure_rate": 0.03,
            "moderation_rate": 0.01,
            "v1_cutoff_s": 120.0,
            "credits_micros": credit_micros,
            "latency": {"svd": LATE, "motionctrl-svd": LATE, "ssd-img2img": LATE},
        }
        modelslab = {
            **usual,
            "fault_rates": MODELSLAB_FAULTS,
            "credit_micros": credit_micros,
            "webhook_https_only": False,
            "refund_on_failed": True,
            "record_ttl_s": DAY_S,
        }
        tools = SimulatorTools("http://segmind.test", clock, random, self.http, segmind)
        simulator = build_simulator(tools)
        self.segmind = simulator.vendor
        self.modelslab = ModelsLabVendor(SimulatorTools("http://modelslab.test", clock, random, self.http, modelslab))
        self.wire.apps |= {"segmind.test": simulator.app, "modelslab.test": self.modelslab.app()}

    def members(self) -> list[tuple[Any, Mapping[str, Any]]]:
        """The vendors as a gateway is configured with them."""
        assert SEGMIND.simulator_settings is not None
        assert MODELSLAB.simulator_settings is not None
        segmind = {**SEGMIND.simulator_settings("http://segmind.test"), "history_settle_s": 5.0}
        return [(SEGMIND, segmind), (MODELSLAB, MODELSLAB.simulator_settings("http://modelslab.test"))]

    def invoice(self, provider: str) -> list[Charge]:
        """Every line of a vendor's invoice, as of now."""
        if provider == "segmind":
            self.segmind.settle()
            return list(self.segmind.sandbox.meter.invoice)
        self.modelslab.books.settle()
        return list(self.modelslab.sandbox.meter.invoice)

    def balance_micros(self, provider: str) -> int:
        """What is left at a vendor."""
        if provider == "segmind":
            return sum(self.segmind.balance_micros())
        return self.modelslab.books.balance_micros(SANDBOX_KEY)

    def add_credit(self, provider: str, amount_micros: int) -> None:
        """Sell credit."""
        if provider == "segmind":
            old = self.segmind.switches.credits_micros
            self.segmind.sandbox.change({"credits_micros": old + amount_micros})
        else:
            old = self.modelslab.sandbox.switches.credit_micros
            self.modelslab.sandbox.change({"credit_micros": old + amount_micros})


class Month:
    """The callers, the operator and the weather of one month."""

    def __init__(self, gateway: Gateway, vendors: Vendors, jobs: int, seed: int) -> None:
        self.gateway, self.vendors, self.jobs = gateway, vendors, jobs
        self.random = Random(seed)
        self.tally = Tally()
        self.top_up_micros = max(3_000_000, jobs * PRICE_USUAL_MICROS // 8)
        self.keys: dict[str, dict[str, str]] = {}
        self.team_ids: dict[str, str] = {}
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(gateway.app), base_url="http://vidgate.test", trust_env=False
        )

    async def run(self) -> None:
        """The whole month, to the end of its last job."""
        await self._open_accounts()
        weather = [asyncio.create_task(work) for work in (self._moods(), self._outages(), self._treasury())]
        starts = sorted(self.random.uniform(0, MONTH_S - HOUR_S) for _ in range(max(1, self.jobs // 12)))
        begins_at = self.gateway.clock.now()
        tasks = []
        for number in range(self.jobs):
            at = starts[number * len(starts) // self.jobs] + self.random.uniform(0, CLUMP_S)
            tasks.append(asyncio.create_task(self._caller(number, begins_at + at, Random(self.random.random()))))
        await asyncio.gather(*tasks)
        await self._until(begins_at + MONTH_S)
        for task in weather:
            task.cancel()
        await asyncio.gather(*weather, return_exceptions=True)
        await self.gateway.clock.sleep(2 * IN_DOUBT_S + 2 * HOUR_S)
        await self.client.aclose()

    async def _open_accounts(self) -> None:
        for team, plan in PLANS.items():
            _, team_id, self.keys[team] = await self.gateway.new_key(team)
            self.team_ids[team] = team_id
            await self.gateway.write(_set_plan, team_id, dict(plan))
        now = self.gateway.clock.now()
        film = Budget("film-month", self.team_ids["film"], WindowKind.MONTH, limit_micros=self.jobs * 500_000)
        # The day's limit of the second team is met now and then: those requests are refused with 402.
        day = max(4 * PRICE_USUAL_MICROS, self.jobs * PRICE_USUAL_MICROS // 60)
        ads = Budget("ads-day", self.team_ids["ads"], WindowKind.DAY, limit_micros=day, soft_micros=day // 2)
        for budget in (film, ads):
            await self.gateway.write(set_budget, budget, now)
        for provider in ("segmind", "modelslab"):
            opening = self.vendors.balance_micros(provider)
            bought = ledger.TopUp(f"opening-{provider}", provider, opening, now, "credit at the start")
            await self.gateway.write(ledger.top_up, bought)

    async def _caller(self, number: int, at: float, random: Random) -> None:
        """One caller: asks once, sometimes again under the same key, sometimes takes it back."""
        await self._until(at)
        team = "film" if random.random() < 0.6 else "ads"
        fields = self._wish(random, number)
        headers = dict(self.keys[team])
        repeats = random.random() < 0.1
        if repeats:
            headers["idempotency-key"] = f"order-{number}"
        if random.random() < 0.2:
            headers["prefer"] = "wait=30"
        answer = await self._ask(fields, headers)
        if answer.status_code not in {200, 202}:
            return
        job_id = str(answer.json()["id"])
        self.tally.job_ids.add(job_id)
        if repeats:
            await self.gateway.clock.sleep(random.uniform(0, 600))
            again = await self._ask(fields, headers)
            assert (again.status_code, again.json()["id"]) == (202, job_id), "a repeat is told of the first job"
            self.tally.repeats += 1
        if random.random() < 0.06:
            await self.gateway.clock.sleep(random.expovariate(1 / 20))
            canceled = await self.client.post(f"/jobs/{job_id}/cancel", headers=self.keys[team])
            self.tally.cancels += canceled.status_code == 202

    async def _ask(self, fields: Mapping[str, Any], headers: Mapping[str, str]) -> httpx.Response:
        answer = await self.client.post("/generate/video", json=dict(fields), headers=dict(headers))
        assert answer.status_code in {200, 202, 402, 422}, answer.text
        self.tally.statuses[answer.status_code] = self.tally.statuses.get(answer.status_code, 0) + 1
        return answer

    def _wish(self, random: Random, number: int) -> dict[str, Any]:
        (wish,) = random.choices([wish for _, wish in WISHES], [share for share, _ in WISHES])
        return {
            "image": picture_base64(),
            "fit": "nearest",
            "num_frames": 14,
            "metadata": {"project": f"p{number % 5}"},
            **wish,
        }

    async def _moods(self) -> None:
        """The second vendor fails, refuses and swaps models for a while, and changes when it charges."""
        sandbox = self.vendors.modelslab.sandbox
        for turn in range(1_000):
            await self.gateway.clock.sleep(self.random.uniform(2, 8) * HOUR_S)
            mood = self.random.choice(
                [{"outcome": "failed"}, {"outcome": "error"}, {"outcome": "moderated"}, {"substitute_model": "other"}]
            )
            sandbox.change({**mood, "charge": "success" if turn % 4 == 3 else "submit"})
            await self.gateway.clock.sleep(self.random.uniform(0.2, 1.0) * HOUR_S)
            sandbox.change({"outcome": "success", "substitute_model": ""})

    async def _outages(self) -> None:
        """Now and then a vendor takes no connection at all."""
        while True:
            await self.gateway.clock.sleep(self.random.uniform(2, 6) * DAY_S)
            host = self.random.choice(["segmind.test", "modelslab.test"])
            self.vendors.wire.down.add(host)
            await self.gateway.clock.sleep(self.random.uniform(0.1, 2.0) * HOUR_S)
            self.vendors.wire.down.discard(host)

    async def _treasury(self) -> None:
        """An operator who tops up only hours after an account has run dry."""
        while True:
            await self.gateway.clock.sleep(HOUR_S)
            for provider in ("segmind", "modelslab"):
                if self.vendors.balance_micros(provider) > DRY_MICROS:
                    continue
                await self.gateway.clock.sleep(self.random.uniform(0, 1) * HOUR_S)
                self.vendors.add_credit(provider, self.top_up_micros)
                self.tally.top_ups += 1
                now = self.gateway.clock.now()
                name = f"{provider}-{self.tally.top_ups}"
                bought = ledger.TopUp(name, provider, self.top_up_micros, now, "credit bought")
                await self.gateway.write(ledger.top_up, bought)

    async def _until(self, at: float) -> None:
        await self.gateway.clock.sleep(at - self.gateway.clock.now())


def _set_plan(connection: Connection, team_id: str, plan: dict[str, Any]) -> None:
    connection.execute(update(teams).where(teams.c.id == team_id).values(plan=plan))
