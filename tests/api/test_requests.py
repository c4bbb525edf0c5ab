"""The ways to ask: JSON and forms, pictures in four forms, other names and spellings, and what the reply says."""

from __future__ import annotations

import base64
import io
from typing import Any

import httpx
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from structlog.testing import capture_logs

from providers import modelslab, preview, segmind
from providers.serving import serve
from tests.support.fixtures import Start
from tests.support.gateway import NOTHING, Gateway
from tests.support.pictures import picture, picture_base64
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio

SENT = {"alpha/one": {"motion": 100, "frames": 25, "fps": 12, "seed": 7}}


async def wire_of(alpha: Scripted, gateway: Gateway, job_id: str) -> dict[str, Any]:
    await gateway.ended(job_id)
    return dict(alpha.asked[-1].parameters)


@pytest.mark.parametrize(
    "fields",
    [
        {"motion_bucket_id": 100, "num_frames": 25, "fps": 12, "seed": 7},
        {"motion": 100, "frames": 25, "fps": 12, "seed": 7},
        {"motion": "100", "frames": "25", "fps": "12", "seed": "7"},
        {"motion": 100.0, "frames": 25, "fps": 12.0, "seed": 7, "prompt": None},
        {"motion": 100, "motion_bucket_id": 100, "frames": 25, "num_frames": "25", "fps": 12, "seed": 7},
    ],
)
@pytest.mark.parametrize("form", ["json", "multipart"])
async def test_every_name_and_spelling_comes_to_the_same_order(start: Start, fields: dict[str, Any], form: str) -> None:
    """Aliases, digits as text and whole floats are one request, in JSON as in a form."""
    alpha = Scripted()
    gateway = await start(alpha)
    if form == "json":
        response = await gateway.post(**fields)
    else:
        texts = {
            name: str(value) for name, value in fields.items() if value is not None and not isinstance(value, float)
        }
        texts |= {name: f"{value:g}" for name, value in fields.items() if isinstance(value, float)}
        files = {"image": ("still.png", picture(), "image/png")}
        response = await gateway.client.post("/generate/video", files=files, data=texts)
    assert response.status_code == 202, response.text
    assert response.json()["request"]["written"] == {"motion_bucket_id": 100, "num_frames": 25, "fps": 12, "seed": 7}
    assert await wire_of(alpha, gateway, response.json()["id"]) == SENT["alpha/one"]


@pytest.mark.parametrize("name", ["image", "input_image", "init_image"])
@pytest.mark.parametrize("form", ["base64", "url_safe", "data_uri", "wrapped", "file"])
async def test_a_picture_is_taken_in_every_form_and_under_every_name(start: Start, name: str, form: str) -> None:
    """The vendor gets the same clean picture whichever way it came."""
    alpha = Scripted()
    gateway = await start(alpha)
    data = picture()
    given = {
        "base64": base64.b64encode(data).decode(),
        "url_safe": base64.urlsafe_b64encode(data).decode().rstrip("="),
        "data_uri": "data:image/gif;base64," + base64.b64encode(data).decode(),
        "wrapped": "\n".join(base64.encodebytes(data).decode().splitlines()),
    }
    if form == "file":
        response = await gateway.client.post("/generate/video", files={name: ("a.bin", data, "text/plain")})
    else:
        response = await gateway.client.post("/generate/video", json={name: given[form]})
    assert response.status_code == 202, response.text
    await gateway.ended(response.json()["id"])
    source = alpha.asked[0].image
    assert source.data is not None
    assert Image.open(io.BytesIO(source.data)).size == (64, 48)
    assert (response.json()["input"]["width"], response.json()["input"]["height"]) == (64, 48)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
async def test_every_kind_of_picture_is_told_by_its_bytes(start: Start, kind: str) -> None:
    """The name and the declared type of a file are not believed."""
    gateway = await start(Scripted())
    files = {"image": ("report.pdf", picture(kind), "application/pdf")}
    response = await gateway.client.post("/generate/video", files=files)
    assert response.status_code == 202, response.text
    assert (await gateway.ended(response.json()["id"]))["status"] == "succeeded"


