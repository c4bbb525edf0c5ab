"""The preview: free, at once, as ordered, labelled."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from random import Random
from typing import Any

import av
import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops

from policies.fit import FitMode, fit
from providers.capability import DELIVERED_BY_GATEWAY
from providers.contract import (
    FailureKind,
    Finished,
    HasBalance,
    HasCancel,
    HasLookup,
    HasUpload,
    InDoubt,
    InlineFile,
    Json,
    Provider,
    Refused,
    RenderRequest,
    SourceImage,
    SubmitOutcome,
    Tools,
)
from providers.preview import PLUGIN, adapter
from providers.preview.adapter import Settings, frame_size
from providers.preview.catalogue import CATALOGUE
from providers.preview.label import draw_label, labelled
from providers.vocabulary import BY_NAME, CAMERA_MOTIONS

ROUTE = CATALOGUE[0]


class StoppedClock:
    """A clock that nobody should need."""

    def now(self) -> float:
        """The beginning of time."""
        return 0.0

    async def sleep(self, seconds: float) -> None:
        """Never wait."""
        raise AssertionError(f"slept {seconds} s")


def picture(width: int = 160, height: int = 90) -> bytes:
    """A picture with structure, as PNG."""
    noise = Image.frombytes("RGB", (20, 12), Random(5).randbytes(20 * 12 * 3)).resize((width, height))
    target = io.BytesIO()
    noise.save(target, "PNG")
    return target.getvalue()


def submit(data: bytes | None, parameters: dict[str, Json]) -> SubmitOutcome:
    """One submit to a provider that was built as the gateway builds it."""

    async def scenario() -> SubmitOutcome:
        async with httpx.AsyncClient() as http:
            provider: Provider = PLUGIN.build(PLUGIN.settings(), Tools(http, StoppedClock(), Random(0)))
            source = SourceImage("image/png", 160, 90, url=None if data else "https://example.com/a.png", data=data)
            return await provider.submit(RenderRequest(ROUTE, "attempt", parameters, source))

    return asyncio.run(scenario())


def frames_of(outcome: SubmitOutcome) -> list[Image.Image]:
    """The decoded frames of a finished clip."""
    assert isinstance(outcome, Finished)
    (file,) = outcome.files
    assert isinstance(file, InlineFile)
    with av.open(io.BytesIO(file.data), "r") as source:
        return [frame.to_image() for frame in source.decode(video=0)]  # type: ignore[no-untyped-call]


def fitted(written: dict[str, Any], size: tuple[int, int] = (160, 90), mode: FitMode = "exact") -> dict[str, Json]:
    """What the gateway would send for a request, with no refusal left."""
    made = fit(ROUTE, written, mode=mode, image_size=size)
    assert made.refusals == ()
    return dict(made.wire)


@pytest.mark.parametrize("move", CAMERA_MOTIONS)
def test_every_move_comes_back_finished_and_free(move: str) -> None:
    """A submit answers with a clip of the ordered frames that moves, costs nothing and says which model made it."""
    outcome = submit(picture(), fitted({"camera_motion": move, "num_frames": 5, "width": 160, "height": 90}))
    frames = frames_of(outcome)
    assert isinstance(outcome, Finished)
    assert (outcome.report.cost_micros, outcome.report.model) == (0, ROUTE.model)
    assert len(frames) == 5
    assert frames[0].size == (160, 90)
    assert ImageChops.difference(frames[0], frames[-1]).convert("L").getextrema()[1] > 60  # type: ignore[operator]


@settings(deadline=None, max_examples=25)
@given(
    move=st.sampled_from(CAMERA_MOTIONS),
    speed=st.floats(0, 10),
    num_frames=st.integers(1, 25),
    fps=st.integers(1, 60),
    width=st.integers(32, 80).map(lambda side: side * 2),
    height=st.integers(32, 80).map(lambda side: side * 2),
)
def test_everything_that_the_table_allows_is_delivered_as_ordered(
    move: str, speed: float, num_frames: int, fps: int, width: int, height: int
) -> None:
    """The capability table promises nothing that the renderer does not keep."""
    written = {"camera_motion": move, "camera_speed": speed, "num_frames": num_frames, "fps": fps}
    outcome = submit(picture(), fitted({**written, "width": width, "height": height}))
    assert isinstance(outcome, Finished)
    (file,) = outcome.files
    assert isinstance(file, InlineFile)
    with av.open(io.BytesIO(file.data), "r") as source:
        stream = source.streams.video[0]
        assert (stream.frames, stream.average_rate) == (num_frames, fps)
        assert (stream.codec_context.width, stream.codec_context.height) == (width, height)


def test_a_request_without_a_camera_move_is_not_for_this_route() -> None:
    """A move has no neutral value, so a preview is never a stand-in for something else."""
    assert fit(ROUTE, {}, mode="exact", image_size=(160, 90)).refusals
    assert fit(ROUTE, {"prompt": "x", "camera_motion": "cw"}, mode="exact", image_size=(160, 90)).refusals
    assert fit(ROUTE, {"camera_motion": "cw", "width": 2048, "height": 64}, mode="exact", image_size=(9, 9)).refusals


def test_the_route_calls_itself_a_preview() -> None:
    """It is taken only when asked for, costs nothing when in doubt, and claims no ability that it has not."""
    assert (ROUTE.name, ROUTE.preview, ROUTE.mode) == ("preview/camera", True, "local")
    assert (ROUTE.ambiguous_billing, ROUTE.resumable, ROUTE.image_forms) == ("free", False, ("bytes",))
    assert all(row in ROUTE.capabilities for row in DELIVERED_BY_GATEWAY)
    assert all(row.parameter in BY_NAME for row in ROUTE.capabilities)
    provider = adapter.build(Settings(), None)  # type: ignore[arg-type]
    assert provider.name == PLUGIN.name == ROUTE.provider
    assert not isinstance(provider, HasBalance | HasCancel | HasLookup | HasUpload)


def test_a_route_that_is_not_there_cannot_be_switched_on() -> None:
    """A misspelt route stops the start and names the right one."""
    with pytest.raises(ValueError, match="preview/camera"):
        adapter.build(Settings(routes=("preview/kamera",)), None)  # type: ignore[arg-type]


def test_a_preview_leaves_nothing_to_ask_about() -> None:
    """After a crash the attempt is known to be gone, and being free it can be made again."""
    outcome = asyncio.run(adapter.Preview(CATALOGUE).check(ROUTE, {}))
    assert isinstance(outcome, InDoubt)
    assert outcome.gone


@pytest.mark.parametrize(
    ("data", "parameters"),
    [
        (None, {"camera_motion": "cw", "num_frames": 2, "fps": 7}),
        (b"not a picture", {"camera_motion": "cw", "num_frames": 2, "fps": 7}),
        (picture()[:200], {"camera_motion": "cw", "num_frames": 2, "fps": 7}),
        (picture(), {"camera_motion": "sideways", "num_frames": 2, "fps": 7}),
        (picture(), {"camera_motion": "cw", "fps": 7}),
        (picture(), {"camera_motion": "cw", "num_frames": 0, "fps": 7}),
    ],
)
def test_what_cannot_be_drawn_is_refused_and_never_raised(data: bytes | None, parameters: dict[str, Json]) -> None:
    """The engine gets an outcome whatever it hands over."""
    outcome = submit(data, parameters)
    assert isinstance(outcome, Refused)
    assert outcome.kind is FailureKind.INVALID_REQUEST


def test_drawing_does_not_hold_up_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other requests go on while a clip is drawn."""
    release = threading.Event()
    drawn_on: list[str] = []

    def slow(*_: object) -> bytes:
        drawn_on.append(threading.current_thread().name)
        assert release.wait(5)
        return b"clip"

    async def scenario() -> SubmitOutcome:
        request = RenderRequest(ROUTE, "a", {}, SourceImage("image/png", 1, 1, data=b"x"))
        task = asyncio.ensure_future(adapter.Preview(CATALOGUE).submit(request))
        await asyncio.sleep(0)
        assert not task.done()
        release.set()
        return await task

    monkeypatch.setattr(adapter, "render", slow)
    assert isinstance(asyncio.run(scenario()), Finished)
    assert drawn_on != [threading.main_thread().name]


