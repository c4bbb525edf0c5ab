"""What stands at the moment of a scrape: the router's view, what this process drives, and the figures of the store."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import get_args

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from gateway.dispatcher import Dispatcher
from gateway.parts import Parts
from gateway.store.database import StoreError
from gateway.telemetry.alerts import MACHINE_TROUBLES
from gateway.telemetry.figures import Series, read_figures, read_ledger
from gateway.telemetry.metrics import Metrics
from gateway.watch import DRIFT_OBSERVATIONS_MIN
from policies.values import BreakerState

Values = dict[tuple[str, ...], float]
# Scrapers of several Prometheus servers share one look at the store.
FIGURES_AGE_MAX_S = 5.0
# The ledger is scanned whole. After that it is left alone ten times as long as it took, a minute at most.
LEDGER_REST_RATIO = 10.0
LEDGER_REST_MAX_S = 60.0
# A scraper gives up after ten seconds, and then hears nothing at all: the store is waited for less than that.
FIGURES_WAIT_S = 2.0
log = structlog.get_logger()


@dataclass(slots=True)
class _Look:
    """One kind of figures of the store: how to read it, how long it rests after that, and when it was last read."""

    kind: str
    read: Callable[[Connection, tuple[str, ...], float], Mapping[str, Series]]
    rest_ratio: float
    read_at: float
    due_at: float = float("-inf")
    task: asyncio.Task[None] | None = None

    def is_due(self, now: float) -> bool:
        """At most one at a time: a second look would only make a slow database slower."""
        return now >= self.due_at and (self.task is None or self.task.done())


class Snapshot:
    """Brings the gauges of a process up to date when they are asked for."""

    def __init__(self, parts: Parts, dispatcher: Dispatcher, metrics: Metrics) -> None:
        self._parts = parts
        self._dispatcher = dispatcher
        self._metrics = metrics
        now = parts.clock.now()
        self._looks = (
            _Look("indexed", read_figures, 0.0, now),
            _Look("ledger", read_ledger, LEDGER_REST_RATIO, now),
        )
        metrics.set("vidgate_build_info", 1, version=version("vidgate"))
        metrics.begin("route", parts.fleet.routes)
        metrics.begin("provider", parts.fleet.accounts)
        metrics.begin("operation", ("read", "write"))
        for provider in parts.fleet.loaded():
            for route in parts.fleet.accounts[provider].provider.routes:
                for kind in MACHINE_TROUBLES:  # so that an alarm counts the first of them too
                    metrics.count("vidgate_attempts", 0, provider=provider, route=route.name, outcome=kind)

    async def renew(self) -> None:
        """Set every gauge. What the store does not tell in time is told by a later scrape; its age says so."""
        now = self._parts.clock.now()
        self._routes(now)
        self._machines(now)
        self._metrics.set("vidgate_bus_connected", float(not self._parts.bus.degraded))
        stages: Counter[str] = Counter(self._dispatcher.stages())
        self._metrics.replace("vidgate_jobs_driven", {(stage,): count for stage, count in stages.items()})
        drift = self._dispatcher.watch.drift
        ratios: Values = {
            (route,): seen.ratio
            for route, seen in drift.items()
            if seen.ratio is not None and seen.observations >= DRIFT_OBSERVATIONS_MIN
        }
        self._metrics.replace("vidgate_price_drift_ratio", ratios)
        begun = [self._begin(look, now) for look in self._looks if look.is_due(now)]
        if begun:
            done, _ = await asyncio.wait(begun, timeout=FIGURES_WAIT_S)
            for task in done:
                task.result()
        for look in self._looks:
            age_s = max(0.0, self._parts.clock.now() - look.read_at)
            self._metrics.set("vidgate_store_figures_age_seconds", age_s, kind=look.kind)

    async def close(self) -> None:
        """End the looks that are under way."""
        tasks = [look.task for look in self._looks if look.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, look: _Look, now: float) -> asyncio.Task[None]:
        look.due_at = now + FIGURES_AGE_MAX_S
        look.task = asyncio.create_task(self._read(look, now), name=f"figures-{look.kind}")
        return look.task

    async def _read(self, look: _Look, now: float) -> None:
        """Nobody cuts it off: what comes late is taken all the same, and a store that fails counts its errors."""
        try:
            figures = await self._parts.store.read(look.read, tuple(self._parts.fleet.accounts), now)
        except (StoreError, SQLAlchemyError) as error:
            log.warning("metrics.store_silent", kind=look.kind, error=type(error).__name__)
            return
        finally:
            ended_at = self._parts.clock.now()
            look.due_at = max(look.due_at, ended_at + min(LEDGER_REST_MAX_S, look.rest_ratio * (ended_at - now)))
        for name, series in figures.items():
            self._metrics.replace(name, series)
        look.read_at = now

    def _machines(self, now: float) -> None:
        """What machines of our own said of themselves; nothing of those that are silent."""
        said, metrics = self._parts.fleet.loads.said(now), self._metrics
        metrics.replace("vidgate_machines_slots", {(route,): load.slots for route, load in said.items()})
        metrics.replace("vidgate_machines_running", {(route,): load.running for route, load in said.items()})
        metrics.replace("vidgate_machines_waiting", {(route,): load.waiting for route, load in said.items()})
        steps: Values = {(route,): load.step_s for route, load in said.items() if load.step_s is not None}
        metrics.replace("vidgate_machines_step_seconds", steps)

    def _routes(self, now: float) -> None:
        fleet, metrics = self._parts.fleet, self._metrics
        for name in fleet.routes:
            seen = fleet.router.snapshot(name, now)
            for state in get_args(BreakerState):
                metrics.set("vidgate_breaker_state", float(seen.breaker == state), route=name, state=state)
            metrics.set("vidgate_route_success_ratio", seen.success_rate, route=name)
            metrics.set("vidgate_route_latency_seconds", seen.p50_s, route=name, quantile="0.5")
            metrics.set("vidgate_route_latency_seconds", seen.p95_s, route=name, quantile="0.95")
            metrics.set("vidgate_route_in_flight", len(fleet.in_flight(name)), route=name)
