"""A simulated vendor on loopback inside the test's own loop and time, and the section that points a gateway at it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx

from providers.contract import ProviderPlugin, SimulatorTools
from providers.segmind import PLUGIN
from providers.segmind.simulator import Vendor, build_simulator
from providers.serving import serve
from providers.simulation import Meter
from tests.support.clock import VirtualClock, VirtualLoop

SWITCHES = {
    "latency": {name: {"kind": "constant", "mean_s": 20.0} for name in ("svd", "motionctrl-svd", "ssd-img2img")},
    "long_side_px": 64,
    "hang_s": 1_000.0,
    "drip_s": 0.01,
}


@dataclass
class Bench:
    """A running simulator: `vendor` to look inside, `member` for a gateway's list of vendors, `http` for its calls."""

    vendor: Vendor
    url: str
    http: httpx.AsyncClient

    def member(self, *routes: str, **settings: Any) -> tuple[ProviderPlugin, Mapping[str, Any]]:
        section = {**(PLUGIN.simulator_settings or dict)(self.url), **settings}
        return PLUGIN, section | ({"routes": routes} if routes else {})

    def spoil(self, operation: str, fault: str, count: int = 1) -> None:
        self.vendor.sandbox.faults.script(operation, fault, count)

    def switch(self, **changes: Any) -> None:
        self.vendor.sandbox.change(changes)

    @property
    def meter(self) -> Meter:
        self.vendor.settle()
        return self.vendor.sandbox.meter


@asynccontextmanager
async def simulated(loop: VirtualLoop, **switches: Any) -> AsyncIterator[Bench]:
    """The simulator, served for the length of the block."""
    clock = VirtualClock(loop)
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(trust_env=False, limits=limits) as http:
        tools = SimulatorTools("http://simulator", clock, Random(1), http, SWITCHES | switches)
        simulator = build_simulator(tools)
        async with serve(simulator.app) as url:
            yield Bench(simulator.vendor, url, http)
