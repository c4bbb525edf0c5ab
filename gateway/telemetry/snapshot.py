"""What stands at the moment of a scrape: the router's view, what this process drives, and the figures of the store."""

from __future__ import annotations

import asyncio
from collections import Counter
from importlib.metadata import version
from typing import get_args

from gateway.dispatcher import Dispatcher
from gateway.parts import Parts
from gateway.telemetry.figures import read_figures
from gateway.telemetry.metrics import Metrics
from gateway.watch import DRIFT_OBSERVATIONS_MIN
from policies.values import BreakerState

Values = dict[tuple[str, ...], float]
# Scrapers of several Prometheus servers share one look at the store.
FIGURES_AGE_MAX_S = 5.0
# A scraper gives up after ten seconds, and then hears nothing at all: the store is waited for less than that.
FIGURES_WAIT_S = 2.0


class Snapshot:
    """Brings the gauges of a process up to date when they are asked for."""

    def __init__(self, parts: Parts, dispatcher: Dispatcher, metrics: Metrics) -> None:
        self._parts = parts
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._figures_at = float("-inf")
        metrics.set("vidgate_build_info", 1, version=version("vidgate"))
        metrics.begin("route", parts.fleet.routes)
        metrics.begin("provider", parts.fleet.accounts)
        metrics.begin("operation", ("read", "write"))

    async def renew(self) -> None:
        """Set every gauge. Raises what a silent store raises, or TimeoutError; those of the process are set by then."""
        now = self._parts.clock.now()
        self._routes(now)
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
        if now - self._figures_at < FIGURES_AGE_MAX_S:
            return
        self._figures_at = now
        names = tuple(self._parts.fleet.accounts)
        async with asyncio.timeout(FIGURES_WAIT_S):
            figures = await self._parts.store.read(read_figures, names, now)
        for name, series in figures.items():
            self._metrics.replace(name, series)

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
