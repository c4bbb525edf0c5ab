"""Serve an ASGI application on loopback inside this process: for simulators, the sandbox command and tests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0
TICK_S = 1.0


def listen(port: int = 0, host: str = "127.0.0.1") -> tuple[socket.socket, str]:
    """A bound socket and the base URL that reaches it; port 0 takes a free one. Raises OSError when it is taken."""
    # With the protocol named, asyncio turns Nagle off: a reply in two writes would wait 40 ms for a delayed ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener, f"http://{host}:{listener.getsockname()[1]}"


@contextlib.asynccontextmanager
async def serve(app: Any, listener: socket.socket | None = None) -> AsyncIterator[str]:
    """Serve an application while the block runs and give its base URL.

    Takes a socket from `listen` where the application must know its address first; otherwise a free port.
    """
    listener = listener or listen()[0]
    host, port = listener.getsockname()[:2]
    server = _Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
    task = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        await asyncio.wait_for(server.ready.wait(), START_TIMEOUT_S)
        yield f"http://{host}:{port}"
    finally:
        server.stop()
        await task
        listener.close()


class _Server(uvicorn.Server):
    """A server that says when it is ready, stops as soon as it is told and leaves the process's signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self.should_exit = True
        self._stopping.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), TICK_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        running = set(self.server_state.tasks)
        if running:
            await asyncio.wait(running, timeout=STOP_TIMEOUT_S)
        for task in running:
            task.cancel()
        for server in self.servers:
            await server.wait_closed()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
