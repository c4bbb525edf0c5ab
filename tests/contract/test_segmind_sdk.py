"""The vendor's own Python client, `segmind` 1.3.0, against the simulator over real HTTP: if it is content, so are we.

The client is blocking and waits on the wall clock, so it runs in a thread and the simulator is sped up.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import httpx
import pytest
from segmind import InferenceFailed, InferenceTimeout, SegmindClient, SegmindError
from segmind.files import Files
from segmind.generations import Generations

from gateway.clock import SystemClock
from providers.contract import SimulatorTools
from providers.segmind.simulator import SANDBOX_KEY, Simulator, build_simulator
from providers.serving import serve
from providers.simulation import SandboxClock
from tests.contract.segmind.support import picture

pytestmark = pytest.mark.anyio

T = TypeVar("T")
IMAGE = base64.b64encode(picture()).decode()
# The vendor's own sample payload (S2), with a picture of ours.
SAMPLE: dict[str, Any] = {
    "image": IMAGE,
    "fps": 7,
    "motion": 127,
    "seed": 452361789,
    "cond_aug": 0.1,
    "frames": "14",
    "resize_method": "maintain_aspect_ratio",
    "base64": False,
}
POLL = {"timeout": 20.0, "interval": 0.01}


@dataclass
class World:
    """A sped-up simulator and a client with an account there."""

    url: str
    simulator: Simulator
    clock: SandboxClock
    client: SegmindClient

    async def blocking(self, call: Callable[[], T]) -> T:
        return await asyncio.to_thread(call)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    clock = SandboxClock(SystemClock())
    settings = {"speed": 1_000, "long_side_px": 128, "hang_s": 0.02}
    async with httpx.AsyncClient(trust_env=False) as http:
        simulator = build_simulator(SimulatorTools("http://simulator", clock, Random(1), http, settings))
        async with serve(simulator.app) as url:
            client = SegmindClient(api_key=SANDBOX_KEY, base_url=f"{url}/v1")
            try:
                yield World(url, simulator, clock, client)
            finally:
                client._client.close()


@pytest.fixture
def hosts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's other hosts are constants that its base URL does not move."""
    monkeypatch.setattr(Files, "STORAGE_BASE_URL", world.url)
    history = f"{world.url}/inference-request/request-history"
    monkeypatch.setattr(import_module("segmind.generations"), "REQUEST_HISTORY_URL", history)


async def test_the_sample_of_the_v2_page_runs_as_printed(world: World) -> None:
    """submit_async, a request id at once, wait, COMPLETED, and a link that anyone may fetch."""
    job = await world.blocking(lambda: world.client.submit_async("svd", **SAMPLE))
    assert job.request_id
    result = await world.blocking(lambda: job.wait(**POLL))
    assert result["status"] == "COMPLETED"
    assert result["output"].startswith(f"{world.url}/generations/")
    video = await world.blocking(lambda: httpx.get(result["output"], trust_env=False))
    assert video.content[4:8] == b"ftyp"


async def test_run_sync_returns_the_bytes_and_the_accounting_headers(world: World) -> None:
    """v1: the raw response of one call."""
    response = await world.blocking(lambda: world.client.run_sync("svd", **SAMPLE))
    assert response.content[4:8] == b"ftyp"
    assert response.headers["x-seed-value"] == "452361789"
    assert response.headers["x-cost"] == "0.165900"
    assert float(response.headers["x-remaining-credits"]) == pytest.approx(101 - 0.1659)


@pytest.mark.parametrize(
    ("slug", "body"),
    [
        (
            "motionctrl-svd",
            {"input_image": IMAGE, "motion": "Pan Left", "fps": 7, "motion_bucket_id": 127, "cond_aug": 0.02},
        ),
        ("ssd-img2img", {"image": IMAGE, "prompt": "a fox", "samples": 2, "base64": False}),
    ],
)
async def test_the_other_models_run_by_the_one_liner(world: World, slug: str, body: dict[str, Any]) -> None:
    """`run` submits and polls at its own pace of a second, so the run is over before the first look."""
    world.simulator.vendor.sandbox.change({"speed": 1_000_000})
    result = await world.blocking(lambda: world.client.run(slug, **body))
    assert result["status"] == "COMPLETED"
    assert len(result.get("images", [result.get("video")])) == body.get("samples", 1)


async def test_a_failed_run_raises_with_the_vendors_reason(world: World) -> None:
    """FAILED at HTTP 422 is the client's InferenceFailed, raised from the status page alone."""
    world.simulator.vendor.sandbox.change({"failure_rate": 1.0})
    job = await world.blocking(lambda: world.client.submit_async("svd", **SAMPLE))
    with pytest.raises(InferenceFailed) as raised:
        await world.blocking(lambda: job.wait(**POLL))
    assert raised.value.detail == world.simulator.vendor.switches.failure_text
    assert raised.value.status_body["request_id"] == job.request_id
    assert "result" not in world.simulator.vendor.sandbox.meter.calls


