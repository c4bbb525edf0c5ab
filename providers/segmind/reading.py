"""Reads the vendor's values: money, times, seeds, ids, links and files, each None or empty when it is not one."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime

from providers.contract import InlineFile, Json, RemoteFile, Report, ResultFile
from providers.transport import RETRY_AFTER_MAX_S, Reply, retry_after_s

RATE_RESET_HEADER = "x-rate-limit-reset-at-utc"  # WIRE 1.3; its format is unknown (U3)
CREDITS_MAX = Decimal(1_000_000_000)
DETAIL_LENGTH_MAX = 300
DETAIL_READ_MAX = 2_000
FILES_MAX = 16
LINK_LENGTH_MAX = 4_096

# Where the words of an error stand (WIRE 1.6), and in an `error` that is an object instead of a text.
MESSAGE_FIELDS = ("error_description", "error", "message", "detail")
ERROR_FIELDS = ("message", "msg", "detail", "error", "type", "code")
MESSAGE_PARTS_MAX = 4

# Where a result may stand in a reply, best first. `video.url` and `output` are documented (WIRE 1.5), the rest are what
# images and inline replies may use (U2); an unknown name is not guessed.
RESULT_FIELDS = ("video", "images", "output", "image", "image_url", "video_url", "url", "data")

_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_LINK = re.compile(r"https?://[^\s\x00-\x1f\x7f]+")
_KEY = re.compile(r"SG_[0-9A-Za-z]+")
_NUMBER = re.compile(r"\d{9,14}(\.\d{1,9})?")


def request_id(value: Json) -> str | None:
    """A vendor's request id that is safe as a path segment."""
    return value if isinstance(value, str) and _REQUEST_ID.fullmatch(value) else None


def micros(value: Json) -> int | None:
    """USD credits as integer micro-USD; accepts numbers and their text."""
    credits_usd = number(value)
    if credits_usd is None or abs(credits_usd) > CREDITS_MAX:
        return None
    return int((credits_usd * 1_000_000).to_integral_value())


def number(value: Json) -> Decimal | None:
    """A finite number, from a number or its text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        parsed = Decimal(str(value).strip())
    except (InvalidOperation, ValueError):
        return None
    return parsed if parsed.is_finite() else None


def link(value: Json) -> str | None:
    """An http(s) link."""
    return value if isinstance(value, str) and len(value) <= LINK_LENGTH_MAX and _LINK.fullmatch(value) else None


def seconds(value: Json) -> float | None:
    """A duration in seconds, from a number or its text."""
    amount = micros(value)
    return None if amount is None or amount < 0 else amount / 1_000_000


def integer(value: Json) -> int | None:
    """A whole number, from a number or its text: seeds come as text in v2 (WIRE 1.5)."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else None
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value.strip()):
        return int(value)
    return None


def moment(value: Json) -> float | None:
    """Unix seconds from every plausible form: ISO 8601, unix seconds, unix milliseconds, HTTP date. Naive is UTC."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = str(value).strip()
    if _NUMBER.fullmatch(text):
        number = float(text)
        return number / 1_000 if number >= 1e11 else number
    parsed = _iso(text) or _http_date(text)
    if parsed is None:
        return None
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    try:
        return parsed.timestamp()
    except (OverflowError, ValueError):
        return None


def _iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        return None


def _http_date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def hint_s(reply: Reply, now: float) -> float | None:
    """Seconds after which to come again: the vendor's own word, or a Retry-After, which it never sends, of a proxy."""
    reset_s = rate_reset_s(reply.headers, now) if reply.status == 429 else None
    return reset_s if reset_s is not None else retry_after_s(reply, now)


