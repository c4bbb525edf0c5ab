"""Pictures in every form to every route, and results in every form and condition from every vendor, end to end."""

from __future__ import annotations

import base64
import io
import json
from collections import deque
from collections.abc import Mapping
from typing import Any

import pytest
from PIL import Image, ImageChops
from starlette.responses import Response

from providers.rendering import encode
from tests.e2e.conftest import Begin
from tests.support.pictures import picture, picture_base64
from tests.support.vendors import World, receipt, refusals

pytestmark = pytest.mark.anyio

WANTED: Mapping[str, Mapping[str, Any]] = {
    "segmind/svd": {},
    "segmind/svd-sync": {},
    "segmind/motionctrl-svd": {"camera_motion": "zoom_in"},
    "segmind/motionctrl-svd-sync": {"camera_motion": "zoom_in"},
    "segmind/ssd-img2img": {"prompt": "a hill"},
    "segmind/ssd-img2img-async": {"prompt": "a hill"},
    "modelslab/svd": {"width": 128, "height": 96},
    "preview/camera": {"camera_motion": "zoom_in", "width": 128, "height": 96},
}
SHAPE = ("width", "height")
VIDEO = [route for route in WANTED if "ssd" not in route]
# The vendor's field, the form in which it gets the picture, and that form where vidgate has no public address.
HANDED_OVER = {
    "segmind/svd": ("image", "url", "base64"),
    "segmind/svd-sync": ("image", "base64", "base64"),
    "segmind/motionctrl-svd": ("input_image", "url", "base64"),
    "segmind/motionctrl-svd-sync": ("input_image", "url", "base64"),
    "segmind/ssd-img2img": ("image", "base64", "base64"),
    "segmind/ssd-img2img-async": ("image", "base64", "base64"),
    "modelslab/svd": ("init_image", "url", None),
    "preview/camera": ("image", "bytes", "bytes"),
}
MAGIC = {"mp4": (4, b"ftyp"), "gif": (0, b"GIF8"), "webp": (0, b"RIFF")}
MEDIA_TYPES = {"mp4": "video/mp4", "gif": "image/gif", "webp": "image/webp"}


def kind(route: str) -> str:
    return "image" if "ssd" in route else "video"


def seen_by(world: World, route: str) -> Image.Image:
    """The picture that the vendor read, decoded."""
    with Image.open(io.BytesIO(world.vendors[route.partition("/")[0]].picture())) as opened:
        return opened.convert("RGB")


def fields_of(raw: bytes) -> dict[str, Any]:
    """The fields of a JSON body; none of another one."""
    return dict(json.loads(raw)) if raw.startswith(b"{") else {}


def striped(size: tuple[int, int] = (96, 96)) -> Image.Image:
    """A picture that tells where it was cut: each row has its own grey."""
    image = Image.linear_gradient("L").resize(size)
    return image.convert("RGB")


