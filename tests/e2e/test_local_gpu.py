"""The team's own GPUs through the whole gateway: a render, a full queue, a dead worker, a restart, a cancel."""

from __future__ import annotations

import asyncio
import io
from collections import deque
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
from starlette.responses import JSONResponse

from providers import local_gpu
from providers.local_gpu.simulator.switches import SANDBOX_KEY
from tests.e2e.conftest import Begin
from tests.support.clock import VirtualClock
from tests.support.gateway import Setting, fresh_database, running
from tests.support.pictures import picture_base64
from tests.support.vendors import Simulated, SocketLoop, World, receipt, refusals, simulate

pytestmark = pytest.mark.anyio

SMALL = {"num_frames": 4, "width": 64, "height": 64}
RENDER_S = 16.0  # 25 steps of 0.6 s and 1 s beside them
SECOND_USD_MICROS = 690
STATUS = {
    "protocol": 1,
    "models": ["svd"],
    "queue_depth": 0,
    "queue_max": 8,
    "running": 0,
    "replicas": 1,
    "seconds_per_step": {"svd": 0.6},
    "seconds_fixed": {"svd": 1.0},
    "draining": False,
}
BOTH: dict[str, dict[str, Any]] = {"segmind": {}, "local": {}}


async def fill(gpu: Simulated, count: int) -> list[str]:
    """Renders of somebody else at a worker: this gateway knows of them by the worker's word alone."""
    names = []
    async with httpx.AsyncClient(base_url=gpu.url, trust_env=False) as http:
        for number in range(count):
            body = {"model": "svd", "parameters": {"width": 64, "height": 64}, "image": picture_base64()}
            names.append(f"other-{number}-{len(gpu.sandbox.meter.accepted)}")
            headers = {"authorization": f"Bearer {SANDBOX_KEY}"}
            response = await http.put(f"/v1/renders/{names[-1]}", json=body, headers=headers)
            assert response.status_code == 202, response.text
    return names


async def looked(world: World) -> None:
    """Until the gateway has asked the workers how they stand."""
    await asyncio.sleep(3.0)


async def test_a_clip_is_rendered_on_our_own_gpu_and_billed_by_the_second(begin: Begin) -> None:
    """Verified, with progress on the way, and charged what its GPU seconds cost."""
    world = await begin(sections={"local": {}})
    sent = await world.send(pin="local/svd", fps=9, **SMALL)
    assert sent.status_code == 202, sent.text
    seen = []
    for _ in range(15):
        await asyncio.sleep(1.0)
        seen.append((await world.client.get(f"/jobs/{sent.json()['id']}")).json()["progress"]["fraction"])
    told = [fraction for fraction in seen if fraction is not None]
    assert told == sorted(told)
    assert 0 < told[-1] < 1
    job = await world.ended(sent.json()["id"])
    assert (job["status"], job["route"], len(job["attempts"])) == ("succeeded", "local/svd", 1)
    with av.open(io.BytesIO((await world.content(job)).content)) as container:
        stream = container.streams.video[0]
        assert (stream.frames, stream.width, stream.average_rate) == (4, 64, 9)
    assert job["bill"]["price_micros"] == RENDER_S * SECOND_USD_MICROS
    assert job["attempts"][0]["cost_source"] == "measured"
    assert (await world.gateway.balances())["provider:local"] == -RENDER_S * SECOND_USD_MICROS
    assert receipt(job)["decode_chunk_size"]["sent"] == 8


async def test_a_picture_is_made_on_our_own_gpu(begin: Begin) -> None:
    """The image route goes the same way."""
    world = await begin(sections={"local": {}})
    job = await world.made("image", pin="local/ssd-img2img", prompt="a hill", num_inference_steps=10)
    assert (job["status"], job["route"]) == ("succeeded", "local/ssd-img2img"), job
    assert (await world.content(job)).headers["content-type"] == "image/jpeg"


