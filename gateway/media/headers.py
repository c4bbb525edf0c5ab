"""What a picture's first bytes say: its format and size, read without any decoder. Pure.

A decoder may allocate the whole canvas as soon as it opens a file, so the size is read here and judged first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PictureFormat = Literal["png", "jpeg", "webp", "gif"]

# Formats that are recognised in order to name them in a refusal: where the magic stands, the magic, the name.
_REFUSED: tuple[tuple[int, bytes, str], ...] = (
    (0, b"BM", "a BMP picture"),
    (0, b"II*\x00", "a TIFF picture"),
    (0, b"MM\x00*", "a TIFF picture"),
    (0, b"\x00\x00\x01\x00", "an icon"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (4, b"JXL ", "a JPEG XL picture"),
    (4, b"jP  ", "a JPEG 2000 picture"),
    (4, b"ftypavif", "an AVIF picture"),
    (4, b"ftypavis", "an AVIF picture"),
    (4, b"ftyphei", "a HEIC picture"),
    (4, b"ftyphev", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIC picture"),
    (4, b"ftypmsf1", "a HEIC picture"),
    (4, b"ftyp", "a video"),
    (0, b"\x1aE\xdf\xa3", "a video"),
    (0, b"%PDF-", "a PDF document"),
)
# SOF0-SOF15 without DHT, JPG and DAC, which share their numbers.
_JPEG_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_GIF_TRAILER, _GIF_EXTENSION, _GIF_PICTURE = 0x3B, 0x21, 0x2C
# A clean picture has three colours in four bytes; what is not three colours already stands beside it while it is made.
CLEAN_PIXEL_BYTES = 4
_PNG_PIXEL_BYTES = {
    0: 1 + CLEAN_PIXEL_BYTES,
    3: 1 + CLEAN_PIXEL_BYTES,
    4: 4 + CLEAN_PIXEL_BYTES,
    6: 4 + CLEAN_PIXEL_BYTES,
}
_TAIL_BYTES = 1024
# A camera writes some hundred segments before the picture; a chain that never comes to it is not walked to its end.
_JPEG_SEGMENTS_MAX = 4096


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """Format and size of a picture as its header states them; sides of 0 mean that the header is cut off or broken."""

    format: PictureFormat
    width: int
    height: int


def read_header(data: bytes) -> PictureHeader | None:
    """The format and size that the first bytes state, or None for anything but PNG, JPEG, WebP and GIF."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return PictureHeader("png", *_png_size(data))
    if data.startswith(b"\xff\xd8\xff"):
        return PictureHeader("jpeg", *_jpeg_size(data))
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return PictureHeader("webp", *_webp_size(data))
    if data.startswith((b"GIF87a", b"GIF89a")):
        return PictureHeader("gif", _little(data, 6, 2), _little(data, 8, 2))
    return None


def pixel_bytes_min(data: bytes) -> int:
    """The least that a decoder and the clean picture beside it keep for a pixel, by what a PNG says of its colours."""
    return _PNG_PIXEL_BYTES.get(_big(data, 25, 1), CLEAN_PIXEL_BYTES) if data[12:16] == b"IHDR" else CLEAN_PIXEL_BYTES


def name_refused(data: bytes) -> str | None:
    """What a file of a kind that is not taken is, such as "a HEIC picture"; None when it is not known either."""
    return next((name for offset, magic, name in _REFUSED if data[offset : offset + len(magic)] == magic), None)


def is_cut_short(data: bytes, picture_format: PictureFormat) -> bool:
    """Whether the mark that ends such a file is missing. Bytes after the mark are allowed: cameras append their own."""
    if picture_format == "webp":
        return len(data) < _little(data, 4, 4) + 8
    if picture_format == "gif":
        return not _gif_ends(data)
    return {"png": b"IEND", "jpeg": b"\xff\xd9"}[picture_format] not in data[-_TAIL_BYTES:]


def _png_size(data: bytes) -> tuple[int, int]:
    return (_big(data, 16, 4), _big(data, 20, 4)) if data[12:16] == b"IHDR" else (0, 0)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    position = 2
    for _ in range(_JPEG_SEGMENTS_MAX):
        if position + 9 > len(data) or data[position] != 0xFF:
            break
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _JPEG_STANDALONE:
            position += 2
        elif marker in _JPEG_FRAME_HEADERS:
            return _big(data, position + 7, 2), _big(data, position + 5, 2)
        else:
            position += 2 + _big(data, position + 2, 2)
    return 0, 0


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return _little(data, 24, 3) + 1, _little(data, 27, 3) + 1
    if kind == b"VP8L" and data[20:21] == b"\x2f":
        bits = _little(data, 21, 4)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        return _little(data, 26, 2) & 0x3FFF, _little(data, 28, 2) & 0x3FFF
    return 0, 0


def _gif_ends(data: bytes) -> bool:
    """Whether the chain of a GIF's blocks leads to its trailer; the trailer's byte alone may stand anywhere."""
    position = 13 + _colour_table_bytes(_little(data, 10, 1))
    while position < len(data):
        kind = data[position]
        if kind == _GIF_TRAILER:
            return True
        if kind == _GIF_EXTENSION:
            position += 2
        elif kind == _GIF_PICTURE:
            position += 11 + _colour_table_bytes(_little(data, position + 9, 1))
        else:
            return False
        while length := _little(data, position, 1):
            position += length + 1
        position += 1
    return False


def _colour_table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _big(data: bytes, offset: int, length: int) -> int:
    """An unsigned number, or 0 where the data ends before it."""
    found = data[offset : offset + length]
    return int.from_bytes(found, "big") if len(found) == length else 0


def _little(data: bytes, offset: int, length: int) -> int:
    found = data[offset : offset + length]
    return int.from_bytes(found, "little") if len(found) == length else 0
