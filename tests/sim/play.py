"""One run: the scenario of a seed played to its end, and what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import MutableMapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection, update

from gateway.ids import Ids
from gateway.keys import NewKey, create_key
from gateway.money.budgets import Budget, set_budget
from gateway.money.windows import WindowKind
from gateway.store.database import StoreError
from gateway.store.schema import teams
from gateway.webhooks import NewWebhook, add_webhook
from tests.sim.auditor import Auditor
from tests.sim.closing import Closing
from tests.sim.database import Database
from tests.sim.processes import HOST, Processes
from tests.sim.scenario import Scenario, TeamPlan, draw
from tests.sim.traffic import HOOK_PATH, Files, Receiver, Team, Traffic
from tests.sim.world import EndlessError, Replica, ReplicaClock, SimLoop, World, make_task

AUDIT_EVERY_S = 20.0
PATIENCE_S = 4 * 3_600.0
LONG_WAIT_S = 25 * 3_600.0
STEPS_MAX = 60
CLOSING_S = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run. `digest` is the fingerprint of its event log: the same for the same seed and code."""

    seed: int
    violations: list[str]
    faults: dict[str, int]
    ends: dict[str, int]
    virtual_s: float
    real_s: float
    digest: str
    log: list[str] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        """The outcome without its log."""
        return {name: value for name, value in asdict(self).items() if name != "log"}


def play(seed: int, *, verbose: bool = False) -> Outcome:
    """Play the run of a seed."""
    began = time.perf_counter()
    scenario = draw(seed)
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="vidgate-sim-", dir=memory if memory.is_dir() else None))
    loop = SimLoop()
    loop.set_task_factory(make_task)
    loop.set_exception_handler(_heard)
    world = World(scenario, loop, verbose=verbose)
    run = Run(world, folder)
    structlog.configure(processors=[run.heard])
    try:
        with run.processes.composed():
            loop.run_until_complete(run.play())
    except EndlessError as error:
        if not world.violations:
            world.violated(str(error))
    finally:
        structlog.reset_defaults()
        _close(loop)
        shutil.rmtree(folder)
    ends = dict(sorted(run.ends.items()))
    faults = dict(sorted(world.counts.items()))
    real_s = time.perf_counter() - began
    return Outcome(seed, world.violations, faults, ends, loop.virtual_s, real_s, world.digest, world.lines or [])