@pytest.mark.parametrize(
    ("size", "parameters", "expected"),
    [
        ((800, 600), {}, (800, 600)),
        ((801, 601), {"resize": "keep_aspect"}, (800, 600)),
        ((4000, 3000), {"resize": "keep_aspect"}, (1024, 768)),
        ((1000, 1000), {"resize": "crop_16_9"}, (1000, 562)),
        ((4000, 1000), {"resize": "crop_16_9"}, (1024, 576)),
        ((300, 4000), {}, (76, 1024)),
        ((800, 600), {"width": 320, "height": 64, "resize": "crop_16_9"}, (320, 64)),
    ],
)
def test_the_frame_has_the_shape_that_was_ordered(
    size: tuple[int, int], parameters: dict[str, Any], expected: tuple[int, int]
) -> None:
    """Width and height win; else the picture keeps its shape or is cropped to 16:9, within 1024 pixels."""
    assert frame_size(size, parameters) == expected


@pytest.mark.parametrize("colour", ["white", "black", "#808080"])
def test_every_frame_is_marked_in_its_corner(colour: str) -> None:
    """Nobody takes a preview for a render: the mark can be seen on any ground, and only in the lower right corner."""
    plain = Image.new("RGB", (1024, 576), colour)
    for marked in labelled([plain] * 3):
        box = ImageChops.difference(plain, marked).getbbox()
        assert box is not None
        left, top, right, bottom = box
        assert left > 1024 * 0.85
        assert top > 576 * 0.9
        assert right < 1024
        assert bottom < 576
        low, high = marked.crop(box).convert("L").getextrema()
        assert high - low > 90  # type: ignore[operator]


def test_the_mark_suits_frames_of_any_size() -> None:
    """It grows with the frame and never covers a small one."""
    assert draw_label(1024).height > draw_label(576).height > draw_label(128).height
    assert draw_label(64).width < 64
    small = Image.new("RGB", (64, 64), "white")
    assert next(labelled([small])).size == (64, 64)
    assert small.getextrema() == ((255, 255),) * 3


def test_a_full_size_preview_takes_about_a_second() -> None:
    """Fourteen frames of 1024 x 576 are drawn and encoded in the time promised, with room for a slow machine."""
    started_s = time.perf_counter()
    submit(picture(1024, 576), fitted({"camera_motion": "cw", "num_frames": 14}, (1024, 576)))
    assert time.perf_counter() - started_s < 8
