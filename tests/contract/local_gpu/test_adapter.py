"""The adapter against simulated workers: one render, lost replies, a worker's end, cancel, every refusal."""

from __future__ import annotations

import io
import json
from typing import Any

import av
import httpx
import pytest
from PIL import Image

from policies.fit import fit
from providers.contract import (
    Accepted,
    Failed,
    FailureKind,
    Finished,
    HasBalance,
    HasCancel,
    HasLoad,
    HasLookup,
    InDoubt,
    InlineFile,
    NoEvidence,
    NotFound,
    Pending,
    Refused,
    SentAttempt,
)
from providers.local_gpu import PLUGIN
from providers.local_gpu.simulator.orders import FORMATS, NUMBERS, OrderError, read_order
from tests.contract.local_gpu.support import RENDER_S, ROUTES, SMALL, Bench, accepted, bench, request
from tests.support.pictures import SIZE, picture_base64
from tests.support.sent import sent_of

pytestmark = pytest.mark.anyio
CLIP = ROUTES["local/svd"]


def sent(name: str = "att_1") -> SentAttempt:
    return sent_of(request(attempt_id=name), sent_at=0.0, until=1.0)


async def rendered(there: Bench, provider: Any, asked: Any) -> Finished:
    """The end of a render that is taken and succeeds."""
    token = (await accepted(provider, asked)).token
    there.clock.advance(RENDER_S + 60)
    done = await provider.check(asked.route, json.loads(json.dumps(token)))
    assert isinstance(done, Finished), done
    return done


async def test_a_clip_is_made_as_ordered_and_its_gpu_seconds_are_told() -> None:
    """Frames, rate, size and seed are those asked for; the progress is the worker's."""
    async with bench() as there:
        provider, asked = there.provider(), request(written={"seed": 42, "fps": 12})
        outcome = await accepted(provider, asked)
        assert outcome.token == {"worker": "http://gpu-0:8000", "id": "att_1"}
        assert outcome.eta_s == RENDER_S
        there.clock.advance(12)
        assert await provider.check(asked.route, outcome.token) == Pending(18.0, 0.4)
        there.clock.advance(18)
        done = await provider.check(asked.route, outcome.token)
        assert isinstance(done, Finished), done
        assert (done.report.inference_s, done.report.queue_s, done.report.seed) == (RENDER_S, 0.0, 42)
        assert (done.report.model, done.report.request_id, done.report.cost_micros) == ("svd", "att_1", None)
        file = done.files[0]
        assert isinstance(file, InlineFile)
        with av.open(io.BytesIO(file.data)) as container:
            stream = container.streams.video[0]
            assert (stream.width, stream.height, stream.frames, stream.average_rate) == (64, 64, 4, 12)


async def test_a_picture_is_made_from_a_picture_and_a_prompt() -> None:
    """SSD-1B answers with a JPEG."""
    async with bench() as there:
        done = await rendered(there, there.provider(), request("local/ssd-img2img"))
        assert done.report.model == "ssd-1b"
        file = done.files[0]
        assert isinstance(file, InlineFile)
        assert Image.open(io.BytesIO(file.data)).format == "JPEG"


async def test_the_abilities_are_those_of_our_own_machines() -> None:
    """They can be looked up, stopped and asked how busy they are; they have no credit."""
    async with bench() as there:
        provider = there.provider()
        assert isinstance(provider, HasLookup)
        assert isinstance(provider, HasCancel)
        assert isinstance(provider, HasLoad)
        assert not isinstance(provider, HasBalance)
        assert {route.ambiguous_billing for route in provider.routes} == {"free"}
        assert all(route.resumable for route in provider.routes)


