"""What the suite over every provider works with: the providers, their vendors simulated, overheard and broken."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from hypothesis import strategies as st

from gateway.vendor_transport import VendorTransport
from policies.fit import allows, fit
from providers.capability import Capability, Route
from providers.contract import (
    Accepted,
    Finished,
    Pending,
    ProviderPlugin,
    RenderRequest,
    SimulatorTools,
    SourceImage,
    Token,
    Tools,
)
from providers.registry import plugins
from providers.serving import listen, serve
from providers.vocabulary import BY_NAME
from tests.support.pictures import SIZE, picture

EXAMPLE = Path(__file__).parents[2] / "examples" / "provider"
NOW = 1_800_000_000.0
CHECKS_MAX = 200
MICROS_MAX = 10**15


def example() -> ProviderPlugin:
    """The plugin of the example package, which is not installed here."""
    name = "vidgate_clipworks"
    folder = EXAMPLE / name
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    plugin: ProviderPlugin = module.PLUGIN
    return plugin


PLUGINS = {**plugins(), "clipworks": example()}
ROUTES = [(plugin, route) for plugin in PLUGINS.values() for route in plugin.catalogue]
# Those that speak to somebody, one of each way to speak; the others make the result themselves and send nothing.
KINDS = {(plugin.name, route.mode, id(route.capabilities)): route.name for plugin, route in reversed(ROUTES)}
REMOTE = [pair for pair in ROUTES if pair[0].simulator is not None and pair[1].name in KINDS.values()]
POLLED = [(plugin, route) for plugin, route in REMOTE if route.mode != "sync"]
BOOKS = (EXAMPLE / "prices.yaml",)

each_plugin = pytest.mark.parametrize("plugin", PLUGINS.values(), ids=PLUGINS)


def over(pairs: list[tuple[ProviderPlugin, Route]]) -> pytest.MarkDecorator:
    """One test a route, named by it."""
    return pytest.mark.parametrize(("plugin", "route"), pairs, ids=[route.name for _, route in pairs])


class EagerClock:
    """Virtual time: whoever sleeps moves it forward at once."""

    def __init__(self) -> None:
        self._now = NOW

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self._now += max(0.0, seconds)
        await asyncio.sleep(0)


def section(plugin: ProviderPlugin, base_url: str) -> dict[str, Any]:
    """A configuration section with which the provider starts."""
    return dict(plugin.simulator_settings(base_url)) if plugin.simulator_settings is not None else {}


def build(plugin: ProviderPlugin, base_url: str, http: httpx.AsyncClient, clock: Any = None) -> Any:
    """The provider, with its vendor at this address."""
    chosen = plugin.settings.model_validate(section(plugin, base_url))
    return plugin.build(chosen, Tools(http, clock or EagerClock(), Random(7)))


def usual(row: Capability) -> Any:
    """A value for a parameter that this route cannot do without."""
    parameter = BY_NAME[row.parameter]
    words = [word for word in parameter.choices if allows(row, word)]
    return words[0] if words else {"text": "a hill"}.get(parameter.kind, row.minimum)


def order(route: Route, link: str = "https://pictures.example/1.png", timeout_s: float = 20.0) -> RenderRequest:
    """A request as the gateway makes it: what must be written, fitted to the table, the picture in the first form."""
    written = {row.parameter: usual(row) for row in route.capabilities if row.required}
    fitted = fit(route, written, mode="exact", image_size=SIZE)
    assert not fitted.refusals, fitted.refusals
    image = SourceImage("image/png", *SIZE, url=link)
    if route.image_forms[0] != "url":
        image = replace(image, url=None, data=picture())
    return RenderRequest(route, "att_1", fitted.wire, image, None, timeout_s)


@dataclass(frozen=True, slots=True)
class Said:
    """One reply of a simulated vendor."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Listening(VendorTransport):
    """The transport that the gateway uses, with a record of what came back."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Said] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        body = await response.aread()
        self.heard.append(Said(response.status_code, dict(response.headers), body))
        return httpx.Response(response.status_code, headers=response.headers, content=body)


@dataclass(frozen=True, slots=True)
class World:
    """A provider whose vendor runs on loopback, and a site with a picture."""

    provider: Any
    http: httpx.AsyncClient
    clock: EagerClock
    picture_url: str
    heard: list[Said]


async def _picture(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"image/png")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": picture()})


@asynccontextmanager
async def world(plugin: ProviderPlugin) -> AsyncIterator[World]:
    """The simulated vendor over real HTTP, on virtual time; without one, a provider that is alone."""
    clock, transport = EagerClock(), Listening()
    listener, url = listen()
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(transport=transport, trust_env=False))
        own = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        site = await stack.enter_async_context(serve(_picture))
        if plugin.simulator is None:
            listener.close()
        else:
            app = plugin.simulator(SimulatorTools(url, clock, Random(1), own, {}))
            await stack.enter_async_context(serve(app, listener))
        yield World(build(plugin, url, http, clock), http, clock, f"{site}/1.png", transport.heard)


async def finished(there: World, route: Route) -> tuple[Finished, Token | None]:
    """Submit, and ask until it is done; with the token, where there was one."""
    outcome = await there.provider.submit(order(route, there.picture_url))
    token = outcome.token if isinstance(outcome, Accepted) else None
    for _ in range(CHECKS_MAX):
        if not isinstance(outcome, Accepted | Pending):
            break
        await there.clock.sleep(2.0)
        outcome = await there.provider.check(route, json.loads(json.dumps(token)))
    assert isinstance(outcome, Finished), outcome
    return outcome, token


@cache
def overheard(name: str, route_name: str) -> tuple[tuple[Said, ...], Token | None]:
    """What a vendor really says during one job, and the job's token."""

    async def listen_in() -> tuple[tuple[Said, ...], Token | None]:
        async with world(PLUGINS[name]) as there:
            route = next(route for route in PLUGINS[name].catalogue if route.name == route_name)
            _, token = await finished(there, route)
            return tuple({_shape(said): said for said in there.heard}.values()), token

    return asyncio.run(listen_in())


