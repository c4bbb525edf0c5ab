"""Pictures and clips that the media tests share, drawn here and never read from disk."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from random import Random
from typing import Any

import pytest
from PIL import Image

from gateway.media.intake import CleanImage, ImageLimits, encode_clean, read_image
from gateway.problems import Problem
from providers.rendering import camera_move, encode


@cache
def textured(width: int = 160, height: int = 90, seed: int = 1) -> Image.Image:
    """A picture with structure everywhere."""
    grid = (max(2, width // 8), max(2, height // 8))
    noise = Image.frombytes("RGB", grid, Random(seed).randbytes(grid[0] * grid[1] * 3))
    return noise.resize((width, height), Image.Resampling.BICUBIC)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The picture as a file of this kind."""
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def clean(image: Image.Image, *, lossless: bool = True) -> CleanImage:
    """The picture as intake would hand it on."""
    return encode_clean(image, lossless=lossless)


def opened(data: bytes) -> Image.Image:
    """The decoded picture."""
    return Image.open(io.BytesIO(data))


@cache
def clip(container: str = "mp4", num_frames: int = 5, fps: int = 7) -> bytes:
    """A small clip with motion."""
    frames = camera_move(textured(), move="pan_left", speed=1, num_frames=num_frames)
    return encode(frames, fps=fps, container=container)


def refusal(data: bytes, limits: ImageLimits | None = None) -> str:
    """The reason for which intake refuses these bytes."""
    with pytest.raises(Problem) as caught:
        read_image(data, limits or ImageLimits())
    assert caught.value.detail.endswith(".")
    return str(caught.value.extensions.get("reason", caught.value.slug))


def png_of(width: int, height: int) -> bytes:
    """A valid PNG of any size in a few bytes: black, its rows one long run of zeros where they are few enough."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress(bytes(min((width + 1) * height, 1_000_000)), 9)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg_header(width: int, height: int) -> bytes:
    """The first bytes of a JPEG that claims this size."""
    return b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00" + (
        b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", height, width) + b"\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
    )


def gif_header(width: int, height: int) -> bytes:
    """The first bytes of a GIF that claims this size."""
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x00\x00\x00"


def webp_header(width: int, height: int) -> bytes:
    """The first bytes of a WebP that claims this size."""
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + (width - 1).to_bytes(3, "little")
    body += (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", len(body)) + body