@pytest.mark.parametrize("name", ["camera_motion", "camera_speed", "prompt", "negative_prompt"])
def test_what_the_pipeline_cannot_do_is_refused_with_the_reason(name: str) -> None:
    """Nothing is dropped in silence: the plan and the receipt say why."""
    value = {"camera_motion": "pan_left", "camera_speed": 2.0}.get(name, "a hill")
    refused = fit(CLIP, {name: value}, mode="exact", image_size=SIZE)
    reason = "diffusers has no MotionCtrl" if name.startswith("camera") else "the picture alone"
    assert len(refused.refusals) == 1
    assert refused.refusals[0].startswith(f"this route has no {name}: ")
    assert reason in refused.refusals[0]
    moved = fit(CLIP, {name: value}, mode="nearest", image_size=SIZE)
    line = next(line for line in moved.receipt if line.parameter == name)
    assert (line.outcome, line.sent) == ("dropped", None)
    assert reason in line.reason


@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES)
def test_every_edge_of_the_table_is_inside_what_a_worker_takes(route: Any) -> None:
    """The smallest and the largest value of every row go through the worker's own check."""
    usual: dict[str, Any] = SMALL if route.media == "video" else {"prompt": "a hill"}
    for row in route.capabilities:
        for edge in {row.minimum, row.maximum} - {None} if row.by == "vendor" else ():
            assert edge is not None
            value = int(edge) if row.wire_type == "integer" else float(edge)
            pair = {"min_guidance_scale": 0.0, "max_guidance_scale": 20.0} if "guidance_scale" in row.parameter else {}
            pair = pair if row.parameter in pair else {}
            fitted = fit(route, {**usual, **pair, row.parameter: value}, mode="exact", image_size=SIZE)
            assert not fitted.refusals, fitted.refusals
            body = {"model": route.model, "parameters": fitted.wire, "image": picture_base64()}
            order = read_order(body, tuple(NUMBERS))
            assert order.numbers[row.parameter] == value
    spoilt = {"model": route.model, "parameters": {**fitted.wire, "seed": -2}, "image": picture_base64()}
    with pytest.raises(OrderError, match="seed"):
        read_order(spoilt, tuple(NUMBERS))
    assert FORMATS[route.model]


# A submit whose reply is lost


@pytest.mark.parametrize("fault", ["502_after_accept", "504_after_accept", "html_at_200", "truncated"])
async def test_a_lost_reply_is_looked_up_and_found(fault: str) -> None:
    """The worker knows the attempt by our own id."""
    async with bench(2) as there:
        provider = there.provider()
        there.workers[0].sandbox.script("submit", fault)
        assert isinstance(await provider.submit(request()), InDoubt)
        assert await provider.lookup(sent()) == Accepted({"worker": "http://gpu-0:8000", "id": "att_1"})
        assert there.accepted(0) == ["att_1"]
        assert there.accepted(1) == []


async def test_a_repeated_submit_goes_to_the_same_worker_and_renders_once() -> None:
    """However often it is repeated, and however busy that worker is meanwhile."""
    async with bench(2) as there:
        provider = there.provider()
        there.workers[0].sandbox.script("submit", "502_after_accept", 2)
        for _ in range(2):
            assert isinstance(await provider.submit(request()), InDoubt)
        assert (await accepted(provider, request())).token["worker"] == "http://gpu-0:8000"
        assert (there.accepted(0), there.accepted(1)) == (["att_1"], [])


async def test_a_submit_that_never_arrived_is_known_not_to_have() -> None:
    """Every worker says that it does not know it."""
    async with bench(2) as there:
        provider = there.provider()
        there.workers[0].sandbox.script("submit", "502_before_accept")
        assert isinstance(await provider.submit(request()), InDoubt)
        assert isinstance(await provider.lookup(sent()), NotFound)


async def test_a_worker_that_is_away_proves_nothing() -> None:
    """It may be the one that took it."""
    async with bench(2) as there:
        provider = there.provider()
        there.unplug(1)
        found = await provider.lookup(sent())
        assert isinstance(found, NoEvidence)
        assert "gpu-1" in found.detail
        assert "gpu-0" not in found.detail


# The end of a worker


