"""The machinery that all simulators share: latencies, faults, meter, clock, pictures and loopback serving."""

from __future__ import annotations

import asyncio
import base64
import io
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from gateway.clock import SystemClock
from providers.contract import SimulatorTools
from providers.serving import listen, serve
from providers.simulated_faults import FAULTS, Faults
from providers.simulated_media import BadPictureError, ClipOrder, Clips, PictureRules, fitted_size, read_picture
from providers.simulation import Charge, Latency, Meter, MovableClock, Sandbox, SandboxClock, Switches

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def still(width: int = 32, height: int = 24) -> bytes:
    """A small PNG."""
    out = io.BytesIO()
    Image.new("RGB", (width, height), (200, 80, 40)).save(out, "PNG")
    return out.getvalue()


@dataclass
class World:
    """A sandbox with one page, served."""

    url: str
    sandbox: Sandbox[Switches]
    http: httpx.AsyncClient

    async def post(self, **options: Any) -> httpx.Response:
        return await self.http.post(f"{self.url}/run", **options)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async def run(request: Request) -> Response:
        sandbox.meter.accept("run-1")
        return JSONResponse({"answer": "x" * 100})

    async with httpx.AsyncClient(trust_env=False, timeout=5.0) as http:
        tools = SimulatorTools("http://simulator", SandboxClock(SystemClock()), Random(1), http)
        switches = Switches(hang_s=0.005, drip_s=0.0)
        sandbox = Sandbox(tools, switches, error_page=lambda status: JSONResponse({"own": status}, status))
        app = sandbox.app([Route("/run", sandbox.endpoint("submit", run), methods=["POST"])])
        async with serve(app) as url:
            yield World(url, sandbox, http)


def test_a_log_normal_latency_keeps_its_mean_and_a_constant_is_itself() -> None:
    """The published mean is the mean of what is drawn."""
    random = Random(3)
    drawn = [Latency(kind="lognormal", mean_s=29.63, sigma=0.25).draw(random) for _ in range(5_000)]
    assert fmean(drawn) == pytest.approx(29.63, rel=0.02)
    assert len({round(value, 6) for value in drawn}) > 4_900
    assert {Latency(mean_s=3.0).draw(random) for _ in range(10)} == {3.0}


@given(
    counts=st.lists(
        st.tuples(st.sampled_from(["submit", "status"]), st.sampled_from(sorted(FAULTS)), st.integers(1, 4))
    )
)
def test_scripted_faults_come_in_order_each_as_often_as_asked(counts: list[tuple[str, str, int]]) -> None:
    """First in, first out, per operation, and then nothing."""
    faults = Faults()
    expected: dict[str, list[str]] = {"submit": [], "status": []}
    for operation, fault, count in counts:
        faults.script(operation, fault, count)
        expected[operation] += [fault] * count
    assert faults.pending() == {operation: names for operation, names in expected.items() if names}
    for operation, names in expected.items():
        assert [faults.take(operation, {}, Random(1)) for _ in names] == [FAULTS[name] for name in names]
        assert faults.take(operation, {}, Random(1)) is None


def test_drawn_faults_come_at_their_rates_and_only_when_none_is_scripted() -> None:
    """Probabilities add up; chance comes from the given randomness."""
    faults, random, rates = Faults(), Random(5), {"429": 0.25, "500": 0.25}
    drawn = [faults.take("submit", rates, random) for _ in range(4_000)]
    for fault, share in ((FAULTS["429"], 0.25), (FAULTS["500"], 0.25), (None, 0.5)):
        assert drawn.count(fault) / 4_000 == pytest.approx(share, abs=0.03)
    faults.script("submit", "timeout")
    assert faults.take("submit", {"500": 1.0}, random) is FAULTS["timeout"]
    assert faults.take("submit", {"500": 1.0}, random) is FAULTS["500"]


@pytest.mark.parametrize(("fault", "count"), [("502", 1), ("500", 0), ("500", 10_001)])
def test_a_fault_that_does_not_exist_is_refused(fault: str, count: int) -> None:
    """A typing error in a test does not silently test nothing."""
    with pytest.raises(ValueError):
        Faults().script("submit", fault, count)


def test_the_meter_counts_submits_runs_and_money() -> None:
    """Received, accepted, rejected, charged."""
    meter = Meter()
    for operation in ("submit", "submit", "status"):
        meter.receive(operation)
    meter.accept("a")
    meter.reject()
    meter.charge(Charge("a", "svd", 165_900, 1.0))
    meter.charge(Charge("b", "svd", 100, 2.0))
    assert meter.counts() == {
        "submits_received": 2,
        "submits_accepted": 1,
        "submits_rejected": 1,
        "charges": 2,
        "charged_micros": 166_000,
        "calls": {"submit": 2, "status": 1},
    }


