"""What a delivered file really is, found by decoding all of it, and how it differs from what was ordered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.media.decoding import BadMedia, MediaContainer, open_video, picture_frames, recognise, video_frames

__all__ = ["BadMedia", "MediaInfo", "deviations", "inspect_media", "same_rate"]

# How far the time of a frame may lie from the one ordered, in seconds. GIF counts hundredths of a second and WebP
# thousandths; the rest is what the whole number of a file's own time unit may round away.
_RATE_TOLERANCE_S: Mapping[str, float] = {"gif": 0.0055, "webp": 0.0015}
_RATE_TOLERANCE_OTHER_S = 0.0002


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """A media file as decoded. `fps` is the mean rate in frames a second, None for a still; sizes are in pixels."""

    container: MediaContainer
    codec: str
    width: int
    height: int
    num_frames: int
    fps: float | None
    duration_s: float
    size_bytes: int


def inspect_media(data: bytes) -> MediaInfo:
    """Recognise a file by its first bytes and decode every frame of it, here in this process.

    Raises BadMedia, and MemoryError where there is less than the file asks for.
    """
    container = recognise(data)
    return _video(data, container) if container in {"mp4", "mov"} else _picture(data, container)


def deviations(
    info: MediaInfo, *, num_frames: int | None = None, fps: float | None = None, size: tuple[int, int] | None = None
) -> tuple[str, ...]:
    """What differs from the order, a sentence each; None means not ordered. The rate of a still is not compared."""
    found = []
    if num_frames is not None and info.num_frames != num_frames:
        found.append(f"{info.num_frames} frames were delivered instead of {num_frames}")
    if fps is not None and info.fps is not None and not same_rate(info.container, info.fps, fps):
        found.append(f"it plays at {info.fps:.4g} fps instead of {fps:g}")
    if size is not None and (info.width, info.height) != size:
        found.append(f"it is {info.width} x {info.height} pixels instead of {size[0]} x {size[1]}")
    return tuple(found)


def same_rate(container: str, found_fps: float, asked_fps: float) -> bool:
    """Whether two rates are the same as far as this container can tell; GIF shows more than 50 fps as 50."""
    tolerance_s = _RATE_TOLERANCE_S.get(container, _RATE_TOLERANCE_OTHER_S)
    return abs(1 / found_fps - 1 / asked_fps) <= tolerance_s


def _video(data: bytes, container: MediaContainer) -> MediaInfo:
    num_frames = width = height = 0
    with open_video(data) as (source, stream):
        for frame in video_frames(source, stream):
            if not num_frames:
                width, height = frame.width, frame.height
            num_frames += 1
        rate = float(stream.average_rate or 0)
        duration_s = float((stream.duration or 0) * (stream.time_base or 0))
        codec = stream.codec_context.name
    if not rate and duration_s:
        rate = num_frames / duration_s
    return MediaInfo(container, codec, width, height, num_frames, rate or None, duration_s, len(data))


def _picture(data: bytes, container: MediaContainer) -> MediaInfo:
    num_frames = width = height = 0
    duration_s = 0.0
    for picture, shown_s in picture_frames(data, container):
        width, height = picture.size
        num_frames += 1
        duration_s += shown_s
    fps = round(num_frames / duration_s, 6) if duration_s else None
    return MediaInfo(container, container, width, height, num_frames, fps, round(duration_s, 6), len(data))
