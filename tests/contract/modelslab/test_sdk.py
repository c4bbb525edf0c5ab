"""The vendor's own Python clients, as published, against the simulator over real HTTP.

If they are content with it, the simulator is believable. They block, so each call runs in a thread.
"""

from __future__ import annotations

import asyncio
import base64
import json
import warnings
from typing import Any

import pytest

with warnings.catch_warnings():
    # The published clients are written against an older pydantic.
    warnings.simplefilter("ignore")
    from modelslab import ModelsLab
    from modelslab_py.core.apis.video import Video
    from modelslab_py.core.client import Client
    from modelslab_py.schemas.video import Image2Video

from providers.modelslab.simulator.switches import SANDBOX_KEY
from tests.contract.modelslab.support import Bench, picture, until

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

SVD_FIELDS = {
    "num_frames": 25,
    "num_inference_steps": 20,
    "min_guidance_scale": 1,
    "max_guidance_scale": 3,
    "motion_bucket_id": 20,
    "noise_aug_strength": 0.02,
}


def video(live: Bench, *, key: str = SANDBOX_KEY, enterprise: bool = False) -> Video:
    """The newer client, pointed at the simulator the one way it allows: before `Video` is made."""
    client = Client(key, fetch_retry=500, fetch_timeout=0)
    client.base_url = f"{live.url}/api/"
    return Video(client, enterprise=enterprise)


def order(live: Bench, **changes: Any) -> Image2Video:
    """What the newer client sends; its own defaults are over the vendor's limits and are replaced."""
    fields: dict[str, Any] = {
        "model_id": "svd",
        "prompt": "",
        "init_image": f"{live.site.url}/picture.png",
        "fps": 7,
        **SVD_FIELDS,
    }
    return Image2Video(**(fields | changes))


async def finish_after_two_fetches(live: Bench) -> None:
    await until(lambda: live.sandbox.meter.calls.get("fetch", 0) >= 2)
    live.clock.advance(10)


@pytest.mark.parametrize("enterprise", [False, True])
async def test_modelslab_py_submits_and_fetches_a_clip(live, enterprise):
    """The client's own loop asks until success, on the public and the dedicated paths."""
    live.sandbox.change({"first_reply": "processing"})
    client = video(live, enterprise=enterprise)
    submitted = await asyncio.to_thread(client.image_to_video, order(live, webhook=None, track_id="abc"))
    assert submitted["status"] == "processing"
    done, _ = await asyncio.gather(
        asyncio.to_thread(client.fetch, str(submitted["id"])), finish_after_two_fetches(live)
    )
    assert done["status"] == "success"
    assert done["meta"]["motion_bucket_id"] == 20
    clip = await live.http.get(done["output"][0])
    assert clip.status_code == 200
    assert clip.content[:4] == b"GIF8" or clip.content[4:8] == b"ftyp"
    assert live.sandbox.meter.submits_accepted == 1


async def test_modelslab_py_works_asynchronously(live):
    """The aiohttp half of the client is as content."""
    live.sandbox.change({"latency": {"mean_s": 0}})
    client = video(live)
    try:
        submitted = await client.async_image_to_video(order(live, num_frames=2))
        done = await client.async_fetch(str(submitted["id"]))
    finally:
        await client.client.close()
    assert (submitted["status"], done["status"]) == ("success", "success")


async def test_modelslab_py_with_its_own_defaults_is_refused(live):
    """Thirty frames and fifty steps are the client's defaults; the vendor's own limit is 25 frames."""
    fields = {"model_id": "svd", "prompt": "", "init_image": f"{live.site.url}/picture.png"}
    with pytest.raises(Exception, match="num_frames must be between 1 and 25"):
        await asyncio.to_thread(video(live).image_to_video, Image2Video(**fields))
    assert live.sandbox.meter.submits_accepted == 0


@pytest.mark.parametrize("errors", ["http", "body"])
async def test_modelslab_py_meets_a_wrong_key_in_both_forms(live, errors):
    """With HTTP codes the client raises; inside a 200 it hands the error body on."""
    live.sandbox.change({"errors": errors})
    client = video(live, key="not-the-key")
    if errors == "http":
        with pytest.raises(Exception, match="401"):
            await asyncio.to_thread(client.image_to_video, order(live))
    else:
        assert await asyncio.to_thread(client.image_to_video, order(live)) == {
            "status": "error",
            "message": "Invalid API key",
        }


async def test_modelslab_submits_and_fetches_a_clip(live):
    """The older client returns the raw text of each reply."""
    live.sandbox.change({"first_reply": "processing"})
    group = ModelsLab().ai_video
    group.base_url = f"{live.url}/api/v6/video"
    text = await asyncio.to_thread(
        group.img2video, SANDBOX_KEY, "svd", f"{live.site.url}/picture.png", 512, 512, **SVD_FIELDS
    )
    submitted = json.loads(text)
    assert submitted["status"] == "processing"
    assert (
        json.loads(await asyncio.to_thread(group.fetch_queued, SANDBOX_KEY, submitted["id"]))["status"] == "processing"
    )
    live.clock.advance(10)
    done = json.loads(await asyncio.to_thread(group.fetch_queued, SANDBOX_KEY, submitted["id"]))
    assert done["status"] == "success"
    assert done["output"] == submitted["future_links"]


async def test_modelslab_sends_bytes_to_the_enterprise_server(live):
    """The older client's enterprise group hands over base64."""
    live.sandbox.change({"latency": {"mean_s": 0}})
    group = ModelsLab().ep_video
    group.base_url = f"{live.url}/api/v1/enterprise/video"
    text = await asyncio.to_thread(
        group.img2video,
        SANDBOX_KEY,
        "svd",
        base64.b64encode(picture()).decode(),
        512,
        512,
        base64=True,
        **SVD_FIELDS,
    )
    assert json.loads(text)["status"] == "success"


async def test_modelslab_reads_a_refusal_whatever_its_code(live):
    """The older client ignores the HTTP code: the body must say it all."""
    group = ModelsLab().ai_video
    group.base_url = f"{live.url}/api/v6/video"
    text = await asyncio.to_thread(group.fetch_queued, "wrong-key", 146)
    assert json.loads(text) == {"status": "error", "message": "Invalid API key"}