async def test_a_link_to_a_picture_is_fetched_once_and_never_passed_on(start: Start) -> None:
    """The picture is read under the guard, redirects included; the vendor sees bytes, not the caller's address."""
    calls: list[str] = []

    async def show(request: Request) -> Response:
        calls.append(request.url.path)
        return Response(picture(), media_type="image/png")

    async def move(request: Request) -> Response:
        calls.append(request.url.path)
        return RedirectResponse("/still.png")

    async with serve(Starlette(routes=[Route("/still.png", show), Route("/moved.png", move)])) as url:
        alpha = Scripted()
        gateway = await start(alpha)
        job = await gateway.made(image=f"{url}/moved.png")
    assert (job["status"], calls) == ("succeeded", ["/moved.png", "/still.png"])
    assert alpha.asked[0].image.url is None


async def test_a_link_that_does_not_answer_leaves_nothing(start: Start) -> None:
    """A broken link is the caller's fault, told as such; whether it is broken or leads inside only the log says."""
    gateway = await start(Scripted())
    told = []
    with capture_logs() as logged:
        for link in ("http://127.0.0.1:9/still.png", "https://10.0.0.5/still.png", "https://169.254.169.254/latest"):
            response = await gateway.post(image=link)
            assert (response.status_code, response.json()["reason"]) == (422, "link")
            told.append(response.json())
    assert told[0] == told[1] == told[2]
    assert told[0]["link"] == "unreachable"
    failed = [(one["reason"], one["detail"]) for one in logged if one["event"] == "picture.not_fetched"]
    assert [reason for reason, _ in failed] == ["unreachable", "forbidden", "forbidden"]
    assert failed[1][1] == "10.0.0.5 is at a private or reserved address"
    assert await gateway.counts() == NOTHING


async def test_routing_and_metadata_come_as_json_text_in_a_form(start: Start) -> None:
    """A form can say all that JSON can."""
    gateway = await start(Scripted(), Scripted("beta", price_micros=150_000))
    data = {"routing": '{"pin": "beta/one"}', "metadata": '{"scene": "12"}', "fit": "nearest"}
    response = await gateway.client.post("/generate/video", files={"image": ("a.png", picture())}, data=data)
    job = await gateway.ended(response.json()["id"])
    assert (job["route"], job["request"]["metadata"], job["request"]["fit"]) == ("beta/one", {"scene": "12"}, "nearest")


async def test_the_answer_to_an_admitted_job_is_202_with_its_address_and_what_is_held(start: Start) -> None:
    """Everything a client needs to go on, in body and headers."""
    gateway = await start(Scripted())
    response = await gateway.post()
    body = response.json()
    assert (response.status_code, response.headers["location"]) == (202, f"/jobs/{body['id']}")
    assert (body["status"], body["bill"]["status"], body["bill"]["held_micros"]) == ("queued", "held", 100_000)
    assert body["links"] == {"self": f"/jobs/{body['id']}", "content": None, "cancel": f"/jobs/{body['id']}/cancel"}
    assert response.headers["x-vidgate-job-id"] == body["id"]
    assert "idempotent-replayed" not in response.headers


async def test_replies_about_a_finished_job_carry_its_route_cost_and_attempts(start: Start) -> None:
    """The facts stand in the headers too, money as exact dollars."""
    gateway = await start(Scripted())
    job = await gateway.made()
    headers = (await gateway.client.get(f"/jobs/{job['id']}")).headers
    assert headers["x-vidgate-route"] == "alpha/one"
    assert (headers["x-vidgate-cost-usd"], headers["x-vidgate-attempts"]) == ("0.100000", "1")


async def test_nearest_moves_what_a_route_cannot_do_and_says_so(start: Start) -> None:
    """The receipt names what was asked, what was sent and why."""
    vendors = [(segmind.PLUGIN, {"api_key": "SG_0123456789abcdef", "routes": ("segmind/svd",)})]
    gateway = await start(*vendors)
    response = await gateway.post("/generate/video/quote", num_frames=17, fit="nearest")
    lines = {line["parameter"]: line for line in response.json()["routes"]["segmind/svd"]["receipt"]}
    assert (lines["num_frames"]["asked"], lines["num_frames"]["sent"]) == (17, "14")
    assert lines["num_frames"]["outcome"] == "moved"
    assert "14 or 25" in lines["num_frames"]["reason"]


