"""Hostile pictures, by name: what each file is, made here and nowhere found."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping

from PIL import Image

from tests.corpus.bytes import (
    END,
    PNG,
    canvas,
    chunk,
    exif,
    frame,
    gif,
    header,
    jpeg,
    png,
    saved,
    segment,
    webp,
    zeros,
)

SCRIPT = b"<script>alert(document.domain)</script>"


def flat(mode: str, side: int) -> bytes:
    """A picture of one colour: many pixels in few bytes."""
    target = io.BytesIO()
    Image.new(mode, (side, side)).save(target, "PNG", optimize=True)
    return target.getvalue()


def animated_png(frames: int, declared: int) -> bytes:
    """An animation of real frames, which may declare another number."""
    rows = zlib.compress(bytes(49 * 16), 9)
    made = [chunk(b"acTL", struct.pack(">II", declared, 0))]
    number = 0
    for index in range(frames):
        control = struct.pack(">IIIIIHHBB", number, 16, 16, 0, 0, 1, 7, 0, 0)
        made.append(chunk(b"fcTL", control))
        made.append(chunk(b"IDAT", rows) if index == 0 else chunk(b"fdAT", struct.pack(">I", number + 1) + rows))
        number += 1 if index == 0 else 2
    return PNG + header(16, 16) + b"".join(made) + END


def animated_webp(frames: int) -> bytes:
    """An animation of small honest frames."""
    target = io.BytesIO()
    stills = [Image.new("RGB", (16, 16), (index % 256, index // 256, 9)) for index in range(frames)]
    stills[0].save(target, "WEBP", save_all=True, append_images=stills[1:], duration=10, lossless=True)
    return target.getvalue()


def many_scans(scans: int) -> bytes:
    """A progressive JPEG of nine megapixels that is gone over again and again: each scan costs a few bytes to send."""
    quantisation = segment(0xDB, b"\x00" + b"\x01" * 64)
    shape = segment(0xC2, b"\x08" + struct.pack(">HH", 3000, 3000) + b"\x01\x01\x11\x00")
    huffman = segment(0xC4, b"\x00" + b"\x01" + bytes(15) + b"\x00")
    first = segment(0xDA, b"\x01\x01\x00\x00\x00\x01")
    again = segment(0xDA, b"\x01\x01\x00\x00\x00\x10")
    return b"\xff\xd8" + quantisation + shape + huffman + first + b"\x00" + (again + b"\x00") * scans + b"\xff\xd9"


def cut(kind: str, part: float) -> bytes:
    """An honest file that ends too early."""
    whole = saved(kind)
    return whole[: int(len(whole) * part)]


def _tag(tag: int, kind: int, count: int, value: int) -> bytes:
    return struct.pack("<HHII", tag, kind, count, value)


PICTURES: Mapping[str, Callable[[], bytes]] = {
    # Many pixels in few bytes
    "png-50000-square": lambda: png(size=(50_000, 50_000), rows=bytes(1000)),
    "png-flat-25-megapixels": lambda: flat("RGBA", 5000),
    "png-flat-12-megapixels": lambda: flat("RGB", 3500),
    "jpeg-65535-square": lambda: (
        b"\xff\xd8\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xff\xc0\x00\x11\x08"
        b"\xff\xff\xff\xff\x03\x01\x22\0\x02\x11\x01\x03\x11\x01"
    ),
    "gif-65535-screen": lambda: gif(frame(), size=(65_535, 65_535)),
    "gif-frame-larger-than-screen": lambda: gif(frame(65_535, 1023)),
    "webp-16384-canvas": lambda: webp(canvas(16_384, 16_384)),
    "webp-animation-on-16384-canvas": lambda: webp(canvas(16_384, 16_384, 2), (b"ANIM", bytes(6))),
    # Much that unpacks
    "png-idat-bomb": lambda: PNG + header(64, 64) + chunk(b"IDAT", zeros(60)) + END,
    "png-ztxt-bomb": lambda: png(chunk(b"zTXt", b"a\0\0" + zeros(100))),
    "png-itxt-bomb": lambda: png(chunk(b"iTXt", b"a\0\x01\0\0\0" + zeros(100))),
    "png-iccp-bomb": lambda: png(chunk(b"iCCP", b"a\0\0" + zeros(100))),
    "gif-lzw-bomb": lambda: gif(frame(4000, 4000, b"\x02" + b"\xff" + b"\x84" * 255 + b"\0")),
    "gzip-bomb": lambda: b"\x1f\x8b\x08\0\0\0\0\0\x02\xff" + zeros(100)[2:-4] + bytes(8),
    # Chains without end
    "png-7000-empty-chunks": lambda: png(*[chunk(b"tEXt", b"a\0")] * 7000),
    "png-8000-empty-idats": lambda: PNG + header(64, 64) + chunk(b"IDAT") * 8000 + END,
    "jpeg-30000-segments": lambda: jpeg(*[segment(0xE5)] * 30_000),
    "jpeg-fill-bytes": lambda: b"\xff\xd8" + b"\xff" * 100_000,
    "jpeg-8000-scans": lambda: many_scans(8000),
    "gif-unterminated": lambda: b"GIF89a" + struct.pack("<HH", 64, 64) + b"\0\0\0!\xfe" + b"\x01a" * 40_000,
    "gif-7000-frames": lambda: gif(*[frame(1, 1)] * 7000),
    "apng-1000-frames": lambda: animated_png(1000, 1000),
    "apng-4-billion-frames": lambda: animated_png(3, 0xFFFF_FFFF),
    "webp-500-frames": lambda: animated_webp(500),
    # Lies about lengths, and damage
    "png-chunk-of-2-gigabytes": lambda: PNG + header(64, 64) + chunk(b"tEXt", b"a\0b", length=0x7FFF_FFFF),
    "png-negative-chunk": lambda: png(chunk(b"tEXt", b"a\0b", length=0xFFFF_FFFF)),
    "png-100-megabyte-header": lambda: (
        PNG + struct.pack(">I", 100_000_000) + b"IHDR" + struct.pack(">II", 64, 64) + bytes(9000)
    ),
    "png-bad-crc": lambda: png(chunk(b"gAMA", b"\0\0\xb1\x8f", crc=1)),
    "png-bad-crc-of-pixels": lambda: PNG + header(64, 64) + chunk(b"IDAT", zlib.compress(bytes(193 * 64)), crc=7) + END,
    "png-zero-wide": lambda: png(size=(0, 64), rows=b""),
    "png-no-palette": lambda: PNG + header(64, 64, colour=3) + chunk(b"IDAT", zlib.compress(bytes(65 * 64))) + END,
    "png-depth-of-17": lambda: PNG + header(64, 64, depth=17, colour=7) + END,
    "png-interlaced-nonsense": lambda: PNG + header(64, 64, interlaced=9) + chunk(b"IDAT", b"\x78\x9c\xff\xff") + END,
    "jpeg-segment-of-64-kilobytes": lambda: b"\xff\xd8" + segment(0xE1, b"Exif", length=0xFFFF),
    "jpeg-segment-shorter-than-itself": lambda: b"\xff\xd8" + segment(0xE1, b"", length=0) * 100,
    "jpeg-255-components": lambda: b"\xff\xd8" + segment(0xC0, b"\x08\0\x40\0\x40\xff" + bytes(range(255)) * 3),
    "jpeg-bad-huffman": lambda: jpeg(segment(0xC4, b"\x00" + b"\xff" * 16)),
    "jpeg-colour-profile-of-255-parts": lambda: jpeg(segment(0xE2, b"ICC_PROFILE\0\x01\xff" + bytes(100))),
    "jpeg-views-that-are-not-there": lambda: jpeg(
        segment(0xE2, b"MPF\0II*\0\x08\0\0\0\x02\0" + _tag(0xB001, 4, 1, 9) + _tag(0xB002, 7, 144, 900) + bytes(4))
    ),
    "webp-of-4-gigabytes": lambda: webp((b"VP8 ", bytes(30)), length=0xFFFF_FFFF),
    "webp-without-a-picture": lambda: webp(canvas(64, 64, 0x2C), (b"ICCP", b"\xff" * 99), (b"EXIF", b"\xff" * 99)),
    "png-cut-at-a-third": lambda: cut("PNG", 0.33),
    "png-cut-at-the-end": lambda: saved("PNG")[:-13],
    "jpeg-cut-at-a-tenth": lambda: cut("JPEG", 0.1),
    "jpeg-cut-in-the-middle": lambda: cut("JPEG", 0.6),
    "gif-cut": lambda: cut("GIF", 0.7),
    "webp-cut": lambda: cut("WEBP", 0.7),
    # Directories that lead into themselves
    "jpeg-exif-loop": lambda: jpeg(exif(_tag(0x8769, 4, 1, 8), _tag(0x8825, 4, 1, 8), following=8)),
    "jpeg-exif-4-billion-values": lambda: jpeg(exif(_tag(0x0112, 3, 0xFFFF_FFFF, 8), _tag(0x010F, 2, 0xFFFF_FFFF, 0))),
    "png-exif-loop": lambda: png(chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\x01\x87\x69\0\x04\0\0\0\x01\0\0\0\x08\0\0\0\x08")),
    "tiff-loop": lambda: b"II*\0\x08\0\0\0\x01\0" + _tag(0x100, 4, 1, 64) + struct.pack("<I", 8),
    # Two kinds in one file
    "jpeg-and-html": lambda: jpeg(segment(0xFE, SCRIPT)) + b"<html>" + SCRIPT,
    "gif-and-javascript": lambda: gif(b"!\xfe\x10*/=1;alert(1);/*\0", frame(1, 1)) + b"*/=1;alert(1)//",
    "png-and-zip": lambda: png() + b"PK\x03\x04" + bytes(26) + b"PK\x05\x06" + bytes(18),
    "jpeg-and-pdf": lambda: jpeg(segment(0xFE, b"%PDF-1.7\n1 0 obj<</OpenAction<</S/JavaScript>>>>")),
    # Kinds that are not taken
    "pdf": lambda: b"%PDF-1.7\n1 0 obj<</OpenAction<</S/JavaScript/JS(app.alert(1))>>>>endobj",
    "svg": lambda: (
        b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY e SYSTEM "file:///etc/passwd">]><svg>&e;' + SCRIPT + b"</svg>"
    ),
    "mvg": lambda: (
        b"push graphic-context\nviewbox 0 0 64 64\nfill 'url(https://127.0.0.1/\"|id\")'\npop graphic-context"
    ),
    "postscript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n(%pipe%id) (w) file closefile",
    "icon-of-65535-pictures": lambda: b"\0\0\x01\0\xff\xff" + (bytes(8) + struct.pack("<II", 0x7FFF_FFFF, 22)) * 100,
    "bitmap-2-billion-wide": lambda: (
        b"BM" + bytes(12) + struct.pack("<IiiHH", 40, 2**31 - 1, 2**31 - 1, 1, 24) + bytes(24)
    ),
    "heic": lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64),
    "empty": lambda: b"",
}
