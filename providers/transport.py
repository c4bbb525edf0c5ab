"""The one edge where transport errors become facts: did the request leave, and what came back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

import httpx

from providers.contract import Json

REPLY_BYTES_MAX = 96 * 1024 * 1024
# Statuses with which a Retry-After says when to come again (RFC 9110 10.2.3, RFC 6585 4); a longer wait is no hint.
HINTING = frozenset({429, 503})
RETRY_AFTER_MAX_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole HTTP reply, of any status."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Json:
        """The body as JSON, or None when it is not JSON (vendors answer some errors in HTML) or too deep to read."""
        try:
            value: Json = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return value

    def object(self) -> dict[str, Json]:
        """The body as a JSON object, or an empty one."""
        value = self.json()
        return value if isinstance(value, dict) else {}


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request provably never left."""

    detail: str


@dataclass(frozen=True, slots=True)
class MaybeSent:
    """Bytes may have left and no whole reply came back."""

    detail: str


def retry_after_s(reply: Reply, now: float | None = None) -> float | None:
    """Seconds that the Retry-After of a reply asks for, at most a day; None for nothing and for nonsense.

    A date counts from the reply's own `Date`, whose clock it was made by, or else from `now`, unix seconds.
    """
    text = reply.headers.get("retry-after", "").strip()
    if reply.status not in HINTING or not text:
        return None
    if text.isascii() and text.isdigit():
        wait_s = float(text[:10])
    else:
        until, said_at = _unix_s(text), _unix_s(reply.headers.get("date", ""))
        since = now if said_at is None else said_at
        if until is None or since is None:
            return None
        wait_s = max(0.0, until - since)
    return wait_s if wait_s <= RETRY_AFTER_MAX_S else None


def _unix_s(text: str) -> float | None:
    """Unix seconds of an HTTP date, or None."""
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


async def call(http: httpx.AsyncClient, request: httpx.Request) -> Reply | NotSent | MaybeSent:
    """Send one request and read its whole reply, at most `REPLY_BYTES_MAX` bytes; redirects are not followed.

    The request's connect and read timeouts together bound the whole call: a reply that drips, each byte within the read
    timeout, would otherwise hold it for ever.
    """
    limits = request.extensions.get("timeout", {})
    whole_s = (limits.get("connect") or 0.0) + limits["read"] if limits.get("read") is not None else None
    try:
        async with asyncio.timeout(whole_s):
            return await _call(http, request)
    except TimeoutError:
        return MaybeSent(f"no whole reply within {whole_s:g} s")


async def _call(http: httpx.AsyncClient, request: httpx.Request) -> Reply | NotSent | MaybeSent:
    try:
        response = await http.send(request, stream=True, follow_redirects=False)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol) as error:
        return NotSent(_describe(error))
    except httpx.TransportError as error:
        return MaybeSent(_describe(error))
    try:
        chunks: list[bytes] = []
        size_bytes = 0
        async for chunk in response.aiter_bytes():
            size_bytes += len(chunk)
            if size_bytes > REPLY_BYTES_MAX:
                return MaybeSent(f"reply of more than {REPLY_BYTES_MAX} bytes")
            chunks.append(chunk)
    except (httpx.TransportError, httpx.DecodingError) as error:
        return MaybeSent(_describe(error))
    finally:
        await response.aclose()
    return Reply(response.status_code, response.headers, b"".join(chunks))


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
