"""The ways a simulated vendor can spoil a call: a table of faults, the script of those to come, the broken replies."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal

from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from providers.contract import Clock


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to spoil a call. `accepts` says that the vendor does the work, and bills it, all the same."""

    style: Literal["html", "vendor", "reset", "reset_mid_body", "truncated", "slow_drip", "hang"]
    accepts: bool
    status: int = 0


FAULTS: Mapping[str, Fault] = {
    "502_before_accept": Fault("html", accepts=False, status=502),
    "502_after_accept": Fault("html", accepts=True, status=502),
    "504_before_accept": Fault("html", accepts=False, status=504),
    "504_after_accept": Fault("html", accepts=True, status=504),
    "html_error": Fault("html", accepts=False, status=503),
    "html_at_200": Fault("html", accepts=True, status=200),
    "429": Fault("vendor", accepts=False, status=429),
    "500": Fault("vendor", accepts=False, status=500),
    "reset_before_accept": Fault("reset", accepts=False),
    "reset_before_reply": Fault("reset", accepts=True),
    "reset_mid_body": Fault("reset_mid_body", accepts=True),
    "truncated": Fault("truncated", accepts=True),
    "slow_drip": Fault("slow_drip", accepts=True),
    "timeout_before_accept": Fault("hang", accepts=False),
    "timeout": Fault("hang", accepts=True),
}


class Faults:
    """The scripted faults of each operation, first in first out."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[str]] = {}

    def script(self, operation: str, fault: str, count: int = 1) -> None:
        """Spoil the next `count` calls of an operation. Raises ValueError for an unknown fault."""
        if fault not in FAULTS:
            raise ValueError(f"unknown fault {fault!r}; there are: {', '.join(FAULTS)}")
        if not 1 <= count <= 10_000:
            raise ValueError("count must be 1 to 10000")
        self._queues.setdefault(operation, deque()).extend([fault] * count)

    def clear(self) -> None:
        """Forget every scripted fault."""
        self._queues.clear()

    def pending(self) -> dict[str, list[str]]:
        """The faults still to come, by operation."""
        return {operation: list(queue) for operation, queue in self._queues.items() if queue}

    def take(self, operation: str, rates: Mapping[str, float], random: Random) -> Fault | None:
        """The fault for this call: the next scripted one, else one drawn by its rate, else None."""
        queue = self._queues.get(operation)
        if queue:
            return FAULTS[queue.popleft()]
        chance = random.random() if rates else 1.0
        for name, rate in rates.items():
            if chance < rate:
                return FAULTS[name]
            chance -= rate
        return None


def spoiled(fault: Fault, reply: Response, clock: Clock, *, hang_s: float, drip_s: float) -> Response:
    """What the caller sees of a reply under this fault; a `vendor` fault is the vendor's own page, made elsewhere."""
    if fault.style == "html":
        return HTMLResponse(f"<html><body><h1>{fault.status}</h1></body></html>", status_code=fault.status)
    if fault.style == "hang":
        return _Hang(clock, hang_s)
    if fault.style == "truncated":
        body = bytes(reply.body)
        return Response(body[: len(body) // 2], reply.status_code, media_type=reply.media_type)
    if fault.style == "slow_drip":
        return _SlowDrip(reply, clock, drip_s)
    return _Reset(reply if fault.style == "reset_mid_body" else None)


async def _drop_connection(send: Send) -> None:
    """End the connection without a reply.

    ASGI has no word for this. A head that cannot be sent counts as begun, and a begun reply that never ends makes the
    server close the connection; uvicorn refuses the head with a RuntimeError before a byte of it leaves.
    """
    with contextlib.suppress(RuntimeError):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"not a header name", b"")]})


class _Reset(Response):
    """Close the connection before the reply, or in the middle of the given reply's body."""

    def __init__(self, reply: Response | None) -> None:
        super().__init__()
        self._reply = reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._reply is None:
            await _drop_connection(send)
            return
        body = bytes(self._reply.body)
        await send(
            {"type": "http.response.start", "status": self._reply.status_code, "headers": self._reply.raw_headers}
        )
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})


class _SlowDrip(Response):
    """Send the given reply in 16 pieces with a pause before each."""

    def __init__(self, reply: Response, clock: Clock, pause_s: float) -> None:
        super().__init__()
        self._reply, self._clock, self._pause_s = reply, clock, pause_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytes(self._reply.body)
        piece_bytes = max(1, math.ceil(len(body) / 16))
        await send(
            {"type": "http.response.start", "status": self._reply.status_code, "headers": self._reply.raw_headers}
        )
        for start in range(0, len(body), piece_bytes):
            await self._clock.sleep(self._pause_s)
            await send({"type": "http.response.body", "body": body[start : start + piece_bytes], "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Hang(Response):
    """Say nothing until the caller hangs up or the time is over, then close the connection."""

    def __init__(self, clock: Clock, hang_s: float) -> None:
        super().__init__()
        self._clock, self._hang_s = clock, hang_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        over = asyncio.ensure_future(self._clock.sleep(self._hang_s))
        gone = asyncio.ensure_future(_until_disconnect(receive))
        try:
            await asyncio.wait({over, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            gone.cancel()
        await _drop_connection(send)


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