EXPECTED: dict[str, Any] = {
    "502_before_accept": 502,
    "502_after_accept": 502,
    "504_before_accept": 504,
    "504_after_accept": 504,
    "html_error": 503,
    "html_at_200": 200,
    "429": 429,
    "500": 500,
    "reset_before_accept": httpx.RemoteProtocolError,
    "reset_before_reply": httpx.RemoteProtocolError,
    "reset_mid_body": httpx.RemoteProtocolError,
    "truncated": 200,
    "slow_drip": 200,
    "timeout_before_accept": httpx.RemoteProtocolError,
    "timeout": httpx.RemoteProtocolError,
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
async def test_every_fault_is_seen_by_a_real_client_and_by_the_meter(world: World, fault: str) -> None:
    """Each row of the table breaks the reply as it says, and runs the work exactly when it says."""
    world.sandbox.faults.script("submit", fault)
    expected = EXPECTED[fault]
    if isinstance(expected, int):
        assert (await world.post()).status_code == expected
    else:
        with pytest.raises(expected):
            await world.post()
    assert world.sandbox.meter.submits_accepted == FAULTS[fault].accepts
    assert world.sandbox.meter.submits_rejected == (not FAULTS[fault].accepts)
    assert (await world.post()).status_code == 200, "the next call is whole again"


async def test_a_hanging_call_outlasts_the_callers_patience(world: World) -> None:
    """The caller times out; the server notices and lets go."""
    world.sandbox.change({"hang_s": 30.0})
    world.sandbox.faults.script("submit", "timeout")
    with pytest.raises(httpx.ReadTimeout):
        await world.post(timeout=0.02)
    assert (await world.post()).status_code == 200


async def test_the_admin_pages_refuse_nonsense_and_change_nothing(world: World) -> None:
    """Unknown settings, faults and times are named, and the running settings stay."""
    before = world.sandbox.switches
    admin = f"{world.url}/_sandbox"
    for path, method, body in [
        ("settings", "PATCH", {"colour": "red"}),
        ("settings", "PATCH", {"speed": "fast"}),
        ("faults", "POST", {"operation": "submit"}),
        ("faults", "POST", {"operation": "submit", "fault": "nope"}),
        ("faults", "POST", {"operation": "submit", "fault": "500", "count": "many"}),
        ("faults", "POST", {"operation": "submitt", "fault": "500"}),
        ("settings", "PATCH", {"fault_rates": {"submit": {"nope": 1.0}}}),
        ("settings", "PATCH", {"fault_rates": {"submitt": {"500": 1.0}}}),
        ("settings", "PATCH", {"fault_rates": {"submit": {"500": -0.5}}}),
        ("clock", "POST", {"advance_s": -1}),
        ("clock", "POST", {}),
    ]:
        reply = await world.http.request(method, f"{admin}/{path}", json=body)
        assert reply.status_code == 422, (path, body)
        assert reply.json()["error"]
    assert world.sandbox.switches is before
    assert world.sandbox.faults.pending() == {}
    await world.http.post(f"{admin}/faults", json={"operation": "submit", "fault": "500", "count": 3})
    cleared = await world.http.delete(f"{admin}/faults")
    assert cleared.json() == {"pending": {}, "known": list(FAULTS)}


async def test_a_clock_that_cannot_be_moved_says_so(world: World) -> None:
    """Real time is not advanced by a request."""
    world.sandbox.clock = SystemClock()
    reply = await world.http.post(f"{world.url}/_sandbox/clock", json={"advance_s": 1})
    assert reply.status_code == 409


async def test_what_is_due_is_booked_before_the_meter_is_shown(world: World) -> None:
    """The invoice never lags behind the clock."""
    world.sandbox.settle = lambda: world.sandbox.meter.charge(Charge("late", "svd", 5, 0.0))
    assert (await world.http.get(f"{world.url}/_sandbox/meter")).json()["charged_micros"] == 5
    assert len((await world.http.get(f"{world.url}/_sandbox/invoice")).json()["charges"]) == 2


async def test_a_sandbox_clock_is_another_clock_and_an_offset() -> None:
    """Setting it forward moves now, not the sleepers."""
    clock = SandboxClock(SystemClock())
    assert isinstance(clock, MovableClock)
    before = clock.now()
    clock.advance(3_600)
    assert clock.now() - before == pytest.approx(3_600, abs=5)
    await clock.sleep(0)


def test_switches_are_validated_as_a_whole() -> None:
    """A rate for an unknown thing or a speed of nothing cannot be set."""
    for wrong in ({"speed": 0}, {"clip": "drawn"}, {"hang_s": -1}, {"nope": 1}):
        with pytest.raises(ValidationError):
            Switches.model_validate(wrong)


async def test_a_reply_in_two_writes_is_not_held_back() -> None:
    """A connection taken at a listener has Nagle's algorithm off, or every small reply would take 40 ms."""
    listener, _ = listen()
    seen: asyncio.Queue[Any] = asyncio.Queue()

    async def look(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.put_nowait(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async with await asyncio.start_server(look, sock=listener):
        _, writer = await asyncio.open_connection(*listener.getsockname()[:2])
        assert await asyncio.wait_for(seen.get(), 5) == 1
        writer.close()
        await writer.wait_closed()


async def test_a_listener_knows_its_address_before_it_serves() -> None:
    """A simulator that must know its own address is built between listen and serve."""

    async def hello(request: Request) -> Response:
        return Response("hello")

    listener, url = listen()
    async with serve(Starlette(routes=[Route("/", hello)]), listener) as served, httpx.AsyncClient() as http:
        assert served == url
        assert (await http.get(url)).text == "hello"
    async with httpx.AsyncClient() as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(url)


@pytest.fixture
async def site() -> AsyncIterator[str]:
    async def show(request: Request) -> Response:
        return Response(still())

    async def page(request: Request) -> Response:
        return Response("<html>")

    async def move(request: Request) -> Response:
        return RedirectResponse("/a.png")

    async def circle(request: Request) -> Response:
        return RedirectResponse("/circle")

    pages = [("/a.png", show), ("/page", page), ("/moved", move), ("/circle", circle)]
    async with serve(Starlette(routes=[Route(path, answer) for path, answer in pages])) as url:
        yield url


async def test_pictures_are_really_fetched_and_decoded(site: str) -> None:
    """A link, base64 and a data URI give the same bytes."""
    encoded = base64.b64encode(still()).decode()
    async with httpx.AsyncClient(trust_env=False) as http:
        for value in (f"{site}/a.png", encoded, f"data:image/png;base64,{encoded}"):
            assert await read_picture(value, http, PictureRules()) == still()
        assert await read_picture(f"{site}/moved", http, PictureRules(follows_redirects=True)) == still()


async def test_a_picture_that_cannot_be_had_names_its_reason(site: str) -> None:
    """Each way to fail has its own word."""
    encoded = base64.b64encode(still()).decode()
    cases: list[tuple[object, PictureRules, str]] = [
        (f"{site}/page", PictureRules(), "not_a_picture"),
        (f"{site}/missing", PictureRules(), "unreachable"),
        ("http://127.0.0.1:9/a.png", PictureRules(), "unreachable"),
        ("http://[bad/a.png", PictureRules(), "unreachable"),
        (f"{site}/moved", PictureRules(), "redirect"),
        (f"{site}/circle", PictureRules(follows_redirects=True), "redirect"),
        ("%%%", PictureRules(), "not_base64"),
        (base64.b64encode(b"text").decode(), PictureRules(), "not_a_picture"),
        (base64.b64encode(still()[:40]).decode(), PictureRules(), "not_a_picture"),
        (f"data:image/png;base64,{encoded}", PictureRules(accepts_data_uri=False), "prefix"),
        (encoded, PictureRules(accepts_base64=False), "not_base64"),
        (encoded, PictureRules(pixels_max=32 * 24 - 1), "not_a_picture"),
        (None, PictureRules(), "not_a_picture"),
        ("", PictureRules(), "not_a_picture"),
        (7, PictureRules(), "not_a_picture"),
    ]
    async with httpx.AsyncClient(trust_env=False) as http:
        for value, rules, reason in cases:
            with pytest.raises(BadPictureError) as raised:
                await read_picture(value, http, rules)
            assert raised.value.reason == reason, value


async def test_clips_are_remembered_by_picture_or_by_shape() -> None:
    """The same order gives the same bytes object; cached clips ignore the picture."""
    clips, order = Clips(), ClipOrder(num_frames=2, fps=5, size=(64, 48))
    first = await clips.render(still(), order)
    assert await clips.render(still(), order) is first
    assert await clips.render(still(40, 30), order) is not first
    shared = await clips.render(still(), order, cached=True)
    assert await clips.render(still(40, 30), order, cached=True) is shared


@given(width=st.integers(1, 3_000), height=st.integers(1, 3_000), long_side=st.integers(64, 2_048))
def test_a_fitted_size_keeps_the_shape_within_its_multiple(width: int, height: int, long_side: int) -> None:
    """Both sides are multiples, none is larger than the long side, none is nothing."""
    out = io.BytesIO()
    Image.new("1", (width, height)).save(out, "PNG")
    sides = fitted_size(out.getvalue(), long_side=long_side, multiple=64)
    assert all(side % 64 == 0 and 64 <= side <= long_side for side in sides)
