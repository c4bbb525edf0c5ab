"""Moving pictures on the CPU: the camera move over a still, and the encoding of frames. No vendor is named here.

The still is taken for a flat wall in front of a pinhole camera. The reference implementation of the camera moves
(WIRE 3.3) moves that camera along a straight ramp; what the camera then sees of the wall is a window in the still: a
centre, a size and a roll. Nothing lies beyond the edge of the still, so the first window is chosen small enough for
every later one to fit, and the frame is always filled.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import av
from av.container import OutputContainer
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from PIL import Image

from providers.mp4 import index_first

# The reference scales translations by 1.5 and rolls by a third of pi (WIRE 3.3). The distance of the wall is ours: it
# makes speed 1 slide the camera by about a quarter of the frame's width.
TRANSLATION_SCALE = 1.5
ROLL_RADIANS = math.pi / 3
WALL_DISTANCE = 18.75


@dataclass(frozen=True, slots=True)
class Move:
    """Where the camera goes at speed 1: right, down and forward in scene units, and clockwise in radians."""

    right: float = 0.0
    down: float = 0.0
    forward: float = 0.0
    roll: float = 0.0


# Signs are those of the camera; the content goes the other way (WIRE 3.3).
MOVES: Mapping[str, Move] = {
    "pan_up": Move(down=-1.0 * TRANSLATION_SCALE),
    "pan_down": Move(down=1.0 * TRANSLATION_SCALE),
    "pan_left": Move(right=-3.0 * TRANSLATION_SCALE),
    "pan_right": Move(right=3.0 * TRANSLATION_SCALE),
    "zoom_in": Move(forward=4.0 * TRANSLATION_SCALE),
    "zoom_out": Move(forward=-4.0 * TRANSLATION_SCALE),
    "cw": Move(roll=ROLL_RADIANS),
    "acw": Move(roll=-ROLL_RADIANS),
}


@dataclass(frozen=True, slots=True)
class _Container:
    """How one kind of file is written."""

    codec: str
    pixel_format: str
    codec_options: Mapping[str, str]
    file_options: Mapping[str, str] = field(default_factory=dict)
    fps_max: int = 1000
    palette: bool = False


# No B-frames: they save little on so short a clip, and every decoder then shows the first frame at time zero.
# GIF counts hundredths of a second, and viewers take a delay of one hundredth for ten: fifty frames a second at most.
_CONTAINERS: Mapping[str, _Container] = {
    "mp4": _Container("libx264", "yuv420p", {"preset": "veryfast", "crf": "18", "bf": "0"}),
    "gif": _Container("gif", "pal8", {}, {"loop": "0"}, fps_max=50, palette=True),
    "webp": _Container("libwebp", "yuv420p", {"quality": "82", "compression_level": "2"}, {"loop": "0"}),
}
CONTAINERS = tuple(_CONTAINERS)


def encode(frames: Iterable[Image.Image], *, fps: float, container: str = "mp4") -> bytes:
    """Encode frames of one size at a constant rate: `mp4` (H.264 yuv420p, faststart), `gif` or animated `webp`.

    An odd width or height loses its last column or row. GIF plays at 50 frames a second at most.
    Raises ValueError for no frames, frames of different sizes, an unknown container or a rate of nothing.
    """
    made = _CONTAINERS.get(container)
    if made is None:
        raise ValueError(f"cannot encode {container!r}, only {', '.join(CONTAINERS)}")
    rate = Fraction(min(fps, made.fps_max)).limit_denominator(1001)
    if rate <= 0:
        raise ValueError(f"cannot encode {fps} frames a second")
    target = io.BytesIO()  # never a file: encoding works where none may be written
    with av.open(target, "w", format=container, options=dict(made.file_options)) as output:
        stream: VideoStream | None = None
        for frame in _video_frames(frames, rate, palette=made.palette):
            stream = stream or _add_stream(output, made, frame, rate)
            output.mux(stream.encode(frame))
        if stream is None:
            raise ValueError("there are no frames to encode")
        output.mux(stream.encode(None))
    return index_first(target.getvalue()) if container == "mp4" else target.getvalue()


def camera_move(
    image: Image.Image, *, move: str, speed: float, num_frames: int, size: tuple[int, int] | None = None
) -> Iterator[Image.Image]:
    """Yield the frames that a camera sees which moves before a still; every frame is filled, none has borders.

    `move` is a canonical camera motion; `speed` 0-10 is linear and 0 stands still; frame i has i/num_frames of the
    whole move. `size` is the frame in pixels (the picture is cropped to its shape, at the centre); without it the
    picture's own size is kept, less an odd last row or column.
    Raises KeyError for an unknown move.
    """
    width, height = size or (max(2, image.width & ~1), max(2, image.height & ~1))
    still = _crop_to_shape(image.convert("RGB"), width / height)
    scaled = _times(MOVES[move], speed)
    if scaled.roll:
        yield from _rolls(still, scaled.roll, num_frames, (width, height))
        return
    for step in range(num_frames):
        yield still.resize((width, height), Image.Resampling.BICUBIC, _window(still, scaled, step / num_frames))


def _add_stream(output: OutputContainer, made: _Container, frame: VideoFrame, fps: Fraction) -> VideoStream:
    stream = output.add_stream(made.codec, rate=fps, options=dict(made.codec_options))
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, made.pixel_format
    stream.thread_count = 1  # the same bytes on every machine, and one clip never takes all cores
    if not made.palette:
        stream.codec_context.colorspace, stream.codec_context.color_range = Colorspace.ITU601, ColorRange.MPEG
    return stream


def _times(move: Move, speed: float) -> Move:
    return Move(move.right * speed, move.down * speed, move.forward * speed, move.roll * speed)


def _window(still: Image.Image, move: Move, progress: float) -> tuple[float, float, float, float]:
    """The part of the still in view at 0-1 of the move, as left, top, right, bottom.

    Slides are counted in widths of the frame, as a pinhole with a field of view of one width at unit distance sees
    them. Going back is the exact dolly; going forward is its mirror in time, which never runs into the wall.
    """
    slide_x, slide_y = move.right / WALL_DISTANCE, move.down / WALL_DISTANCE * still.width / still.height
    dolly = move.forward / WALL_DISTANCE
    part = 1 / (1 + max(abs(slide_x), abs(slide_y)))
    if dolly < 0:
        part = (1 - dolly * progress) / (1 - dolly)
    elif dolly > 0:
        part = 1 / (1 + dolly * progress)
    width, height = still.width * part, still.height * part
    # A slide starts half its way to the other side, so that it crosses the middle of the still.
    left = (still.width - width) / 2 + slide_x * width * (progress - 0.5)
    top = (still.height - height) / 2 + slide_y * height * (progress - 0.5)
    left, top = max(0.0, left), max(0.0, top)
    return left, top, min(still.width, left + width), min(still.height, top + height)


def _rolls(still: Image.Image, roll: float, num_frames: int, size: tuple[int, int]) -> Iterator[Image.Image]:
    """Turn the window about its centre by up to `roll` radians, clockwise when positive."""
    width, height = size
    overscan = max(_overscan(abs(roll) * step / num_frames, width / height) for step in range(num_frames))
    zoom = min(still.width / width, still.height / height) / overscan
    for step in range(num_frames):
        angle = roll * step / num_frames
        cos, sin = math.cos(angle) * zoom, math.sin(angle) * zoom
        left = still.width / 2 - cos * width / 2 + sin * height / 2
        top = still.height / 2 - sin * width / 2 - cos * height / 2
        yield still.transform(size, Image.Transform.AFFINE, (cos, -sin, left, sin, cos, top), Image.Resampling.BICUBIC)


def _overscan(angle: float, aspect: float) -> float:
    """How many times larger than the frame a still must be to fill it when the frame is turned by `angle` radians."""
    cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
    return cos + sin * max(aspect, 1 / aspect)


def _crop_to_shape(image: Image.Image, aspect: float) -> Image.Image:
    width = max(1, min(image.width, round(image.height * aspect)))
    height = max(1, min(image.height, round(image.width / aspect)))
    if (width, height) == image.size:
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _video_frames(frames: Iterable[Image.Image], fps: Fraction, *, palette: bool) -> Iterator[VideoFrame]:
    timed = _timed(frames, fps)
    return _with_palette(timed, fps) if palette else timed


def _timed(frames: Iterable[Image.Image], fps: Fraction) -> Iterator[VideoFrame]:
    size: tuple[int, int] | None = None
    for index, image in enumerate(frames):
        if size not in (None, image.size):
            raise ValueError(f"frame {index} is {image.width}x{image.height}, the first is {size}")
        size = image.size
        frame: VideoFrame = VideoFrame.from_image(_even(image))  # type: ignore[no-untyped-call]
        frame.pts, frame.time_base = index, 1 / fps
        yield frame


def _even(image: Image.Image) -> Image.Image:
    width, height = max(2, image.width & ~1), max(2, image.height & ~1)
    rgb = image.convert("RGB")
    if (width, height) == rgb.size:
        return rgb
    return rgb.resize((width, height), box=(0, 0, min(rgb.width, width), min(rgb.height, height)))


def _with_palette(frames: Iterator[VideoFrame], fps: Fraction) -> Iterator[VideoFrame]:
    """Reduce to the 256 colours that suit the whole clip best."""
    graph: Graph | None = None
    for frame in frames:
        graph = graph or _palette_graph(frame, fps)
        graph.push(frame)
    if graph is None:
        return
    graph.push(None)
    while True:
        try:
            yield graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return


def _palette_graph(frame: VideoFrame, fps: Fraction) -> Graph:
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=1 / fps)
    split, choose = graph.add("split"), graph.add("palettegen", stats_mode="full")
    use, sink = graph.add("paletteuse", dither="sierra2_4a", diff_mode="rectangle"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(choose, 0, 0)
    split.link_to(use, 1, 0)
    choose.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph
