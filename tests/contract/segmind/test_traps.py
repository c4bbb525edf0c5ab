"""One test for each trap of WIRE 7 that this vendor lays, by its number."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from policies.fit import fit
from providers.contract import (
    FAULTS,
    Accepted,
    Balance,
    Failed,
    FailureKind,
    Finished,
    InDoubt,
    InlineFile,
    Pending,
    Refused,
    RemoteFile,
    SourceImage,
)
from providers.segmind import PLUGIN
from providers.segmind.catalogue import CATALOGUE, ENDPOINTS
from tests.contract.segmind.conftest import Answering
from tests.contract.segmind.support import KEY, Bench, made_request

pytestmark = pytest.mark.anyio

MP4 = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41"
REQUEST_ID = "2c7f59ea-13f1-402c-9353-915a2b5a2124"
LINK = "https://images.segmind.com/generations/x.mp4"


def wire(name: str, **written: Any) -> dict[str, Any]:
    """What a route is sent for these written values."""
    return dict(made_request(name, **written).parameters)


def refusals(name: str, **written: Any) -> tuple[str, ...]:
    """Why a route cannot honour these written values exactly."""
    return fit(ENDPOINTS[f"segmind/{name}"].route, written, mode="exact", image_size=(64, 48)).refusals


async def sent(answering: Answering, name: str, **written: Any) -> tuple[httpx.Request, dict[str, Any]]:
    """The request that leaves for these written values, and its body."""
    adapter, seen = answering(httpx.Response(200, json={"request_id": REQUEST_ID}))
    await adapter.submit(made_request(name, **written))
    return seen[0], json.loads(seen[0].content)


def test_trap_01_motion_is_a_number_on_one_route_and_a_word_on_the_other() -> None:
    """The field `motion` carries the bucket on svd and the camera move on MotionCtrl."""
    assert wire("svd", motion_bucket_id=60)["motion"] == 60
    motionctrl = wire("motionctrl-svd", camera_motion="zoom_in", motion_bucket_id=130)
    assert (motionctrl["motion"], motionctrl["motion_bucket_id"]) == ("Zoom In", 130)
    assert refusals("svd", camera_motion="zoom_in")


def test_trap_02_the_motion_bucket_has_another_range_on_each_route() -> None:
    """20 is illegal on MotionCtrl and 200 on svd."""
    assert not refusals("svd", motion_bucket_id=20)
    assert refusals("svd", motion_bucket_id=200)
    assert refusals("motionctrl-svd", camera_motion="cw", motion_bucket_id=20)
    assert not refusals("motionctrl-svd", camera_motion="cw", motion_bucket_id=200)


async def test_trap_03_the_picture_has_its_own_field_and_form_on_each_route(answering: Answering) -> None:
    """`image` or `input_image`; a link as it is, bytes as base64 without a prefix."""
    _, svd = await sent(answering, "svd")
    _, motionctrl = await sent(answering, "motionctrl-svd")
    assert "image" in svd
    assert "input_image" not in svd
    assert "input_image" in motionctrl
    assert "image" not in motionctrl
    assert svd["image"].startswith("iVBOR")
    adapter, seen = answering(httpx.Response(200, json={"request_id": REQUEST_ID}))
    await adapter.submit(made_request("svd", SourceImage("image/png", 4, 4, url="https://p.example/a.png?x=1")))
    assert json.loads(seen[0].content)["image"] == "https://p.example/a.png?x=1"


def test_trap_04_the_frame_count_is_text_of_two_values_or_fixed() -> None:
    """`frames` is the text 14 or 25 on svd; MotionCtrl makes 14 and is sent none."""
    assert wire("svd", num_frames=25)["frames"] == "25"
    assert refusals("svd", num_frames=16)
    assert not {"frames", "num_frames"} & set(wire("motionctrl-svd", num_frames=14))
    assert refusals("motionctrl-svd", camera_motion="cw", num_frames=25)


@pytest.mark.parametrize("name", ["svd", "svd-sync", "motionctrl-svd", "motionctrl-svd-sync"])
def test_trap_05_the_conditioning_noise_is_always_sent(name: str) -> None:
    """The vendor's defaults differ tenfold, so the canonical one is written out."""
    assert wire(name)["cond_aug"] == 0.02


