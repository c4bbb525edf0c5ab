"""Camera moves go where they are said to go, fill the frame, and are encoded as ordered."""

from __future__ import annotations

import io
import itertools
import math
from functools import cache
from random import Random

import av
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageDraw

from providers.rendering import CONTAINERS, MOVES, camera_move, encode
from providers.vocabulary import CAMERA_MOTIONS

SIZE = (320, 180)
NUM_FRAMES = 14
# Where the content goes: the camera's move with its sign turned (WIRE 3.3).
CONTENT_SHIFT = {"pan_up": (0, 1), "pan_down": (0, -1), "pan_left": (1, 0), "pan_right": (-1, 0)}

moves = st.sampled_from(CAMERA_MOTIONS)
speeds = st.floats(0, 10)


def dots() -> Image.Image:
    """Black, with a red dot in the middle, a green one right of it and a blue one below it."""
    picture = Image.new("RGB", (SIZE[0] * 2, SIZE[1] * 2), "black")
    pen = ImageDraw.Draw(picture)
    for colour, x, y in (("#ff0000", 320, 180), ("#00ff00", 380, 180), ("#0000ff", 320, 240)):
        pen.ellipse((x - 10, y - 10, x + 10, y + 10), fill=colour)
    return picture


def places(frame: Image.Image) -> list[tuple[float, float]]:
    """The centres of the red, the green and the blue dot, to a fraction of a pixel."""
    found = []
    for channel in frame.split():
        weights = numpy.asarray(channel, dtype=float)
        weights = numpy.where(weights > 100, weights, 0)
        assert weights.any(), "a dot has left the frame"
        across, down = numpy.arange(frame.width) + 0.5, numpy.arange(frame.height) + 0.5
        total = weights.sum()
        found.append((float((weights.sum(0) @ across) / total), float((weights.sum(1) @ down) / total)))
    return found


@cache
def tracks(move: str, speed: float = 1.0) -> list[list[tuple[float, float]]]:
    """The places of the dots in every frame of a move."""
    return [places(frame) for frame in camera_move(dots(), move=move, speed=speed, num_frames=NUM_FRAMES, size=SIZE)]


def angles(move: str, speed: float = 1.0) -> list[float]:
    """How far the content has turned in every frame, in degrees, anticlockwise on the screen being positive."""
    return [-math.degrees(math.atan2(green[1] - red[1], green[0] - red[0])) for red, green, _ in tracks(move, speed)]


def sizes(move: str, speed: float = 1.0) -> list[float]:
    """The distance from the red to the green dot in every frame, in pixels."""
    return [math.dist(red, green) for red, green, _ in tracks(move, speed)]


def test_every_canonical_move_is_there() -> None:
    """The vocabulary and the renderer name the same eight moves."""
    assert set(MOVES) == set(CAMERA_MOTIONS)


@pytest.mark.parametrize("move", CONTENT_SHIFT)
def test_trap_38_a_sliding_camera_sends_the_content_the_other_way(move: str) -> None:
    """Pan left shows what lies left: the content goes right, in equal steps, without turning or growing."""
    expected = CONTENT_SHIFT[move]
    shifts = [
        (after[0][0] - before[0][0], after[0][1] - before[0][1]) for before, after in itertools.pairwise(tracks(move))
    ]
    for shift in shifts:
        along = shift[0] * expected[0] + shift[1] * expected[1]
        aside = shift[0] * expected[1] - shift[1] * expected[0]
        assert along > 0.5
        assert abs(aside) < 0.1
        assert along == pytest.approx(sum(abs(dx + dy) for dx, dy in shifts) / len(shifts), abs=0.3)
    assert max(sizes(move)) - min(sizes(move)) < 0.5


def test_sideways_slides_are_three_times_the_upright_ones() -> None:
    """The reference's vectors are 3 to 1 (WIRE 3.3)."""
    sideways = tracks("pan_left")[-1][0][0] - tracks("pan_left")[0][0][0]
    upright = tracks("pan_up")[-1][0][1] - tracks("pan_up")[0][0][1]
    assert sideways == pytest.approx(3 * upright, rel=0.03)


