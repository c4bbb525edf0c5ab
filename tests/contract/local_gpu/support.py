"""What the tests of the team's own GPUs share: simulated workers by host name, a hand-moved clock, requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx

from policies.fit import fit
from providers.contract import Accepted, RenderRequest, SimulatorTools, SourceImage, Tools
from providers.local_gpu import PLUGIN
from providers.local_gpu.adapter import LocalGpu
from providers.local_gpu.simulator.app import SimulatedWorker
from providers.local_gpu.simulator.switches import SANDBOX_KEY
from tests.contract.modelslab.support import HandClock, Switchboard
from tests.support.pictures import SIZE, picture

ROUTES = {route.name: route for route in PLUGIN.catalogue}
PACE = {"seconds_per_step": 1.0, "seconds_fixed": 5.0, "scales": False, "clip": "cached"}
SMALL = {"num_frames": 4, "width": 64, "height": 64}
RENDER_S = 30.0  # 25 steps at that pace


@dataclass
class Bench:
    """Workers `gpu-0`, `gpu-1`, ... and a provider for them; one that is taken off the board cannot be reached."""

    workers: list[SimulatedWorker]
    board: Switchboard
    clock: HandClock
    http: httpx.AsyncClient

    def provider(self, **settings: Any) -> LocalGpu:
        addresses = [f"http://gpu-{number}:8000" for number in range(len(self.workers))]
        section = {"workers": addresses, "token": SANDBOX_KEY} | settings
        provider: LocalGpu = PLUGIN.build(
            PLUGIN.settings.model_validate(section), Tools(self.http, self.clock, Random(1))
        )
        return provider

    def switch(self, number: int, **changes: Any) -> None:
        self.workers[number].sandbox.change(changes)

    def unplug(self, number: int) -> Any:
        """Nothing listens there any more; what comes back plugs it in again."""
        return self.board.apps.pop(f"gpu-{number}")

    def accepted(self, number: int) -> list[str]:
        return self.workers[number].sandbox.meter.accepted


@asynccontextmanager
async def bench(count: int = 1, **switches: Any) -> AsyncIterator[Bench]:
    """Some simulated workers in this process."""
    board, clock = Switchboard(), HandClock()
    async with httpx.AsyncClient(transport=board) as http:
        workers = []
        for number in range(count):
            tools = SimulatorTools(f"http://gpu-{number}:8000", clock, Random(number), http, PACE | switches)
            worker = SimulatedWorker(tools)
            board.apps[f"gpu-{number}"] = httpx.ASGITransport(worker.app())
            workers.append(worker)
        yield Bench(workers, board, clock, http)


def request(
    route: str = "local/svd", attempt_id: str = "att_1", written: Mapping[str, Any] | None = None
) -> RenderRequest:
    """A request as the gateway makes it."""
    chosen = ROUTES[route]
    usual: Mapping[str, Any] = SMALL if chosen.media == "video" else {"prompt": "a hill"}
    fitted = fit(chosen, {**usual, **(written or {})}, mode="exact", image_size=SIZE)
    assert not fitted.refusals, fitted.refusals
    return RenderRequest(chosen, attempt_id, fitted.wire, SourceImage("image/png", *SIZE, data=picture()))


async def accepted(provider: LocalGpu, asked: RenderRequest) -> Accepted:
    """What became of a submit that must be taken."""
    outcome = await provider.submit(asked)
    assert isinstance(outcome, Accepted), outcome
    return outcome
