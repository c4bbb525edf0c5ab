"""Every endpoint that vidgate was made for, end to end over HTTP: each parameter of the vendor's page, at another value
than its default, arrives as the vendor spells it and reads back through the receipt."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import pytest
from PIL import Image

from policies.fit import decode
from providers.contract import Json
from providers.modelslab.catalogue import SVD as MODELSLAB_SVD
from providers.modelslab.simulator.orders import CHOICES, NUMBERS
from providers.segmind.catalogue import ENDPOINTS
from providers.segmind.simulator.models import MODELS
from tests.e2e.conftest import Begin
from tests.support.vendors import World, receipt

pytestmark = pytest.mark.anyio

SVD_ASKED = {
    "motion": 100,
    "frames": "25",
    "fps": 12,
    "cond_aug": 0.3,
    "seed": 999999999999999,
    "resize_method": "crop_to_16_9",
    "base64": 1,
}
SVD_SENT: dict[str, Json] = {
    "motion": 100,
    "frames": "25",
    "fps": 12,
    "cond_aug": 0.3,
    "seed": 999999999999999,
    "resize_method": "crop_to_16_9",
    "base64": False,
}
MOTIONCTRL_ASKED = {
    "motion": "Pan Left",
    "motion_bucket_id": 200,
    "motion_speed": 2.5,
    "fps": 12,
    "cond_aug": 0.3,
    "seed": 452361789,
    "decoding_t": 4,
    "maintain_aspect_ratio": False,
    "base64": True,
}
MOTIONCTRL_SENT: dict[str, Json] = {
    "motion": "Pan Left",
    "motion_bucket_id": 200,
    "motion_speed": 2.5,
    "fps": 12,
    "cond_aug": 0.3,
    "seed": 452361789,
    "decoding_t": 4,
    "maintain_aspect_ratio": True,
    "base64": False,
}
SSD_ASKED = {
    "prompt": "a lighthouse in the evening",
    "negative_prompt": "people",
    "samples": 3,
    "scheduler": "Euler a",
    "num_inference_steps": 40,
    "guidance_scale": 9.5,
    "strength": 0.5,
    "seed": 452361789,
    "base64": False,
}
MODELSLAB_ASKED = {
    "prompt": "waves roll in",
    "negative_prompt": "people",
    "enhance_prompt": "yes",
    "width": 448,
    "height": 256,
    "num_frames": 25,
    "num_inference_steps": 30,
    "min_guidance_scale": 1.5,
    "max_guidance_scale": 4.5,
    "motion_bucket_id": 20,
    "noise_aug_strength": 0.1,
    "fps": 12,
    "output_type": "gif",
    "latent_interpolation_method": "slerp",
    "clip_skip": 2,
    "seed": -1,
}
# Fields that vidgate decides itself, whatever the caller writes, because the vendors' defaults contradict each other.
CONSTANTS = {"base64", "maintain_aspect_ratio"}
# Fields of S3 that are no parameters of a picture's motion: who calls, which model, and how the result comes back.
MODELSLAB_TRANSPORT = {"key", "model_id", "init_image", "output_type", "instant_response", "temp", "webhook"}
MODELSLAB_TRANSPORT |= {"track_id"}


def every_parameter_is_exercised(slug: str, sent: Mapping[str, Any]) -> None:
    """The body has just the fields of the vendor's page, and none of them at the vendor's own default."""
    page = MODELS[slug]
    assert set(sent) == set(page)
    usual = {name for name, row in page.items() if sent[name] == row.default}
    assert usual <= CONSTANTS


def reads_back(job: Mapping[str, Any], table: Any, sent: Mapping[str, Any], constants: set[str]) -> None:
    """The receipt shows each field that was sent, and its value means what was asked."""
    lines = receipt(job)
    told = {line["vendor_name"]: line["sent"] for line in job["receipt"] if line["vendor_name"]}
    assert job["receipt"][0] == lines["image"]
    assert lines["image"]["vendor_name"] == table.image_name
    assert set(told) == set(sent) - constants
    for name, line in lines.items():
        if line["vendor_name"] is None or name == "image":
            continue
        assert line["sent"] == sent[line["vendor_name"]], name
        row = table.capability(name)
        assert decode(row, line["sent"]) == line["asked"], name
    assert {name: lines[name]["asked"] for name in job["request"]["written"]} == job["request"]["written"]


async def made_by_segmind(begin: Begin, name: str, media: str, asked: Mapping[str, Any]) -> tuple[World, Any, Any]:
    """Have one request made on a Segmind route; the world, the job and the one body that the vendor got."""
    world = await begin(sections={"segmind": {}})
    job = await world.made(media, pin=f"segmind/{name}", **asked)
    assert job["status"] == "succeeded", job
    assert job["route"] == f"segmind/{name}"
    endpoint = ENDPOINTS[f"segmind/{name}"]
    (sent,) = world.segmind.posted(f"/{endpoint.version}/{endpoint.model.slug}")
    every_parameter_is_exercised(endpoint.model.slug, sent)
    reads_back(job, endpoint.route, sent, CONSTANTS)
    await billed_once(world, job, "segmind")
    return world, job, sent


async def billed_once(world: World, job: Mapping[str, Any], vendor: str) -> None:
    """The vendor ran it once and charged it once, and that is what the team is billed and nobody else."""
    simulated = world.vendors[vendor]
    charged = simulated.charged_micros()
    assert simulated.sandbox.meter.submits_received == simulated.sandbox.meter.submits_accepted == 1
    assert charged > 0
    assert (job["bill"]["status"], job["bill"]["price_micros"], job["bill"]["cost_micros"]) == (
        "captured",
        charged,
        charged,
    )
    balances = {name: amount for name, amount in (await world.gateway.balances()).items() if amount}
    assert sorted(balances.values()) == [-charged, charged]


async def is_the_video(world: World, job: Mapping[str, Any], num_frames: int, fps: float, media_type: str) -> None:
    """The delivered file is the one that was ordered, without a deviation, and can be fetched."""
    (file,) = job["result"]["files"]
    assert (file["num_frames"], file["media_type"], file["deviations"]) == (num_frames, media_type, [])
    assert file["fps"] == pytest.approx(fps, rel=0.05)
    assert job["result"]["deviations"] == []
    content = await world.content(job)
    assert content.headers["content-type"] == media_type
    assert len(content.content) == file["size_bytes"]


async def svd_row(begin: Begin, name: str) -> None:
    """One request with every parameter of the page, on either version of the endpoint."""
    world, job, sent = await made_by_segmind(begin, name, "video", SVD_ASKED)
    given = sent.pop("image")
    assert sent == SVD_SENT
    assert given.startswith("http") if name == "svd" else base64.b64decode(given).startswith(b"\x89PNG")
    assert job["result"]["seed"] == SVD_SENT["seed"]
    await is_the_video(world, job, 25, 12, "video/mp4")
    assert base64.b64decode(job["result"]["files"][0]["data"]) == (await world.content(job)).content


async def motionctrl_row(begin: Begin, name: str) -> None:
    """A camera move with every parameter of the page, on either version of the endpoint."""
    world, job, sent = await made_by_segmind(begin, name, "video", MOTIONCTRL_ASKED)
    assert sent.pop("input_image").startswith(world.gateway.service.parts.inputs.links.base_url)
    assert sent == MOTIONCTRL_SENT
    lines = receipt(job)
    assert lines["camera_motion"]["asked"] == "pan_left"
    assert (lines["resize"]["asked"], lines["resize"]["vendor_name"]) == ("crop_16_9", None)
    assert "cropped to 16:9" in lines["image"]["reason"]
    with Image.open(io.BytesIO(world.segmind.picture())) as seen:
        assert seen.size == (64, 36)
    await is_the_video(world, job, 14, 12, "video/mp4")


async def ssd_row(begin: Begin, name: str) -> None:
    """Three pictures with every parameter of the page, on either version of the endpoint."""
    world, job, sent = await made_by_segmind(begin, name, "image", SSD_ASKED)
    assert base64.b64decode(sent.pop("image")).startswith(b"\x89PNG")
    assert sent == SSD_ASKED
    files = job["result"]["files"]
    assert [(file["media_type"], file["deviations"]) for file in files] == [("image/jpeg", [])] * 3
    contents = [(await world.content(job, index)).content for index in range(3)]
    assert all(content.startswith(b"\xff\xd8\xff") for content in contents)
    assert len(set(contents)) == 3
    assert len(contents) == len(files)


async def test_row_s0_segmind_v1_svd(begin: Begin) -> None:
    """S0: `/v1/svd` answers one call with the bytes of the video."""
    await svd_row(begin, "svd-sync")


async def test_row_s1_segmind_v1_motionctrl_svd(begin: Begin) -> None:
    """S1: `/v1/motionctrl-svd` makes a camera move in one call."""
    await motionctrl_row(begin, "motionctrl-svd-sync")


async def test_row_s1_segmind_v2_motionctrl_svd(begin: Begin) -> None:
    """S1: `/v2/motionctrl-svd` makes a camera move that is submitted and polled."""
    await motionctrl_row(begin, "motionctrl-svd")


async def test_row_s2_segmind_v2_svd(begin: Begin) -> None:
    """S2: `/v2/svd` is submitted, asked for its status, and its result is fetched."""
    await svd_row(begin, "svd")


async def test_row_s3_modelslab_img2video(begin: Begin) -> None:
    """S3: `/api/v6/video/img2video` is submitted, announces its end at the webhook, and is fetched."""
    world = await begin(sections={"modelslab": {"temporary_files": True}})
    job = await world.made("video", pin="modelslab/svd", **MODELSLAB_ASKED)
    assert job["status"] == "succeeded", job
    (sent,) = world.modelslab.posted("/api/v6/video/img2video")
    transport = {name: sent.pop(name) for name in MODELSLAB_TRANSPORT}
    assert set(sent) == {*NUMBERS, *CHOICES, "prompt", "negative_prompt"}
    assert not [name for name, row in NUMBERS.items() if sent[name] == row.default]
    expected = {name: value for name, value in MODELSLAB_ASKED.items() if name not in {"output_type", "seed"}}
    assert sent == expected
    reads_back(job, MODELSLAB_SVD, {**sent, "init_image": transport["init_image"]}, set())
    address = world.gateway.service.parts.inputs.links.base_url
    assert transport == {
        "key": transport["key"],
        "model_id": "svd",
        "init_image": transport["init_image"],
        "output_type": "mp4",
        "instant_response": True,
        "temp": True,
        "webhook": transport["webhook"],
        "track_id": None,
    }
    assert transport["init_image"].startswith(f"{address}/inputs/")
    assert transport["webhook"].startswith(f"{address}/callbacks/{job['attempts'][0]['id']}/")
    assert world.modelslab.sandbox.meter.calls["webhook"] == 1
    await billed_once(world, job, "modelslab")
    await is_the_video(world, job, 25, 12, "image/gif")


async def test_row_s4_segmind_v1_ssd_img2img(begin: Begin) -> None:
    """S4: `/v1/ssd-img2img` answers one call with the pictures."""
    await ssd_row(begin, "ssd-img2img")


async def test_row_s4_segmind_v2_ssd_img2img(begin: Begin) -> None:
    """S4: `/v2/ssd-img2img` is submitted and polled."""
    await ssd_row(begin, "ssd-img2img-async")
