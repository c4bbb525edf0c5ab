"""The transport under vendor calls: httpx over aiohttp, which says truthfully whether a request can have left.

httpx-aiohttp calls every connection error of aiohttp a connect timeout, also a reset after the whole request was sent.
Taken for "it never left", that would repeat a submit that the vendor has accepted, and pay for it twice. Other errors
it hands on as aiohttp's own, which nothing above knows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

# The errors of aiohttp that come before a connection stands; any other may come after bytes have left.
NEVER_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


_permit: ContextVar[Callable[[], None] | None] = ContextVar("permit", default=None)


@contextmanager
def permitted_by(check: Callable[[], None]) -> Iterator[None]:
    """Ask before each request of the block, at the last moment before it leaves; what `check` raises keeps it here."""
    token = _permit.set(check)
    try:
        yield
    finally:
        _permit.reset(token)


class VendorTransport(AiohttpTransport):
    """httpx-aiohttp's transport with its errors told apart."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. Raises ConnectError or ConnectTimeout only where it cannot have left."""
        check = _permit.get()
        if check is not None:
            check()
        with _told_apart(request):
            response = await super().handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Body(response.stream, request)
        return response


class _Body(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream, request: httpx.Request) -> None:
        self._inner = inner
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _told_apart(self._request):
            async for chunk in self._inner:
                yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


@contextmanager
def _told_apart(request: httpx.Request) -> Iterator[None]:
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        if isinstance(error.__cause__, NEVER_CONNECTED):
            raise
        raise httpx.ReadError(str(error), request=request) from error
    except aiohttp.ClientError as error:
        raise httpx.RemoteProtocolError(str(error), request=request) from error
