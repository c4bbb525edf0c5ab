"""What the tests of the Segmind provider share: a virtual clock, made requests, and a bench around the simulator."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx
from PIL import Image

from policies.fit import fit
from providers.contract import (
    Accepted,
    CheckOutcome,
    Pending,
    RenderRequest,
    SentAttempt,
    SourceImage,
    SubmitOutcome,
    Tools,
)
from providers.segmind import PLUGIN
from providers.segmind.adapter import Segmind
from providers.segmind.catalogue import ENDPOINTS
from providers.segmind.simulator import SANDBOX_KEY, SegmindSwitches, Simulator
from providers.simulation import Meter
from tests.support.sent import sent_of

KEY = "SG_0123456789abcdef"
START = 1_800_000_000.0
CONSTANT = {slug: {"kind": "constant", "mean_s": 10.0} for slug in ("svd", "motionctrl-svd", "ssd-img2img")}
WRITTEN: Mapping[str, Mapping[str, Any]] = {
    "svd": {"seed": 452361789},
    "motionctrl-svd": {"camera_motion": "pan_left", "seed": 452361789},
    "ssd-img2img": {"prompt": "a fox in the snow", "seed": 452361789},
}


class EagerClock:
    """Virtual time: whoever sleeps moves it forward at once."""

    def __init__(self) -> None:
        self._now = START

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self._now += max(0.0, seconds)
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        self._now += seconds


def picture() -> bytes:
    """A small picture with structure."""
    out = io.BytesIO()
    Image.radial_gradient("L").resize((64, 48)).convert("RGB").save(out, "PNG")
    return out.getvalue()


def made_request(name: str, image: SourceImage | None = None, **written: Any) -> RenderRequest:
    """A request as the gateway makes it: the values written, fitted to the route's table."""
    route = ENDPOINTS[f"segmind/{name}"].route
    fitted = fit(route, {**WRITTEN[route.model], **written}, mode="exact", image_size=(64, 48))
    assert not fitted.refusals, fitted.refusals
    source = image or SourceImage("image/png", 64, 48, data=picture())
    return RenderRequest(route, "attempt-1", fitted.wire, source, timeout_s=10.0)


@dataclass
class Bench:
    """A running simulator, and an adapter with an account there."""

    url: str
    simulator: Simulator
    clock: EagerClock
    http: httpx.AsyncClient
    adapter: Segmind

    @property
    def meter(self) -> Meter:
        self.simulator.vendor.settle()
        return self.simulator.vendor.sandbox.meter

    def switch(self, **changes: Any) -> SegmindSwitches:
        self.simulator.vendor.sandbox.change(changes)
        return self.simulator.vendor.switches

    def spoil(self, operation: str, fault: str, count: int = 1) -> None:
        self.simulator.vendor.sandbox.faults.script(operation, fault, count)

    def provider(self, **settings: Any) -> Segmind:
        section = {**PLUGIN.simulator_settings(self.url), **settings}
        return PLUGIN.build(PLUGIN.settings.model_validate(section), Tools(self.http, self.clock, Random(7)))

    async def submit(self, name: str = "svd", **written: Any) -> SubmitOutcome:
        return await self.adapter.submit(made_request(name, **written))

    async def finish(self, name: str, accepted: SubmitOutcome) -> CheckOutcome:
        """Poll an accepted run to its end, on virtual time."""
        assert isinstance(accepted, Accepted), accepted
        route = ENDPOINTS[f"segmind/{name}"].route
        for _ in range(30):
            outcome = await self.adapter.check(route, accepted.token)
            if not isinstance(outcome, Pending):
                return outcome
            await self.clock.sleep(2.0)
        raise AssertionError("still pending")

    def sent(self, request: RenderRequest, **changes: Any) -> SentAttempt:
        return sent_of(request, **{"sent_at": self.clock.now(), "until": self.clock.now()} | changes)

    async def file(self, url: str) -> httpx.Response:
        return await self.http.get(url)


HEADERS = {"x-api-key": SANDBOX_KEY}
IMAGE = base64.b64encode(picture()).decode()
BODIES: dict[str, dict[str, Any]] = {
    "svd": {"image": IMAGE},
    "motionctrl-svd": {"input_image": IMAGE, "motion": "CW", "fps": 7, "motion_bucket_id": 127, "cond_aug": 0.02},
    "ssd-img2img": {"image": IMAGE, "prompt": "a fox", "base64": False},
}


async def post(bench: Bench, path: str, **body: Any) -> httpx.Response:
    """Call a page as a customer would."""
    return await bench.http.post(f"{bench.url}{path}", headers=HEADERS, json=body)


async def get(bench: Bench, path: str, **query: Any) -> httpx.Response:
    """Read a page as a customer would."""
    return await bench.http.get(f"{bench.url}{path}", headers=HEADERS, params=query)
