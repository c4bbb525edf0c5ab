"""Vendors in this process: a transport that calls simulators by their host's name, and breaks off as a network does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import httpx

from gateway.outbound import Outbound


class Wire(httpx.AsyncBaseTransport):
    """Hands every request to the application of its host; a reply that never ends is a connection that broke off.

    `down` hosts take no connection at all. Timeouts are the caller's: a call that is given up is canceled.
    """

    def __init__(self) -> None:
        self.apps: dict[str, Any] = {}
        self.down: set[str] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host
        if host in self.down or host not in self.apps:
            raise httpx.ConnectError(f"{host} takes no connection", request=request)
        reply = _Reply(await request.aread())
        await self.apps[host](_scope(request), reply.receive, reply.send)
        if not reply.ended:
            raise httpx.ReadError("the connection was closed", request=request)
        return httpx.Response(reply.status, headers=reply.headers, stream=httpx.ByteStream(bytes(reply.body)))

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=self, trust_env=False)

    def outbound(self) -> Callable[[Iterable[str]], Outbound]:
        """What stands where the composition names `Outbound`: the same guard of forms, over this wire."""

        def make(allow: Iterable[str] = ()) -> Outbound:
            made = Outbound(allow)
            made._client = self.client()
            return made

        return make


class _Reply:
    """One exchange as ASGI has it."""

    def __init__(self, request_body: bytes) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self._over = asyncio.Event()
        self._left: bytes | None = request_body

    @property
    def ended(self) -> bool:
        return self._over.is_set()

    async def receive(self) -> dict[str, Any]:
        if self._left is None:
            await self._over.wait()
            return {"type": "http.disconnect"}
        body, self._left = self._left, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message.get("headers", []))
            return
        self.body += message.get("body", b"")
        if not message.get("more_body", False):
            self._over.set()


def _scope(request: httpx.Request) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.split(b"?")[0],
        "query_string": request.url.query,
        "server": (request.url.host, request.url.port or 80),
        "client": ("127.0.0.1", 1),
        "root_path": "",
    }
