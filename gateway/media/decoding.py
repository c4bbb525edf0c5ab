"""Opening delivered files: what they are by their first bytes, and their frames, really decoded and within bounds.

The reader is chosen here and never guessed by the library: a guess might take a playlist that names other files.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from gateway.media.headers import is_cut_short, name_refused, read_header
from gateway.media.intake import DECODE_ERRORS

MediaContainer = Literal["mp4", "mov", "gif", "webp", "jpeg", "png"]
VIDEO_ERRORS: tuple[type[Exception], ...] = (av.error.FFmpegError, *DECODE_ERRORS)
FRAME_PIXELS_MAX = 40_000_000
# No file, address or other reader that a file may name is opened, and rarely used codecs stay shut.
NOTHING_ELSE = {
    "protocol_whitelist": "none",
    "format_whitelist": "mov",
    "codec_whitelist": "h264,hevc,libdav1d,av1,vp9,mpeg4,mjpeg,png",
}
# An hour of decoding must not hide in a small file.
CLIP_FRAMES_MAX = 10_000
CLIP_PIXELS_MAX = 2_000_000_000


class BadMedia(Exception):
    """A delivered file that cannot be used; the message says why."""


def recognise(data: bytes) -> MediaContainer:
    """What kind of file it is, by its first bytes. Raises BadMedia."""
    if data[4:8] == b"ftyp" and name_refused(data) == "a video":
        return "mov" if data[8:12] == b"qt  " else "mp4"
    header = read_header(data)
    if header is not None:
        return header.format
    if not data:
        raise BadMedia("the file is empty")
    if data.lstrip()[:1] in {b"<", b"{"}:
        raise BadMedia("it is text, such as an error page, and no media file")
    raise BadMedia(f"it is {name_refused(data) or 'no media file that vidgate knows'}")


@contextmanager
def open_video(data: bytes) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open an MP4 or QuickTime file and its first video stream. Raises BadMedia, also for errors met inside."""
    try:
        with av.open(io.BytesIO(data), "r", format="mov", container_options=NOTHING_ELSE) as source:
            if not source.streams.video:
                raise BadMedia("it has no video stream")
            stream = source.streams.video[0]
            stream.codec_context.options = {"max_pixels": str(FRAME_PIXELS_MAX)}
            yield source, stream
    except MemoryError:  # FFmpeg's own is one too; it says something of the bound, and not of the file
        raise
    except VIDEO_ERRORS as error:
        raise BadMedia(f"the video cannot be decoded ({type(error).__name__})") from error


def video_frames(source: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Decode every frame. Raises BadMedia where fewer come than the file's own index says, or broken ones."""
    decoded = passed_over = packets = pixels = 0
    for packet in source.demux(stream):
        packets += packet.size > 0
        passed_over += packet.is_discard
        if packet.is_corrupt:
            raise BadMedia("the video ends too early")
        for frame in packet.decode():
            assert isinstance(frame, VideoFrame)
            decoded += 1
            pixels += frame.width * frame.height
            _bound(frame.width * frame.height, pixels, decoded)
            if frame.is_corrupt:
                raise BadMedia(f"frame {decoded} of the video is damaged")
            yield frame
    if packets < stream.frames:
        raise BadMedia(f"the video ends too early, after {packets} of {stream.frames} frames")
    if decoded < packets - passed_over:
        raise BadMedia(f"only {decoded} of the video's {packets} frames can be decoded")
    if not decoded:
        raise BadMedia("the video has no frames")


def picture_frames(data: bytes, container: MediaContainer) -> Iterator[tuple[Image.Image, float]]:
    """Decode every frame of a GIF, WebP, PNG or JPEG, each with its time on show in seconds (0 for a still).

    The image yielded is only good until the next one. Raises BadMedia.
    """
    header = read_header(data)
    if header is None or header.width * header.height == 0:
        raise BadMedia("the picture's header is broken")
    _bound(header.width * header.height, 0, 0)
    # A decoder sees no difference between the end of a GIF and an end that came too early.
    if header.format == "gif" and is_cut_short(data, "gif"):
        raise BadMedia("the animation ends too early")
    try:
        with Image.open(io.BytesIO(data), formats=[container.upper()]) as picture:
            pixels = index = 0
            while index == 0 or _has_frame(picture, index, container):
                index += 1
                pixels += picture.width * picture.height
                _bound(picture.width * picture.height, pixels, index)
                picture.load()
                yield picture, float(picture.info.get("duration", 0)) / 1000
    except DECODE_ERRORS as error:
        raise BadMedia(f"the picture cannot be decoded ({type(error).__name__})") from error


def _has_frame(picture: Image.Image, index: int, container: MediaContainer) -> bool:
    if container == "jpeg":  # cameras hide a second view behind the first
        return False
    try:
        picture.seek(index)
    except EOFError:
        return False
    return True


def _bound(frame_pixels: int, clip_pixels: int, frames: int) -> None:
    if frame_pixels > FRAME_PIXELS_MAX or clip_pixels > CLIP_PIXELS_MAX or frames > CLIP_FRAMES_MAX:
        raise BadMedia(
            f"it is too large: more than {FRAME_PIXELS_MAX} pixels in a frame, {CLIP_PIXELS_MAX} over all frames "
            f"or {CLIP_FRAMES_MAX} frames"
        )
