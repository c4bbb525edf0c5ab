"""Fixtures: the simulated vendor on loopback, a site with pictures, an adapter whose vendor answers as told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from providers.contract import SimulatorTools, Tools
from providers.segmind import PLUGIN
from providers.segmind.adapter import Segmind
from providers.segmind.simulator import build_simulator
from providers.serving import serve
from tests.contract.segmind.support import CONSTANT, KEY, Bench, EagerClock, picture

Answering = Callable[..., tuple[Segmind, list[httpx.Request]]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> EagerClock:
    return EagerClock()


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=10.0) as client:
        yield client


@pytest.fixture
async def site() -> AsyncIterator[str]:
    """A public web site: `/picture.png`, and `/moved.png` that redirects to it."""

    async def show(request: Request) -> Response:
        return Response(picture(), media_type="image/png")

    async def move(request: Request) -> Response:
        return RedirectResponse("/picture.png")

    async with serve(Starlette(routes=[Route("/picture.png", show), Route("/moved.png", move)])) as url:
        yield url


@pytest.fixture
async def bench(clock: EagerClock, http: httpx.AsyncClient) -> AsyncIterator[Bench]:
    settings = {"latency": CONSTANT, "long_side_px": 128, "hang_s": 1.0, "drip_s": 0.01}
    simulator = build_simulator(SimulatorTools("http://simulator", clock, Random(1), http, settings))
    async with serve(simulator.app) as url:
        section = PLUGIN.settings.model_validate(PLUGIN.simulator_settings(url))
        adapter = PLUGIN.build(section, Tools(http, clock, Random(7)))
        yield Bench(url, simulator, clock, http, adapter)


@pytest.fixture
def answering(clock: EagerClock) -> Answering:
    """Make an adapter whose vendor gives these answers one after the other, the last for ever; see what was sent."""

    def make(*answers: httpx.Response | Exception, **settings: Any) -> tuple[Segmind, list[httpx.Request]]:
        seen: list[httpx.Request] = []

        def handler(request: httpx.Request) -> httpx.Response:
            answer = answers[min(len(seen), len(answers) - 1)]
            seen.append(request)
            if isinstance(answer, Exception):
                raise answer
            return answer

        client = httpx.AsyncClient(transport=httpx.MockTransport(handler))
        section = PLUGIN.settings.model_validate({"api_key": KEY, "history_settle_s": 0.0, **settings})
        return PLUGIN.build(section, Tools(client, clock, Random(3))), seen

    return make
