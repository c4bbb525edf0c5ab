"""One client's connection: bounded in the time, the bytes and the memory that it may take, whatever the client does.

The server behind it has a limit on idle connections alone. Here the head of a request must come whole within its time
and size, what is left of an unwanted body is read for a moment only, and who does not take its reply is cut off.
Bodies that are wanted are bounded where they are read (gateway/api/reading.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gateway.api.errors import raw_reply
from gateway.overload import ALWAYS_ANSWERED as ALWAYS_ANSWERED_PATHS
from gateway.problems import BadRequest, HeadersTooLarge, Problem, RequestTimeout, TemporaryReducedCapacity

# Requests that wait behind one that is being answered; clients that do so at all send two or three.
PIPELINE_MAX = 8
# Connections above the maximum that are listened to for a moment: who asks for health or metrics is still answered.
SPARE_CONNECTIONS = 16
SPARE_HEADER_S = 1.0
# What the kernel may keep of a reply for a client that does not read; more is only needed far away.
SEND_BUFFER_BYTES = 256 * 1024
ALWAYS_ANSWERED = frozenset(path.encode() for path in ALWAYS_ANSWERED_PATHS)


REASONS: Mapping[type, str] = {HeadersTooLarge: "head_size", TemporaryReducedCapacity: "connections"}


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What a connection may take. `on_cut` is told the reason for which one was ended."""

    connections_max: int
    header_s: float
    header_bytes_max: int
    headers_max: int
    send_s: float
    on_cut: Callable[[str], None]


class _RefusedError(Exception):
    """Raised in a callback of the parser to stop it; the problem stands in the protocol by then."""


class BoundedProtocol(HttpToolsProtocol):
    """The server's protocol with limits."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: ConnectionLimits,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._refusal: Problem | None = None
        self._in_body = False
        self._completed = False
        self._head_bytes = 0
        self._field_bytes = 0
        self._is_spare = False

    # Connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """One more client, who is to send its request now."""
        super().connection_made(transport)
        self._is_spare = self._is_full()
        if self._is_full(SPARE_CONNECTIONS):
            self._refuse(self._too_many(), "connections")
            return
        header_s = self._limits.header_s
        self._start("head", min(SPARE_HEADER_S, header_s) if self._is_spare else header_s, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is no more, and nothing of it is waited for."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a head or of a body."""
        if self.transport.is_closing():
            return  # it was refused and still sends
        in_head, self._completed = not self._in_body, False
        super().data_received(data)
        if in_head and not self._in_body and not self._completed:
            self._head_bytes += len(data)
            if self._head_bytes > self._limits.header_bytes_max:
                self._refuse(self._too_large(), "head_size")
        if self._is_idle() and not self.transport.is_closing():
            # Any byte stops the server's own timer, blank lines and the rest of unwanted bodies too.
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    @property
    def _answer(self) -> RequestResponseCycle | None:
        """The last request that was begun to be answered, or waits for that."""
        return cast("RequestResponseCycle | None", self.cycle)

    def _is_idle(self) -> bool:
        answered = self._answer is None or self._answer.response_complete
        return answered and not self._in_body and "head" not in self._timers and not self.pipeline

    # The parser

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._field_bytes = 0
        if "head" not in self._timers:
            self._start("head", self._limits.header_s, self._head_is_late)

    def on_url(self, url: bytes) -> None:
        """A part of the address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header; a trailer is counted and left out: what stands behind a body is no header."""
        self._count(len(name) + len(value))
        if self._in_body:
            return
        super().on_header(name, value)
        if len(self.headers) > self._limits.headers_max:
            detail = f"a request may have {self._limits.headers_max} headers"
            self._refusal = HeadersTooLarge(detail, headers_max=self._limits.headers_max)
            raise _RefusedError

    def on_headers_complete(self) -> None:
        """The head is whole: the request is answered from here on, or waits behind another."""
        self._stop("head")
        self._in_body, self._head_bytes = True, 0
        if len(self.pipeline) >= PIPELINE_MAX:
            self._refusal = BadRequest(f"at most {PIPELINE_MAX} requests may wait on one connection")
            raise _RefusedError
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
            self._refusal = BadRequest("a request needs a Host header, and one alone")
            raise _RefusedError
        if self._is_spare and self._is_full() and self.url.partition(b"?")[0] not in ALWAYS_ANSWERED:
            self._refusal = self._too_many()
            raise _RefusedError
        super().on_headers_complete()
        if self._is_spare:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._stop("linger")
        self._in_body, self._completed = False, True
        super().on_message_complete()

    def _count(self, size_bytes: int) -> None:
        self._field_bytes += size_bytes
        if self._field_bytes > self._limits.header_bytes_max:
            self._refusal = self._too_large()
            raise _RefusedError

    def _is_full(self, spare: int = 0) -> bool:
        return len(self.connections) > self._limits.connections_max + spare

    def _too_many(self) -> Problem:
        detail = f"{self._limits.connections_max} connections are open already"
        return TemporaryReducedCapacity(detail, headers={"Retry-After": "1"})

    def _too_large(self) -> Problem:
        most = self._limits.header_bytes_max
        return HeadersTooLarge(f"the address and headers of a request may have {most} bytes", bytes_max=most)

    # Replies

    def on_response_complete(self) -> None:
        """A reply is written; the rest of a body that it did not need is read for a moment."""
        super().on_response_complete()
        if self._in_body and not self.pipeline:
            # Its sender can read the reply only while somebody still listens.
            self._start("linger", self._limits.header_s, lambda: self._cut("unwanted_body"))
        if self.transport.get_write_buffer_size():
            self._start("send", self._limits.send_s, self._reply_is_stuck)

    def pause_writing(self) -> None:
        """The client takes its reply more slowly than it is made."""
        super().pause_writing()
        self._start("send", self._limits.send_s, self._reply_is_stuck)

    def resume_writing(self) -> None:
        """The client has taken enough of it."""
        self._stop("send")
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What the parser refuses, as a problem like every other."""
        problem, self._refusal = self._refusal, None
        reason = REASONS.get(type(problem), "malformed")
        self._refuse(problem or BadRequest("this is not an HTTP request that can be read"), reason)

    # Ends

    def _head_is_late(self) -> None:
        detail = f"the head of the request did not come within {self._limits.header_s:g} s"
        if self._answer is None and not self._head_bytes and not self._field_bytes:
            self._cut("head_timeout")  # nothing was asked: nothing is answered
        else:
            self._refuse(RequestTimeout(detail), "head_timeout")

    def _reply_is_stuck(self) -> None:
        if self.transport.get_write_buffer_size():
            self._limits.on_cut("send_timeout")
            self.transport.abort()

    def _refuse(self, problem: Problem, reason: str) -> None:
        """Answer and close; not in the middle of another reply."""
        answer = self._answer
        if answer is None or answer.response_complete or not answer.response_started:
            self.transport.write(raw_reply(problem))
        self._cut(reason)

    def _cut(self, reason: str) -> None:
        if self.transport.is_closing():
            return
        self._limits.on_cut(reason)
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._start("send", self._limits.send_s, self._reply_is_stuck)

    def _start(self, name: str, seconds: float, act: Callable[[], None]) -> None:
        self._stop(name)

        def ring() -> None:
            self._timers.pop(name, None)
            act()

        self._timers[name] = self.loop.call_later(seconds, ring)

    def _stop(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