def test_trap_06_the_rate_has_another_range_on_each_route_and_marks_the_price() -> None:
    """fps 60 is fine on svd and illegal on MotionCtrl; svd's is price-relevant."""
    assert not refusals("svd", fps=60)
    assert refusals("motionctrl-svd", camera_motion="cw", fps=31)
    assert refusals("motionctrl-svd", camera_motion="cw", fps=4)
    rows = ENDPOINTS["segmind/svd"].route.capabilities
    assert {row.parameter for row in rows if row.affects_price} == {"fps", "motion_bucket_id"}


def test_trap_07_a_seed_is_always_written_out_up_to_its_upper_bound() -> None:
    """MotionCtrl's own default repeats one video for ever, so a seed always travels; -1 is for the gateway to draw."""
    for name in ("svd", "motionctrl-svd", "ssd-img2img"):
        assert wire(name, seed=999999999999999)["seed"] == 999999999999999
        route = ENDPOINTS[f"segmind/{name}"].route
        needed = {"svd": {}, "motionctrl-svd": {"camera_motion": "cw"}, "ssd-img2img": {"prompt": "a fox"}}
        assert fit(route, needed[name], mode="exact", image_size=(4, 4)).wire["seed"] == -1


async def test_trap_08_inline_results_are_always_declined_in_writing(answering: Answering) -> None:
    """Two pages of one endpoint give `base64` opposite defaults."""
    for name in ("svd", "svd-sync", "motionctrl-svd", "ssd-img2img"):
        _, body = await sent(answering, name)
        assert body["base64"] is False


@pytest.mark.parametrize("content_type", ["image/jpeg", "application/json", "text/plain", "video/mp4"])
async def test_trap_09_the_bytes_decide_not_the_content_type(answering: Answering, content_type: str) -> None:
    """A page promises image/jpeg for a video."""
    adapter, _ = answering(httpx.Response(200, headers={"content-type": content_type}, content=MP4))
    outcome = await adapter.submit(made_request("svd-sync"))
    assert isinstance(outcome, Finished)
    assert outcome.files == (InlineFile(MP4),)


async def test_trap_10_the_version_in_the_address_is_the_routes_own(answering: Answering) -> None:
    """A page about v2 prints the v1 address."""
    addresses = {}
    for name in ("svd", "svd-sync", "motionctrl-svd", "ssd-img2img"):
        request, _ = await sent(answering, name)
        addresses[name] = str(request.url)
    assert addresses == {
        "svd": "https://api.segmind.com/v2/svd",
        "svd-sync": "https://api.segmind.com/v1/svd",
        "motionctrl-svd": "https://api.segmind.com/v2/motionctrl-svd",
        "ssd-img2img": "https://api.segmind.com/v1/ssd-img2img",
    }


async def test_trap_12_failed_at_422_keeps_its_reason(answering: Answering) -> None:
    """422 on a read is the vendor's verdict on the run, not on our request."""
    adapter, _ = answering(httpx.Response(422, json={"status": "FAILED", "error": "worker died", "metrics": {}}))
    outcome = await adapter.check(ENDPOINTS["segmind/svd"].route, {"request_id": REQUEST_ID})
    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.detail) == (FailureKind.RENDER_FAILED, "worker died")


async def test_trap_13_a_result_outlives_its_record(bench: Bench) -> None:
    """After an hour the record is gone; the history still leads to the file, which lives a week."""
    accepted = await bench.submit("svd")
    assert isinstance(accepted, Accepted)
    bench.clock.advance(2 * 86_400)
    outcome = await bench.adapter.check(ENDPOINTS["segmind/svd"].route, accepted.token)
    assert isinstance(outcome, Finished)
    (file,) = outcome.files
    assert isinstance(file, RemoteFile)
    assert (await bench.file(file.url)).status_code == 200
    assert ENDPOINTS["segmind/svd"].route.record_ttl_s == 3_600


async def test_trap_14_an_accepted_submit_may_have_been_invalid(bench: Bench) -> None:
    """HTTP 200 at submit is no promise: the run fails later and is not charged."""
    request = made_request("svd", SourceImage("image/png", 4, 4, data=b"no picture"))
    outcome = await bench.finish("svd", await bench.adapter.submit(request))
    assert isinstance(outcome, Failed)
    assert bench.meter.charged_micros == 0


