"""What a vendor hands over is opened and compared with the order before anybody is billed."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.delivery import Delivery, Undelivered
from gateway.media.artifacts import Artifacts
from gateway.outbound import FetchLimits, Outbound
from providers.capability import DELIVERED_BY_GATEWAY, Capability, Route
from providers.contract import FailureKind, Finished, InlineFile, RemoteFile, Report
from providers.serving import serve
from tests.corpus.cases import read as corpus
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.pictures import clip, picture
from tests.support.scripted import Scripted, delivers
from tests.support.workers import decoders

pytestmark = pytest.mark.anyio

BAD = {
    "truncated": clip()[: len(clip()) // 2],
    "html": b"<html><body>Sorry, an error has occurred</body></html>",
    "empty": b"",
    "a picture": picture("JPEG")[:100],
    "noise": bytes(range(256)) * 40,
    "what ends its decoder": corpus("mov-packed-index-of-a-gigabyte"),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("mode", ["async", "sync"])
async def test_a_file_that_cannot_be_played_is_the_operators_loss_and_the_next_route_delivers(
    start: Start, what: str, mode: str
) -> None:
    """The vendor billed for rubbish: the team pays only for the video it got."""
    alpha = Scripted(mode=mode)
    if mode == "async":
        alpha.checks.append(delivers(BAD[what]))
    else:
        alpha.submits.append(lambda request: _finished(alpha, request, BAD[what]))
    beta = Scripted("beta", price_micros=150_000)
    gateway = await start(alpha, beta)
    job = await gateway.made()
    assert [(attempt["route"], attempt["state"]) for attempt in job["attempts"]] == [
        ("alpha/one", "failed"),
        ("beta/one", "succeeded"),
    ]
    assert job["attempts"][0]["failure"]["kind"] == "bad_output"
    assert await gateway.balances() == {
        f"team:{gateway.team_id}": 150_000,
        "provider:beta": -150_000,
        "loss": 100_000,
        "provider:alpha": -100_000,
    }


async def _finished(alpha: Scripted, request: object, data: bytes) -> Finished:
    return alpha.finished(alpha._run(request), data)


async def test_another_number_of_frames_than_ordered_is_not_what_was_ordered(start: Start) -> None:
    """13 frames for an order of 14: a loss to the operator, and the order is filled elsewhere."""
    alpha, beta = Scripted(checks=[delivers(clip(13))]), Scripted("beta", price_micros=150_000)
    gateway = await start(alpha, beta)
    job = await gateway.made()
    assert job["attempts"][0]["failure"] == {
        "kind": "not_as_ordered",
        "detail": "13 frames were delivered instead of 14",
    }
    assert (job["route"], job["result"]["files"][0]["num_frames"]) == ("beta/one", 14)
    assert (await gateway.balances())["loss"] == 100_000


class Pictures(Scripted):
    """A scripted vendor of pictures, whose checks deliver as many as it is told."""

    @property
    def route(self) -> Route:
        samples = Capability("samples", "samples", minimum=1, maximum=4)
        return replace(super().route, media="image", capabilities=(samples, *DELIVERED_BY_GATEWAY))


def pictures(delivered: int) -> Finished:
    """A delivery of this many pictures, for the usual price."""
    return Finished((InlineFile(picture("JPEG")),) * delivered, Report(cost_micros=100_000))


async def ordered(gateway: Gateway, samples: int) -> dict[str, Any]:
    """An order for this many pictures, ended."""
    reply = await gateway.post("/generate/image", samples=samples)
    assert reply.status_code == 202, reply.text
    return await gateway.ended(reply.json()["id"])


def kept(folder: Path) -> list[Path]:
    """The files that a folder holds."""
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_a_result_that_is_short_of_pictures_is_not_stored(tmp_path: Path) -> None:
    """The bytes of one picture are no delivery of three, and nothing of them is kept."""
    artifacts = Artifacts.open(str(tmp_path))
    delivery = Delivery(
        Outbound(()),
        artifacts,
        decoders(),
        FetchLimits(1, 1.0),
        SystemClock(),
        deviations_fail=True,
        accepts_other_model=False,
    )
    outcome = await delivery.collect(pictures(1), {"samples": 3}, Pictures().route)
    assert outcome == Undelivered(FailureKind.NOT_AS_ORDERED, "1 of 3 pictures were delivered", passing=False)
    assert not kept(tmp_path)
    await delivery.outbound.close()


async def test_fewer_pictures_than_ordered_are_not_what_was_ordered(start: Start) -> None:
    """One picture for an order of three is a loss to the operator, and the order is filled elsewhere."""
    alpha, beta = Pictures(checks=[pictures(1)]), Pictures("beta", price_micros=150_000, checks=[pictures(3)])
    gateway = await start(alpha, beta)
    job = await ordered(gateway, 3)
    assert job["attempts"][0]["failure"] == {"kind": "not_as_ordered", "detail": "1 of 3 pictures were delivered"}
    assert (job["route"], len(job["result"]["files"])) == ("beta/one", 3)
    assert (await gateway.balances())["loss"] == 100_000


@pytest.mark.parametrize(
    ("delivered", "noted"), [(2, "2 of 3 pictures were delivered"), (4, "4 pictures were delivered instead of 3")]
)
async def test_another_number_of_pictures_is_noted_on_what_is_delivered(
    start: Start, delivered: int, noted: str
) -> None:
    """More are handed out whole; fewer are where the configuration says warn. The result says so in both cases."""
    gateway = await start(Pictures(checks=[pictures(delivered)]), media={"verify_deviations": "warn"})
    job = await ordered(gateway, 3)
    assert (job["status"], len(job["attempts"]), len(job["result"]["files"])) == ("succeeded", 1, delivered)
    assert job["result"]["files"][0]["deviations"] == [noted]


async def test_more_pictures_than_ordered_are_no_failure(start: Start) -> None:
    """Nobody is billed twice because a vendor was generous."""
    gateway = await start(Pictures(checks=[pictures(4)]))
    job = await ordered(gateway, 3)
    assert (job["status"], len(job["attempts"])) == ("succeeded", 1)
    assert job["result"]["files"][0]["deviations"] == ["4 pictures were delivered instead of 3"]


async def test_deviations_are_delivered_and_noted_where_the_configuration_says_warn(start: Start) -> None:
    """An operator may prefer the wrong number of frames to none."""
    alpha = Scripted(checks=[delivers(clip(13))])
    gateway = await start(alpha, media={"verify_deviations": "warn"})
    job = await gateway.made()
    assert (job["status"], len(job["attempts"])) == ("succeeded", 1)
    assert job["result"]["files"][0]["deviations"] == ["13 frames were delivered instead of 14"]


async def test_another_rate_is_noted_and_delivered(start: Start) -> None:
    """The wrong speed is a deviation for the record, not a reason to pay twice."""
    alpha = Scripted(checks=[delivers(clip(14, 10))])
    gateway = await start(alpha)
    job = await gateway.made()
    assert (job["status"], job["result"]["files"][0]["deviations"]) == (
        "succeeded",
        ["it plays at 10 fps instead of 7"],
    )


async def test_another_model_than_ordered_does_not_count_as_delivered(start: Start) -> None:
    """A vendor that swaps the model silently is found out by its own report."""
    alpha, beta = Scripted(checks=[delivers(model="cheaper-model")]), Scripted("beta", price_micros=150_000)
    gateway = await start(alpha, beta)
    job = await gateway.made()
    assert job["attempts"][0]["failure"]["kind"] == "not_as_ordered"
    assert "cheaper-model" in job["attempts"][0]["failure"]["detail"]
    assert (job["route"], (await gateway.balances())["loss"]) == ("beta/one", 100_000)


async def test_a_route_that_swapped_the_model_is_not_asked_again_for_the_job(start: Start) -> None:
    """A swap is the vendor's habit: pinned to it, the job ends after one loss instead of three."""
    alpha = Scripted(checks=[delivers(model="cheaper-model")] * 5)
    gateway = await start(alpha)
    job = await gateway.made(routing={"pin": "alpha"})
    assert (job["status"], len(job["attempts"])) == ("failed", 1)
    assert job["error"]["type"].endswith("/no-route-left")
    assert (await gateway.balances())["loss"] == 100_000