async def test_a_camera_move_is_refused_with_the_reason(begin: Begin) -> None:
    """Not dropped, not approximated: the plan says what the pipeline lacks."""
    world = await begin(sections={"local": {}})
    found = refusals(await world.send(camera_motion="pan_left"))
    assert "this route has no camera_motion: diffusers has no MotionCtrl" in found["local/svd"]
    nearest = await world.made(pin="local/svd", camera_motion="pan_left", fit="nearest", **SMALL)
    assert receipt(nearest)["camera_motion"]["outcome"] == "dropped"
    assert "MotionCtrl" in receipt(nearest)["camera_motion"]["reason"]


async def test_a_quote_goes_by_the_pace_that_the_workers_measured(begin: Begin) -> None:
    """Time and price follow the card: half as fast is twice as long and twice as dear, and no model is no offer."""
    world = await begin(sections={"local": {}})
    (gpu,) = world.gpus
    found = []
    for seconds_per_step in (0.6, 1.2):
        gpu.switch(seconds_per_step=seconds_per_step, seconds_fixed=0.0)
        await looked(world)
        asked = {"image": picture_base64(), **SMALL, "num_frames": 14}
        response = await world.client.post("/generate/video/quote", json=asked)
        found.append(response.json()["routes"]["local/svd"])
    assert [one["price"]["cost_micros"] for one in found] == [10_350, 20_700]
    assert [round(one["time"]["p50_s"], 1) for one in found] == [15.0, 30.0]
    gpu.switch(models=["ssd-1b"])
    await looked(world)
    assert "none of its machines has the model" in refusals(await world.send(**SMALL))["local/svd"]


@pytest.mark.parametrize(
    ("shape", "render_s"),
    [
        ({"num_frames": 14, "width": 512, "height": 320}, 5.0),
        ({"num_frames": 25, "width": 1024, "height": 576}, 32.1428),
        ({"num_frames": 14, "width": 1024, "height": 576, "max_guidance_scale": 1.0}, 10.5),
    ],
)
async def test_a_quote_is_right_for_a_small_clip_and_for_a_large_one(
    begin: Begin, shape: dict[str, Any], render_s: float
) -> None:
    """On one card whose pace was measured on 14 frames of 1024x576: as long and as dear as the render then is."""
    world = await begin(sections={"local": {}})
    (gpu,) = world.gpus
    gpu.switch(seconds_per_step=0.6, seconds_fixed=3.0, scales=True)
    await looked(world)
    asked = {"image": picture_base64(), **shape}
    quote = (await world.client.post("/generate/video/quote", json=asked)).json()["routes"]["local/svd"]
    assert quote["time"]["p50_s"] == pytest.approx(render_s, abs=0.06)
    job = await world.made(pin="local/svd", **shape)
    (render,) = gpu.vendor.cards.renders.values()
    assert render.took_s == pytest.approx(render_s, abs=1e-3)
    assert job["bill"]["price_micros"] == pytest.approx(render_s * SECOND_USD_MICROS, abs=1)
    assert quote["price"]["cost_micros"] == pytest.approx(job["bill"]["price_micros"], abs=1)