async def test_a_restarted_worker_has_lost_its_renders() -> None:
    """It says so itself: the render failed for a reason of the worker's, and is rendered anew elsewhere."""
    async with bench() as there:
        provider = there.provider()
        token = (await accepted(provider, request())).token
        there.switch(0, restarts=1)
        failed = await provider.check(CLIP, token)
        assert isinstance(failed, Failed)
        assert failed.kind is FailureKind.LOST


async def test_a_silent_worker_is_waited_for_and_then_given_up() -> None:
    """A moment of silence is not a verdict; a minute of it is. A word in between begins the minute anew."""
    async with bench() as there:
        provider = there.provider(dead_after_s=60)
        token = (await accepted(provider, request())).token
        app = there.unplug(0)
        assert isinstance(await provider.check(CLIP, token), InDoubt)
        there.clock.advance(50)
        assert isinstance(await provider.check(CLIP, token), InDoubt)
        there.board.apps["gpu-0"] = app
        assert isinstance(await provider.check(CLIP, token), Finished)
        there.unplug(0)
        there.clock.advance(50)
        assert isinstance(await provider.check(CLIP, token), InDoubt)
        there.clock.advance(60)
        failed = await provider.check(CLIP, token)
        assert isinstance(failed, Failed)
        assert (failed.kind, failed.report.cost_micros) == (FailureKind.LOST, None)
        assert "has not answered for 60 s" in failed.detail


async def test_a_worker_that_was_taken_out_of_the_configuration_is_given_up_too() -> None:
    """Its render is not asked for where the token would be shown to a stranger."""
    async with bench(2) as there:
        token = (await accepted(there.provider(), request())).token
        provider = there.provider(workers=["http://gpu-1:8000"])
        assert isinstance(await provider.check(CLIP, token), InDoubt)
        there.clock.advance(60)
        assert isinstance(await provider.check(CLIP, token), Failed)


@pytest.mark.parametrize(
    ("ending", "kind"),
    [
        ("out_of_memory", FailureKind.RENDER_FAILED),
        ("fault", FailureKind.RENDER_FAILED),
        ("worker_lost", FailureKind.LOST),
    ],
)
async def test_a_failed_render_says_why(ending: str, kind: FailureKind) -> None:
    """In the worker's code, and with the seconds that it took all the same."""
    async with bench(ending=ending) as there:
        provider = there.provider()
        token = (await accepted(provider, request())).token
        there.clock.advance(RENDER_S)
        failed = await provider.check(CLIP, token)
        assert isinstance(failed, Failed)
        assert failed.kind is kind
        assert ending in failed.detail
        assert failed.report.inference_s == RENDER_S / 2


async def test_a_wedged_render_is_ended_by_the_watchdog() -> None:
    """Until then it is at work without a step; nobody promises when it will be done."""
    async with bench(wedged=True, wedged_after_s=100) as there:
        provider = there.provider()
        token = (await accepted(provider, request())).token
        there.clock.advance(90)
        assert await provider.check(CLIP, token) == Pending(None, 0.0)
        there.clock.advance(10)
        failed = await provider.check(CLIP, token)
        assert isinstance(failed, Failed)
        assert failed.kind is FailureKind.TIMEOUT


@pytest.mark.parametrize("fault", ["truncated", "502_before_accept", "500", "html_at_200"])
async def test_a_file_that_comes_spoilt_is_fetched_again(fault: str) -> None:
    """Its size and hash are known before: what is delivered is whole."""
    async with bench() as there:
        provider = there.provider()
        token = (await accepted(provider, request())).token
        there.clock.advance(RENDER_S)
        there.workers[0].sandbox.script("output", fault)
        assert isinstance(await provider.check(CLIP, token), InDoubt)
        assert isinstance(await provider.check(CLIP, token), Finished)


# Cancel