def _heard(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A timer of a process that has died starts nothing any more; anything else is told as ever."""
    if not isinstance(context.get("exception"), asyncio.CancelledError):
        loop.default_exception_handler(context)


def _close(loop: SimLoop) -> None:
    """End what is left of a run: vendors that keep silent, callbacks nobody waits for."""
    loop.allow(CLOSING_S)
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    with contextlib.suppress(EndlessError):  # what does not let itself be ended is left, and its loop is not run again
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=LONG_WAIT_S))
        loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    # What was loaded once is not looked through again at every run; what this run left in circles is.
    gc.collect()
    gc.freeze()


class Run:
    """The parts of a run and the course it takes."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.scenario: Scenario = world.scenario
        self.database = Database(world)
        self.processes = Processes(world, self.database, folder)
        self.ends: Counter[str] = Counter()
        self.weather = world.random("weather")

    async def play(self) -> None:
        """Open accounts, let everything happen at once, then let it come to rest and audit it."""
        traffic, plans = self._open_accounts()
        auditor = Auditor(self.world, self.database, traffic, plans)
        hooks, files = Receiver(self.world, traffic), Files(self.world)
        self.processes.wire.apps |= {"hooks.test": hooks, "files.test": files, HOST: _Edge(self.world)}
        loop = self.world.loop
        background = [loop.create_task(self._keep_alive()), loop.create_task(self._audit(auditor))]
        background += [loop.create_task(self._strike(kind)) for kind in self._strikes()]
        await traffic.run()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await self._come_to_rest(traffic, auditor)
        vendors = self.processes.vendors
        Closing(auditor, vendors).check()
        self.ends.update(row[0] for row in self.database.rows("SELECT status FROM jobs"))

    def _open_accounts(self) -> tuple[Traffic, dict[str, TeamPlan]]:
        now, plans, made = self.world.now, {}, []
        ids = Ids(ReplicaClock(Replica(self.world, "operator")))
        self.world.replicas.clear()
        for plan in self.scenario.teams:
            _, team_id, secret = self.database.run(create_key, ids, NewKey(plan.name, "sim", now))
            self.database.run(_set_plan, team_id, plan)
            if plan.budget_window is not None:
                window = WindowKind(plan.budget_window)
                budget = Budget(f"budget-{plan.name}", team_id, window, limit_micros=plan.budget_micros)
                self.database.run(set_budget, budget, now)
            if plan.webhook:
                self.database.run(
                    add_webhook, NewWebhook(plan.name, team_id, f"http://hooks.test{HOOK_PATH}{plan.name}", now)
                )
            plans[team_id] = plan
            made.append(Team(plan.name, team_id, {"authorization": f"Bearer {secret}"}))
        routes = [vendor.route.name for vendor in self.processes.vendors]
        routes += ["segmind", "modelslab"] if self.scenario.real_vendors else []
        return Traffic(self.world, made, routes), plans

    async def _keep_alive(self) -> None:
        """Start what is missing: at first all processes, later those that died."""
        while True:
            alive = sum(one.alive for one in self.world.replicas)
            for _ in range(self.scenario.replicas - alive):
                self.processes.start()
            await self.world.sleep(self.weather.uniform(0.5, 10.0))

    async def _audit(self, auditor: Auditor) -> None:
        while True:
            await self.world.sleep(AUDIT_EVERY_S)
            auditor.step()

    def _strikes(self) -> list[str]:
        scenario = self.scenario
        counts = {"crash": scenario.crashes, "pause": scenario.pauses, "drain": scenario.drains, "jump": scenario.jumps}
        return [kind for kind, count in counts.items() for _ in range(count)]

    async def _strike(self, kind: str) -> None:
        """One thing that happens to a process, at some time."""
        await self.world.sleep(self.weather.uniform(0.0, self.scenario.length_s + 60.0))
        running = [one for one in self.world.living() if not one.draining]
        if not running:
            return
        victim = self.weather.choice(running)
        lease_s = self.scenario.settings["jobs"]["lease_s"]
        if kind == "crash":
            # At any point, or at one of those that matter: before or after a commit, before or after a vendor's call.
            victim.dies_where = self.weather.choice(("", "write ", "wrote ", "before ", "after "))
            victim.dies_in = self.weather.randint(1, 8 if victim.dies_where else 40)
        elif kind == "pause":
            victim.pause(lease_s * self.weather.uniform(1.1, 3.0))
        elif kind == "drain":
            self.world.happened("drain")
            await self.processes.drain(victim)
        else:
            # Clocks of several machines are kept close to each other; the clock of one alone may be set to anything.
            far = lease_s / 4 if self.scenario.replicas > 1 else self.weather.choice((40.0, 3_600.0))
            victim.skew_s += self.weather.choice((-far, far))
            self.world.happened("clock jump")
            self.world.log(f"the clock of {victim.name} is off by {victim.skew_s:.0f} s")

    async def _come_to_rest(self, traffic: Traffic, auditor: Auditor) -> None:
        """No more faults: one fresh process ends what is left and tells everybody."""
        self.world.calm = True
        self.world.log("calm")
        for replica in list(self.world.replicas):
            replica.paused_until = 0.0
            replica.die()
        last = self.processes.start(may_die=False)
        until = self.world.loop.virtual_s + PATIENCE_S
        active = True
        while active and self.world.loop.virtual_s < until:
            await self.world.sleep(15.0)
            auditor.step()
            active = bool(self.database.rows("SELECT 1 FROM jobs WHERE finished_at IS NULL"))
        await self.world.sleep(self.scenario.claim_interval_s + 1.0)
        await traffic.look_at_all()
        for _ in range(STEPS_MAX):
            if not self.database.rows("SELECT 1 FROM webhook_deliveries WHERE state = 'pending'"):
                break
            last.skew_s += LONG_WAIT_S  # a day goes by: what is due later is due now
            await self.world.sleep(30.0)
        await self.processes.drain(last)
        # What vendors still run for nobody comes to its end too, and is billed.
        await self.world.sleep(3_600.0)

    def heard(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> Any:
        """The gateway's own log: a fault of its code that nobody caught is a violation, injected ones are not."""
        error = sys.exc_info()[1] if event.get("exc_info") else None
        self.world.log(f"log {event['event']}")
        if error is not None and not isinstance(error, StoreError):
            self.world.violated(f"{event['event']}: {type(error).__name__}: {error}")
        raise structlog.DropEvent


class _Edge:
    """The gateway's address as vendors see it: whichever process answers."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        ready = self._world.living()
        if ready:
            await ready[0].app(scope, receive, send)


def _set_plan(connection: Connection, team_id: str, plan: TeamPlan) -> None:
    usd = f"{plan.flat_micros / 1_000_000:.6f}"
    values = (
        {"kind": "flat", "flat_usd": usd} if plan.flat_micros else {"kind": "percent", "percent": str(plan.percent)}
    )
    connection.execute(update(teams).where(teams.c.id == team_id).values(plan=values))
