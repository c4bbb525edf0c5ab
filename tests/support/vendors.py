"""A gateway and the simulated vendors, each behind a real socket on loopback, all in virtual time."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from providers import local_gpu, modelslab, openai_videos, preview, segmind
from providers.contract import SimulatorTools
from providers.local_gpu.simulator.app import SimulatedWorker
from providers.modelslab.simulator.app import Vendor as ModelsLabVendor
from providers.modelslab.simulator.switches import SANDBOX_KEY as MODELSLAB_KEY
from providers.openai_videos.simulator import Server as VideosServer
from providers.segmind.simulator import build_simulator
from providers.serving import listen, serve
from providers.simulation import Sandbox
from tests.support.clock import VirtualClock, VirtualLoop
from tests.support.gateway import ENDED, Gateway, Setting, running
from tests.support.pictures import picture, picture_base64

SETTLE_S = 0.001
MODELS = ("svd", "motionctrl-svd", "ssd-img2img")
SWITCHES: Mapping[str, Mapping[str, Any]] = {
    "segmind": {
        "clip": "cached",
        "long_side_px": 128,
        "latency": {model: {"kind": "constant", "mean_s": 10.0} for model in MODELS},
    },
    "modelslab": {"clip": "cached", "latency": {"kind": "constant", "mean_s": 10.0}},
    "openai_videos": {"clip": "cached"},  # 20 s a clip
    "local": {"clip": "cached", "seconds_per_step": 0.6, "seconds_fixed": 1.0, "scales": False},  # 25 steps in 16 s
}


class SocketLoop(VirtualLoop):
    """Virtual time for sockets: the clock jumps only when the network has been still for a moment."""

    settle_s = SETTLE_S


@dataclass
class Tap:
    """Stands before an application, writes down every call, and answers some of them in its place.

    `instead` holds, by the beginning of a path, the replies that the next calls there get.
    """

    app: ASGIApp
    calls: list[tuple[str, str, bytes]] = field(default_factory=list)
    instead: dict[str, deque[Response]] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()
        self.calls.append((scope["method"], scope["path"], body))
        first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replayed() -> Message:
            return first.pop() if first else await receive()

        for start, replies in self.instead.items():
            if scope["path"].startswith(start) and replies:
                await replies.popleft()(scope, replayed, send)
                return
        await self.app(scope, replayed, send)


@dataclass
class Simulated:
    """One running simulator, as a test looks into it."""

    url: str
    vendor: Any
    tap: Tap

    @property
    def sandbox(self) -> Sandbox[Any]:
        return self.vendor.sandbox

    def switch(self, **changes: Any) -> None:
        self.sandbox.change(changes)

    def spoil(self, operation: str, fault: str, count: int = 1) -> None:
        self.sandbox.faults.script(operation, fault, count)

    def posted(self, path: str) -> list[dict[str, Any]]:
        """The JSON bodies that were posted to a path."""
        return [json.loads(body) for method, at, body in self.tap.calls if method == "POST" and at == path]

    def polls(self) -> int:
        """How often the vendor was asked about a render."""
        return sum("/fetch/" in path or path.endswith("/status") for _, path, _ in self.tap.calls)

    def charged_micros(self) -> int:
        """The vendor's invoice in all, micro-USD."""
        self.sandbox.settle()
        if isinstance(self.vendor, ModelsLabVendor):
            self.vendor.books.settle()
        return self.sandbox.meter.charged_micros

    def picture(self) -> bytes:
        """The picture that the vendor read for its latest render."""
        latest = self.sandbox.meter.accepted[-1]
        if isinstance(self.vendor, ModelsLabVendor):
            job = self.vendor.books.find(MODELSLAB_KEY, latest)
            assert job is not None
            return job.picture
        return bytes(self.vendor.runs[latest].picture)