def png(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def apart(seen: Image.Image, wanted: Image.Image) -> float:
    """The largest difference of a pixel's colour between a picture and another brought to its size."""
    difference = ImageChops.difference(seen, wanted.resize(seen.size, Image.Resampling.LANCZOS))
    return max(float(high) for _, high in difference.getextrema())


async def lost_micros(world: World) -> int:
    """What the operator has lost so far, micro-USD."""
    return (await world.gateway.balances()).get("loss", 0)


# Pictures in


@pytest.mark.parametrize("route", WANTED)
async def test_every_form_of_input_reaches_every_route(begin: Begin, route: str) -> None:
    """A link, a data URI, base64 and a file arrive as the same pixels, in the form that the vendor takes."""
    world = await begin()
    field, form, _ = HANDED_OVER[route]
    given: dict[str, dict[str, Any]] = {
        "link": {"image": f"{world.site}/picture.png"},
        "data_uri": {"image": f"data:image/png;base64,{picture_base64()}"},
        "base64": {"image": picture_base64()},
        "file": {"file": picture()},
    }
    for name, source in given.items():
        job = await world.made(kind(route), pin=route, **WANTED[route], **source)
        assert job["status"] == "succeeded", job
        line = receipt(job)["image"]
        assert (line["asked"], line["sent"], line["vendor_name"]) == (name, form, field)
        assert job["input"]["given"] == name
        if route != "preview/camera":
            with Image.open(io.BytesIO(picture())) as original:
                seen = seen_by(world, route)
                assert apart(seen, original.convert("RGB")) <= (4 if seen.size != original.size else 0)
        assert ("brought to" in line["reason"]) == ("width" in WANTED[route])


async def test_a_vendor_that_takes_only_links_is_refused_without_an_address_for_them(begin: Begin) -> None:
    """Without a public address each route says what it would take, and those that take base64 still work."""
    world = await begin(public=False)
    for route, (_, _, form) in HANDED_OVER.items():
        response = await world.send(kind(route), pin=route, **WANTED[route])
        if form is None:
            reasons = refusals(response)[route]
            assert any("only as a link" in reason and "server.public_base_url" in reason for reason in reasons)
            continue
        job = await world.ended(response.json()["id"])
        assert job["status"] == "succeeded", job
        assert receipt(job)["image"]["sent"] == form
    quote = await world.client.post("/generate/video/quote", json={"image": picture_base64()})
    lines = {name: shown["receipt"][0] for name, shown in quote.json()["routes"].items()}
    assert (lines["segmind/svd"]["parameter"], lines["segmind/svd"]["sent"]) == ("image", "base64")
    assert lines["modelslab/svd"]["parameter"] != "image"


async def test_a_dedicated_server_takes_the_picture_itself_and_guidance_from_zero(begin: Begin) -> None:
    """The enterprise endpoint of the vendor that takes only links needs none."""
    world = await begin(public=False, sections={"modelslab": {"enterprise": True}})
    job = await world.made(pin="modelslab/svd", min_guidance_scale=0, **WANTED["modelslab/svd"])
    assert job["status"] == "succeeded", job
    (sent,) = world.modelslab.posted("/api/v1/enterprise/video/img2video")
    assert base64.b64decode(sent["init_image"]).startswith(b"\x89PNG")
    assert sent["min_guidance_scale"] == 0
    assert receipt(job)["image"]["sent"] == "base64"


@pytest.mark.parametrize("route", ["segmind/svd", "segmind/motionctrl-svd", "modelslab/svd"])
async def test_an_upload_to_the_vendor_stands_in_for_a_public_address(begin: Begin, route: str) -> None:
    """Where uploads are configured, the vendor's own storage holds the picture and the vendor reads it from there."""
    world = await begin(public=False, sections={"segmind": {"upload": True}, "modelslab": {"upload": True}})
    job = await world.made(pin=route, **WANTED[route], file=picture())
    assert job["status"] == "succeeded", job
    vendor, field = world.vendors[job["route"].partition("/")[0]], HANDED_OVER[route][0]
    sent = next(body for _, path, raw in vendor.tap.calls if (body := fields_of(raw).get(field)))
    assert sent.startswith((f"{vendor.url}/assets/", f"{vendor.url}/uploads/"))
    assert receipt(job)["image"]["sent"] == "url"


async def test_trap_03_an_input_behind_a_redirect_is_followed_here_and_not_by_the_vendor(begin: Begin) -> None:
    """A vendor that refuses redirects gets the picture itself from vidgate's own address."""
    world = await begin()
    job = await world.made(pin="modelslab/svd", image=f"{world.site}/moved.png")
    assert job["status"] == "succeeded", job
    (sent,) = world.modelslab.posted("/api/v6/video/img2video")
    assert sent["init_image"].startswith(f"{world.gateway.service.parts.inputs.links.base_url}/inputs/")


@pytest.mark.parametrize("route", VIDEO)
async def test_resize_means_the_same_on_every_route(begin: Begin, route: str) -> None:
    """crop_16_9 cuts the same middle out of the picture, whether vidgate or the vendor does it; keep_aspect nothing."""
    world = await begin()
    image = striped()
    wanted = {name: value for name, value in WANTED[route].items() if name not in SHAPE}
    cropped = await world.made(pin=route, resize="crop_16_9", image=png(image), **wanted)
    assert cropped["status"] == "succeeded", cropped
    if route.startswith("segmind/svd"):
        assert receipt(cropped)["resize"]["sent"] == "crop_to_16_9"
    elif route != "preview/camera":
        middle = image.crop((0, 21, 96, 75))
        seen = seen_by(world, route)
        assert seen.size == ((96, 54) if "motionctrl" in route else (512, 288))
        assert apart(seen, middle) <= 4
        assert "cropped to 16:9" in receipt(cropped)["image"]["reason"]
    if "motionctrl" not in route:  # whose simulator makes sides of 64 pixels' multiples
        file = cropped["result"]["files"][0]
        assert file["width"] / file["height"] == pytest.approx(16 / 9, rel=0.03)
    kept = await world.made(pin=route, resize="keep_aspect", image=png(image), **wanted)
    assert "cropped" not in receipt(kept)["image"]["reason"]
    if route != "preview/camera":
        seen = seen_by(world, route)
        assert seen.width == seen.height


async def test_trap_23_a_width_and_height_are_made_and_delivered(begin: Begin) -> None:
    """The picture goes out in the size that was asked for, cut to cover it, and the video comes back in it."""
    world = await begin(sections={"modelslab": {}})
    job = await world.made(pin="modelslab/svd", width=384, height=256, image=png(striped()))
    (sent,) = world.modelslab.posted("/api/v6/video/img2video")
    assert (sent["width"], sent["height"]) == (384, 256)
    assert seen_by(world, "modelslab/svd").size == (384, 256)
    assert "brought to 384x256" in receipt(job)["image"]["reason"]
    (file,) = job["result"]["files"]
    assert (file["width"], file["height"], file["deviations"]) == (384, 256, [])
    refused = await world.send(pin="modelslab/svd", width=1024, height=576)
    assert any("at most 512x512" in reason for reason in refusals(refused)["modelslab/svd"])


# Results out


@pytest.mark.parametrize("route", VIDEO)
async def test_every_video_route_delivers_every_format_by_link_and_inline(begin: Begin, route: str) -> None:
    """The asked container comes back from each route, as a file to fetch and as base64 in the reply."""
    world = await begin()
    for output_format, (start, magic) in MAGIC.items():
        job = await world.made(pin=route, output_format=output_format, output="inline", fps=10, **WANTED[route])
        assert job["status"] == "succeeded", job
        (file,) = job["result"]["files"]
        content = (await world.content(job)).content
        assert content[start : start + 4] == magic
        assert base64.b64decode(file["data"]) == content
        assert (file["media_type"], file["num_frames"], file["deviations"]) == (MEDIA_TYPES[output_format], 14, [])


@pytest.mark.parametrize("form", ["bytes", "json_url", "json_base64"])
async def test_a_v1_result_is_found_in_every_form(begin: Begin, form: str) -> None:
    """Raw bytes, a link and base64 in JSON are the same video at the same price, with its seed."""
    world = await begin(sections={"segmind": {}})
    world.segmind.switch(v1_reply=form)
    job = await world.made(pin="segmind/svd-sync", seed=11)
    assert (job["status"], job["result"]["seed"], job["bill"]["cost_micros"]) == ("succeeded", 11, 165_900)
    assert [file["deviations"] for file in job["result"]["files"]] == [[]]


@pytest.mark.parametrize("form", ["json_url", "json_base64"])
async def test_a_v1_list_of_pictures_is_found_in_every_form(begin: Begin, form: str) -> None:
    """Several samples come as a list of links or of base64, and each is a file of its own."""
    world = await begin(sections={"segmind": {}})
    world.segmind.switch(v1_reply=form)
    job = await world.made("image", pin="segmind/ssd-img2img", prompt="a hill", samples=2, output="inline")
    contents = [(await world.content(job, index)).content for index in range(2)]
    assert len(set(contents)) == 2
    assert [base64.b64decode(file["data"]) for file in job["result"]["files"]] == contents
    assert (await world.client.get(f"/jobs/{job['id']}/content?file=2")).status_code == 404


async def test_every_picture_of_a_lost_v1_reply_is_delivered(begin: Begin) -> None:
    """The reply for three pictures is lost: all three are found in the history, and paid for once."""
    world = await begin(sections={"segmind": {}})
    world.segmind.spoil("submit", "reset_before_reply")
    job = await world.made("image", pin="segmind/ssd-img2img", prompt="a hill", samples=3)
    assert (job["status"], len(job["result"]["files"])) == ("succeeded", 3), job
    assert world.segmind.sandbox.meter.submits_accepted == 1
    assert job["bill"]["cost_micros"] == world.segmind.charged_micros() == 3_310


async def test_an_empty_v1_result_is_looked_up_and_not_paid_for_twice(begin: Begin) -> None:
    """A 200 with an empty string was billed: the render is found in the vendor's history instead of being repeated."""
    world = await begin(sections={"segmind": {}})
    world.segmind.switch(v1_reply="json_empty")
    job = await world.made(pin="segmind/svd-sync")
    assert job["status"] == "succeeded", job
    assert world.segmind.sandbox.meter.submits_received == 1
    assert job["bill"]["price_micros"] == world.segmind.charged_micros() == 165_900
    assert await lost_micros(world) == 0


@pytest.mark.parametrize("content_type", ["image/jpeg", "text/html", "application/json", "video/webm"])
async def test_trap_09_the_bytes_are_believed_and_not_their_content_type(begin: Begin, content_type: str) -> None:
    """Whatever the vendor calls it, an MP4 is delivered as an MP4."""
    world = await begin(sections={"segmind": {}})
    world.segmind.switch(v1_content_type=content_type)
    job = await world.made(pin="segmind/svd-sync")
    assert [file["media_type"] for file in job["result"]["files"]] == ["video/mp4"]


@pytest.mark.parametrize("container", ["gif", "webp"])
@pytest.mark.parametrize("route", ["segmind/svd", "segmind/svd-sync"])
async def test_trap_22_another_container_than_asked_is_converted_and_noted(
    begin: Begin, route: str, container: str
) -> None:
    """A GIF or WebP delivered for an MP4 becomes one, with all its frames, and the result says what it was made of."""
    world = await begin(sections={"segmind": {}})
    world.segmind.switch(container=container)
    job = await world.made(pin=route, fps=10)
    (file,) = job["result"]["files"]
    assert (file["media_type"], file["num_frames"]) == ("video/mp4", 14)
    assert file["fps"] == pytest.approx(10, rel=0.01)
    assert file["deviations"] == [f"converted from the vendor's {container}, which may have cost quality"]
    as_it_is = await world.made(pin=route, fps=10, output_format=container)
    assert as_it_is["result"]["files"][0]["deviations"] == []


async def test_a_png_and_a_webp_picture_are_delivered_as_they_are(begin: Begin) -> None:
    """A picture route's files keep the container that the vendor chose, whatever they are called."""
    world = await begin(sections={"segmind": {}})
    for name in ("PNG", "WEBP", "JPEG"):
        reply = Response(picture(name), media_type="video/mp4", headers={"x-cost": "0.00331"})
        world.segmind.tap.instead["/v1/ssd-img2img"] = deque([reply])
        job = await world.made("image", pin="segmind/ssd-img2img", prompt="a hill")
        assert job["status"] == "succeeded", job
        assert job["result"]["files"][0]["media_type"] == f"image/{name.lower()}"
        assert job["bill"]["cost_micros"] == 3_310


PRICES = {"segmind/svd": 165_900, "modelslab/svd": 200_000}
BROKEN_ONCE = ("html_at_200", "truncated")
INTERRUPTIONS = (*BROKEN_ONCE, "reset_mid_body", "reset_before_reply", "html_error", "502_after_accept", "slow_drip")


@pytest.mark.parametrize("fault", ["html_at_200", "truncated"])
@pytest.mark.parametrize("route", PRICES)
async def test_a_result_that_is_no_video_is_the_operators_loss(begin: Begin, route: str, fault: str) -> None:
    """A page or half a file, also at the second look, is the operator's loss; the team pays for the good render."""
    world = await begin()
    vendor, price_micros = world.vendors[route.partition("/")[0]], PRICES[route]
    vendor.spoil("file", fault, count=2)
    job = await world.made(pin=route, **WANTED[route])
    assert job["status"] == "succeeded", job
    assert [one["failure"]["kind"] for one in job["attempts"][:-1]] == ["bad_output"]
    assert job["bill"]["price_micros"] == await lost_micros(world) == price_micros
    assert vendor.charged_micros() == 2 * price_micros


@pytest.mark.parametrize("fault", INTERRUPTIONS)
@pytest.mark.parametrize("route", PRICES)
async def test_a_result_that_is_interrupted_is_fetched_again_at_no_cost(begin: Begin, route: str, fault: str) -> None:
    """A file that breaks off, drips, is broken or not there once is asked for again: one render, one bill, no loss."""
    world = await begin()
    vendor = world.vendors[route.partition("/")[0]]
    vendor.spoil("file", fault)
    job = await world.made(pin=route, **WANTED[route])
    assert (job["status"], len(job["attempts"])) == ("succeeded", 1)
    assert job["bill"]["price_micros"] == vendor.charged_micros() == PRICES[route]
    assert await lost_micros(world) == 0


@pytest.mark.parametrize("fault", ["reset_mid_body", "slow_drip", "html_at_200"])
async def test_a_v1_reply_that_breaks_off_is_not_rendered_twice(begin: Begin, fault: str) -> None:
    """A video lost in the middle of its reply was rendered: it is fetched from where the vendor's history has it."""
    world = await begin(sections={"segmind": {}})
    world.segmind.spoil("submit", fault)
    job = await world.made(pin="segmind/svd-sync")
    assert (job["status"], len(job["attempts"]), job["attempts"][0]["submits"]) == ("succeeded", 1, 1)
    assert job["bill"]["price_micros"] == world.segmind.charged_micros()
    assert world.segmind.sandbox.meter.submits_received == 1


async def test_trap_22_a_gif_where_a_video_was_asked_stays_usable(begin: Begin) -> None:
    """A vendor whose reply holds an animation where a video was asked for costs nobody a second render."""
    world = await begin(sections={"modelslab": {}})
    still = Image.open(io.BytesIO(picture()))
    frames = (still.convert("RGB").rotate(3 * number) for number in range(14))
    world.modelslab.tap.instead["/video_generations/"] = deque([Response(encode(frames, fps=7, container="gif"))])
    job = await world.made(pin="modelslab/svd", fps=10)
    assert job["status"] == "succeeded", job
    (file,) = job["result"]["files"]
    assert file["media_type"] == "video/mp4"
    assert any("fps" in text for text in file["deviations"])
    assert any("pixels" in text for text in file["deviations"])
    assert world.modelslab.sandbox.meter.submits_accepted == 1


async def test_trap_18_every_spelling_of_the_polled_vendor_is_read(begin: Begin) -> None:
    """Text for lists, floats for integers, `messege` and errors inside a 200 change nothing of the result."""
    world = await begin(sections={"modelslab": {}})
    odd = {"empty_output": "text", "eta_form": "float", "id_form": "text", "message_field": "messege", "errors": "body"}
    world.modelslab.switch(**odd, fetch_meta=False, webhook="never")
    world.modelslab.spoil("fetch", "429")
    job = await world.made(pin="modelslab/svd", width=128, height=96)
    assert (job["status"], len(job["attempts"])) == ("succeeded", 1)
    assert job["bill"]["cost_micros"] == world.modelslab.charged_micros() == 200_000


async def test_a_polled_vendor_may_answer_with_the_result_at_once(begin: Begin) -> None:
    """A submit that is answered with the finished video needs no poll and is billed the same."""
    world = await begin(sections={"modelslab": {}})
    world.modelslab.switch(first_reply="success", webhook="never")
    job = await world.made(pin="modelslab/svd", width=128, height=96)
    assert (job["status"], len(job["attempts"]), world.modelslab.polls()) == ("succeeded", 1, 0)
    assert job["bill"]["cost_micros"] == world.modelslab.charged_micros() == 200_000


async def test_trap_13_a_result_whose_record_has_expired_is_found_by_its_history(begin: Begin) -> None:
    """The vendor forgot the job before anybody asked: it is no unknown job, and it is delivered and billed once."""
    world = await begin(sections={"segmind": {}})
    world.segmind.switch(record_ttl_s=0.001)
    job = await world.made(pin="segmind/svd")
    assert (job["status"], len(job["attempts"])) == ("succeeded", 1)
    assert job["bill"]["price_micros"] == world.segmind.charged_micros() == 165_900
    assert world.segmind.sandbox.meter.submits_received == 1
