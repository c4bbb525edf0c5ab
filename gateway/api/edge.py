"""What every reply carries: not to be guessed at, not to be kept, and readable by the pages that the operator allows.

Pages of other origins may read nothing unless `server.cors_origins` names theirs. Nothing here rests on cookies, so
credentials are never allowed: a page that has a key sends it itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api.errors import ALWAYS
from gateway.holds import KeyEndedError

PREFLIGHT_S = 600
# What a page may send, and what it may read beside the headers that every page may.
SENT = (
    "Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "If-Range", "Last-Event-ID", "Prefer", "Range",
    "traceparent", "x-api-key",
)  # fmt: skip
READ = (
    "Accept-Ranges", "Allow", "Content-Disposition", "Content-Range", "Deprecation", "ETag", "Idempotent-Replayed",
    "Link", "Location", "Preference-Applied", "RateLimit", "RateLimit-Policy", "Retry-After", "Sunset", "traceresponse",
    "WWW-Authenticate", "x-vidgate-attempts", "x-vidgate-budget-warning", "x-vidgate-cost-usd", "x-vidgate-job-id",
    "x-vidgate-route",
)  # fmt: skip


class UnderWay:
    """A reply that holds what it holds until it is sent whole, or its client has gone."""

    def __init__(self, response: Response, held: ExitStack) -> None:
        self._response = response
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._held:
            await self._response(scope, receive, send)


class Edge:
    """The outermost layer around the handlers."""

    def __init__(self, app: ASGIApp, cors_origins: Sequence[str] = ()) -> None:
        self._app = app
        self._origins = frozenset(cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in ALWAYS.items():
                    headers.setdefault(name, value)
                if self._origins:
                    self._share(Headers(scope=scope), scope["method"], headers)
            await send(message)

        with suppress(KeyEndedError):  # the server closes the connection of a reply that has no end
            await self._app(scope, receive, dressed)

    def _share(self, asked: Headers, method: str, headers: MutableHeaders) -> None:
        """Let a page read the reply, if its origin is named; every reply depends on the origin then."""
        headers.add_vary_header("Origin")
        origin = asked.get("origin")
        if origin not in self._origins:
            return
        headers["Access-Control-Allow-Origin"] = origin
        if method == "OPTIONS" and "access-control-request-method" in asked:
            headers["Access-Control-Allow-Methods"] = headers.get("Allow", "")
            headers["Access-Control-Allow-Headers"] = ", ".join(SENT)
            headers["Access-Control-Max-Age"] = str(PREFLIGHT_S)
        else:
            headers["Access-Control-Expose-Headers"] = ", ".join(READ)
