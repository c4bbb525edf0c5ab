"""Whole jobs a second against an instant vendor, on each store and with two replicas, as ratios to the bare simulator.

    python bench/throughput.py [--jobs 300] [--concurrency 16] [--only sqlite-1] [--json]

Processes of their own on loopback: the Segmind simulator made instant (one tiny cached clip), one or two gateways with
their real stores (SQLite, or a real PostgreSQL, both flushing every commit to disk; two replicas share a real Redis),
and this client. A job is the POST that waits for its end, then the bytes of its video; bare it is the same calls made
straight at the simulator. Both are measured in turns, so that a slow minute hits both: read the ratios.

"cpu a job" is the gateways' processor time, all threads together: what the ratio is made of on a machine with idle
cores, and the figure that other load changes least.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import stage
import uvloop
from httpx_aiohttp import AiohttpTransport
from overhead import Act, Bench
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from gateway.app import build_app
from gateway.cli.servers import serve_until_stopped
from providers.segmind.simulator.switches import SANDBOX_KEY
from providers.serving import listen
from tests.support import postgres
from tests.support.redis_server import redis_server

ROUNDS = 3
INSTANT = stage.INSTANT | {"long_side_px": 128}
FAST_POLLS = {"polling": {"delay_min_s": 0.001, "delay_max_s": 0.001}, "jobs": {"running_max": 5000}}


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run the gateway."""

    title: str
    store: str
    replicas: int


VARIANTS: Mapping[str, Variant] = {
    "sqlite-1": Variant("SQLite, 1 replica", "sqlite", 1),
    "postgres-1": Variant("PostgreSQL, 1 replica", "postgres", 1),
    "postgres-2": Variant("PostgreSQL and Redis, 2 replicas", "postgres", 2),
}


@contextmanager
def sections_of(variant: Variant, folder: Path) -> Iterator[dict[str, Any]]:
    """The configuration of a variant, with its servers running for the length of the block."""
    with ExitStack() as stack:
        sections: dict[str, Any] = dict(FAST_POLLS)
        if variant.store == "postgres":
            # The tests' server does not flush; a claim about commits is only worth something when it does.
            postgres.OPTIONS.update(fsync="on", full_page_writes="on", shared_buffers="128MB")
            server = stack.enter_context(postgres.postgres_server())
            sections["store"] = {"url": server.url(server.create())}
        if variant.replicas > 1:
            (folder / "redis").mkdir()
            sections["bus"] = {"url": stack.enter_context(redis_server(folder / "redis")).url}
        yield sections


async def serve_gateway(plan: dict[str, Any]) -> None:
    """A replica in a process of its own."""
    settings = stage.gateway_settings(plan["port"], plan["simulator"], plan["folder"], plan["sections"])
    with listen(plan["port"])[0] as listener:
        await serve_until_stopped(build_app(settings), listener, lambda: None)


async def rate(act: Act, numbers: range, concurrency: int) -> float:
    """Acts a second, so many at a time."""
    left, began = iter(numbers), time.perf_counter()

    async def worker() -> None:
        for number in left:
            await act(number)

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return len(numbers) / (time.perf_counter() - began)


