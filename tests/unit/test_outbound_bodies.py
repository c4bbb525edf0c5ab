"""What a foreign server may answer: never more bytes or time than allowed; and nothing of ours is told to it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.outbound import Fetched, FetchLimits, Outbound, OutboundError
from tests.unit.outbound_support import HELLO, LIMITS, PUBLIC, Wire, answer, guarded, reason, refusal, resolver

pytestmark = pytest.mark.anyio
NAMES = resolver({"public.test": [PUBLIC], "other.test": ["1.1.1.1"]})
URL = "https://public.test/picture.png"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Server = Callable[[Handler], Awaitable[str]]


async def fetch_scripted(*chunks: bytes, limits: FetchLimits = LIMITS) -> OutboundError | Fetched:
    """Fetch a URL whose server sends these chunks."""
    return await refusal(guarded(Wire([chunks]), resolve=NAMES), URL, limits)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Start a raw server on loopback; gives its `host:port`."""
    started: list[asyncio.Server] = []

    async def start(handler: Handler) -> str:
        async def bounded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.readuntil(b"\r\n\r\n")
                async with asyncio.timeout(10):
                    await handler(reader, writer)
            except (ConnectionError, TimeoutError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(bounded, "127.0.0.1", 0)
        started.append(server)
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    yield start
    for server in started:
        server.close()
        await server.wait_closed()


async def over_loopback(place: str, limits: FetchLimits) -> OutboundError | Fetched:
    """Fetch from a real server on loopback, which is allowed by name."""
    return await refusal(Outbound([place]), f"http://{place}/", limits)


async def test_a_body_is_given_with_what_its_sender_called_it() -> None:
    """The bytes and the content type come back as they were sent."""
    assert await fetch_scripted(HELLO) == Fetched(b"hello", "image/png")


@pytest.mark.parametrize(
    "status", ["204 No Content", "206 Partial", "304 Same", "401 No", "404 Not", "500 Oh", "599 x"]
)
async def test_only_a_whole_answer_is_a_body(status: str) -> None:
    """Any status but 200 is refused and told."""
    outcome = await fetch_scripted(answer(status))
    assert isinstance(outcome, OutboundError)
    assert outcome.reason == "refused"
    assert outcome.status == int(status[:3])


async def test_a_declared_size_over_the_limit_is_refused_unread() -> None:
    """Content-Length is believed when it is too large: no byte of the body is asked for."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 10001\r\n\r\n"
    assert reason(await fetch_scripted(head)) == "too_large"


@pytest.mark.parametrize("extra", [-1, 0, 1])
async def test_the_limit_is_exact_to_the_byte(extra: int) -> None:
    """As many bytes as allowed are fetched, one more is refused, whether or not the size was declared."""
    body = b"x" * (LIMITS.bytes_max + extra)
    expected = "too_large" if extra > 0 else "fetched"
    assert reason(await fetch_scripted(answer("200 OK", body=body))) == expected
    undeclared = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body
    assert reason(await fetch_scripted(undeclared)) == expected


async def test_an_endless_body_is_cut_off(server: Server) -> None:
    """A server that never stops sending is left soon after the limit, having been read little further."""
    sent_bytes = 0

    async def endless(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent_bytes
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
            await writer.drain()
            sent_bytes += 0x8000

    outcome = await over_loopback(await server(endless), FetchLimits(100_000, 10.0))
    assert reason(outcome) == "too_large"
    assert sent_bytes < 64 * 1024 * 1024


@pytest.mark.parametrize("after_head", [True, False], ids=["body", "head"])
async def test_a_slow_drip_ends_at_the_deadline(server: Server, after_head: bool) -> None:
    """A byte now and then keeps no fetch alive: the limit counts from start to last byte."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head if after_head else head[:10])
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.005)

    outcome = await over_loopback(await server(drip), FetchLimits(1_000_000, 0.05))
    assert reason(outcome) == "unreachable"
    assert isinstance(outcome, OutboundError)
    assert outcome.detail == "no whole answer within 0.05 s"


