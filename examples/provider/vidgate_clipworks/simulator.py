"""The vendor's API over real HTTP, with real clips: for `vidgate sandbox`, `vidgate dev` and the tests."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from providers.contract import SimulatorTools
from providers.rendering import camera_move, encode
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

SANDBOX_KEY = "clipworks-sandbox"
PRICE_USD = "0.0125"
MOVES = {"IN": "zoom_in", "OUT": "zoom_out"}


@dataclass
class Vendor:
    """The vendor's books: orders by id, and when each is done."""

    tools: SimulatorTools
    render_s: float
    orders: dict[str, tuple[float, Mapping[str, Any]]] = field(default_factory=dict)

    async def submit(self, request: Request) -> Response:
        """Take an order."""
        if request.headers.get("authorization") != f"Bearer {SANDBOX_KEY}":
            return JSONResponse({"error": "unknown key"}, 401)
        order = await request.json()
        if order.get("zoom") not in MOVES or not str(order.get("frames")).isdigit():
            return JSONResponse({"error": "zoom must be IN or OUT, frames a text of digits"}, 400)
        clip = f"clip-{len(self.orders) + 1}"
        self.orders[clip] = (self.tools.clock.now() + self.render_s, order)
        return JSONResponse({"id": clip, "eta": self.render_s}, 202)

    async def show(self, request: Request) -> Response:
        """Tell how an order is doing."""
        clip = request.path_params["clip"]
        if clip not in self.orders:
            return JSONResponse({"error": "no such clip"}, 404)
        if self.tools.clock.now() < self.orders[clip][0]:
            return JSONResponse({"state": "working", "progress": 0.5})
        return JSONResponse({"state": "done", "url": f"{self.tools.base_url}/files/{clip}.mp4", "price": PRICE_USD})

    async def file(self, request: Request) -> Response:
        """The clip itself, at a public address."""
        _, order = self.orders[request.path_params["clip"]]
        return Response(await asyncio.to_thread(render, order), media_type="video/mp4")


def render(order: Mapping[str, Any]) -> bytes:
    """Draw what was ordered."""
    with Image.open(io.BytesIO(base64.b64decode(order["image"]))) as opened:
        picture = opened.convert("RGB")
    frames = camera_move(picture, move=MOVES[order["zoom"]], speed=1.0, num_frames=int(order["frames"]))
    return encode(frames, fps=int(order["rate"]))


def simulator(tools: SimulatorTools) -> Starlette:
    """The application; `render_s` in the settings is how long a clip takes."""
    vendor = Vendor(tools, float(tools.settings.get("render_s", 0.2)))
    return Starlette(
        routes=[
            Route("/clips", vendor.submit, methods=["POST"]),
            Route("/clips/{clip}", vendor.show),
            Route("/files/{clip}.mp4", vendor.file),
        ]
    )