def rate_reset_s(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds until the vendor's rate limit resets, at most a day; None when it does not say."""
    reset_at = moment(headers.get(RATE_RESET_HEADER))
    if reset_at is None or reset_at - now > RETRY_AFTER_MAX_S:
        return None
    return max(0.0, reset_at - now)


def said(reply: Reply) -> str:
    """What an error reply says, short, printable and without keys; the status alone where the body is not JSON."""
    message = message_of(reply.object())
    return f"HTTP {reply.status}: {message}" if message else f"HTTP {reply.status}"


def message_of(body: Mapping[str, Json]) -> str:
    """The words of an error in a body, printable, or empty; its `error` may be a text, an object or a list."""
    found = (" ".join(_texts(body.get(name))) for name in MESSAGE_FIELDS)
    return printable(next((text for text in found if text.strip()), ""))


def _texts(value: Json) -> Iterator[str]:
    """The texts of an error: itself, or those of its known fields, or of the first entries of a list of these."""
    if isinstance(value, str):
        yield value
        return
    parts = value if isinstance(value, list) else [value]
    for part in parts[:MESSAGE_PARTS_MAX]:
        inner = [part.get(name) for name in ERROR_FIELDS] if isinstance(part, dict) else [part]
        yield from (text for text in inner if isinstance(text, str))


def printable(text: str) -> str:
    """A vendor's text made safe for logs and databases: one line, bounded, no control characters, no key."""
    plain = "".join(character if character.isprintable() else " " for character in text[:DETAIL_READ_MAX])
    return _KEY.sub("[key]", plain)[:DETAIL_LENGTH_MAX].strip()


def header_report(headers: Mapping[str, str]) -> Report:
    """What the headers of a v1 reply say (WIRE 1.3)."""
    return Report(
        request_id=request_id(headers.get("x-request-id")),
        cost_micros=_cost(headers.get("x-cost")),
        credits_remaining_micros=micros(headers.get("x-remaining-credits")),
        seed=integer(headers.get("x-seed-value")),
        inference_s=seconds(headers.get("x-generation-time")),
    )


def rendered_report(reply: Reply) -> Report:
    """What a v1 reply in JSON says: its headers, and its body where they say nothing."""
    headers, body = header_report(reply.headers), body_report(reply.object())
    told = {name: getattr(headers, name) for name in (field.name for field in fields(Report))}
    return replace(body, **{name: value for name, value in told.items() if value is not None})


def body_report(body: Mapping[str, Json]) -> Report:
    """What a v2 body says (WIRE 1.5)."""
    metrics = body.get("metrics")
    said_metrics = metrics if isinstance(metrics, dict) else {}
    return Report(
        request_id=request_id(body.get("request_id")),
        cost_micros=_cost(said_metrics.get("cost")),
        credits_remaining_micros=micros(said_metrics.get("remaining_credits")),
        seed=integer(body.get("seed")),
        inference_s=seconds(said_metrics.get("inference_time")),
        queue_s=seconds(said_metrics.get("queue_time")),
    )


def _cost(value: Json) -> int | None:
    amount = micros(value)
    return None if amount is None or amount < 0 else amount


def looks_like_media(data: bytes) -> bool:
    """Whether bytes begin as a video or picture does, whatever their Content-Type says (trap 9)."""
    return (
        data[4:8] in {b"ftyp", b"moov", b"mdat"}
        or (data[:4] == b"RIFF" and data[8:12] in {b"WEBP", b"AVI "})
        or data.startswith((b"GIF8", b"\x1a\x45\xdf\xa3", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"))
    )


def result_files(body: Mapping[str, Json]) -> tuple[ResultFile, ...]:
    """The results in a reply: from the first known field that holds any."""
    for name in RESULT_FIELDS:
        files = tuple(_files(body.get(name)))[:FILES_MAX]
        if files:
            return files
    return ()


def _files(value: Json) -> Iterator[ResultFile]:
    if isinstance(value, list):
        for item in value[:FILES_MAX]:
            if not isinstance(item, list):
                yield from _files(item)
    elif isinstance(value, dict):
        for name in RESULT_FIELDS:
            if isinstance(value.get(name), str):
                yield from _files(value[name])
                return
    elif isinstance(value, str):
        file = _file(value)
        if file is not None:
            yield file


def _file(text: str) -> ResultFile | None:
    if link(text):
        return RemoteFile(text)
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    return InlineFile(data) if looks_like_media(data) else None