async def test_what_the_workers_say_is_on_the_metrics_page(begin: Begin) -> None:
    """Slots, work, queue and pace by route; no slots once no worker answers."""
    world = await begin(sections={"local": {}}, gpus=2)

    async def told() -> dict[str, float]:
        text = (await world.client.get("/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith("vidgate_machines_") and 'local/svd"' in line]
        return {line.split("{")[0].removeprefix("vidgate_machines_"): float(line.split()[-1]) for line in lines}

    await fill(world.gpus[0], 3)
    await looked(world)
    assert await told() == {"slots": 2, "running": 1, "waiting": 2, "step_seconds": 0.6}
    for gpu in world.gpus:
        gpu.switch(dead=True)
    await looked(world)
    assert (await told())["slots"] == 0


async def test_with_the_queue_full_the_next_job_goes_elsewhere_and_a_later_one_comes_back(begin: Begin) -> None:
    """Our own card is the cheaper one, but not while it would be late; once it has drained, it is chosen again."""
    world = await begin(sections=BOTH)
    (gpu,) = world.gpus
    gpu.switch(queue_max=2)
    await looked(world)
    first = await world.made(**SMALL, routing={"deadline_s": 60, "only": ["local/svd", "segmind/svd"]})
    assert first["route"] == "local/svd", first["plan"]
    await fill(gpu, 3)
    await looked(world)
    wish = {"deadline_s": 45, "only": ["local/svd", "segmind/svd"]}
    second = await world.made(routing=wish)
    assert (second["status"], second["route"], len(second["attempts"])) == ("succeeded", "segmind/svd", 1)
    await asyncio.sleep(4 * RENDER_S)
    third = await world.made(routing=wish)
    assert (third["status"], third["route"], len(third["attempts"])) == ("succeeded", "local/svd", 1)


async def test_a_full_queue_is_not_waited_for_while_there_is_another_route(begin: Begin) -> None:
    """Not even with an hour to go, though the card is cheaper; who wants nothing else waits for it."""
    world = await begin(sections=BOTH)
    (gpu,) = world.gpus
    gpu.switch(queue_max=2)
    await fill(gpu, 3)
    await looked(world)
    pinned = await world.send(**SMALL, pin="local/svd")
    patient = await world.made(routing={"deadline_s": 3600, "only": ["local/svd", "segmind/svd"]})
    refused = {one["route"]: one["reasons"] for one in patient["plan"]["refused"]}
    assert refused["local/svd"] == ["the queue of its machines is full (2 wait)"]
    assert (patient["status"], [one["route"] for one in patient["attempts"]]) == ("succeeded", ["segmind/svd"])
    waited = await world.ended(pinned.json()["id"])
    assert (waited["status"], [one["route"] for one in waited["attempts"]]) == ("succeeded", ["local/svd"])


async def test_a_queue_that_fills_unseen_costs_a_refusal_and_no_money(begin: Begin) -> None:
    """The worker's 429 moves the job on in time; its hint is kept, and after it the card is chosen again."""
    world = await begin(sections=BOTH)
    (gpu,) = world.gpus
    gpu.switch(queue_max=0, retry_after_s=40)
    gpu.tap.instead["/v1/status"] = deque(JSONResponse(STATUS) for _ in range(12))  # its status says that it is free
    await looked(world)
    await fill(gpu, 1)
    wish = {"deadline_s": 45, "only": ["local/svd", "segmind/svd"]}
    job = await world.made(routing=wish)
    assert (job["status"], job["route"]) == ("succeeded", "segmind/svd"), job
    assert [one["route"] for one in job["attempts"]] == ["local/svd", "segmind/svd"]
    assert job["attempts"][0]["failure"]["kind"] == "rate_limited"
    assert "provider:local" not in {name for name, amount in (await world.gateway.balances()).items() if amount}
    again = await world.made(routing={**wish, "deadline_s": 30})
    assert [one["route"] for one in again["attempts"]] == ["segmind/svd"]
    await asyncio.sleep(60)
    back = await world.made(routing=wish)
    assert [one["route"] for one in back["attempts"]] == ["local/svd"]


async def test_a_dead_workers_render_is_made_anew_on_another_and_billed_once(begin: Begin) -> None:
    """One job, one hold, one bill: what the dead worker had done costs nobody anything."""
    world = await begin(sections={"local": {"dead_after_s": 20}}, gpus=2)
    sent = await world.send(pin="local/svd", **SMALL)
    await asyncio.sleep(4)
    (holder,) = [gpu for gpu in world.gpus if gpu.sandbox.meter.accepted]
    (other,) = [gpu for gpu in world.gpus if gpu is not holder]
    holder.switch(dead=True)
    job = await world.ended(sent.json()["id"])
    assert (job["status"], job["route"]) == ("succeeded", "local/svd"), job
    lost, made = job["attempts"]
    assert (lost["failure"]["kind"], made["failure"]) == ("lost", None)
    assert "has not answered for" in lost["failure"]["detail"]
    assert len(other.sandbox.meter.accepted) == 1
    assert job["bill"]["price_micros"] == RENDER_S * SECOND_USD_MICROS
    balances = await world.gateway.balances()
    assert balances["provider:local"] == -RENDER_S * SECOND_USD_MICROS
    assert balances.get("loss", 0) == balances.get("suspense", 0) == 0


async def test_a_restarted_worker_says_so_and_the_render_is_made_anew_at_once(begin: Begin) -> None:
    """Nobody waits for a render that its worker has forgotten."""
    world = await begin(sections={"local": {}})
    sent = await world.send(pin="local/svd", **SMALL)
    await asyncio.sleep(4)
    world.gpus[0].switch(restarts=1)
    job = await world.ended(sent.json()["id"])
    assert (job["status"], len(job["attempts"])) == ("succeeded", 2)
    assert job["bill"]["price_micros"] == RENDER_S * SECOND_USD_MICROS


@pytest.mark.parametrize("fault", ["502_after_accept", "reset_before_reply", "502_before_accept", "timeout"])
async def test_a_submit_whose_reply_is_lost_renders_once(begin: Begin, fault: str) -> None:
    """The worker is asked for the attempt by our own id; only what it does not know is sent again."""
    world = await begin(sections={"local": {}})
    world.gpus[0].spoil("submit", fault)
    job = await world.made(pin="local/svd", **SMALL)
    assert (job["status"], len(job["attempts"])) == ("succeeded", 1), job
    assert len(world.gpus[0].sandbox.meter.accepted) == 1
    assert job["bill"]["price_micros"] == RENDER_S * SECOND_USD_MICROS
    assert (await world.gateway.balances()).get("suspense", 0) == 0


async def test_a_cancel_stops_the_card_and_costs_nothing(begin: Begin) -> None:
    """The worker stops at its next step and takes the next render."""
    world = await begin(sections={"local": {}})
    sent = await world.send(pin="local/svd", **SMALL)
    await asyncio.sleep(4)
    assert (await world.client.post(f"/jobs/{sent.json()['id']}/cancel")).status_code in {200, 202}
    job = await world.ended(sent.json()["id"])
    assert (job["status"], job["bill"]["price_micros"]) == ("canceled", 0)
    await asyncio.sleep(1)
    world.gpus[0].vendor.settle()
    (render,) = world.gpus[0].vendor.cards.renders.values()
    assert render.state == "canceled"
    assert render.gpu_s(render.ends_at) < RENDER_S / 2


async def test_a_restarted_gateway_goes_on_with_the_render_of_before(tmp_path: Path, template: Path) -> None:
    """Killed while the card renders; the next process asks the same worker for the same render."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SocketLoop)
    fresh_database(tmp_path, template)
    async with AsyncExitStack() as stack:
        own = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        gpu = await simulate("local", VirtualClock(loop), own, stack)
        section = {"workers": [gpu.url], "token": SANDBOX_KEY}

        def setting() -> Setting:
            return Setting(tmp_path, loop, [(local_gpu.PLUGIN, section)], http=httpx.AsyncClient(trust_env=False))

        async with running(setting()) as before:
            job_id = await before.submit(routing={"pin": "local/svd"}, **SMALL)
            await asyncio.sleep(6)
            await before.crash()
        async with running(setting()) as after:
            job = await after.ended(job_id)
        assert (job["status"], len(job["attempts"])) == ("succeeded", 1)
        assert len(gpu.sandbox.meter.accepted) == 1
        assert job["bill"]["price_micros"] == RENDER_S * SECOND_USD_MICROS