async def test_a_quote_ranks_every_route_and_holds_nothing(start: Start) -> None:
    """Price, times and reasons for all; no job, no hold, no key, and no picture kept."""
    gateway = await start(Scripted(), Scripted("beta", price_micros=150_000))
    response = await gateway.post("/generate/video/quote", headers={"idempotency-key": "k"}, num_frames=25)
    body = response.json()
    assert [one["route"] for one in body["ranked"]] == ["alpha/one", "beta/one"]
    assert (body["routes"]["beta/one"]["price_micros"], body["hold_micros"]) == (150_000, 150_000)
    assert {line["parameter"] for line in body["routes"]["alpha/one"]["receipt"]} >= {"num_frames", "fps", "seed"}
    assert await gateway.counts() == NOTHING


async def test_the_list_of_routes_shows_what_each_takes_and_how_it_stands(start: Start) -> None:
    """One entry a route, with capabilities, price and the router's live view."""
    vendors = [(segmind.PLUGIN, {"api_key": "SG_0123456789abcdef"}), (preview.PLUGIN, {})]
    gateway = await start(*vendors, (modelslab.PLUGIN, {"api_key": "mlk-0123456789"}))
    routes = {route["name"]: route for route in (await gateway.client.get("/routes")).json()["routes"]}
    assert {"segmind/svd", "segmind/motionctrl-svd", "modelslab/svd", "preview/camera"} <= set(routes)
    svd = routes["segmind/svd"]
    assert svd["price"]["usual_micros"] == 165_900
    assert {"parameter": "num_frames", "vendor_name": "frames"}.items() <= {
        key: value for row in svd["capabilities"] if row["parameter"] == "num_frames" for key, value in row.items()
    }.items()
    assert "SG_0123456789abcdef" not in (await gateway.client.get("/routes")).text


async def test_a_job_never_shows_the_picture_or_the_vendors_secrets(start: Start) -> None:
    """No base64 input, no token, no request id of the vendor in what a team sees."""
    gateway = await start(Scripted())
    job_id = await gateway.submit()
    await gateway.ended(job_id)
    text = (await gateway.client.get(f"/jobs/{job_id}")).text
    assert picture_base64()[:200] not in text
    assert "alpha-1" not in text


async def test_an_image_request_has_its_own_vocabulary(start: Start) -> None:
    """What only videos have is unknown to pictures, and the other way round."""
    gateway = await start((segmind.PLUGIN, {"api_key": "SG_0123456789abcdef"}))
    refused = await gateway.post("/generate/image", num_frames=14, prompt="hills")
    assert refused.json()["type"].endswith("/unknown-field")
    quoted = await gateway.post("/generate/image/quote", prompt="hills", samples=3)
    assert quoted.json()["routes"]["segmind/ssd-img2img"]["eligible"]


async def test_a_head_request_is_a_get_without_its_body(start: Start) -> None:
    """Every readable address answers HEAD."""
    gateway = await start(Scripted())
    job = await gateway.made()
    for path in ("/healthz", "/jobs", f"/jobs/{job['id']}", f"/jobs/{job['id']}/content"):
        got, head = await gateway.client.get(path), await gateway.client.head(path)
        assert (head.status_code, head.headers["content-length"]) == (200, got.headers["content-length"])


async def test_both_ways_to_send_a_key_work(start: Start) -> None:
    """A bearer token and x-api-key are the same key."""
    gateway = await start(Scripted())
    bearer = gateway.client.headers.pop("authorization")
    by_header = {"x-api-key": bearer.removeprefix("Bearer ")}
    assert (await gateway.client.get("/jobs", headers=by_header)).status_code == 200
    assert (await gateway.client.get("/jobs", headers={"authorization": bearer})).status_code == 200
    mixed: httpx.Response = await gateway.client.get("/jobs", headers={"authorization": "Basic x"} | by_header)
    assert mixed.status_code == 200
