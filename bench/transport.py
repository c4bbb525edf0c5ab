"""Why vendor calls go over aiohttp under httpx: processor time a call, and many calls open at once, side by side.

    python bench/transport.py [--calls 600] [--open 1000]

A local server holds every call for a moment. The same calls are made with httpx's own transport and with httpx over
aiohttp; the figures are the client's processor time a call, and the wall time of all calls open at once.
"""

from __future__ import annotations

import argparse
import asyncio
import time

import httpx
from httpx_aiohttp import AiohttpTransport
from rich.console import Console
from rich.table import Table

REPLY = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}"


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer requests without a body on one connection, each after the time its path names."""
    try:
        while line := await reader.readline():
            hold_s = float(line.split()[1].decode().lstrip("/"))
            while (await reader.readline()) not in {b"\r\n", b""}:
                pass
            await asyncio.sleep(hold_s)
            writer.write(REPLY)
            await writer.drain()
    except ConnectionError:
        return
    finally:
        writer.close()


async def measure(client: httpx.AsyncClient, url: str, calls: int, at_once: int) -> tuple[float, float]:
    """Processor milliseconds a call, and wall seconds, for calls of which `at_once` are open together."""
    gate = asyncio.Semaphore(at_once)

    async def one() -> None:
        async with gate:
            (await client.get(url)).raise_for_status()

    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one() for _ in range(calls)))
    return (time.process_time() - used) / calls * 1000, time.perf_counter() - began


async def compare(calls: int, at_once: int) -> Table:
    """Both transports at three loads."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=4096)
    base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    limits = httpx.Limits(max_connections=None)
    unlimited = httpx.Limits(max_connections=0)  # aiohttp's word for it; None would leave its own limit of 100
    table = Table(title="httpx's own transport against httpx over aiohttp, one run")
    for column in ("load", "httpx: cpu a call", "aiohttp: cpu a call", "httpx: wall", "aiohttp: wall", "cpu ratio"):
        table.add_column(column, justify="right")
    loads = ((calls, 1, 0.0), (calls, 256, 0.1), (at_once, at_once, 2.0))
    for number, together, hold_s in loads:
        figures = []
        for transport in (httpx.AsyncHTTPTransport(limits=limits), AiohttpTransport(limits=unlimited)):
            async with httpx.AsyncClient(transport=transport, timeout=120) as client:
                figures.append(await measure(client, f"{base}/{hold_s}", number, together))
        (own_ms, own_s), (aio_ms, aio_s) = figures
        load = f"{number} calls, {together} open"
        cells = (f"{own_ms:.2f} ms", f"{aio_ms:.2f} ms", f"{own_s:.1f} s", f"{aio_s:.1f} s", f"{own_ms / aio_ms:.1f}")
        table.add_row(load, *cells)
    server.close()
    return table


def main() -> None:
    """Read the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=600, help="calls in the first two loads")
    parser.add_argument("--open", type=int, default=1000, help="calls open at once in the last load")
    options = parser.parse_args()
    Console().print(asyncio.run(compare(options.calls, options.open)))


if __name__ == "__main__":
    main()
