"""Alarms about the team's own GPUs, caused at simulated workers over real sockets in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import gateway.dispatcher
import providers.serving
from providers.local_gpu.simulator.switches import SANDBOX_KEY
from tests.alarms.seen import causes, minutes, watching
from tests.support.gateway import fresh_database
from tests.support.pictures import picture_base64
from tests.support.vendors import SocketLoop, World, world

pytestmark = pytest.mark.anyio
SMALL = {"num_frames": 4, "width": 64, "height": 64}
WEDGED_S = 20.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": SocketLoop}


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are asked every twenty seconds, servers tick once a minute: half an hour of every one tells no more."""
    monkeypatch.setattr(gateway.dispatcher, "LOAD_INTERVAL_S", 20.0)
    monkeypatch.setattr(providers.serving, "TICK_S", 60.0)


@asynccontextmanager
async def cards(
    folder: Path, template: Path, *, count: int = 1
) -> AsyncIterator[tuple[World, dict[str, httpx.AsyncClient]]]:
    """A gateway with so many workers and no vendor, and a scraper's client for each worker."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SocketLoop)
    fresh_database(folder, template)
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(world(folder, loop, sections={"local": {}}, gpus=count))
        clients = {
            f"gpu-{number}": await stack.enter_async_context(httpx.AsyncClient(base_url=gpu.url, trust_env=False))
            for number, gpu in enumerate(place.gpus)
        }
        yield place, clients


async def order(worker: httpx.AsyncClient, name: str) -> None:
    """A render of somebody else at a worker."""
    body: Mapping[str, Any] = {"model": "svd", "parameters": {"width": 64, "height": 64}, "image": picture_base64()}
    headers = {"authorization": f"Bearer {SANDBOX_KEY}"}
    assert (await worker.put(f"/v1/renders/{name}", json=body, headers=headers)).status_code == 202


@causes("VidgateGpuSilent")
async def test_no_worker_answers(tmp_path: Path, template: Path) -> None:
    """One of two dead is no alarm; with both it comes ten minutes later, and it is over when one is back."""
    async with cards(tmp_path, template, count=2) as (place, _), watching(place.gateway) as seen:
        place.gpus[0].switch(dead=True)
        await minutes(place.gateway, 12)
        dead = seen.minute
        place.gpus[1].switch(dead=True)
        await minutes(place.gateway, 13)
        back = seen.minute
        place.gpus[0].switch(dead=False)
        await minutes(place.gateway, 2)
    seen.judge(tmp_path, "VidgateGpuSilent", quiet_until=dead + 9, fires_at=dead + 12, over_at=back + 2)


@causes("VidgateGpuQueueFull")
async def test_the_queue_of_a_worker_stays_full(tmp_path: Path, template: Path) -> None:
    """Two wait where two may, for half an hour, and then none; the other worker's empty queue does not hide it."""
    async with cards(tmp_path, template, count=2) as (place, clients):
        place.gpus[0].switch(queue_max=2, seconds_per_step=3600)
        async with watching(place.gateway, workers=clients) as seen:
            await minutes(place.gateway, 2)
            full = seen.minute
            for number in range(3):
                await order(clients["gpu-0"], f"other-{number}")
            await minutes(place.gateway, 22)
            drained = seen.minute
            place.gpus[0].switch(restarts=1)
            await minutes(place.gateway, 3)
    seen.judge(tmp_path, "VidgateGpuQueueFull", quiet_until=full + 15, fires_at=full + 21, over_at=drained + 3)


@causes("VidgateGpuRendersFailing")
async def test_renders_hang_or_run_out_of_memory_again_and_again(tmp_path: Path, template: Path) -> None:
    """A job that is for our cards alone is tried four times, once a kind of trouble is no alarm; the second job is."""
    async with cards(tmp_path, template) as (place, _):
        (gpu,) = place.gpus

        async def ends(kind: str) -> None:
            job = await place.made(pin="local/svd", **SMALL)
            assert [one["failure"]["kind"] for one in job["attempts"]] == [kind] * 4, job

        async with watching(place.gateway) as seen:
            gpu.switch(ending="out_of_memory")
            await ends("render_failed")
            gpu.switch(wedged=True, wedged_after_s=WEDGED_S)
            await ends("timeout")
            await minutes(place.gateway, 2)
            once = seen.minute
            gpu.switch(wedged=False)
            await ends("render_failed")
            await minutes(place.gateway, 2)
    seen.judge(tmp_path, "VidgateGpuRendersFailing", quiet_until=once, fires_at=seen.minute)
