"""What hostile files are put together from: chunks, segments, blocks and boxes, with any length they like to claim."""

from __future__ import annotations

import io
import struct
import zlib
from random import Random

from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"
END = b"\x00\x00\x00\x00IEND\xaeB`\x82"


def picture(width: int = 64, height: int = 64) -> Image.Image:
    """An honest picture, with structure everywhere."""
    noise = Image.frombytes("RGB", (8, 8), Random(1).randbytes(192))
    return noise.resize((width, height), Image.Resampling.BICUBIC)


def saved(kind: str, width: int = 64, height: int = 64, **options: object) -> bytes:
    """The honest picture as a file."""
    target = io.BytesIO()
    picture(width, height).save(target, kind, **options)  # type: ignore[arg-type]
    return target.getvalue()


def chunk(kind: bytes, body: bytes = b"", *, length: int | None = None, crc: int | None = None) -> bytes:
    """A chunk of a PNG, which may lie about its length and its checksum."""
    true = zlib.crc32(kind + body)
    return (
        struct.pack(">I", len(body) if length is None else length)
        + kind
        + body
        + struct.pack(">I", true if crc is None else crc)
    )


def header(width: int, height: int, *, depth: int = 8, colour: int = 2, interlaced: int = 0) -> bytes:
    """The first chunk of a PNG."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))


def png(*chunks: bytes, size: tuple[int, int] = (64, 64), rows: bytes | None = None) -> bytes:
    """A PNG of 64x64 in RGB with these chunks before its pixels."""
    packed = zlib.compress(bytes((size[0] * 3 + 1) * size[1]) if rows is None else rows, 9)
    return PNG + header(*size) + b"".join(chunks) + chunk(b"IDAT", packed) + END


def zeros(mebibytes: int) -> bytes:
    """Zeros, packed a thousandfold."""
    packer = zlib.compressobj(9)
    return b"".join([*(packer.compress(bytes(1024 * 1024)) for _ in range(mebibytes)), packer.flush()])


def segment(marker: int, body: bytes = b"", *, length: int | None = None) -> bytes:
    """A segment of a JPEG, which may lie about its length."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2 if length is None else length) + body


def jpeg(*segments: bytes) -> bytes:
    """An honest JPEG with these segments after its first two bytes."""
    whole = saved("JPEG", quality=90)
    return whole[:2] + b"".join(segments) + whole[2:]


def exif(*entries: bytes, following: int = 0) -> bytes:
    """An EXIF segment of these entries of 12 bytes; `following` is where the next directory is said to be."""
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", following)
    return segment(0xE1, b"Exif\x00\x00II*\x00\x08\x00\x00\x00" + directory)


def webp(*chunks: tuple[bytes, bytes], length: int | None = None) -> bytes:
    """A WebP of these chunks."""
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) if length is None else length) + body


def canvas(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    """The chunk in which a WebP declares its canvas."""
    return b"VP8X", bytes((flags, 0, 0, 0)) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def gif(*blocks: bytes, size: tuple[int, int] = (64, 64)) -> bytes:
    """A GIF of two colours with these blocks."""
    return b"GIF89a" + struct.pack("<HH", *size) + b"\x80\x00\x00\x00\x00\x00\xff\xff\xff" + b"".join(blocks) + b";"


def frame(width: int = 64, height: int = 64, data: bytes = b"\x02\x02\x44\x01\x00") -> bytes:
    """A picture of a GIF: its place and its packed pixels."""
    return b"," + struct.pack("<HHHH", 0, 0, width, height) + b"\x00" + data


def box(kind: bytes, *parts: bytes, size: int | None = None) -> bytes:
    """A box of an MP4, which may lie about its size."""
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8 if size is None else size, kind) + body


def patched(data: bytes, kind: bytes, offset: int, value: bytes) -> bytes:
    """The file with other bytes at an offset after the name of a box."""
    at = data.index(kind) + 4 + offset
    return data[:at] + value + data[at + len(value) :]
