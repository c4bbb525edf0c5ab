"""The simulated vendor on loopback, a site with pictures and a webhook, and prepared replies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import httpx
import pytest

from providers.contract import SimulatorTools, Tools
from providers.modelslab import PLUGIN
from providers.serving import listen, serve
from tests.contract.modelslab.support import SECRET, Bench, HandClock, Site, Switchboard, site_app


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


SETTINGS = {"latency": {"kind": "constant", "mean_s": 10.0}, "hang_s": 3600.0, "drip_s": 0.0}


@pytest.fixture
async def bench(clock: HandClock) -> AsyncIterator[Bench]:
    """The simulator inside this process, without sockets: for what does not depend on the wire."""
    site = Site("https://site.test")
    board = Switchboard()
    async with httpx.AsyncClient(transport=board) as http:
        app = PLUGIN.simulator(SimulatorTools("http://vendor.test", clock, Random(1), http, SETTINGS))
        board.apps = {"vendor.test": httpx.ASGITransport(app), "site.test": httpx.ASGITransport(site_app(site))}
        yield Bench("http://vendor.test", app.state.sandbox, clock, http, site)


@pytest.fixture
async def live(clock: HandClock) -> AsyncIterator[Bench]:
    """The simulator behind a real socket on loopback: for faults of the wire and foreign clients."""
    site = Site("")
    listener, url = listen()
    async with httpx.AsyncClient(trust_env=False, timeout=5.0) as http:
        app = PLUGIN.simulator(SimulatorTools(url, clock, Random(1), http, SETTINGS))
        async with serve(site_app(site)) as site.url, serve(app, listener):
            yield Bench(url, app.state.sandbox, clock, http, site)


@pytest.fixture
def answering(clock: HandClock) -> Callable[..., tuple[Any, list[httpx.Request]]]:
    """Make a provider whose vendor answers every call with one prepared reply (or raises), and see what was sent."""

    def make(answer: httpx.Response | Exception, **settings: Any) -> tuple[Any, list[httpx.Request]]:
        seen: list[httpx.Request] = []

        def handler(request: httpx.Request) -> httpx.Response:
            seen.append(request)
            if isinstance(answer, Exception):
                raise answer
            return answer

        client = httpx.AsyncClient(transport=httpx.MockTransport(handler))
        section = {"api_key": SECRET, "base_url": "https://vendor.example/api"} | settings
        return PLUGIN.build(PLUGIN.settings.model_validate(section), Tools(client, clock, Random(3))), seen

    return make
