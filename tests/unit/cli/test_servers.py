"""Serving in this process: ports, simulators, and a gateway that starts and stops without surprises."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.cli.servers import SimulatorPlan, run, serve_until_stopped, served, simulated, simulators, take_port
from providers.registry import BUILTIN

PLUGINS = {plugin.name: plugin for plugin in BUILTIN}


def app(log: list[str], fault: Exception | None = None) -> Starlette:
    """An application that writes down when it starts and stops."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        log.append("start")
        if fault is not None:
            raise fault
        yield
        log.append("stop")

    async def hello(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    return Starlette(routes=[Route("/", hello)], lifespan=lifespan)


def test_a_port_that_is_taken_is_told_with_the_option_for_another() -> None:
    """And the socket that could not be bound is closed."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=f"cannot listen on 127.0.0.1:{port}") as caught:
            take_port(port, "127.0.0.1", "--port")
    assert caught.value.code is ExitCode.USAGE
    assert "--port" in caught.value.mend


def test_work_runs_on_the_fast_loop_and_gives_its_result() -> None:
    """The loop is uvloop's, as in production."""

    async def work() -> str:
        return type(asyncio.get_running_loop()).__module__

    assert run(work()).startswith("uvloop")


def test_every_simulator_is_served_at_its_speed() -> None:
    """Each on a port of its own, steered at its admin pages."""

    async def work() -> dict[str, float]:
        async with simulators(PLUGINS, SimulatorPlan(0, 50.0)) as urls, httpx.AsyncClient() as http:
            assert len(set(urls.values())) == len(urls)
            pages = {name: await http.get(f"{url}/_sandbox/settings") for name, url in urls.items()}
            return {name: page.json()["speed"] for name, page in pages.items()}

    assert run(work()) == {plugin.name: 50.0 for plugin in simulated(PLUGINS)}


def test_the_ports_of_the_simulators_follow_their_base() -> None:
    """So that `sandbox set` finds them without being told where they are."""
    count = len(simulated(PLUGINS))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        base = probe.getsockname()[1]

    async def work() -> list[str]:
        async with simulators(PLUGINS, SimulatorPlan(base, 1.0)) as urls:
            return list(urls.values())

    assert run(work()) == [f"http://127.0.0.1:{base + place}" for place in range(count)]


def test_a_taken_port_stops_the_simulators_that_had_started() -> None:
    """Nothing is left listening behind an error."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        base = taken.getsockname()[1] - 1

        async def work() -> None:
            async with simulators(PLUGINS, SimulatorPlan(base, 1.0)):
                raise AssertionError("one port was taken")

        with pytest.raises(CommandError, match="cannot listen"):
            run(work())
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", base))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_gateway_through_its_lifespan(number: signal.Signals) -> None:
    """Ready is said once it answers, the lifespan ends, the signal is not passed on, and the handlers are put back."""
    log: list[str] = []
    before = signal.getsignal(number)
    listener, _url = take_port(0, "127.0.0.1", "--port")

    def ready() -> None:
        log.append("ready")
        os.kill(os.getpid(), number)

    run(serve_until_stopped(app(log), listener, ready))
    assert log == ["start", "ready", "stop"]
    assert signal.getsignal(number) is before


def test_what_keeps_the_gateway_from_starting_is_raised() -> None:
    """Not logged and swallowed: the command can say it in a sentence."""
    log: list[str] = []
    listener, _url = take_port(0, "127.0.0.1", "--port")
    with listener, pytest.raises(RuntimeError, match="no database"):
        run(serve_until_stopped(app(log, RuntimeError("no database")), listener, lambda: log.append("ready")))
    assert log == ["start"]


def test_a_gateway_is_served_for_as_long_as_a_block_runs() -> None:
    """Real HTTP inside the block, and its lifespan around it."""
    log: list[str] = []

    async def work() -> str:
        listener, url = take_port(0, "127.0.0.1", "--port")
        async with served(app(log), listener), httpx.AsyncClient() as http:
            log.append("inside")
            return (await http.get(url)).text

    assert run(work()) == "hello"
    assert log == ["start", "inside", "stop"]