ODD_VALUES = (
    *(None, True, -1, 10**400, 1e308, float("nan"), "", "1e400", "1e999999", "nan", "-5", "a/../b", "\x00", "é" * 300),
    *([], [None], {}, {"a": []}),
)
STATUSES = st.sampled_from([200, 200, 200, 201, 202, 302, 400, 401, 402, 404, 406, 410, 422, 429, 500, 502, 503, 504])
ODD = st.sampled_from(ODD_VALUES)
HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "content-type", "x-cost", "x-seed-value", "x-rate-limit-reset-at-utc"]),
    st.sampled_from(["", "-1", "soon", "1e999", "nan", "video/mp4", "application/json", "9" * 400]),
    max_size=2,
)
NOISE = st.sampled_from([b"", b"<html>", b"\xff\x00", b"[" * 50_000, b"null", b"7", b'"error"', b"{}", b"[{}]"])


@st.composite
def spoilt(draw: st.DrawFn, said: tuple[Said, ...]) -> httpx.Response:
    """A reply that the vendor gives, with another status, other headers, odd values in it, or noise for a body."""
    real = draw(st.sampled_from(said))
    body = real.body
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    if isinstance(value, dict):
        names = st.sampled_from([*value, "error", "message", "status", "id"])
        value |= draw(st.dictionaries(names, ODD, max_size=3))
        body = json.dumps(value).encode()
    if draw(st.integers(0, 3)) == 0:
        body = draw(NOISE | st.binary(max_size=40))
    kept = {name: text for name, text in real.headers.items() if name == "content-type" or name.startswith("x-")}
    return httpx.Response(draw(STATUSES), headers=kept | draw(HEADERS), content=body)


def each_oddity(said: Said) -> Iterator[httpx.Response]:
    """A real reply with one odd value in it, for every place in its JSON and every odd value."""
    try:
        value = json.loads(said.body)
    except ValueError:
        return
    for place in list(_places(value)):
        for odd in ODD_VALUES:
            changed = json.loads(said.body)
            holder = changed
            for name in place[:-1]:
                holder = holder[name]
            holder[place[-1]] = odd
            yield httpx.Response(said.status, content=json.dumps(changed).encode())


def _shape(said: Said) -> tuple[Any, ...]:
    """What tells one kind of reply from another: its status and the places in its JSON."""
    try:
        return (said.status, *_places(json.loads(said.body)))
    except ValueError:
        return (said.status, "no JSON")


def _places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in entries:
        yield (*above, name)
        yield from _places(inner, (*above, name))


async def answered(plugin: ProviderPlugin, reply: httpx.Response, ask: Callable[[Any], Awaitable[Any]]) -> Any:
    """What a provider makes of a vendor that answers every call like this."""

    def handler(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)

    async with httpx.AsyncClient(transport=httpx.MockTransport(handler), trust_env=False) as http:
        return await ask(build(plugin, "http://vendor.example", http))


def fault_in(outcome: Any) -> str:
    """What no outcome of any reply may be: without a file, with times or money that cannot be reckoned with."""
    if isinstance(outcome, Finished) and not outcome.files:
        return "finished without a file"
    for name in ("eta_s", "retry_after_s"):
        seconds = getattr(outcome, name, None)
        if seconds is not None and not 0 <= seconds < float("inf"):
            return f"{name} is {seconds}"
    cost_micros = getattr(getattr(outcome, "report", None), "cost_micros", None)
    if cost_micros is not None and not (isinstance(cost_micros, int) and 0 <= cost_micros < MICROS_MAX):
        return f"cost_micros is {str(cost_micros)[:40]}"
    return ""


async def _read(reader: asyncio.StreamReader) -> None:
    """Read a whole request."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = head.partition(b"content-length:")[2].partition(b"\r\n")[0].strip()
    await reader.readexactly(int(length or b"0"))


def _abort(writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def _resets(writer: asyncio.StreamWriter) -> None:
    _abort(writer)


async def _resets_in_the_reply(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{")
    await writer.drain()
    _abort(writer)


async def _closes(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _says_nothing(writer: asyncio.StreamWriter) -> None:
    return


def _answers(status: int) -> Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]]:
    async def answer(writer: asyncio.StreamWriter) -> None:
        page = b"<html><h1>Bad gateway</h1></html>"
        head = f"HTTP/1.1 {status} x\r\ncontent-type: text/html\r\ncontent-length: {len(page)}\r\nconnection: close\r\n"
        writer.write(head.encode() + b"\r\n" + page)
        await writer.drain()
        writer.close()

    return answer


READ_FAULTS = {
    "reset": _resets,
    "reset in the reply": _resets_in_the_reply,
    "closed": _closes,
    "502": _answers(502),
    "504": _answers(504),
}
SUBMIT_FAULTS = {**READ_FAULTS, "timeout": _says_nothing}


@asynccontextmanager
async def vendor_that(behaves: Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]]) -> AsyncIterator[str]:
    """A vendor on loopback that reads every request whole and then behaves like this."""
    writers = []

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await _read(reader)
        await behaves(writer)

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