async def test_a_cancel_stops_what_waits_and_what_runs() -> None:
    """The worker confirms it; nothing is left of either."""
    async with bench() as there:
        provider = there.provider()
        running = (await accepted(provider, request())).token
        waiting = (await accepted(provider, request(attempt_id="att_2"))).token
        assert await provider.cancel(CLIP, waiting)
        assert await provider.cancel(CLIP, running)
        there.clock.advance(1)
        there.workers[0].settle()
        assert {one.state for one in there.workers[0].cards.renders.values()} == {"canceled"}
        assert await provider.cancel(CLIP, running)
        assert isinstance(await provider.check(CLIP, running), Failed)


async def test_a_cancel_that_comes_too_late_or_not_at_all_is_no_cancel() -> None:
    """A finished render stays finished; a worker that is away confirms nothing."""
    async with bench() as there:
        provider = there.provider()
        token = (await accepted(provider, request())).token
        there.clock.advance(RENDER_S)
        assert not await provider.cancel(CLIP, token)
        assert not await provider.cancel(CLIP, {"worker": "http://elsewhere:1", "id": "att_1"})
        there.unplug(0)
        assert not await provider.cancel(CLIP, token)


# Refusals


async def test_a_worker_whose_token_is_another_is_no_fault_of_the_caller() -> None:
    """Nor a render that may have begun."""
    async with bench() as there:
        refused = await there.provider(token="wrong").submit(request())
        assert isinstance(refused, Refused)
        assert refused.kind is FailureKind.UNAUTHORIZED


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (httpx.Response(422, json={"error": {"code": "invalid", "field": "fps", "message": "x"}}), "invalid_request"),
        (httpx.Response(429, headers={"retry-after": "7"}), "rate_limited"),
        (httpx.Response(503, json={"error": {"code": "starting"}}, headers={"retry-after": "5"}), "unavailable"),
        (httpx.Response(404, json={"error": {"code": "no_route"}}), "model_gone"),
        (httpx.Response(404, text="nginx"), None),
        (httpx.Response(503, text="no upstream"), None),
        (httpx.Response(202, json={"id": "another"}), None),
        (httpx.Response(302, headers={"location": "http://elsewhere"}), None),
    ],
)
async def test_each_reply_to_a_submit_is_read_by_status_and_code(reply: httpx.Response, kind: str | None) -> None:
    """Only what the worker itself says is a refusal: of a proxy's page nobody knows what is behind it."""
    transport = httpx.MockTransport(
        lambda _: httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)
    )
    async with bench() as there:
        http = httpx.AsyncClient(transport=transport)
        provider = Bench(there.workers, there.board, there.clock, http).provider()
        outcome = await provider.submit(request())
    assert isinstance(outcome, InDoubt if kind is None else Refused), outcome
    assert kind is None or (isinstance(outcome, Refused) and outcome.kind == kind)


async def test_an_id_that_is_taken_is_an_attempt_that_arrived_and_is_found() -> None:
    """The same attempt in other words: the render that the worker has under its id is gone on with."""
    async with bench() as there:
        provider = there.provider()
        await accepted(provider, request())
        other = request(written={**SMALL, "num_frames": 8})
        outcome = await provider.submit(other)
        assert isinstance(outcome, InDoubt)
        assert (outcome.status, outcome.unrecognised) == (409, False)
        found = await provider.lookup(sent())
        assert isinstance(found, Accepted)
        assert found.token["id"] == "att_1"


def test_a_wrong_address_is_refused_at_the_start() -> None:
    """A worker's address has no path, and there is at least one."""
    for workers in (
        [],
        ["gpu:8000"],
        ["http://"],
        ["http://gpu:8000/v1"],
        ["ftp://gpu"],
        ["dns+gpu:1"],
        ["http://u@g"],
    ):
        with pytest.raises(ValueError, match="workers"):
            PLUGIN.settings.model_validate({"workers": workers})
    chosen = PLUGIN.settings.model_validate({"workers": ["http://gpu:8000/", "dns+http://gpus:8000"], "token": "t0ken"})
    assert chosen.model_dump()["workers"] == ("http://gpu:8000", "dns+http://gpus:8000")
    assert "t0ken" not in repr(chosen)
