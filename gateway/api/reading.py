"""Read a request body: JSON or multipart, never more bytes than allowed, never deeper than the parser stands."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, TypeVar

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from gateway.problems import (
    AliasConflict,
    BadJson,
    BadRequest,
    ContentTooLarge,
    InvalidImage,
    RequestTimeout,
    UnsupportedMediaType,
)
from providers.vocabulary import IMAGE_ALIASES

T = TypeVar("T")
FIELDS_MAX = 64
# What a body may say beside its picture, counted before anything is made of it: a short list of characters in 32 MiB
# of text would become a gigabyte of objects.
JSON_SIGNS = b"[{,:"
JSON_SIGNS_MAX = 20_000
JSON_DEPTH_MAX = 32
# Python reads a number in the square of its digits; every field's own range ends far below.
JSON_INTEGER_CHARACTERS_MAX = 40
JSON_NUMBER_CHARACTERS_MAX = 400
JSON_FIELDS = ("routing", "metadata")


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How large a body may be, and how slow: `grace_s` beside what its bytes take at `bytes_per_s_min`."""

    bytes_max: int
    grace_s: float
    bytes_per_s_min: int


class _Reading:
    """A body on its way in, within its limits."""

    def __init__(self, request: Request, limits: BodyLimits) -> None:
        self._request = request
        self._limits = limits
        self._patience = asyncio.timeout(limits.grace_s)
        self._size_bytes = 0

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes, counted, with time for what came."""
        ends_at, ticket = self._patience.when(), self._request.state.ticket
        assert ends_at is not None
        async for chunk in self._request.stream():
            self._size_bytes += len(chunk)
            ticket.took(len(chunk))
            if self._size_bytes > self._limits.bytes_max:
                raise _too_large(self._limits.bytes_max)
            self._patience.reschedule(ends_at + self._size_bytes / self._limits.bytes_per_s_min)
            yield chunk

    async def whole(self) -> bytearray:
        """All of it."""
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
        return body

    async def in_time(self, work: Callable[[], Awaitable[T]]) -> T:
        """What work makes of the chunks. Raises ContentTooLarge, RequestTimeout and TemporaryReducedCapacity."""
        limits, declared = self._limits, self._request.headers.get("content-length", "")
        if declared.isdecimal() and len(declared) < 20 and int(declared) > limits.bytes_max:
            raise _too_large(limits.bytes_max)
        try:
            async with self._patience:
                return await work()
        except ClientDisconnect:
            raise BadRequest("the connection closed before the whole body had arrived") from None
        except TimeoutError:
            came = f"{self._size_bytes} bytes of the body came, fewer than {limits.bytes_per_s_min} a second"
            raise RequestTimeout(
                f"{came} after a start of {limits.grace_s:g} s", headers={"Connection": "close"}
            ) from None


async def read_body(request: Request, limits: BodyLimits) -> bytearray:
    """The whole body. Raises ContentTooLarge as soon as it is known to be too long, RequestTimeout, and
    TemporaryReducedCapacity.
    """
    reading = _Reading(request, limits)
    return await reading.in_time(reading.whole)


async def read_fields(request: Request, limits: BodyLimits) -> dict[str, Any]:
    """The fields of a JSON or multipart body. The picture of a multipart body is bytes under `image`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in {"application/json", "multipart/form-data"}:
        raise UnsupportedMediaType("send application/json or multipart/form-data", got=kind or None)
    reading = _Reading(request, limits)
    if kind == "application/json":
        return parse_json(await reading.in_time(reading.whole))
    return await reading.in_time(partial(_multipart, request.headers, reading.chunks(), limits.bytes_max))


class _UnfitError(ValueError):
    """What Python's reader of JSON would take and JSON does not have."""


def parse_json(body: bytes | bytearray) -> dict[str, Any]:
    """A JSON object; duplicate names, NaN and infinities are refused, and so is nesting without end.

    A bytearray is empty afterwards: a large body need not be there twice while it is parsed.
    """
    if sum(body.count(sign) for sign in JSON_SIGNS) > JSON_SIGNS_MAX:
        raise BadJson("the body has too many values")
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass")
        if isinstance(body, bytearray):
            body.clear()
        value = json.loads(
            text, parse_int=_integer, parse_float=_number, parse_constant=_not_a_number, object_pairs_hook=_unique
        )
    except RecursionError:
        raise BadJson("the body is nested too deeply") from None
    except (json.JSONDecodeError, _UnfitError) as error:
        raise BadJson(f"the body is not JSON: {error}") from None
    except ValueError:
        raise BadJson("the body has text that is not UTF-8") from None
    if not isinstance(value, dict):
        raise BadJson("the body must be a JSON object")
    if _depth(value) > JSON_DEPTH_MAX:
        raise BadJson("the body is nested too deeply")
    return value