@dataclass
class World:
    """The gateway at its own address, the vendors, and a site with pictures."""

    gateway: Gateway
    client: httpx.AsyncClient
    vendors: dict[str, Simulated]
    site: str

    @property
    def segmind(self) -> Simulated:
        return self.vendors["segmind"]

    @property
    def gpus(self) -> list[Simulated]:
        """The simulated workers of the team's own GPUs."""
        return [vendor for name, vendor in self.vendors.items() if name.startswith("gpu-")]

    @property
    def modelslab(self) -> Simulated:
        return self.vendors["modelslab"]

    async def send(
        self, media: str = "video", *, pin: str | None = None, file: bytes | None = None, **fields: Any
    ) -> httpx.Response:
        """POST a request over HTTP: JSON, or multipart when a file is given."""
        if pin is not None:
            fields["routing"] = {"pin": pin}
        path = f"/generate/{media}"
        if file is None:
            return await self.client.post(path, json={"image": picture_base64(), **fields})
        texts = {name: json.dumps(value) if isinstance(value, dict) else str(value) for name, value in fields.items()}
        return await self.client.post(path, data=texts, files={"image": ("any.name", file)})

    async def made(self, media: str = "video", **asked: Any) -> dict[str, Any]:
        """Have something made and wait for its end, asking over HTTP."""
        response = await self.send(media, **asked)
        assert response.status_code == 202, response.text
        return await self.ended(response.json()["id"])

    async def ended(self, job_id: str) -> dict[str, Any]:
        for _ in range(60):
            response = await self.client.get(f"/jobs/{job_id}", headers={"prefer": "wait=60"})
            assert response.status_code == 200, response.text
            if response.json()["status"] in ENDED:
                return dict(response.json())
        raise AssertionError(f"not ended within an hour: {response.text}")

    async def content(self, job: Mapping[str, Any], index: int = 0) -> httpx.Response:
        """One of the files of a finished job."""
        response = await self.client.get(f"/jobs/{job['id']}/content", params={"file": index} if index else {})
        assert response.status_code == 200, response.text
        return response


def receipt(job: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A job's receipt by parameter."""
    return {line["parameter"]: line for line in job["receipt"]}


def refusals(response: httpx.Response) -> dict[str, list[str]]:
    """Why each route was refused, from the problem that says that none is left."""
    assert response.status_code == 422, response.text
    return {one["route"]: one["reasons"] for one in response.json()["refused"]}


@asynccontextmanager
async def world(
    folder: Path,
    loop: VirtualLoop,
    *,
    public: bool = True,
    sections: Mapping[str, Mapping[str, Any]] | None = None,
    http: httpx.AsyncClient | None = None,
    gpus: int = 1,
    **settings: Mapping[str, Any],
) -> AsyncIterator[World]:
    """Serve the vendors and the gateway; `sections` changes the vendors' own settings, and their names choose them.

    Without `public` the gateway has no address that a vendor could reach. `http` is its client for vendor calls.
    `local` is served by so many workers as `gpus` says.
    """
    chosen = sections if sections is not None else {"segmind": {}, "modelslab": {}, "preview": {}}
    plugins = {
        "segmind": segmind.PLUGIN,
        "modelslab": modelslab.PLUGIN,
        "preview": preview.PLUGIN,
        "local": local_gpu.PLUGIN,
        "openai_videos": openai_videos.PLUGIN,
    }
    clock = VirtualClock(loop)
    async with AsyncExitStack() as stack:
        vendors: dict[str, Simulated] = {}
        accounts = []
        for name, changes in chosen.items():
            section: dict[str, Any] = {}
            simulator_settings = plugins[name].simulator_settings
            if simulator_settings is not None:
                http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
                names = [name] if name != "local" else [f"gpu-{number}" for number in range(gpus)]
                for each in names:
                    vendors[each] = await simulate(name, clock, http, stack)
                section = dict(simulator_settings(vendors[names[0]].url))
                if name == "local":
                    section["workers"] = [vendors[each].url for each in names]
            accounts.append((plugins[name], section | dict(changes)))
        listener, url = listen()
        if public:
            settings = {**settings, "server": {"public_base_url": url, **settings.get("server", {})}}
        site = await stack.enter_async_context(serve(_site()))
        calls = http or httpx.AsyncClient(trust_env=False)
        gateway = await stack.enter_async_context(running(Setting(folder, loop, accounts, settings, http=calls)))
        await stack.enter_async_context(serve(gateway.app, listener))
        header = {"authorization": gateway.client.headers["authorization"]}
        client = httpx.AsyncClient(base_url=url, headers=header, trust_env=False, timeout=300.0)
        yield World(gateway, await stack.enter_async_context(client), vendors, site)


async def simulate(name: str, clock: VirtualClock, http: httpx.AsyncClient, stack: AsyncExitStack) -> Simulated:
    """A vendor's simulator behind a real socket, for as long as the stack stands."""
    listener, url = listen()
    tools = SimulatorTools(url, clock, Random(1), http, SWITCHES[name])
    if name == "segmind":
        simulator = build_simulator(tools)
        app, vendor = simulator.app, simulator.vendor
    else:
        kinds = {"local": SimulatedWorker, "openai_videos": VideosServer, "modelslab": ModelsLabVendor}
        vendor = kinds[name](tools)
        app = vendor.app()
    tap = Tap(app)
    await stack.enter_async_context(serve(tap, listener))
    return Simulated(url, vendor, tap)


def _site() -> Starlette:
    async def show(_request: Request) -> Response:
        return Response(picture(), media_type="image/png")

    async def move(_request: Request) -> Response:
        return RedirectResponse("/picture.png")

    return Starlette(routes=[Route("/picture.png", show), Route("/moved.png", move)])