def test_zooming_in_makes_the_content_grow_and_zooming_out_shrink() -> None:
    """A dolly along the axis: the middle stays, everything else moves from or to it."""
    growing, shrinking = sizes("zoom_in"), sizes("zoom_out")
    assert growing == sorted(growing)
    assert shrinking == sorted(shrinking, reverse=True)
    assert growing[-1] / growing[0] == pytest.approx(1 + 0.32 * 13 / 14, rel=0.02)
    assert shrinking[0] / shrinking[-1] == pytest.approx(1.32 / (1.32 - 0.32) * (1 / (1 + 0.32 / 14)), rel=0.05)
    for move in ("zoom_in", "zoom_out"):
        for red, _, _ in tracks(move):
            assert math.dist(red, (SIZE[0] / 2, SIZE[1] / 2)) < 1.2


def test_trap_38_a_camera_that_rolls_clockwise_turns_the_content_anticlockwise() -> None:
    """CW and ACW turn by sixty degrees times the share of the ramp, in equal steps (WIRE 3.3)."""
    for move, sign in (("cw", 1), ("acw", -1)):
        for index, angle in enumerate(angles(move)):
            assert angle == pytest.approx(sign * 60 * index / NUM_FRAMES, abs=0.7)
        assert max(sizes(move)) / min(sizes(move)) < 1.02
        for red, _, _ in tracks(move):
            assert math.dist(red, (SIZE[0] / 2, SIZE[1] / 2)) < 1.2


@pytest.mark.parametrize("move", ["cw", "acw"])
def test_the_picture_is_turned_and_not_mirrored(move: str) -> None:
    """The blue dot stays a quarter turn clockwise of the green one."""
    for red, green, blue in tracks(move):
        turned = (red[0] - (green[1] - red[1]), red[1] + (green[0] - red[0]))
        assert math.dist(turned, blue) < 1.5


@pytest.mark.parametrize("move", CAMERA_MOTIONS)
def test_speed_is_linear(move: str) -> None:
    """Half the speed is half the way at every frame; at speed 0 nothing moves at all."""
    if move in {"cw", "acw"}:
        assert angles(move, 0.5)[-1] == pytest.approx(angles(move)[-1] / 2, abs=0.7)
    elif move in CONTENT_SHIFT:
        ways = [math.dist(tracks(move, speed)[0][0], tracks(move, speed)[-1][0]) for speed in (0.5, 1.0)]
        assert ways[0] == pytest.approx(ways[1] / 2, rel=0.03)
    else:
        ratios = [sizes(move, speed)[-1] / sizes(move, speed)[0] for speed in (0.5, 1.0)]
        grown = [ratio if move == "zoom_in" else 1 / ratio for ratio in ratios]
        assert grown[0] - 1 == pytest.approx((grown[1] - 1) / 2, rel=0.12)
    still = list(camera_move(dots(), move=move, speed=0, num_frames=3, size=SIZE))
    assert still[0].tobytes() == still[1].tobytes() == still[2].tobytes()