async def test_a_resolver_that_hangs_ends_at_the_deadline() -> None:
    """The name's lookup counts towards the time as well."""

    async def hanging(_host: str, _port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    outcome = await refusal(guarded(Wire(), resolve=hanging), URL, FetchLimits(100, 0.02))
    assert reason(outcome) == "unreachable"


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "GZIP", "gzip, gzip", "x-unknown"])
async def test_an_encoded_body_is_refused_before_it_can_unfold(encoding: str) -> None:
    """No bomb is decoded: an encoding that was not asked for is refused by its header."""
    bomb = gzip.compress(b"\0" * 1_000_000)
    outcome = await fetch_scripted(answer("200 OK", f"Content-Encoding: {encoding}", body=bomb))
    assert reason(outcome) == "refused"


async def test_a_gzip_file_is_just_bytes() -> None:
    """What is fetched is counted and given raw, never decoded."""
    bomb = gzip.compress(b"\0" * 1_000_000)
    outcome = await fetch_scripted(answer("200 OK", "Content-Type: application/gzip", body=bomb))
    assert outcome == Fetched(bomb, "application/gzip")


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"garbage",
        b"HTTP/1.1",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: https://[::1\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: https://a:99999/\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: \xff\xfe\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=lambda reply: repr(reply)[:40],
)
async def test_a_broken_answer_is_a_refusal(reply: bytes) -> None:
    """Bad framing, bad lengths and bad redirects raise OutboundError like everything else."""
    assert reason(await fetch_scripted(reply)) != "fetched"


LINES = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.1 301 x", b"Location: /", b"Location: //", b"Content-Length: 3", b"", b"abc"]
)
LINES |= st.sampled_from(
    [b"Transfer-Encoding: chunked", b"Content-Encoding: identity", b"3", b"0", b"Connection: close"]
)


REPLIES = st.lists(LINES | st.binary(max_size=12), max_size=8).map(b"\r\n".join)


@settings(max_examples=30)
@given(st.lists(REPLIES, min_size=5, max_size=20))
async def test_no_bytes_of_a_server_raise_anything_else(replies: list[bytes]) -> None:
    """Whatever a server sends, the outcome is a body within the limit or an OutboundError."""
    outbound = guarded(Wire([[reply] for reply in replies]), resolve=NAMES)
    for _ in replies:
        with contextlib.suppress(OutboundError):
            assert len((await outbound.fetch(URL, LIMITS)).data) <= LIMITS.bytes_max
    await outbound.close()


async def test_nothing_of_ours_is_told_to_a_foreign_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No proxy, no netrc, no cookie of an earlier answer, no referrer: only the path, the host and our name go out."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://intern.test:3128")
    wire = Wire([[answer("302 Found", "Location: https://other.test/b", "Set-Cookie: a=b; Domain=test")], [HELLO]])
    outbound = guarded(wire, resolve=NAMES)
    await outbound.fetch(URL, LIMITS)
    await outbound.fetch(URL, LIMITS)
    await outbound.close()
    assert {host for host, _ in wire.connects} == {PUBLIC, "1.1.1.1"}
    names = {line.split(b":")[0].lower() for line in b"".join(wire.sent).split(b"\r\n") if b":" in line}
    assert names == {b"host", b"accept", b"accept-encoding", b"user-agent", b"connection"}


async def test_no_connection_is_kept_for_the_next_caller() -> None:
    """Two fetches are two connections: what one tenant's server sends can never be another's answer."""
    wire = Wire()
    outbound = guarded(wire, resolve=NAMES)
    await outbound.fetch(URL, LIMITS)
    await outbound.fetch(URL, LIMITS)
    await outbound.close()
    assert wire.connects == [(PUBLIC, 443)] * 2


async def test_a_refusal_never_tells_the_whole_url() -> None:
    """A URL may be a bearer secret: the text of the error holds at most its host."""
    for script in (answer("403 Forbidden"), b"", answer("302 Found", "Location: http://public.test/?signature=abc")):
        outcome = await fetch_scripted(script)
        assert isinstance(outcome, OutboundError)
        assert "picture.png" not in outcome.detail
        assert "signature" not in outcome.detail