async def test_an_invalid_body_is_accepted_and_fails_later(world: World) -> None:
    """The client too sees HTTP 200 first (trap 14)."""
    job = await world.blocking(lambda: world.client.submit_async("motionctrl-svd", input_image=IMAGE, motion="cw"))
    with pytest.raises(InferenceFailed, match="must be one of"):
        await world.blocking(lambda: job.wait(**POLL))


async def test_a_run_that_takes_too_long_times_out_and_goes_on(world: World) -> None:
    """The client's timeout ends the wait, not the run: the id still works."""
    world.simulator.vendor.sandbox.change({"speed": 1})
    job = await world.blocking(lambda: world.client.submit_async("svd", **SAMPLE))
    with pytest.raises(InferenceTimeout) as raised:
        await world.blocking(lambda: job.wait(timeout=0.02, interval=0.005))
    assert raised.value.request_id == job.request_id
    world.clock.advance(300)
    assert (await world.blocking(job.status))["status"] == "COMPLETED"


async def test_an_expired_request_is_not_found(world: World) -> None:
    """404 an hour after it was done."""
    job = await world.blocking(lambda: world.client.submit_async("svd", **SAMPLE))
    world.clock.advance(7_200)
    with pytest.raises(SegmindError) as raised:
        await world.blocking(lambda: job.wait(**POLL))
    assert raised.value.status == 404
    assert raised.value.detail == f"Request {job.request_id} not found"


@pytest.mark.parametrize(
    ("switches", "status", "detail"),
    [
        ({"credits_micros": 0, "free_credits_micros": 0}, 406, "Insufficient credits"),
        ({"api_keys": ["SG_another"]}, 401, "API key is invalid"),
        ({"retired": ["svd"]}, 410, "retired"),
        ({"forbidden": ["svd"]}, 403, "not allowed"),
        ({"spend_cap_reached": True}, 406, "spend limit"),
    ],
)
async def test_refusals_reach_the_client_with_status_and_text(
    world: World, switches: dict[str, Any], status: int, detail: str
) -> None:
    """`SegmindError(status, detail)` from the error envelope, on both API versions."""
    world.simulator.vendor.sandbox.change(switches)
    for call in (world.client.run_sync, world.client.submit_async):
        with pytest.raises(SegmindError) as raised:
            await world.blocking(lambda call=call: call("svd", **SAMPLE))
        assert raised.value.status == status
        assert detail in str(raised.value.detail)


@pytest.mark.parametrize("fault", ["502_after_accept", "504_before_accept", "500", "429", "html_error"])
async def test_the_client_retries_nothing(world: World, fault: str) -> None:
    """One POST each, whatever comes back (trap 16)."""
    world.simulator.vendor.sandbox.faults.script("submit", fault)
    with pytest.raises(SegmindError):
        await world.blocking(lambda: world.client.submit_async("svd", **SAMPLE))
    assert world.simulator.vendor.sandbox.meter.submits_received == 1


async def test_a_dropped_connection_escapes_as_a_transport_error(world: World) -> None:
    """The client does not wrap httpx's errors."""
    world.simulator.vendor.sandbox.faults.script("submit", "reset_before_reply")
    with pytest.raises(httpx.RemoteProtocolError):
        await world.blocking(lambda: world.client.submit_async("svd", **SAMPLE))


async def test_a_client_without_a_key_is_told_that_none_arrived(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing key is no error in the constructor; the header is just left off."""
    monkeypatch.delenv("SEGMIND_API_KEY", raising=False)
    nameless = SegmindClient(base_url=f"{world.url}/v1")
    try:
        with pytest.raises(SegmindError, match="Missing Authorization"):
            await world.blocking(lambda: nameless.run_sync("svd", **SAMPLE))
    finally:
        nameless._client.close()


@pytest.mark.usefixtures("hosts")
async def test_an_uploaded_file_becomes_a_link_that_a_run_takes(world: World, tmp_path: Path) -> None:
    """files.upload sends data URLs and gets links back."""
    source = tmp_path / "still.png"
    source.write_bytes(picture())
    uploaded = await world.blocking(lambda: world.client.files.upload(source))
    (link,) = uploaded["file_urls"]
    response = await world.blocking(lambda: world.client.run_sync("svd", **(SAMPLE | {"image": link})))
    assert response.content[4:8] == b"ftyp"


@pytest.mark.usefixtures("hosts")
async def test_the_history_lists_a_run_and_finds_it_by_id(world: World) -> None:
    """generations.history and generations.get, with cost and inputs as sent."""
    assert isinstance(world.client.generations, Generations)
    response = await world.blocking(lambda: world.client.run_sync("svd", **SAMPLE))
    name = response.headers["x-request-id"]
    page = await world.blocking(lambda: world.client.generations.history(model_name="svd", status="COMPLETED"))
    (row,) = page["data"]
    assert row["request_id"] == name
    assert row["credits_deduction"] == pytest.approx(0.1659)
    assert row["request_body"] == {key: value for key, value in SAMPLE.items() if key != "image"}
    assert await world.blocking(lambda: world.client.generations.get(name)) == row
