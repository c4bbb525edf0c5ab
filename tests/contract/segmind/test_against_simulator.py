"""The adapter against the simulated vendor over real HTTP: every route to its end, and every fault with the meter."""

from __future__ import annotations

import io
from typing import Any

import av
import httpx
import pytest
from PIL import Image

from providers.contract import (
    Accepted,
    Balance,
    Failed,
    FailureKind,
    Finished,
    HasBalance,
    HasCancel,
    HasLookup,
    HasUpload,
    InDoubt,
    InlineFile,
    Pending,
    Refused,
    RemoteFile,
    SourceImage,
)
from providers.segmind.catalogue import ENDPOINTS
from tests.contract.segmind.support import Bench, made_request, picture

pytestmark = pytest.mark.anyio

VIDEO_ASYNC = ["svd", "motionctrl-svd"]
VIDEO_SYNC = ["svd-sync", "motionctrl-svd-sync"]
PRICES = {"svd": 165_900, "motionctrl-svd": 89_300, "ssd-img2img": 3_310}


def frames_and_rate(data: bytes) -> tuple[int, float]:
    """Decode a clip whole."""
    with av.open(io.BytesIO(data)) as container:
        rate = container.streams.video[0].average_rate
        return sum(1 for _ in container.decode(video=0)), float(rate or 0)


@pytest.mark.parametrize("name", VIDEO_ASYNC)
async def test_a_submitted_video_is_polled_to_a_playable_file_with_its_cost_and_seed(bench: Bench, name: str) -> None:
    """v2: accepted, pending, finished with a link, and the report says what was charged and which seed was used."""
    accepted = await bench.submit(name)
    assert isinstance(accepted, Accepted)
    assert await bench.adapter.check(ENDPOINTS[f"segmind/{name}"].route, accepted.token) == Pending()
    outcome = await bench.finish(name, accepted)
    assert isinstance(outcome, Finished)
    (file,) = outcome.files
    assert isinstance(file, RemoteFile)
    assert frames_and_rate((await bench.file(file.url)).content) == (14, 7.0)
    assert (outcome.report.cost_micros, outcome.report.seed) == (PRICES[name], 452361789)
    assert outcome.report.credits_remaining_micros == 101_000_000 - PRICES[name]
    assert outcome.report.inference_s == pytest.approx(10.0)
    assert outcome.report.request_id == accepted.token["request_id"]
    assert bench.meter.charged_micros == PRICES[name]


@pytest.mark.parametrize("name", VIDEO_SYNC)
async def test_one_call_answers_with_the_video_and_its_accounting(bench: Bench, name: str) -> None:
    """v1: the bytes come in the reply, cost and seed in its headers."""
    outcome = await bench.submit(name, fps=10)
    assert isinstance(outcome, Finished)
    (file,) = outcome.files
    assert isinstance(file, InlineFile)
    assert frames_and_rate(file.data) == (14, 10.0)
    assert outcome.report.seed == 452361789
    assert outcome.report.cost_micros == bench.meter.charged_micros == PRICES[ENDPOINTS[f"segmind/{name}"].model.slug]
    assert outcome.report.inference_s == pytest.approx(10.0)


@pytest.mark.parametrize("name", ["ssd-img2img", "ssd-img2img-async"])
@pytest.mark.parametrize("samples", [1, 3])
async def test_pictures_come_back_one_a_sample(bench: Bench, name: str, samples: int) -> None:
    """The image model delivers as many pictures as were asked for, on both API versions."""
    outcome = await bench.submit(name, samples=samples)
    if name.endswith("async"):
        outcome = await bench.finish(name, outcome)
    assert isinstance(outcome, Finished)
    assert len(outcome.files) == samples
    for file in outcome.files:
        data = file.data if isinstance(file, InlineFile) else (await bench.file(file.url)).content
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.size) == ("JPEG", (64, 48))


