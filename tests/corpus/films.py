"""Hostile films, by name; and files that would have a reader open addresses and other files."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cache
from random import Random

import av

from providers.rendering import encode
from tests.corpus.bytes import box, patched, picture

BRAND = box(b"ftyp", b"isom\0\0\x02\0isomiso2avc1mp41")
# Where the committed files point; a test that listens puts its own places in.
ADDRESS, PATH = "http://127.0.0.1:9", "/etc/passwd"


@cache
def film() -> bytes:
    """An honest film of five frames."""
    return encode([picture(64 + 0 * index) for index in range(5)], fps=7)


@cache
def sound() -> bytes:
    """A film without pictures."""
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=44_100)
        for index in range(4):
            silence = av.AudioFrame(format="fltp", layout="stereo", samples=1024)
            silence.sample_rate, silence.pts, silence.time_base = 44_100, index * 1024, Fraction(1, 44_100)
            for plane in silence.planes:
                plane.update(bytes(plane.buffer_size))
            output.mux(stream.encode(silence))
        output.mux(stream.encode(None))
    return target.getvalue()


def with_table(kind: bytes, body: bytes) -> bytes:
    """The honest film with one more box in the table of its samples, sizes kept true."""
    return _grown(film(), (b"moov", b"trak", b"mdia", b"minf", b"stbl"), box(kind, body))


def with_edits(count: int) -> bytes:
    """The honest film, played over and over by a list of edits."""
    whole = film()
    start = whole.index(b"elst") - 4
    (old,) = struct.unpack_from(">I", whole, start)
    edits = box(b"elst", bytes(4), struct.pack(">I", count), struct.pack(">IIhh", 714, 0, 1, 0) * count)
    places = (b"moov", b"trak", b"edts")
    return _resized(whole[:start] + edits + whole[start + old :], places, len(edits) - old)


def _grown(data: bytes, places: tuple[bytes, ...], added: bytes) -> bytes:
    """Put a box at the end of the innermost of these boxes."""
    start = data.index(places[-1]) - 4
    (size,) = struct.unpack_from(">I", data, start)
    return _resized(data[: start + size] + added + data[start + size :], places, len(added))


def _resized(data: bytes, places: tuple[bytes, ...], by: int) -> bytes:
    changed = bytearray(data)
    for kind in places:
        at = changed.index(kind) - 4
        struct.pack_into(">I", changed, at, struct.unpack_from(">I", changed, at)[0] + by)
    return bytes(changed)


def fragments(count: int, samples: int) -> bytes:
    """A film in fragments, each of which claims so many samples that are not there."""
    run = box(b"trun", b"\0\0\0\x01", struct.pack(">Ii", samples, 8))
    header = box(b"tfhd", b"\0\x02\0\0", struct.pack(">I", 1))
    part = box(b"moof", box(b"mfhd", bytes(4), struct.pack(">I", 1)), box(b"traf", header, run))
    extends = box(b"mvex", box(b"trex", bytes(4), struct.pack(">IIIII", 1, 1, 512, 100, 0)))
    return _grown(film(), (b"moov",), extends) + part * count


def nested(depth: int) -> bytes:
    """Boxes in boxes."""
    inner = b""
    for _ in range(depth):
        inner = box(b"moov", inner)
    return BRAND + inner


def packed_index(declared: int) -> bytes:
    """A QuickTime file whose index is packed, and says how much memory it wants."""
    packed = box(b"cmvd", struct.pack(">I", declared), b"\x78\x9c" + bytes(100))
    return box(b"ftyp", b"qt  \0\0\x02\0qt  ") + box(b"moov", box(b"cmov", box(b"dcom", b"zlib"), packed))


def elsewhere(address: str) -> bytes:
    """A film whose pictures are said to lie behind an address."""
    whole = film()
    start = whole.index(b"dref") - 4
    (old,) = struct.unpack_from(">I", whole, start)
    named = box(b"url ", bytes(4), address.encode() + b"/film.mp4\0")
    places = (b"moov", b"trak", b"mdia", b"minf", b"dinf")
    entries = box(b"dref", bytes(4), struct.pack(">I", 1), named)
    return _resized(whole[:start] + entries + whole[start + old :], places, len(entries) - old)


def pointers(address: str, path: str) -> Mapping[str, bytes]:
    """Files that a reader which guesses the kind, or follows names, would take for a list of others."""
    playlist = (
        f"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1,\n{address}/a.ts\n#EXTINF:1,\nfile://{path}\n#EXT-X-ENDLIST\n"
    )
    concat = f"ffconcat version 1.0\nfile '{path}'\nfile '{address}/b.mp4'\n"
    described = f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\na=control:{address}\n"
    manifest = f'<?xml version="1.0"?><MPD><Period><BaseURL>{address}/</BaseURL><BaseURL>file://{path}</BaseURL></Period></MPD>'
    return {
        "playlist": playlist.encode(),
        "concat": concat.encode(),
        "session-description": described.encode(),
        "manifest": manifest.encode(),
        "playlist-in-a-film": BRAND + box(b"free", b"\n" + playlist.encode()),
        "playlist-as-a-brand": b"\0\0\0\x20ftyp" + playlist.encode(),
        "concat-in-a-film": BRAND + box(b"mdat", concat.encode()),
        "film-that-lies-elsewhere": elsewhere(address),
        "film-that-lies-in-a-file": elsewhere(f"file://{path}"),
        "playlist-in-a-gif": b"GIF89a\n" + playlist.encode(),
    }


FILMS: Mapping[str, Callable[[], bytes]] = {
    "mp4-cut-in-the-index": lambda: film()[: film().index(b"stbl")],
    "mp4-cut-in-the-pictures": lambda: film()[:-200],
    "mp4-cut-before-the-pictures": lambda: film()[: film().index(b"mdat") + 4],
    "mp4-index-of-4-gigabytes": lambda: patched(film(), b"moov", -8, b"\xff\xff\xff\xff"),
    "mp4-index-of-100-megabytes": lambda: BRAND + box(b"moov", bytes(90_000), size=100_000_000),
    "mp4-negative-box": lambda: BRAND + struct.pack(">I4sq", 1, b"moov", -1) + bytes(64),
    "mp4-box-of-nothing": lambda: BRAND + box(b"moov", box(b"trak", size=0) * 100),
    "mp4-4-billion-samples": lambda: patched(film(), b"stsz", 8, b"\xff\xff\xff\xff"),
    "mp4-100-million-samples-of-a-size": lambda: patched(film(), b"stsz", 4, struct.pack(">II", 1, 100_000_000)),
    "mp4-sample-of-2-gigabytes": lambda: patched(film(), b"stsz", 12, b"\x7f\xff\xff\xff"),
    "mp4-pictures-out-of-the-file": lambda: patched(film(), b"stco", 8, b"\x7f\xff\xff\xff"),
    "mp4-4-billion-chunks": lambda: patched(film(), b"stco", 4, b"\xff\xff\xff\xff"),
    "mp4-times-without-end": lambda: patched(film(), b"stts", 4, struct.pack(">III", 1, 0xFFFF_FFFF, 0xFFFF_FFFF)),
    "mp4-no-duration": lambda: patched(film(), b"stts", 4, struct.pack(">III", 1, 5, 0)),
    "mp4-no-time-scale": lambda: patched(film(), b"mdhd", 12, bytes(8)),
    "mp4-4-billion-edits": lambda: patched(film(), b"elst", 4, b"\xff\xff\xff\xff"),
    "mp4-8000-edits": lambda: with_edits(8000),
    "mp4-4-billion-groups": lambda: with_table(b"sbgp", b"\0\0\0\0roll" + b"\xff\xff\xff\xff" + bytes(64)),
    "mp4-4-billion-keyframes": lambda: with_table(b"stss", bytes(4) + b"\xff\xff\xff\xff" + bytes(64)),
    "mp4-1000-fragments": lambda: fragments(1000, 1),
    "mp4-fragment-of-200-million-samples": lambda: fragments(1, 200_000_000),
    "mp4-fragments-of-a-million-samples": lambda: fragments(300, 1_000_000),
    "mp4-nested-5000-deep": lambda: nested(5000),
    "mov-packed-index-of-a-gigabyte": lambda: packed_index(0x4000_0000),
    "mov-packed-index-of-50-megabytes": lambda: packed_index(50_000_000),
    "mp4-audio-alone": sound,
    "mp4-unknown-codec": lambda: patched(film(), b"avc1\0\0\0\0", -4, b"zzzz"),
    "mp4-old-codec": lambda: patched(film(), b"avc1\0\0\0\0", -4, b"cvid"),
    "mp4-60000-square": lambda: patched(
        patched(film(), b"avc1\0\0\0\0", 20, b"\xea\x60\xea\x60"), b"tkhd", 76, b"\xea\x60\0\0\xea\x60\0\0"
    ),
    "mp4-pictures-of-noise": lambda: (
        film()[: film().index(b"mdat") + 4] + Random(3).randbytes(len(film()) - film().index(b"mdat") - 4)
    ),
    "mp4-parameters-of-noise": lambda: patched(film(), b"avcC", 4, Random(4).randbytes(24)),
    "mkv": lambda: b"\x1aE\xdf\xa3" + bytes(64),
    "avi": lambda: b"RIFF\x40\0\0\0AVI LIST" + bytes(64),
    "error-page": lambda: b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>",
    **{f"names-{name}": (lambda name=name: pointers(ADDRESS, PATH)[name]) for name in pointers(ADDRESS, PATH)},
}