@settings(deadline=None, max_examples=60)
@given(moves, speeds, st.integers(1, 25), st.tuples(st.integers(8, 120), st.integers(8, 120)), st.data())
def test_every_frame_is_filled_and_of_the_size_asked(
    move: str, speed: float, num_frames: int, picture: tuple[int, int], data: st.DataObject
) -> None:
    """Whatever the move, the speed and the shapes: no border, no corner without picture, no frame too few."""
    size = data.draw(st.none() | st.tuples(st.integers(1, 60), st.integers(1, 60)).map(lambda s: (s[0] * 2, s[1] * 2)))
    white = Image.new("RGB", picture, "white")
    frames = list(camera_move(white, move=move, speed=speed, num_frames=num_frames, size=size))
    assert len(frames) == num_frames
    expected = size or (picture[0] // 2 * 2, picture[1] // 2 * 2)
    for frame in frames:
        assert frame.size == expected
        assert frame.getextrema() == ((255, 255), (255, 255), (255, 255))


@pytest.mark.parametrize("move", CAMERA_MOTIONS)
def test_the_motion_is_smooth_below_a_pixel(move: str) -> None:
    """A slow move changes the picture a little at every frame instead of jumping by whole pixels."""
    grid = Image.frombytes("RGB", (40, 22), Random(3).randbytes(40 * 22 * 3)).resize(SIZE, Image.Resampling.BICUBIC)
    frames = list(camera_move(grid, move=move, speed=0.05, num_frames=NUM_FRAMES, size=SIZE))
    steps = [
        sum(ImageChops.difference(before, after).convert("L").histogram()[1:])
        for before, after in itertools.pairwise(frames)
    ]
    assert min(steps) > 0
    assert max(steps) < 4 * min(steps)


def test_a_picture_of_another_shape_is_cropped_and_not_squeezed() -> None:
    """A disc stays a disc in a frame of another shape."""
    picture = Image.new("RGB", (200, 200), "black")
    ImageDraw.Draw(picture).ellipse((60, 60, 140, 140), fill="white")
    frame = next(camera_move(picture, move="pan_up", speed=0, num_frames=1, size=SIZE)).convert("L")
    left, top, right, bottom = frame.point([255 * (value > 127) for value in range(256)]).getbbox()  # type: ignore[misc]
    assert abs((right - left) - (bottom - top)) <= 1


def test_an_unknown_move_is_an_error() -> None:
    """Nothing is drawn for a word that means nothing."""
    with pytest.raises(KeyError):
        next(camera_move(dots(), move="dolly", speed=1, num_frames=2))


def test_an_mp4_can_start_before_it_has_arrived_whole() -> None:
    """H.264 in 4:2:0 with the index in front of the pictures, first frame at time zero."""
    data = encode(camera_move(dots(), move="cw", speed=1, num_frames=5, size=SIZE), fps=7)
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    with av.open(io.BytesIO(data), "r") as source:
        stream = source.streams.video[0]
        frames = list(source.decode(stream))
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.frames, stream.average_rate, stream.start_time) == (5, 7, 0)
    assert [round(float(frame.pts * frame.time_base) * 7) for frame in frames] == [0, 1, 2, 3, 4]  # type: ignore[operator]


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("colour", [(220, 40, 30), (20, 180, 60), (40, 60, 200), (250, 250, 250), (128, 128, 128)])
def test_colours_are_kept(container: str, colour: tuple[int, int, int]) -> None:
    """The file says which matrix its colours were made with, so that they come back as they were."""
    data = encode([Image.new("RGB", (64, 64), colour)] * 2, fps=7, container=container)
    if container == "mp4":
        with av.open(io.BytesIO(data), "r") as source:
            seen = next(source.decode(video=0)).to_image()  # type: ignore[no-untyped-call]
    else:
        seen = Image.open(io.BytesIO(data)).convert("RGB")
    assert max(abs(a - b) for a, b in zip(seen.getpixel((30, 30)), colour, strict=True)) <= 6


@pytest.mark.parametrize("container", CONTAINERS)
@settings(deadline=None, max_examples=12)
@given(width=st.integers(1, 70), height=st.integers(1, 70))
def test_trap_39_odd_and_tiny_frames_are_encoded_in_even_sizes(container: str, width: int, height: int) -> None:
    """An odd last row or column is lost, and a frame of one pixel becomes two."""
    data = encode([Image.new("RGB", (width, height), "red")] * 2, fps=7, container=container)
    expected = (max(2, width // 2 * 2), max(2, height // 2 * 2))
    if container == "mp4":
        with av.open(io.BytesIO(data), "r") as source:
            frame = next(source.decode(video=0))
            assert (frame.width, frame.height) == expected
    else:
        assert Image.open(io.BytesIO(data)).size == expected


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_same_frames_give_the_same_bytes(container: str) -> None:
    """Encoding is deterministic, so that equal clips are one artifact."""
    made = [
        encode(camera_move(dots(), move="acw", speed=2, num_frames=4, size=SIZE), fps=9, container=container)
        for _ in range(2)
    ]
    assert made[0] == made[1]


def test_animations_repeat_for_ever() -> None:
    """GIF and WebP loop, as people expect of them."""
    for container in ("gif", "webp"):
        data = encode(camera_move(dots(), move="cw", speed=1, num_frames=3, size=SIZE), fps=9, container=container)
        assert Image.open(io.BytesIO(data)).info["loop"] == 0


def test_what_cannot_be_encoded_is_an_error() -> None:
    """No frames, frames that do not fit together, no rate and unknown containers are refused."""
    frame = Image.new("RGB", (64, 64))
    for container in CONTAINERS:
        with pytest.raises(ValueError, match="no frames"):
            encode([], fps=7, container=container)
        with pytest.raises(ValueError, match="frame 1"):
            encode([frame, frame.resize((32, 32))], fps=7, container=container)
    with pytest.raises(ValueError, match="frames a second"):
        encode([frame], fps=0)
    with pytest.raises(ValueError, match="avi"):
        encode([frame], fps=7, container="avi")