EVERY_PARAMETER = [
    ("svd", {"motion_bucket_id": 180, "num_frames": 25, "fps": 60, "noise_aug_strength": 1, "resize": "crop_16_9"}),
    ("svd", {"motion_bucket_id": 1, "num_frames": 14, "fps": 1, "noise_aug_strength": 0, "resize": "keep_aspect"}),
    ("svd-sync", {"motion_bucket_id": 20, "num_frames": 25, "fps": 12, "noise_aug_strength": 0.5, "seed": -1}),
    *(
        ("motionctrl-svd", {"camera_motion": move, "camera_speed": speed, "fps": fps, "decode_chunk_size": 3})
        for move, speed, fps in [
            ("pan_up", 0, 5),
            ("pan_down", 10, 30),
            ("pan_left", 0.5, 7),
            ("pan_right", 1, 7),
            ("zoom_in", 2, 7),
            ("zoom_out", 2, 7),
            ("cw", 1, 7),
            ("acw", 1, 7),
        ]
    ),
    ("motionctrl-svd-sync", {"motion_bucket_id": 255, "noise_aug_strength": 0.02, "resize": "crop_16_9"}),
    (
        "ssd-img2img",
        {
            "negative_prompt": "blur",
            "samples": 4,
            "scheduler": "euler_a",
            "num_inference_steps": 100,
            "guidance_scale": 25,
            "strength": 0.99,
        },
    ),
    ("ssd-img2img-async", {"num_inference_steps": 20, "guidance_scale": 1, "strength": 0, "scheduler": "dpm2_karras"}),
]


@pytest.mark.parametrize(("name", "written"), EVERY_PARAMETER)
async def test_every_documented_value_is_taken_by_the_vendor(bench: Bench, name: str, written: dict[str, Any]) -> None:
    """The catalogue's ranges and spellings are the vendor's own: the ends of every range are accepted and rendered."""
    bench.switch(out_of_range="500", v2_validation="submit")
    outcome = await bench.submit(name, **written)
    if isinstance(outcome, Accepted):
        outcome = await bench.finish(name, outcome)
    assert isinstance(outcome, Finished), outcome


async def test_the_vendor_gets_exactly_the_fitted_values_the_constants_and_the_picture(bench: Bench) -> None:
    """Nothing is left to a vendor's default, and nothing undocumented is sent."""
    await bench.submit("svd", motion_bucket_id=60)
    await bench.submit("motionctrl-svd")
    svd, motionctrl = (run.sent for run in bench.simulator.vendor.runs.values())
    assert {name: value for name, value in svd.items() if name != "image"} == {
        "motion": 60,
        "frames": "14",
        "fps": 7,
        "cond_aug": 0.02,
        "seed": 452361789,
        "resize_method": "maintain_aspect_ratio",
        "base64": False,
    }
    assert {name: value for name, value in motionctrl.items() if name != "input_image"} == {
        "motion": "Pan Left",
        "motion_speed": 1.0,
        "motion_bucket_id": 127,
        "fps": 7,
        "cond_aug": 0.02,
        "seed": 452361789,
        "decoding_t": 1,
        "maintain_aspect_ratio": True,
        "base64": False,
    }


async def test_a_picture_is_taken_as_link_and_as_base64(bench: Bench, site: str) -> None:
    """The vendor fetches a link itself; bytes travel as base64 without a prefix."""
    linked = SourceImage("image/png", 64, 48, url=f"{site}/picture.png")
    for image in (linked, None):
        accepted = await bench.adapter.submit(made_request("svd", image))
        assert isinstance(await bench.finish("svd", accepted), Finished)
    first, second = (run.sent["image"] for run in bench.simulator.vendor.runs.values())
    assert first == f"{site}/picture.png"
    assert not str(second).startswith("data:")


async def test_a_link_that_redirects_or_is_no_picture_fails_late_and_costs_nothing(bench: Bench, site: str) -> None:
    """The vendor accepts the submit and fails the run; only success is billed."""
    for path in ("moved.png", "missing.png"):
        image = SourceImage("image/png", 64, 48, url=f"{site}/{path}")
        outcome = await bench.finish("svd", await bench.adapter.submit(made_request("svd", image)))
        assert isinstance(outcome, Failed)
        assert outcome.kind is FailureKind.RENDER_FAILED
    assert bench.meter.charged_micros == 0


async def test_an_upload_becomes_a_link_the_vendor_can_use(bench: Bench) -> None:
    """With uploads switched on the account stores the picture and the render takes the link."""
    account = bench.provider(upload=True)
    assert isinstance(account, HasUpload)
    link = await account.upload(SourceImage("image/png", 64, 48, data=picture()))
    assert link is not None
    stored = await bench.file(link)
    assert (stored.content, stored.headers["content-type"]) == (picture(), "image/png")
    accepted = await account.submit(made_request("svd", SourceImage("image/png", 64, 48, url=link)))
    assert isinstance(await bench.finish("svd", accepted), Finished)
    bench.spoil("upload", "500")
    assert await account.upload(SourceImage("image/png", 64, 48, data=picture())) is None


async def test_abilities_are_what_the_vendor_has(bench: Bench) -> None:
    """A balance and a history, no cancel (U18), uploads only where configured."""
    assert isinstance(bench.adapter, HasBalance)
    assert isinstance(bench.adapter, HasLookup)
    assert not isinstance(bench.adapter, HasCancel)
    assert not isinstance(bench.adapter, HasUpload)


