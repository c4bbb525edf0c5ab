"""A delivered clip in the container that was asked for, with the same frames at the same rate."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image

from gateway.media.decoding import open_video, picture_frames, video_frames
from gateway.media.verify import MediaInfo, same_rate
from providers.rendering import encode

STILL_FPS = 7.0  # a still has no rate of its own; this is the usual one


def converted(data: bytes, info: MediaInfo, output_format: str) -> bytes:
    """The file as `mp4`, `gif` or `webp`; the very same bytes when it is that already.

    `info` is what `inspect_media` said of it. Raises BadMedia, and ValueError for another format.
    """
    if info.container == output_format:
        return data
    frames = _video(data) if info.container in {"mp4", "mov"} else _pictures(data, info)
    return encode(frames, fps=_rate(info), container=output_format)


def _rate(info: MediaInfo) -> float:
    """The rate to keep. A coarse clock blurs whole rates, so there the whole one is taken where it may be meant."""
    if info.fps is None:
        return STILL_FPS
    whole = round(info.fps)
    if whole > 0 and info.container in {"gif", "webp"} and same_rate(info.container, info.fps, whole):
        return whole
    return info.fps


def _video(data: bytes) -> Iterator[Image.Image]:
    with open_video(data) as (source, stream):
        for frame in video_frames(source, stream):
            yield frame.to_image()  # type: ignore[no-untyped-call]


def _pictures(data: bytes, info: MediaInfo) -> Iterator[Image.Image]:
    for picture, _ in picture_frames(data, info.container):
        seen = picture.convert("RGBA")
        yield Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
