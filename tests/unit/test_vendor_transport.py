"""The client for vendor calls holds as many of them open as routing sends."""

from __future__ import annotations

import asyncio

import httpx
from httpx_aiohttp import AiohttpTransport

from gateway.app import VENDOR_LIMITS

CALLS = 150
REPLY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


async def _calls_open_together() -> int:
    """Make CALLS calls to a server that answers none before all have arrived; returns how many arrived."""
    arrived, everybody = 0, asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrived
        await reader.readuntil(b"\r\n\r\n")
        arrived += 1
        if arrived == CALLS:
            everybody.set()
        await everybody.wait()
        writer.write(REPLY)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=CALLS)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with server, httpx.AsyncClient(transport=AiohttpTransport(limits=VENDOR_LIMITS), timeout=20) as client:
        replies = await asyncio.gather(*(client.get(url) for _ in range(CALLS)))
    assert all(reply.status_code == 200 for reply in replies)
    return arrived


def test_synchronous_renders_do_not_queue_for_a_connection() -> None:
    """The transport's own limit of 100 connections would hold the 101st render back until another one ends."""
    assert asyncio.run(_calls_open_together()) == CALLS