async def test_the_balance_counts_paid_and_free_credit_down_to_the_micro(bench: Bench) -> None:
    """What was charged is gone from the balance exactly, and an account without a record has none."""
    assert await bench.adapter.balance() == Balance(101_000_000)
    await bench.submit("svd-sync")
    assert await bench.adapter.balance() == Balance(101_000_000 - 165_900)
    bench.switch(credit_record=False)
    assert await bench.adapter.balance() == Balance(0)
    bench.spoil("balance", "500")
    assert await bench.adapter.balance() is None


# What a fault on a submit means for the adapter, for the vendor's count of runs and for its invoice.
SUBMIT_FAULTS = [
    ("502_before_accept", InDoubt, 0, {"svd": 0, "svd-sync": 0}),
    ("502_after_accept", InDoubt, 1, {"svd": 1, "svd-sync": 0}),
    ("504_before_accept", InDoubt, 0, {"svd": 0, "svd-sync": 0}),
    ("504_after_accept", InDoubt, 1, {"svd": 1, "svd-sync": 0}),
    ("html_error", InDoubt, 0, {"svd": 0, "svd-sync": 0}),
    ("reset_before_accept", InDoubt, 0, {"svd": 0, "svd-sync": 0}),
    ("reset_before_reply", InDoubt, 1, {"svd": 1, "svd-sync": 1}),
    ("reset_mid_body", InDoubt, 1, {"svd": 1, "svd-sync": 1}),
    ("timeout_before_accept", InDoubt, 0, {"svd": 0, "svd-sync": 0}),
    ("timeout", InDoubt, 1, {"svd": 1, "svd-sync": 1}),
    ("429", Refused, 0, {"svd": 0, "svd-sync": 0}),
    ("500", Refused, 0, {"svd": 0, "svd-sync": 0}),
]


@pytest.mark.parametrize("name", ["svd", "svd-sync"])
@pytest.mark.parametrize(("fault", "expected", "runs", "charges"), SUBMIT_FAULTS)
async def test_a_spoiled_submit_is_one_call_and_says_only_what_is_known(
    bench: Bench, name: str, fault: str, expected: type, runs: int, charges: dict[str, int]
) -> None:
    """The adapter never repeats a submit, and calls an outcome known only when the vendor said so."""
    bench.spoil("submit", fault)
    outcome = await bench.submit(name)
    assert isinstance(outcome, expected), outcome
    bench.clock.advance(60)
    assert (bench.meter.submits_received, bench.meter.submits_accepted) == (1, runs)
    assert bench.meter.submits_rejected == 1 - runs
    assert len(bench.meter.invoice) == charges[name]


async def test_a_slow_reply_is_read_to_its_end(bench: Bench) -> None:
    """A reply that drips in is a reply."""
    bench.spoil("submit", "slow_drip", 2)
    assert isinstance(await bench.submit("svd"), Accepted)
    assert isinstance(await bench.submit("svd-sync"), Finished)


@pytest.mark.parametrize(
    "fault",
    [
        "502_before_accept",
        "504_after_accept",
        "500",
        "429",
        "reset_before_reply",
        "reset_mid_body",
        "timeout",
        "html_error",
    ],
)
@pytest.mark.parametrize("operation", ["status", "result"])
async def test_a_spoiled_read_is_asked_again_and_loses_nothing(bench: Bench, operation: str, fault: str) -> None:
    """Reads may fail in any way; the next one finds the result, and nothing new was started."""
    accepted = await bench.submit("svd")
    assert isinstance(accepted, Accepted)
    bench.clock.advance(60)
    bench.spoil(operation, fault)
    route = ENDPOINTS["segmind/svd"].route
    spoiled = await bench.adapter.check(route, accepted.token)
    assert isinstance(spoiled, InDoubt)
    assert not spoiled.gone
    assert isinstance(await bench.adapter.check(route, accepted.token), Finished)
    assert bench.meter.submits_received == 1


async def test_a_vendor_that_cannot_be_reached_got_nothing(bench: Bench) -> None:
    """A refused connection is a refusal: the request provably never left."""
    unreachable = bench.provider(base_url="http://127.0.0.1:9")
    outcome = await unreachable.submit(made_request("svd"))
    assert isinstance(outcome, Refused)
    assert (outcome.kind, outcome.status) == (FailureKind.UNAVAILABLE, None)


async def test_a_call_that_outlives_its_timeout_is_in_doubt(bench: Bench, answering: Any) -> None:
    """A timeout after the request left says nothing about the run."""
    adapter, seen = answering(httpx.ReadTimeout("took too long"))
    outcome = await adapter.submit(made_request("svd-sync"))
    assert outcome == InDoubt("ReadTimeout: took too long")
    assert seen[0].extensions["timeout"]["read"] == 10.0