@pytest.mark.parametrize("answer", [httpx.ReadTimeout("late"), httpx.ReadError("reset"), httpx.Response(504)])
async def test_trap_15_an_ambiguous_submit_is_never_repeated_by_the_adapter(answering: Answering, answer: Any) -> None:
    """There is no idempotency: one call, and in doubt."""
    for name in ("svd", "svd-sync"):
        adapter, seen = answering(answer)
        assert isinstance(await adapter.submit(made_request(name)), InDoubt)
        assert len(seen) == 1


async def test_trap_16_the_key_goes_only_to_the_configured_addresses(answering: Answering) -> None:
    """A reply that names other hosts is not followed: every address is built from the configured one and the id."""
    elsewhere = "https://elsewhere.example/steal"
    submitted = {"request_id": REQUEST_ID, "status_url": elsewhere, "response_url": elsewhere, "poll_url": elsewhere}
    done = {"status": "COMPLETED", "status_url": elsewhere, "output": LINK, "metrics": {}}
    adapter, seen = answering(
        httpx.Response(200, json=submitted), httpx.Response(200, json=done), httpx.Response(200, json=done)
    )
    accepted = await adapter.submit(made_request("svd"))
    assert isinstance(accepted, Accepted)
    assert accepted.token == {"request_id": REQUEST_ID}
    assert isinstance(await adapter.check(ENDPOINTS["segmind/svd"].route, accepted.token), Finished)
    assert [str(request.url) for request in seen] == [
        "https://api.segmind.com/v2/svd",
        f"https://api.segmind.com/v2/requests/{REQUEST_ID}/status",
        f"https://api.segmind.com/v2/requests/{REQUEST_ID}",
    ]


async def test_trap_16_a_redirect_is_not_followed_with_the_key(answering: Answering) -> None:
    """A 302 is an undocumented reply, in doubt, and one call."""
    adapter, seen = answering(httpx.Response(302, headers={"location": "https://elsewhere.example/"}))
    outcome = await adapter.submit(made_request("svd"))
    assert isinstance(outcome, InDoubt)
    assert outcome.unrecognised
    assert len(seen) == 1


async def test_trap_17_the_wait_comes_from_the_vendors_own_header(answering: Answering) -> None:
    """x-rate-limit-reset-at-utc, and not the Retry-After of a proxy."""
    headers = {"x-rate-limit-reset-at-utc": "2027-01-15T08:00:40Z", "retry-after": "9999"}
    adapter, _ = answering(httpx.Response(429, headers=headers, json={"error": "Rate limit exceeded"}))
    outcome = await adapter.submit(made_request("svd"))
    assert isinstance(outcome, Refused)
    assert outcome.retry_after_s == 40.0


def test_trap_22_a_route_never_chooses_the_container_for_the_caller() -> None:
    """Whatever the vendor delivers, the asked container is made by vidgate: the row is honoured here."""
    for route in CATALOGUE:
        row = route.capability("output_format")
        assert (row is None) == (route.media == "image")
        assert row is None or (row.by, row.wire) == ("gateway", None)


def test_trap_28_required_fields_with_defaults_are_all_sent() -> None:
    """MotionCtrl's starred fields always travel, `decoding_t` is the decode chunk, the speed ends at 10."""
    body = wire("motionctrl-svd")
    assert {"motion", "fps", "motion_bucket_id", "cond_aug"} <= set(body)
    assert wire("motionctrl-svd", decode_chunk_size=4)["decoding_t"] == 4
    assert body["decoding_t"] == 1
    assert not refusals("motionctrl-svd", camera_motion="cw", camera_speed=10)


def test_trap_29_the_image_model_gets_possible_values_and_no_word_none() -> None:
    """Strength within 0.99, a scheduler by name, no negative prompt unless one was written."""
    body = wire("ssd-img2img")
    assert body["strength"] == 0.9
    assert body["scheduler"] == "DPM2 Karras"
    assert "negative_prompt" not in body
    assert refusals("ssd-img2img", prompt="a fox", strength=7.5)
    assert ENDPOINTS["segmind/ssd-img2img"].route.media == "image"