def _depth(value: Any) -> int:
    """How many objects and lists stand in each other; no deeper than is of interest."""
    depth, level = 0, [value]
    while level and depth <= JSON_DEPTH_MAX:
        nested = [inner for inner in level if isinstance(inner, dict | list)]
        depth += bool(nested)
        level = [one for inner in nested for one in (inner.values() if isinstance(inner, dict) else inner)]
    return depth


def _not_a_number(text: str) -> NoReturn:
    raise _UnfitError(f"{text} is not a JSON number")


def _integer(text: str) -> int:
    if len(text) > JSON_INTEGER_CHARACTERS_MAX:
        raise _UnfitError(f"a whole number may have {JSON_INTEGER_CHARACTERS_MAX} digits")
    return int(text)


def _number(text: str) -> float:
    if len(text) > JSON_NUMBER_CHARACTERS_MAX:
        raise _UnfitError(f"a number may have {JSON_NUMBER_CHARACTERS_MAX} characters")
    number = float(text)
    if math.isinf(number):
        raise _UnfitError("a number is larger than any that can be kept")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        times = Counter(name for name, _ in pairs)
        raise _UnfitError(f"the name {next(name for name, count in times.items() if count > 1)!r} appears twice")
    return fields


class _WholeForm(MultiPartParser):
    """A form parser that knows whether it has seen the closing boundary."""

    ended = False

    def on_end(self) -> None:
        self.ended = True


async def _multipart(headers: Headers, chunks: AsyncGenerator[bytes, None], bytes_max: int) -> dict[str, Any]:
    async def stream() -> AsyncGenerator[bytes, None]:
        async for chunk in chunks:
            yield chunk
        if not parser.ended:
            raise MultiPartException("it ends before its closing boundary")

    parser = _WholeForm(
        headers,
        stream(),
        max_files=1,
        max_fields=FIELDS_MAX,
        max_part_size=bytes_max,
    )
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError) as error:
        raise BadRequest(f"the multipart body could not be read: {getattr(error, 'message', error)}") from None
    fields: dict[str, Any] = {}
    try:
        for name, value in form.multi_items():
            if name in fields:
                raise BadRequest(f"the field {name!r} appears twice")
            fields[name] = await value.read() if isinstance(value, UploadFile) else _text(name, value)
    finally:
        await form.close()
    return fields


def _text(name: str, value: str) -> Any:
    """A text part; `routing` and `metadata` carry JSON."""
    return parse_json(value.encode()) if name in JSON_FIELDS else value


def take_image(fields: dict[str, Any]) -> str | bytes:
    """Take the picture out of the fields, under whichever of its names. Raises InvalidImage and AliasConflict."""
    names = [name for name in ("image", *IMAGE_ALIASES) if fields.get(name) is not None]
    if not names:
        raise InvalidImage("a picture is needed: give image as a link, a data URI, base64 or a file", reason="missing")
    if len(names) > 1:
        raise AliasConflict(f"give the picture once, not as {' and '.join(names)}", fields=names)
    image = fields.pop(names[0])
    for name in ("image", *IMAGE_ALIASES):
        fields.pop(name, None)
    if not isinstance(image, str | bytes):
        raise InvalidImage("image must be a link, a data URI, base64 or a file", reason="wrong_type")
    return image


def metadata_of(fields: Mapping[str, Any]) -> dict[str, str]:
    """The caller's own tags: at most 16 short texts."""
    tags = {} if fields.get("metadata") is None else fields["metadata"]
    fine = isinstance(tags, dict) and len(tags) <= 16
    if not fine or not all(isinstance(v, str) and len(k) <= 40 and len(v) <= 200 for k, v in tags.items()):
        raise BadRequest("metadata must be an object of at most 16 texts: names to 40, values to 200 characters")
    if not all(is_plain(text) for pair in tags.items() for text in pair):
        raise BadRequest("metadata must be Unicode text without control characters")
    return dict(tags)


def is_plain(text: str) -> bool:
    """Whether every database can hold a text: no control characters, no halves of surrogate pairs."""
    return all(character >= " " and not "\ud800" <= character <= "\udfff" for character in text)


def _too_large(bytes_max: int) -> ContentTooLarge:
    return ContentTooLarge(f"the body is larger than {bytes_max} bytes", bytes_max=bytes_max)