async def test_an_empty_account_is_refused_before_anything_runs(bench: Bench) -> None:
    """Credit below the price is refused, not only credit of zero."""
    bench.switch(credits_micros=100_000, free_credits_micros=0)
    outcome = await bench.submit("svd")
    assert isinstance(outcome, Refused)
    assert (outcome.kind, outcome.status) == (FailureKind.NO_CREDIT, 406)
    assert isinstance(await bench.submit("motionctrl-svd-sync"), Finished)
    assert isinstance(await bench.submit("motionctrl-svd-sync"), Refused)
    assert bench.meter.submits_accepted == 1


@pytest.mark.parametrize(
    ("switches", "kind", "status"),
    [
        ({"api_keys": ("SG_another",)}, FailureKind.UNAUTHORIZED, 401),
        ({"forbidden": ("svd",)}, FailureKind.FORBIDDEN, 403),
        ({"retired": ("svd",)}, FailureKind.MODEL_GONE, 410),
        ({"spend_cap_reached": True}, FailureKind.NO_CREDIT, 406),
    ],
)
async def test_each_refusal_of_an_account_or_model_is_told_apart(
    bench: Bench, switches: dict[str, Any], kind: FailureKind, status: int
) -> None:
    """Key, permission, retired model and spending cap each have their own kind."""
    bench.switch(**switches)
    outcome = await bench.submit("svd")
    assert isinstance(outcome, Refused)
    assert (outcome.kind, outcome.status) == (kind, status)
    assert bench.meter.submits_accepted == 0


@pytest.mark.parametrize("style", ["iso", "unix_s", "unix_ms", "http_date"])
async def test_the_rate_limit_hint_is_read_in_every_form(bench: Bench, style: str) -> None:
    """The reset time is a wait in seconds from now, however the vendor writes it (U3)."""
    bench.switch(requests_per_minute=1, rate_reset_format=style)
    bench.clock.advance(17)
    assert isinstance(await bench.submit("svd"), Accepted)
    outcome = await bench.submit("svd")
    assert isinstance(outcome, Refused)
    assert outcome.kind is FailureKind.RATE_LIMITED
    assert outcome.retry_after_s == pytest.approx(60 - bench.clock.now() % 60)
    bench.clock.advance(outcome.retry_after_s)
    assert isinstance(await bench.submit("svd"), Accepted)


@pytest.mark.parametrize("name", ["svd", "svd-sync"])
@pytest.mark.parametrize(
    ("switches", "kind"),
    [
        ({"failure_rate": 1.0}, FailureKind.RENDER_FAILED),
        ({"moderation_rate": 1.0}, FailureKind.MODERATED),
    ],
)
async def test_a_failed_run_costs_nothing_and_says_whose_fault_it_was(
    bench: Bench, name: str, switches: dict[str, Any], kind: FailureKind
) -> None:
    """A vendor's failure and a content block are told apart, on both versions, and neither is billed."""
    bench.switch(**switches)
    outcome = await bench.submit(name)
    if isinstance(outcome, Accepted):
        failed = await bench.finish(name, outcome)
        assert isinstance(failed, Failed)
        assert failed.kind is kind
        assert failed.report.cost_micros is None
        assert failed.report.inference_s is not None
    else:
        assert isinstance(outcome, Refused)
        assert outcome.kind is (kind if kind is FailureKind.MODERATED else FailureKind.SERVER_ERROR)
    assert bench.meter.charged_micros == 0


@pytest.mark.parametrize(
    "switches",
    [
        {"v1_content_type": "image/jpeg"},
        {"v1_reply": "json_url"},
        {"container": "gif"},
        {"container": "webp"},
        {"v2_video_object": False, "v2_seed": False, "v2_cost": False},
        {"error_headers": True},
    ],
)
async def test_every_unknown_of_the_reply_is_read(bench: Bench, switches: dict[str, Any]) -> None:
    """U1, U2, U6: whichever form the vendor turns out to use, the file arrives."""
    bench.switch(**switches)
    for outcome in (await bench.submit("svd-sync"), await bench.finish("svd", await bench.submit("svd"))):
        assert isinstance(outcome, Finished)
        (file,) = outcome.files
        data = file.data if isinstance(file, InlineFile) else (await bench.file(file.url)).content
        magic = {"gif": b"GIF8", "webp": b"RIFF"}.get(str(switches.get("container")), b"\x00\x00\x00")
        assert data.startswith(magic)
