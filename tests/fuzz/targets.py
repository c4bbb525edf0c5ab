"""What is fuzzed: readers of what strangers write. Each takes any bytes and fails in its own documented way, or not."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from starlette.datastructures import Headers

from gateway import outbox
from gateway.api.reading import _multipart, parse_json
from gateway.config import load_text
from gateway.config_errors import ConfigurationError, ConfigurationProblem
from gateway.media.decoding import BadMedia, recognise
from gateway.media.headers import is_cut_short, name_refused, read_header
from gateway.media.intake import ImageLimits, decode_inline, read_image
from gateway.media.verify import inspect_media
from gateway.normalise import read_parameters
from gateway.outbound import Outbound, OutboundError
from gateway.problems import ContentTooLarge, InvalidImage, Problem
from providers.registry import BUILTIN
from providers.segmind import reading
from providers.transport import Reply, retry_after_s
from tests.corpus.cases import CASES, read
from tests.unit.hostile_urls import URLS, spellings

ROOT = Path(__file__).parents[2]
NOW = 1_800_000_000.0
SEED_BYTES_MAX = 16_384
SMALL = ImageLimits(bytes_max=SEED_BYTES_MAX, pixels_max=250_000, side_px_max=2000, side_px_min=1)
PLUGINS = {plugin.name: plugin for plugin in BUILTIN}
ROUTES = [route for plugin in BUILTIN for route in plugin.catalogue]
ENVIRONMENT = {"SECRET": "a-secret-of-enough-bytes-12345", "EMPTY": ""}
OUTBOUND = Outbound(("127.0.0.1", "10.0.0.0/8"))


class Target(NamedTuple):
    """A reader, and what it is given to begin with."""

    read: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


def headers(data: bytes) -> None:
    """The first bytes of a file, read without any decoder."""
    header = read_header(data)
    if header is not None:
        assert header.width >= 0
        assert header.height >= 0
        assert is_cut_short(data, header.format) in {True, False}
    name_refused(data)
    with suppress(BadMedia):
        assert recognise(data)


def intake(data: bytes) -> None:
    """A picture, taken in or refused with a reason."""
    with suppress(ContentTooLarge, InvalidImage, MemoryError):
        clean = read_image(data, SMALL)
        header = read_header(clean.data)
        assert header is not None
        assert (header.width, header.height) == (clean.width, clean.height)
        assert header.width * header.height <= SMALL.pixels_max


def inspect(data: bytes) -> None:
    """A vendor's file, opened or bad."""
    with suppress(BadMedia, MemoryError):
        info = inspect_media(data)
        assert info.num_frames >= 1
        assert info.fps is None or (math.isfinite(info.fps) and info.fps > 0)
        assert math.isfinite(info.duration_s)


def inline(data: bytes) -> None:
    """Text that may be base64 or a data URI."""
    with suppress(Problem):
        found = decode_inline(data.decode("utf-8", "surrogateescape"), SMALL)
        assert 0 < len(found) <= SMALL.bytes_max


def configuration(data: bytes) -> None:
    """A configuration file: settings, or every fault in words."""
    found: list[ConfigurationProblem] | None = None
    try:
        load_text(data.decode("utf-8", "replace"), "fuzz.yaml", environment=ENVIRONMENT, plugins=PLUGINS, at=NOW)
    except ConfigurationError as error:
        found = list(error.problems)
    assert found is None or (found and all(problem.text("fuzz.yaml") for problem in found))


def retry_after(data: bytes) -> None:
    """What a receiver of events, and a vendor, says of when to come again."""
    text = data.decode("latin-1")
    reply = Reply(429, {"retry-after": text, reading.RATE_RESET_HEADER: text}, b"")
    for wait_s in (outbox.retry_after_s(text, NOW), reading.hint_s(reply, NOW), retry_after_s(reply, NOW)):
        assert wait_s is None or (math.isfinite(wait_s) and wait_s >= 0)


def body(data: bytes) -> None:
    """A JSON body and the parameters in it."""
    with suppress(Problem):
        fields = parse_json(data)
        json.dumps(read_parameters(fields, "video", ROUTES))


def multipart(data: bytes) -> None:
    """A form, whose first line is the header that describes it."""
    kind, _, rest = data.partition(b"\n")

    async def chunks() -> AsyncGenerator[bytes, None]:
        middle = len(rest) // 2
        for part in (rest[:middle], rest[middle:]):
            yield part

    given = Headers(raw=[(b"content-type", b"multipart/form-data" + kind)])
    with suppress(Problem):
        asyncio.run(_multipart(given, chunks(), SEED_BYTES_MAX))


def url(data: bytes) -> None:
    """The form of an address that somebody else wrote."""
    with suppress(OutboundError):
        OUTBOUND._check_form(data.decode("utf-8", "replace"))


def _files() -> list[bytes]:
    return [data for data in map(read, CASES) if len(data) <= SEED_BYTES_MAX]


def _yaml() -> list[bytes]:
    example = (ROOT / "examples" / "vidgate.yaml").read_bytes()
    small = b"security: {signing_secret: ${SECRET}}\nproviders: {segmind: {api_key: SG_0123456789abcdef}}\n"
    tricks = [
        b"a: &a [*a]",
        b"<<: *x",
        b"? {a: b}\n: c",
        b"a: !!python/object:os.system x",
        b"${",
        b'a: "\\UFFFFFFFF"',
        b"a: !!bool maybe",
        b"a: !!timestamp soon",
        b"a: !!int ''",
        b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
        b"a: ${X:-}",
        b"---\n---",
    ]
    return [example, small, *tricks]


def _form() -> list[bytes]:
    part = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
    part += b"Content-Type: image/png\r\n\r\nPNG\r\n"
    text = b'--x\r\nContent-Disposition: form-data; name="frames"\r\n\r\n14\r\n'
    return [b"; boundary=x\n" + part + text + b"--x--\r\n", b"; boundary=x\n" + text, b"\n", b"; boundary=\xff\n--"]


TARGETS: Mapping[str, Target] = {
    "headers": Target(headers, _files),
    "intake": Target(intake, _files),
    "inspect": Target(inspect, _files),
    "inline": Target(
        inline, lambda: [b"data:image/png;base64,iVBORw0KGgo=", b"-_-_", b"Zm9v\r\nYmFy", b"data:,x", b"===="]
    ),
    "configuration": Target(configuration, _yaml),
    "retry-after": Target(
        retry_after,
        lambda: [b"120", b"Wed, 21 Oct 2026 07:28:00 GMT", b"-1", b"1e400", b"2026-10-21T07:28:00Z", b"nan"],
    ),
    "body": Target(
        body,
        lambda: [
            b'{"motion": "zoom_in", "frames": "14", "seed": -1}',
            b'{"fps": 1e400}',
            b"[" * 5000,
            b'{"a":1,"a":2}',
        ],
    ),
    "multipart": Target(multipart, _form),
    "url": Target(
        url, lambda: [one.encode("utf-8", "replace") for one in [*URLS[:-1], *map("https://{}/".format, spellings())]]
    ),
}