async def test_another_model_is_taken_where_the_configuration_accepts_it_and_the_result_names_it(start: Start) -> None:
    """The job succeeds and says which model really ran."""
    alpha = Scripted(checks=[delivers(model="cheaper-model")])
    gateway = await start(alpha, media={"accept_other_model": True})
    job = await gateway.made()
    assert (job["status"], job["result"]["model"]) == ("succeeded", "cheaper-model")


async def test_a_vendor_that_does_not_name_its_model_is_believed(start: Start) -> None:
    """No word on the model is no evidence of another one."""
    gateway = await start(Scripted(checks=[delivers(model=None)]))
    assert (await gateway.made())["status"] == "succeeded"


async def test_the_stored_file_is_addressed_by_its_hash_and_served_as_it_was_verified(start: Start) -> None:
    """The bytes behind /content are those whose SHA-256 stands in the result."""
    gateway = await start(Scripted())
    job = await gateway.made()
    (file,) = job["result"]["files"]
    data = (await gateway.client.get(file["url"])).content
    assert (hashlib.sha256(data).hexdigest(), len(data)) == (file["sha256"], file["size_bytes"])


async def test_a_result_in_another_container_is_converted_to_the_one_ordered(start: Start) -> None:
    """A GIF is delivered for `output_format: gif` although the vendor makes MP4."""
    gateway = await start(Scripted())
    job = await gateway.made(output_format="gif")
    (file,) = job["result"]["files"]
    assert (file["media_type"], file["num_frames"]) == ("image/gif", 14)


async def test_a_result_link_is_fetched_without_leaving_the_guard(start: Start) -> None:
    """A vendor that names an address inside the house gets nothing fetched there."""
    calls: list[str] = []

    async def inside(scope, receive, send) -> None:
        calls.append(scope["path"])

    async with serve(inside) as url:
        bad = Finished((RemoteFile(url + "/secret"),), Report(cost_micros=1))
        alpha, beta = Scripted(checks=[bad]), Scripted("beta", price_micros=150_000)
        gateway = await start(alpha, beta, outbound={"allow_hosts": []})
        job = await gateway.made()
    assert (job["route"], calls) == ("beta/one", [])
    assert job["attempts"][0]["failure"]["kind"] == FailureKind.BAD_OUTPUT


async def test_a_result_link_that_never_answers_is_given_up_at_the_published_deadline(start: Start) -> None:
    """Billed and never handed over: a loss, after which the order is tried elsewhere or ends."""
    alpha = Scripted()
    gone = Finished((RemoteFile("http://127.0.0.1:9/never"),), Report(cost_micros=100_000))
    alpha.checks.extend([gone] * 500)
    jobs = {"in_doubt_s": 120, "attempts_max": 1, "lease_s": 600, "heartbeat_s": 200}
    gateway = await start(alpha, jobs=jobs)
    job = await gateway.made()
    assert (job["status"], job["attempts"][0]["failure"]["kind"]) == ("failed", "bad_output")
    assert await gateway.balances() == {"loss": 100_000, "provider:alpha": -100_000}
