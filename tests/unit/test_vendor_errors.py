"""What the transport under vendor calls says of a broken call: only what cannot have left may be repeated."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import httpx
import pytest

from gateway.vendor_transport import VendorTransport
from providers.transport import MaybeSent, NotSent, Reply, call

Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset instead of an orderly end."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def close_unread(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def reset_unread(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    reset(writer)


async def close_after_the_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"the end")
    writer.close()


async def reset_after_the_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"the end")
    reset(writer)


async def half_a_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"the end")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-le")
    writer.close()


async def half_a_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"the end")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf")
    await writer.drain()
    writer.close()


async def reset_in_the_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"the end")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf")
    await writer.drain()
    reset(writer)


async def no_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"the end")
    writer.write(b"220 mail.example.com ESMTP\r\n")
    writer.close()


async def a_head_without_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"the end")
    writer.write(b"HTTP/1.1 200 OK\r\n" + b"x-a: " + b"y" * 100_000 + b"\r\n\r\n")
    writer.close()


async def bad_encoding(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"the end")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nnope")
    writer.close()


async def bad_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"the end")
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzzz\r\nhello\r\n")
    writer.close()


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(-1)
    writer.close()


BEHAVIOURS: list[Behaviour] = [
    close_unread,
    reset_unread,
    close_after_the_request,
    reset_after_the_request,
    half_a_head,
    half_a_body,
    reset_in_the_body,
    no_http,
    a_head_without_end,
    bad_encoding,
    bad_chunks,
    silence,
]


async def outcome(behaviour: Behaviour, transport: httpx.AsyncBaseTransport) -> object:
    """What a POST comes to at a server that behaves like this."""
    client = httpx.AsyncClient(transport=transport, timeout=0.3, trust_env=False)
    async with server_that(behaviour) as url, client:
        return await call(client, client.build_request("POST", url, content=b"the start ... the end"))


@asynccontextmanager
async def server_that(behaviour: Behaviour) -> AsyncIterator[str]:
    """A server on loopback; its connections are closed when the block ends."""
    tasks: list[asyncio.Task[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await behaviour(reader, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.ensure_future(handle(reader, writer)))

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        for task in tasks:
            with suppress(OSError, EOFError):
                await task


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda one: one.__name__)
@pytest.mark.parametrize("transport", [VendorTransport, httpx.AsyncHTTPTransport])
def test_a_call_that_breaks_after_the_connection_stood_may_have_left(
    behaviour: Behaviour, transport: type[httpx.AsyncBaseTransport]
) -> None:
    """Whatever a server does with a request, it is never called unsent; and nothing but an outcome comes back."""
    found = asyncio.run(outcome(behaviour, transport()))
    readable = behaviour is a_head_without_end and transport is httpx.AsyncHTTPTransport  # it allows such a head
    assert isinstance(found, Reply if readable else MaybeSent)


@pytest.mark.parametrize("transport", [VendorTransport, httpx.AsyncHTTPTransport])
def test_a_refused_connection_never_left(transport: type[httpx.AsyncBaseTransport]) -> None:
    """No connection, no bytes: safe to repeat."""

    async def ask(url: str) -> object:
        async with httpx.AsyncClient(transport=transport(), timeout=2, trust_env=False) as client:
            return await call(client, client.build_request("POST", url, content=b"x"))

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/"
        assert isinstance(asyncio.run(ask(closed)), NotSent)


@pytest.mark.parametrize("transport", [VendorTransport, httpx.AsyncHTTPTransport])
def test_a_connection_that_ended_while_idle_is_not_called_unsent(transport: type[httpx.AsyncBaseTransport]) -> None:
    """The second call on a connection that the server closes at that moment may have been read."""

    async def one_reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"the end")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()
        await reader.readuntil(b"the end")
        writer.close()

    async def twice() -> list[object]:
        client = httpx.AsyncClient(transport=transport(), timeout=2, trust_env=False)
        async with server_that(one_reply) as url, client:
            return [await call(client, client.build_request("POST", url, content=b"the end")) for _ in range(2)]

    first, second = asyncio.run(twice())
    assert isinstance(first, Reply)
    assert isinstance(second, MaybeSent)