class Run:
    """The client side of the whole bench."""

    def __init__(self, options: argparse.Namespace, client: httpx.AsyncClient, progress: Progress) -> None:
        self._jobs, self._concurrency = int(options.jobs), int(options.concurrency)
        self._client = client
        self._progress = progress

    async def variant(self, variant: Variant, simulator: str) -> dict[str, float]:
        """The figures of one variant beside those of the bare simulator."""
        folder = Path(tempfile.mkdtemp())
        try:
            with ExitStack() as stack:
                sections = stack.enter_context(sections_of(variant, folder))
                ports = [stage.free_port() for _ in range(variant.replicas)]
                key = await stage.new_key(stage.gateway_settings(ports[0], simulator, str(folder), sections))
                processes = []
                for port in ports:
                    url = f"http://127.0.0.1:{port}"
                    server = {"server": {"public_base_url": url, "replicas": variant.replicas}}
                    plan = {"port": port, "simulator": simulator, "folder": str(folder), "sections": sections | server}
                    (folder / f"{port}.json").write_text(json.dumps(plan))
                    process = stage.running(__file__, ["--serve-gateway", str(folder / f"{port}.json")])
                    processes.append(stack.enter_context(process))
                    await stage.until_up(self._client, url)
                urls = [f"http://127.0.0.1:{port}" for port in ports]
                return await self._in_turns(variant, simulator, urls, key, [one.pid for one in processes])
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _in_turns(
        self, variant: Variant, simulator: str, urls: list[str], key: str, pids: list[int]
    ) -> dict[str, float]:
        benches = [Bench(self._client, simulator, url, (SANDBOX_KEY, key)) for url in urls]
        task = self._progress.add_task(variant.title, total=self._jobs * ROUNDS)

        async def gateway(number: int) -> None:
            await benches[number % len(benches)].gateway_job(number)
            self._progress.advance(task)

        await rate(gateway, range(10**6, 10**6 + 2 * self._concurrency), self._concurrency)
        rates: dict[str, list[float]] = {"bare": [], "gateway": []}
        cpu_s = 0.0
        for turn in range(ROUNDS):
            numbers = range(turn * self._jobs, (turn + 1) * self._jobs)
            rates["bare"].append(await rate(benches[0].bare_job, numbers, self._concurrency))
            before_s = sum(map(stage.cpu_s, pids))
            rates["gateway"].append(await rate(gateway, numbers, self._concurrency))
            cpu_s += sum(map(stage.cpu_s, pids)) - before_s
        self._progress.remove_task(task)
        # Rates are averaged as the times that they stand for.
        bare, ours = (ROUNDS / sum(1 / one for one in rates[name]) for name in ("bare", "gateway"))
        jobs = self._jobs * ROUNDS
        return {"bare_per_s": bare, "gateway_per_s": ours, "ratio": ours / bare, "cpu_ms_a_job": cpu_s / jobs * 1000}


async def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Every variant that was asked for."""
    port = stage.free_port()
    simulator = f"http://127.0.0.1:{port}"
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    names = options.only.split(",") if options.only else list(VARIANTS)
    with (
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
        stage.running(__file__, ["--serve-simulator", str(port)]),
    ):
        async with httpx.AsyncClient(transport=AiohttpTransport(), timeout=120) as client:
            await stage.until_up(client, simulator)
            (await client.patch(f"{simulator}/_sandbox/settings", json=INSTANT)).raise_for_status()
            run = Run(options, client, progress)
            return {name: await run.variant(VARIANTS[name], simulator) for name in names}


def show(figures: dict[str, dict[str, float]], concurrency: int) -> None:
    """The table."""
    table = Table(title=f"whole jobs, {concurrency} at a time, one run")
    for column in ("", "bare, jobs/s", "vidgate, jobs/s", "ratio", "cpu a job"):
        table.add_column(column, justify="left" if not column else "right")
    for name, row in figures.items():
        table.add_row(
            VARIANTS[name].title,
            f"{row['bare_per_s']:.0f}",
            f"{row['gateway_per_s']:.1f}",
            f"{row['ratio']:.3f}",
            f"{row['cpu_ms_a_job']:.1f} ms",
        )
    Console(width=120).print(table)


def main() -> None:
    """Read the arguments and run one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=300, help=f"jobs a round, of which there are {ROUNDS}")
    parser.add_argument("--concurrency", type=int, default=16, help="jobs at a time")
    parser.add_argument("--only", help=f"some of {', '.join(VARIANTS)}, with commas between")
    parser.add_argument("--json", action="store_true", help="figures for machines")
    parser.add_argument("--serve-simulator", nargs=1, help=argparse.SUPPRESS)
    parser.add_argument("--serve-gateway", nargs=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_simulator:
        uvloop.run(stage.serve_simulator(int(options.serve_simulator[0])))
    elif options.serve_gateway:
        uvloop.run(serve_gateway(json.loads(Path(options.serve_gateway[0]).read_text())))
    else:
        figures = asyncio.run(measure(options))
        if options.json:
            print(json.dumps(figures | {"concurrency": options.concurrency, "cpus": os.cpu_count()}))
        else:
            show(figures, options.concurrency)


if __name__ == "__main__":
    main()