async def test_trap_30_credit_is_exact_and_its_field_has_a_hyphen(answering: Answering) -> None:
    """0.1 + 0.2 dollars are 300000 micros."""
    adapter, _ = answering(httpx.Response(200, json={"credits": 0.1, "free-credits": 0.2, "free_credits": 9.0}))
    assert await adapter.balance() == Balance(300_000)


def test_trap_31_rates_are_configuration_not_catalogue() -> None:
    """Two tables are published, so the catalogue claims none and the configuration may."""
    assert all(route.requests_per_minute is None for route in CATALOGUE)
    settings = PLUGIN.settings.model_validate({"api_key": KEY, "requests_per_minute": 50, "concurrency_max": 2})
    assert (settings.requests_per_minute, settings.concurrency_max) == (50, 2)


async def test_trap_32_the_key_travels_in_its_own_header_never_as_bearer(answering: Answering) -> None:
    """The vendor's own overview says Bearer; its gateway refuses it."""
    request, body = await sent(answering, "svd")
    assert request.headers["x-api-key"] == KEY
    assert "authorization" not in request.headers
    assert KEY not in json.dumps(body)
    assert KEY not in str(request.url)


async def test_trap_33_a_retired_model_is_out_and_the_account_is_not(bench: Bench) -> None:
    """410 is the route's fault: the other models go on."""
    bench.switch(retired=("svd",))
    gone = await bench.submit("svd")
    assert isinstance(gone, Refused)
    assert (gone.kind, FAULTS[gone.kind]) == (FailureKind.MODEL_GONE, "vendor")
    assert isinstance(await bench.submit("motionctrl-svd"), Accepted)


async def test_trap_35_the_cost_is_what_the_vendor_reports(bench: Bench) -> None:
    """Settled from x-cost on v1 and metrics.cost on v2, to the micro, and equal to the invoice."""
    bench.switch(prices_micros={"svd": 123_457})
    for name in ("svd", "svd-sync"):
        outcome = await bench.submit(name)
        if isinstance(outcome, Accepted):
            outcome = await bench.finish(name, outcome)
        assert isinstance(outcome, Finished)
        assert outcome.report.cost_micros == 123_457
    assert [charge.amount_micros for charge in bench.meter.invoice] == [123_457, 123_457]


async def test_a_synchronous_reply_in_json_tells_its_seed_and_cost_where_the_headers_do_not(
    answering: Answering,
) -> None:
    """The headers of a v1 reply come first (WIRE 1.3), then the body's own fields (WIRE 1.5)."""
    body = {"output": LINK, "seed": "5", "metrics": {"cost": 0.2}}
    for headers, seed, cost_micros in ({}, 5, 200_000), ({"x-cost": "0.1", "x-seed-value": "0"}, 0, 100_000):
        adapter, _ = answering(httpx.Response(200, json=body, headers=headers))
        outcome = await adapter.submit(made_request("svd-sync"))
        assert isinstance(outcome, Finished)
        assert (outcome.report.seed, outcome.report.cost_micros) == (seed, cost_micros)


async def test_trap_37_a_result_link_is_handed_on_unread(bench: Bench) -> None:
    """The adapter never fetches a result: the link is a bearer secret and goes out without the key, elsewhere."""
    accepted = await bench.submit("svd")
    assert isinstance(await bench.finish("svd", accepted), Finished)
    assert "file" not in bench.meter.calls


@pytest.mark.parametrize("state", ["PAUSED", "CANCELLED", "completed", "", None, 7, ["COMPLETED"]])
async def test_trap_40_an_unknown_state_is_alarmed_not_waited_on(answering: Answering, state: Any) -> None:
    """Only the two documented running states are pending."""
    adapter, _ = answering(httpx.Response(200, json={"status": state, "request_id": REQUEST_ID, "metrics": {}}))
    outcome = await adapter.check(ENDPOINTS["segmind/svd"].route, {"request_id": REQUEST_ID})
    assert isinstance(outcome, InDoubt)
    assert outcome.unrecognised
    running, _ = answering(httpx.Response(200, json={"status": "PROCESSING", "metrics": {}}))
    assert await running.check(ENDPOINTS["segmind/svd"].route, {"request_id": REQUEST_ID}) == Pending()
