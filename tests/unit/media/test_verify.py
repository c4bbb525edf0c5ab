"""A delivered file is what it decodes to, and nothing that does not decode is delivered."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gateway.media import decoding
from gateway.media.verify import BadMedia, MediaInfo, deviations, inspect_media, same_rate
from providers.rendering import CONTAINERS, encode
from tests.unit.media.support import clip, gif_header, png_of, saved, textured, webp_header

INFO = MediaInfo("mp4", "h264", 1024, 576, 14, 7.0, 2.0, 1000)
HEADS = (
    b"\x00\x00\x00\x18ftypisom",
    b"GIF89a\x10\x00\x10\x00",
    b"RIFF\x40\x00\x00\x00WEBPVP8X",
    b"\x89PNG\r\n\x1a\n",
    b"",
)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(CONTAINERS), st.integers(1, 25), st.integers(1, 60))
def test_the_frames_and_the_rate_asked_for_are_found(container: str, num_frames: int, fps: int) -> None:
    """What is encoded is inspected as exactly that many frames at that rate, in every container."""
    frames = (Image.new("RGB", (32, 18), (index * 9, 90, 120)) for index in range(num_frames))
    info = inspect_media(encode(frames, fps=fps, container=container))
    assert (info.container, info.num_frames, info.width, info.height) == (container, num_frames, 32, 18)
    assert deviations(info, num_frames=num_frames, fps=fps, size=(32, 18)) == ()
    still = container == "webp" and num_frames == 1
    assert (info.fps is None) == still
    if container == "mp4":
        assert info.fps == fps
        assert info.codec == "h264"
    if not still:
        assert info.duration_s == pytest.approx(num_frames / min(fps, 50 if container == "gif" else 60), abs=0.016)


def test_frames_that_are_all_alike_are_all_counted() -> None:
    """A still camera makes as many frames as were ordered, not one long one."""
    for container in CONTAINERS:
        assert inspect_media(encode([textured()] * 9, fps=7, container=container)).num_frames == 9


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_picture_is_a_still_of_one_frame(kind: str) -> None:
    """Image routes deliver these; they have no rate."""
    data = saved(textured(), kind)
    assert inspect_media(data) == MediaInfo(kind, kind, 160, 90, 1, None, 0.0, len(data))  # type: ignore[arg-type]


def test_quicktime_is_told_from_mp4() -> None:
    """A `.mov` that calls itself a video would not play everywhere; it is recognised so that it can be converted."""
    data = clip("mp4")
    assert data[4:8] == b"ftyp"
    assert inspect_media(data[:8] + b"qt  " + data[12:]).container == "mov"


@pytest.mark.parametrize("container", CONTAINERS)
@settings(deadline=None, max_examples=40)
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_bad(container: str, part: float) -> None:
    """A download that broke off is never taken for the video, not even when only the last byte is missing."""
    data = clip(container)
    with pytest.raises(BadMedia):
        inspect_media(data[: min(int(len(data) * part), len(data) - 1)])


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>502</body></html>", "text"),
        (b' {"error": "busy"}', "text"),
        (b"%PDF-1.7", "a PDF document"),
        (b"plain", "no media file"),
        (b"#EXTM3U\nfile:///etc/passwd", "no media file"),
        (b"\x00\x00\x00\x18ftypisom" + bytes(40), "no video stream|cannot be decoded"),
        (gif_header(64, 64) + b";", "cannot be decoded"),
        (png_of(20_000, 20_000), "too large"),
        (webp_header(16_000, 16_000), "too large"),
    ],
)
def test_what_is_no_media_file_is_bad_and_says_why(data: bytes, why: str) -> None:
    """The reason goes into the job's record."""
    with pytest.raises(BadMedia, match=why):
        inspect_media(data)


def test_a_video_without_pictures_is_bad() -> None:
    """An MP4 may hold other things than pictures."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=44_100)
        for index in range(4):
            sound = av.AudioFrame(format="fltp", layout="stereo", samples=1024)
            sound.sample_rate, sound.pts, sound.time_base = 44_100, index * 1024, Fraction(1, 44_100)
            for plane in sound.planes:
                plane.update(bytes(plane.buffer_size))
            output.mux(stream.encode(sound))
        output.mux(stream.encode(None))
    with pytest.raises(BadMedia, match="no video stream"):
        inspect_media(target.getvalue())


@pytest.mark.parametrize("container", CONTAINERS)
def test_giant_frames_are_not_decoded(container: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size that a file states is bounded before memory is taken for it."""
    monkeypatch.setattr(decoding, "FRAME_PIXELS_MAX", 256 * 256)  # decoders round a frame up
    assert inspect_media(clip(container)).width == 160
    monkeypatch.setattr(decoding, "FRAME_PIXELS_MAX", 100 * 90)
    with pytest.raises(BadMedia):
        inspect_media(clip(container))


def test_a_clip_of_too_many_frames_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour of decoding cannot hide in a small file, whichever the container."""
    monkeypatch.setattr(decoding, "CLIP_FRAMES_MAX", 4)
    for container in CONTAINERS:
        assert inspect_media(clip(container, num_frames=4)).num_frames == 4
        with pytest.raises(BadMedia, match="too large"):
            inspect_media(clip(container, num_frames=5))


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(HEADS), st.binary(max_size=200))
def test_arbitrary_bytes_are_inspected_or_bad_and_nothing_else(head: bytes, tail: bytes) -> None:
    """Whatever a vendor's link leads to, the engine gets a verdict."""
    try:
        verdict: object = inspect_media(head + tail)
    except BadMedia as error:
        verdict = str(error)
    assert verdict


@settings(deadline=None, max_examples=120)
@given(st.sampled_from(CONTAINERS), st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 255)), max_size=9))
def test_damaged_files_are_inspected_or_bad_and_nothing_else(container: str, flips: list[tuple[int, int]]) -> None:
    """Changed bytes deep inside a real file end in a verdict too."""
    data = bytearray(clip(container))
    for position, value in flips:
        data[position % len(data)] = value
    try:
        verdict: object = inspect_media(bytes(data))
    except BadMedia as error:
        verdict = str(error)
    assert verdict


def test_each_difference_from_the_order_is_a_sentence() -> None:
    """Frames, rate and size are compared; what was not ordered is not."""
    assert deviations(INFO) == ()
    assert deviations(INFO, num_frames=14, fps=7, size=(1024, 576)) == ()
    assert deviations(INFO, num_frames=25, fps=10, size=(512, 512)) == (
        "14 frames were delivered instead of 25",
        "it plays at 7 fps instead of 10",
        "it is 1024 x 576 pixels instead of 512 x 512",
    )


def test_only_the_number_of_frames_speaks_of_frames() -> None:
    """The engine may fail a job for missing frames; a different rate or size must not look like that."""
    assert all("frames" not in text for text in deviations(INFO, num_frames=14, fps=10, size=(512, 512)))


@given(st.integers(1, 60))
def test_each_container_is_forgiven_its_own_clock_and_no_more(fps: int) -> None:
    """GIF's hundredths and WebP's thousandths of a second are no deviation; the next whole rate is one."""
    assert same_rate("mp4", fps, fps)
    assert not same_rate("mp4", fps + 1, fps) or fps > 60
    if fps <= 50:
        assert same_rate("gif", 100 / round(100 / fps), fps)
    assert same_rate("webp", 1000 / round(1000 / fps), fps)
    if fps <= 12:
        assert not same_rate("gif", fps + 1, fps)
    if fps <= 24:
        assert not same_rate("webp", fps + 1, fps)
