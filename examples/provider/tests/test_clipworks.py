"""The example provider, from being found to a finished, billed video."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from gateway.app import build_app
from gateway.clock import SystemClock
from gateway.ids import Ids
from gateway.keys import NewKey, create_key
from gateway.money import ledger
from gateway.settings import Settings
from PIL import Image
from policies.fit import fit
from providers.contract import Accepted, InDoubt, Refused, RenderRequest, SimulatorTools, SourceImage, Tools
from providers.registry import plugins
from providers.serving import listen, serve

from vidgate_clipworks import PLUGIN
from vidgate_clipworks.adapter import REFUSALS, ClipworksSettings

pytestmark = pytest.mark.anyio
HERE = Path(__file__).parents[1]
[ROUTE] = PLUGIN.catalogue


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def picture() -> bytes:
    """A small PNG with something to zoom into."""
    out = io.BytesIO()
    Image.radial_gradient("L").resize((160, 96)).convert("RGB").save(out, "PNG")
    return out.getvalue()


@asynccontextmanager
async def vendor() -> AsyncIterator[str]:
    """The simulated vendor on loopback."""
    listener, base_url = listen()
    async with httpx.AsyncClient(trust_env=False) as http:
        tools = SimulatorTools(base_url, SystemClock(), Random(1), http, {"render_s": 0.05})
        async with serve(PLUGIN.simulator(tools), listener):
            yield base_url


@asynccontextmanager
async def gateway(base_url: str, folder: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Any]]:
    """A whole gateway whose only provider is the example, and a client with a key."""
    settings = Settings.model_validate(
        {
            "security": {"signing_secret": "a secret of the tests, long enough"},
            "store": {"url": f"sqlite:///{folder}/vidgate.db"},
            "artifacts": {"url": str(folder / "artifacts")},
            "providers": {PLUGIN.name: dict(PLUGIN.simulator_settings(base_url))},
            "money": {"price_book": str(HERE / "prices.yaml")},
            "outbound": {"allow_hosts": [base_url.removeprefix("http://")]},
        }
    )
    app = build_app(settings)
    async with app.router.lifespan_context(app):
        store, clock = app.state.service.parts.store, SystemClock()
        _, _, secret = await store.write(create_key, Ids(clock), NewKey("film", "laptop", clock.now()))
        headers = {"authorization": f"Bearer {secret}"}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers) as client:
            yield client, store


def test_the_registry_finds_it() -> None:
    """Installing the package is all: no file of vidgate names it."""
    assert plugins()[PLUGIN.name] is PLUGIN


def test_the_table_says_what_the_vendor_is_sent() -> None:
    """Names, spellings and types come from the rows; what the vendor lacks makes the route ineligible."""
    fitted = fit(ROUTE, {"camera_motion": "zoom_in", "num_frames": 9}, mode="exact", image_size=(160, 96))
    assert fitted.wire == {"zoom": "IN", "frames": "9", "rate": 7}
    assert fit(ROUTE, {"camera_motion": "pan_up"}, mode="exact", image_size=(160, 96)).refusals


async def test_a_job_runs_through_it(tmp_path: Path) -> None:
    """One request to the gateway ends in a video of the vendor's, at the vendor's price, in books that add up."""
    async with vendor() as base_url, gateway(base_url, tmp_path) as (client, store):
        body = {"image": base64.b64encode(picture()).decode(), "motion": "Zoom In", "frames": 9, "fps": 5}
        reply = await client.post("/generate/video", json=body, headers={"prefer": "wait=20"}, timeout=30)
        job = reply.json()
        assert (reply.status_code, job["status"], job["route"]) == (200, "succeeded", "clipworks/zoom"), job
        assert job["bill"]["price_micros"] == 12_500
        assert {line["parameter"]: line["sent"] for line in job["receipt"]}["camera_motion"] == "IN"
        clip = await client.get(f"/jobs/{job['id']}/content")
        assert clip.content[4:8] == b"ftyp"
        assert await store.read(ledger.check) == []


def adapter(answer: httpx.Response) -> Any:
    """The provider, with a vendor that gives one answer."""
    http = httpx.AsyncClient(transport=httpx.MockTransport(lambda _request: answer))
    settings = ClipworksSettings(api_key="k")
    return PLUGIN.build(settings, Tools(http, SystemClock(), Random(1)))


REQUEST = RenderRequest(ROUTE, "att_1", {"zoom": "IN"}, SourceImage("image/png", 160, 96, data=b"png"))


@pytest.mark.parametrize("status", [*REFUSALS, 502, 504, 418])
async def test_every_status_is_a_typed_outcome(status: int) -> None:
    """Documented refusals are refusals, a lost reply is in doubt, and the unknown is in doubt and counted."""
    outcome = await adapter(httpx.Response(status, json={"error": "no"}, headers={"retry-after": "3"})).submit(REQUEST)
    if status in REFUSALS:
        assert outcome == Refused(REFUSALS[status], "no", 3.0, status)
    else:
        assert outcome == InDoubt(f"HTTP {status}", status, unrecognised=status == 418)


async def test_an_accepted_clip_can_be_asked_about_by_any_process() -> None:
    """The token is JSON; what the vendor has forgotten is gone, and nothing is guessed from an odd answer."""
    provider = adapter(httpx.Response(202, json={"id": "clip-1", "eta": "soon"}))
    accepted = await provider.submit(REQUEST)
    assert isinstance(accepted, Accepted)
    assert (accepted.token, accepted.eta_s) == ({"id": "clip-1"}, None)
    gone = await adapter(httpx.Response(404)).check(ROUTE, accepted.token)
    odd = await adapter(httpx.Response(200, json={"state": "dreaming"})).check(ROUTE, accepted.token)
    assert gone.gone
    assert odd.unrecognised
