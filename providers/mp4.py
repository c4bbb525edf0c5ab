"""The index of an MP4 moved before its pictures, so that it plays while it arrives. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_HOLDS_BOXES = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl"})
# Tables of where the pictures begin: the box, and how its entries are written.
_OFFSETS = {b"stco": "I", b"co64": "Q"}


def index_first(data: bytes) -> bytes:
    """The same file with its index in front; for files that an encoder has just made, of less than 4 GiB.

    Raises ValueError where there is no index or nothing that it points into.
    """
    boxes = {kind: (start, end) for kind, start, end in _boxes(data, 0, len(data))}
    if not {b"ftyp", b"moov", b"mdat"} <= boxes.keys():
        raise ValueError("no MP4 file with an index and pictures")
    index_start, index_end = boxes[b"moov"]
    if index_start < boxes[b"mdat"][0]:
        return data
    index = bytearray(data[index_start:index_end])
    _shift(index, 0, len(index), by=len(index))
    front = boxes[b"ftyp"][1]
    return data[:front] + index + data[front:index_start] + data[index_end:]


def _boxes(data: bytes | bytearray, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of every box in a row."""
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, start + 8)
        if size < 8:
            raise ValueError(f"a box of {size} bytes")
        yield kind, start, start + size
        start += size


def _shift(index: bytearray, start: int, end: int, *, by: int) -> None:
    """Add to every offset in the tables between start and end."""
    for kind, box_start, box_end in list(_boxes(index, start, end)):
        if kind in _HOLDS_BOXES:
            _shift(index, box_start + 8, box_end, by=by)
        elif kind in _OFFSETS:
            (count,) = struct.unpack_from(">I", index, box_start + 12)
            layout = f">{count}{_OFFSETS[kind]}"
            moved = [offset + by for offset in struct.unpack_from(layout, index, box_start + 16)]
            struct.pack_into(layout, index, box_start + 16, *moved)
