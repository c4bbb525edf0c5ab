"""Running things in this process: the gateway and the vendors' simulators, over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from random import Random, SystemRandom
from types import FrameType
from typing import Any, TypeVar, cast

import uvicorn
import uvloop
from starlette.applications import Starlette

from gateway.cli.client import own_http
from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.clock import SystemClock
from gateway.connections import SEND_BUFFER_BYTES, BoundedProtocol, ConnectionLimits
from gateway.settings_edge import ServerSection
from providers.contract import ProviderPlugin, SimulatorTools
from providers.registry import PluginError, plugins
from providers.serving import listen, serve
from providers.simulation import SandboxClock

T = TypeVar("T")
PORT_BASE = 9100
LOOPBACK = "127.0.0.1"
# Connections still open when the process is told to stop are given this long; jobs have `server.drain_s` of their own.
CONNECTIONS_GRACE_S = 5
USUAL_SERVER = ServerSection()
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work on a fast event loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def installed() -> Mapping[str, ProviderPlugin]:
    """Every provider that is installed, by name. Raises CommandError for a package that does not fit."""
    try:
        return plugins()
    except PluginError as error:
        raise CommandError(ExitCode.USAGE, str(error), "remove that package, or install one that fits") from error


def take_port(port: int, host: str, option: str) -> tuple[socket.socket, str]:
    """A bound socket and its base URL. Raises CommandError naming the option that chooses another port."""
    try:
        return listen(port, host)
    except OSError as error:
        what = f"cannot listen on {host}:{port}: {error.strerror}"
        raise CommandError(ExitCode.USAGE, what, f"another port with {option}") from error


class _Server(uvicorn.Server):
    """A server that says when it is ready, and ends quietly on a signal instead of passing it on at its end."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._on_ready()
        # What is there now stays: the collector need not walk through it each time while others wait.
        gc.collect()
        gc.freeze()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; a second Ctrl-C stops without waiting. Event streams look at `should_exit` here, and nowhere else."""
        self.force_exit = self.force_exit or (self.should_exit and sig == signal.SIGINT)
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


async def serve_until_stopped(
    app: Starlette, listener: socket.socket, on_ready: Callable[[], None], server: ServerSection = USUAL_SERVER
) -> None:
    """Serve the gateway until SIGINT or SIGTERM; `on_ready` is called once it answers.

    Starting and draining are the application's own lifespan.
    The lifespan is entered here and not by the server, so that what keeps it from starting is raised and not logged.
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # of every connection it accepts
    config = uvicorn.Config(
        app,
        http=bounded(app, server),
        ws="none",
        timeout_keep_alive=server.keep_alive_s,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=CONNECTIONS_GRACE_S,
    )
    async with app.router.lifespan_context(app):
        await _Server(config, on_ready).serve(sockets=[listener])


def bounded(app: Starlette, server: ServerSection) -> type[asyncio.Protocol]:
    """The protocol of connections with these limits; what it cuts off is counted in the metrics of the service."""

    def on_cut(reason: str) -> None:
        app.state.service.parts.meter.metrics.count("vidgate_connections_cut", reason=reason)

    limits = ConnectionLimits(
        connections_max=server.connections_max,
        header_s=server.header_s,
        header_bytes_max=server.header_bytes_max,
        headers_max=server.headers_max,
        send_s=server.send_s,
        on_cut=on_cut,
    )
    return cast("type[asyncio.Protocol]", partial(BoundedProtocol, limits=limits))


@asynccontextmanager
async def served(app: Starlette, listener: socket.socket) -> AsyncIterator[None]:
    """Serve the gateway for as long as the block runs."""
    async with app.router.lifespan_context(app), serve(app, listener):
        yield


@dataclass(frozen=True, slots=True)
class SimulatorPlan:
    """Where the simulators listen and how fast they are. Port base 0 takes free ports.

    `public_host` is the name in the links they hand out, where it is another one than the address they listen on.
    """

    port_base: int = PORT_BASE
    speed: float = 1.0
    host: str = LOOPBACK
    public_host: str = ""


def simulated(plugins: Mapping[str, ProviderPlugin]) -> list[ProviderPlugin]:
    """The providers that have a simulator; each one's place in the list is its place above the port base."""
    return [plugin for plugin in plugins.values() if plugin.simulator is not None]


@asynccontextmanager
async def simulators(plugins: Mapping[str, ProviderPlugin], plan: SimulatorPlan) -> AsyncIterator[dict[str, str]]:
    """Serve every provider's simulator while the block runs, and give their base URLs by provider."""
    urls: dict[str, str] = {}
    clock = SandboxClock(SystemClock())
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(own_http())
        for place, plugin in enumerate(simulated(plugins)):
            port = plan.port_base and plan.port_base + place
            listener, url = take_port(port, plan.host, "--port-base")
            stack.enter_context(listener)
            if plan.public_host:
                url = f"http://{plan.public_host}:{listener.getsockname()[1]}"
            tools = SimulatorTools(url, clock, Random(SystemRandom().getrandbits(64)), http, {"speed": plan.speed})
            assert plugin.simulator is not None
            await stack.enter_async_context(serve(plugin.simulator(tools), listener))
            urls[plugin.name] = url
        yield urls
