"""What the ModelsLab tests share: a clock moved by hand, the running simulator, recorded replies, requests."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from policies.fit import fit
from providers.contract import RenderRequest, SourceImage, Tools
from providers.modelslab import PLUGIN
from providers.modelslab.adapter import ModelsLab
from providers.simulation import Sandbox

FIXTURES = Path(__file__).parent.parent / "fixtures" / "modelslab"
SECRET = "mlk-5f2b9c-secret"


class HandClock:
    """Time that stands still until `advance`."""

    def __init__(self) -> None:
        self._now = 1_800_000_000.0
        self._moved = asyncio.Event()

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        until = self._now + seconds
        while self._now < until:
            await self._moved.wait()

    def advance(self, seconds: float) -> None:
        self._now += seconds
        self._moved.set()
        self._moved = asyncio.Event()


class Switchboard(httpx.AsyncBaseTransport):
    """Reaches applications of this process by host name; any other host cannot be connected to."""

    def __init__(self) -> None:
        self.apps: dict[str, httpx.ASGITransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        app = self.apps.get(request.url.host)
        if app is None:
            raise httpx.ConnectError("no such host", request=request)
        return await app.handle_async_request(request)


@dataclass
class Site:
    """A public web site: pictures to fetch, and the calls that came in at its webhook."""

    url: str
    calls: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)


def site_app(site: Site) -> Starlette:
    """The web site as an application."""

    async def show(request: Request) -> Response:
        return Response(picture(), media_type="image/png")

    async def move(request: Request) -> Response:
        return RedirectResponse("/picture.png")

    async def page(request: Request) -> Response:
        return Response("<html>not a picture</html>", media_type="text/html")

    async def hook(request: Request) -> Response:
        site.calls.append(await request.json())
        site.headers.append(dict(request.headers))
        return Response(status_code=204)

    return Starlette(
        routes=[
            Route("/picture.png", show),
            Route("/moved.png", move),
            Route("/page", page),
            Route("/hook/{secret}", hook, methods=["POST"]),
        ]
    )


@dataclass
class Bench:
    """A running simulator and the means to make providers for it."""

    url: str
    sandbox: Sandbox[Any]
    clock: HandClock
    http: httpx.AsyncClient
    site: Site

    def provider(self, **settings: Any) -> Any:
        section = PLUGIN.simulator_settings(self.url) | settings
        return PLUGIN.build(PLUGIN.settings.model_validate(section), Tools(self.http, self.clock, Random(7)))

    def request(self, provider: ModelsLab, *, picture_url: str = "", **changes: Any) -> RenderRequest:
        return render_request(provider, picture_url or f"{self.site.url}/picture.png", **changes)


def render_request(
    provider: ModelsLab,
    picture_url: str,
    *,
    attempt_id: str = "attempt-1",
    written: Mapping[str, Any] | None = None,
    timeout_s: float = 5.0,
    callback_url: str | None = None,
    data: bytes | None = None,
) -> RenderRequest:
    """A request as the gateway makes it: fitted to the route's table."""
    route = provider.routes[0]
    fitted = fit(route, written or {"num_frames": 4}, mode="exact", image_size=(64, 48))
    assert not fitted.refusals
    image = SourceImage("image/png", 64, 48, url=None if data else picture_url, data=data)
    return RenderRequest(route, attempt_id, fitted.wire, image, callback_url, timeout_s)


def picture() -> bytes:
    """A small picture that moves visibly."""
    image = Image.radial_gradient("L").resize((64, 48)).convert("RGB")
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


async def until(condition: Callable[[], object]) -> None:
    """Let other tasks run until something holds; bounded."""
    for _ in range(2_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it did not happen in time")


def recorded(name: str) -> dict[str, Any]:
    """A recorded reply by name."""
    loaded: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text())
    return loaded


def http_response(fixture: Mapping[str, Any]) -> httpx.Response:
    """A recorded reply as HTTP."""
    if "text" in fixture:
        return httpx.Response(fixture["status"], text=fixture["text"], headers={"content-type": "text/html"})
    return httpx.Response(fixture["status"], json=fixture["body"])
