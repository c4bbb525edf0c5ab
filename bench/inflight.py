"""How many running jobs one gateway process can hold: memory a job, event-loop lag, polls and processor time.

    python bench/inflight.py [--levels 100,500,1000,2500,5000] [--seconds 20] [--json] [--trace]

Three processes on loopback: the Segmind simulator with renders that outlast the run, the gateway over it with its real
engine, adapter, HTTP client and store (SQLite, full durability), and this client, which posts jobs until a level is
reached and then watches. Every job is polled over real HTTP as the router's schedule has it.

Beside it in the same run, the least that could be done: one bare asyncio task a job, which sleeps and asks with the
same HTTP client at the same mean rate, and keeps nothing.

The lag is how late a timer of 5 ms fires. On a machine that others use too, most of that can be waiting for a core:
"own" is the part of it during which this process was computing, on any thread. "cpu a start" is the processor time that
taking a job in and submitting it took.

The targets at the last level: at most 12 KiB a job over the idle process, and a p99 of the event loop's lag under
50 ms. The exit status is 1 when one of them is missed. `--trace` lists where the memory was taken (tracemalloc).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import ctypes
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from dataclasses import dataclass
from typing import Any

import httpx
import stage
import uvloop
from httpx_aiohttp import AiohttpTransport
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from gateway.app import VENDOR_LIMITS, build_app
from gateway.cli.servers import serve_until_stopped
from gateway.vendor_transport import VendorTransport
from providers.segmind.simulator.switches import SANDBOX_KEY
from providers.serving import listen

MEMORY_KIB_MAX = 12.0
LAG_P99_MS_MAX = 50.0
FILL_S_MAX = 600.0
POSTS_AT_ONCE = 16
WARM_JOBS = 32
LAG_INTERVAL_S = 0.005
RENDER_S = 86_400.0
LEVELS = "100,500,1000,2500,5000"
SECTIONS: dict[str, dict[str, Any]] = {
    "jobs": {"running_max": 10_000, "deadline_s": 3600, "deadline_max_s": 3600},
}
SLOW = stage.INSTANT | {"latency": {"svd": {"kind": "constant", "mean_s": RENDER_S}}}


class Probe:
    """What a process under measurement says of itself, asked for over its standard input, a line of JSON each time."""

    def __init__(self, *, trace: bool = False) -> None:
        self._trace = trace
        self._jobs: list[asyncio.Task[None]] = []
        if trace:
            tracemalloc.start(12)

    async def serve(self) -> None:
        """Answer until the other side goes away."""
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked = json.loads(line)
            if "bare" in asked:
                self._bare(asked["bare"], asked["url"], asked["interval_s"])
                answer: dict[str, Any] = {}
            else:
                answer = await self._measure(asked["seconds"])
            print(json.dumps(answer), flush=True)

    async def _measure(self, seconds: float) -> dict[str, Any]:
        lags_ms, own_ms = list[float](), list[float]()
        used, began = time.process_time(), time.perf_counter()
        used_before_s = used
        while time.perf_counter() - began < seconds:
            due, busy = time.perf_counter() + LAG_INTERVAL_S, time.process_time() + LAG_INTERVAL_S
            await asyncio.sleep(LAG_INTERVAL_S)
            lags_ms.append(max(0.0, (time.perf_counter() - due) * 1000))
            own_ms.append(min(lags_ms[-1], max(0.0, (time.process_time() - busy) * 1000)))
        elapsed_s = time.perf_counter() - began
        cuts = statistics.quantiles(lags_ms, n=100)
        answer = {
            "lag_p50_ms": cuts[49],
            "lag_p99_ms": cuts[98],
            "lag_max_ms": max(lags_ms),
            "own_p99_ms": statistics.quantiles(own_ms, n=100)[98],
            "cpu_share": (time.process_time() - used) / elapsed_s,
            "used_before_s": used_before_s,
            "used_s": time.process_time(),
        }
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what the allocator keeps of finished work is no job's memory
        answer["rss_mib"] = stage.memory_mib(os.getpid(), "VmRSS")
        if self._trace:
            snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, tracemalloc.__file__)])
            answer["trace"] = [
                f"{one.size / 1024:9.0f} KiB {one.count:7} {_frame(one)}" for one in snapshot.statistics("lineno")[:25]
            ]
        return answer

    def _bare(self, count: int, url: str, interval_s: float) -> None:
        if not self._jobs:
            transport = VendorTransport(limits=VENDOR_LIMITS)
            self._client = httpx.AsyncClient(transport=transport, timeout=60, trust_env=False)
        for number in range(len(self._jobs), count):
            first_s = interval_s * (number % 97) / 97
            self._jobs.append(asyncio.create_task(self._ask_on(url, first_s, interval_s)))

    async def _ask_on(self, url: str, first_s: float, interval_s: float) -> None:
        await asyncio.sleep(first_s)
        while True:
            (await self._client.get(url, headers={"x-api-key": SANDBOX_KEY})).raise_for_status()
            await asyncio.sleep(interval_s)


def _frame(one: tracemalloc.Statistic) -> str:
    frame = one.traceback[0]
    return f"{'/'.join(frame.filename.split('/')[-3:])}:{frame.lineno}"


async def serve_gateway(port: int, simulator: str, folder: str, *, trace: bool) -> None:
    """The gateway in a process of its own; prints a key on its first line."""
    settings = stage.gateway_settings(port, simulator, folder, SECTIONS)
    print(await stage.new_key(settings), flush=True)
    probe = asyncio.create_task(Probe(trace=trace).serve())
    with listen(port, "127.0.0.1")[0] as listener:
        await serve_until_stopped(build_app(settings), listener, lambda: None)
    probe.cancel()


@dataclass
class Watched:
    """One process under measurement and the simulator that it asks."""

    process: subprocess.Popen[str]
    client: httpx.AsyncClient
    simulator: str

    async def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """One question over the process's pipes."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(await asyncio.to_thread(self.process.stdout.readline))
        return answer

    async def polls(self) -> int:
        """The status calls that the simulator has counted."""
        meter = (await self.client.get(f"{self.simulator}/_sandbox/meter")).json()
        return int(meter["calls"].get("status", 0))

    async def measure(self, seconds: float, level: int, idle: dict[str, Any] | None) -> dict[str, Any]:
        """Watch the process for so long, as it stands."""
        before, began = await self.polls(), time.perf_counter()
        figures = await self.ask({"seconds": seconds})
        figures["polls_per_s"] = (await self.polls() - before) / (time.perf_counter() - began)
        figures["level"] = level
        if idle is not None:
            figures["kib_a_job"] = (figures["rss_mib"] - idle["rss_mib"]) * 1024 / (level - idle["level"])
        return figures


class Bench:
    """One run: the gateway filled level by level, then as many bare tasks."""

    def __init__(self, options: argparse.Namespace, client: httpx.AsyncClient, progress: Progress) -> None:
        self._levels = [int(level) for level in options.levels.split(",")]
        self._seconds = float(options.seconds)
        self._trace = bool(options.trace)
        self._client = client
        self._progress = progress
        self._picture = base64.b64encode(stage.picture(flat=True)).decode()
        self._posted = 0

    async def gateway(self, simulator: str) -> list[dict[str, Any]]:
        """The figures of the gateway: first the idle process, a few jobs old, then each level."""
        port, folder = stage.free_port(), tempfile.mkdtemp()
        arguments = ["--serve-gateway", str(port), simulator, folder, "trace" if self._trace else ""]
        try:
            with stage.running(__file__, arguments) as process:
                assert process.stdout is not None
                key = process.stdout.readline().strip()
                watched = Watched(process, self._client, simulator)
                url = f"http://127.0.0.1:{port}"
                await stage.until_up(self._client, url)
                await self._fill(watched, url, key, WARM_JOBS)
                figures = [await watched.measure(self._seconds, WARM_JOBS, None)]
                for level in self._levels:
                    fill_s = await self._fill(watched, url, key, level)
                    row = await watched.measure(self._seconds, level, figures[0])
                    started = level - figures[-1]["level"]
                    cpu_ms = (row["used_before_s"] - figures[-1]["used_s"]) / started * 1000
                    figures.append(row | {"fill_s": fill_s, "start_cpu_ms": cpu_ms})
                return figures
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def bare(self, simulator: str, polled: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The figures of bare tasks that ask as often as the gateway's jobs did."""
        reply = await self._client.post(
            f"{simulator}/v2/svd", headers={"x-api-key": SANDBOX_KEY}, json={"image": self._picture, "base64": False}
        )
        url = f"{simulator}/v2/requests/{reply.json()['request_id']}/status"
        with stage.running(__file__, ["--serve-bare"]) as process:
            watched = Watched(process, self._client, simulator)
            figures = []
            for level, like in zip([WARM_JOBS, *self._levels], polled, strict=True):
                interval_s = level / max(like["polls_per_s"], 0.1)
                await watched.ask({"bare": level, "url": url, "interval_s": interval_s})
                await asyncio.sleep(1.0)
                task = self._progress.add_task(f"bare tasks, {level}", total=None)
                figures.append(await watched.measure(self._seconds, level, figures[0] if figures else None))
                self._progress.remove_task(task)
            return figures

    async def _fill(self, watched: Watched, url: str, key: str, level: int) -> float:
        """Post jobs until so many run at the vendor; the seconds that it took."""
        began = time.perf_counter()
        task = self._progress.add_task(f"gateway, {level} jobs", total=level, completed=self._posted)
        numbers = iter(range(self._posted, level))

        async def post() -> None:
            for number in numbers:
                reply = await self._client.post(
                    f"{url}/generate/video",
                    headers={"authorization": f"Bearer {key}"},
                    json={"image": self._picture, "seed": number},
                )
                assert reply.status_code == 202, reply.text
                self._progress.advance(task)

        await asyncio.gather(*(post() for _ in range(POSTS_AT_ONCE)))
        self._posted = level
        while time.perf_counter() - began < FILL_S_MAX:
            meter = (await self._client.get(f"{watched.simulator}/_sandbox/meter")).json()
            if meter["submits_accepted"] >= level:
                self._progress.remove_task(task)
                return time.perf_counter() - began
            await asyncio.sleep(0.2)
        raise SystemExit(f"{level} jobs were posted and only {meter['submits_accepted']} run after {FILL_S_MAX:.0f} s")


async def measure(options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Start the simulator, then the gateway, then the bare tasks."""
    port = stage.free_port()
    simulator = f"http://127.0.0.1:{port}"
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}"), TimeElapsedColumn()
    with (
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
        stage.running(__file__, ["--serve-simulator", str(port)]),
    ):
        async with httpx.AsyncClient(transport=AiohttpTransport(), timeout=120) as client:
            await stage.until_up(client, simulator)
            (await client.patch(f"{simulator}/_sandbox/settings", json=SLOW)).raise_for_status()
            bench = Bench(options, client, progress)
            gateway = await bench.gateway(simulator)
            bare = [] if options.trace else await bench.bare(simulator, gateway)
    return {"gateway": gateway, "bare tasks": bare}


def show(figures: dict[str, list[dict[str, Any]]]) -> None:
    """The curve, with the bare tasks beneath it."""
    table = Table(title="running jobs in one process, one run")
    for column in (
        "",
        "jobs",
        "KiB a job",
        "lag p50",
        "lag p99",
        "own p99",
        "max",
        "polls/s",
        "cpu",
        "RSS",
        "filled",
        "cpu a start",
    ):
        table.add_column(column, justify="left" if not column else "right")
    for name, rows in figures.items():
        for row in rows:
            kib, fill_s = row.get("kib_a_job"), row.get("fill_s")
            table.add_row(
                name,
                f"{row['level']}",
                "idle" if row is rows[0] else f"{kib:.1f}",
                *(f"{row[lag]:.1f} ms" for lag in ("lag_p50_ms", "lag_p99_ms", "own_p99_ms", "lag_max_ms")),
                f"{row['polls_per_s']:.0f}",
                f"{row['cpu_share']:.0%}",
                f"{row['rss_mib']:.0f} MiB",
                "" if fill_s is None else f"{fill_s:.0f} s",
                "" if fill_s is None else f"{row['start_cpu_ms']:.1f} ms",
            )
    Console(width=130).print(table)
    for line in figures["gateway"][-1].get("trace", ()):
        print(line)


def missed(last: dict[str, Any]) -> list[str]:
    """The targets that the highest level missed."""
    found = []
    if last["kib_a_job"] > MEMORY_KIB_MAX:
        found.append(f"memory: {last['kib_a_job']:.1f} KiB a job, at most {MEMORY_KIB_MAX:.0f}")
    if last["lag_p99_ms"] >= LAG_P99_MS_MAX:
        found.append(f"lag: p99 {last['lag_p99_ms']:.1f} ms, under {LAG_P99_MS_MAX:.0f}")
    return found


def main() -> int:
    """Read the arguments and run one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levels", default=LEVELS, help="how many jobs, from few to many")
    parser.add_argument("--seconds", default=20, type=float, help="how long each level is watched")
    parser.add_argument("--json", action="store_true", help="figures for machines")
    parser.add_argument("--trace", action="store_true", help="list where memory was taken; the figures are then slow")
    parser.add_argument("--serve-simulator", nargs=1, help=argparse.SUPPRESS)
    parser.add_argument("--serve-gateway", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--serve-bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_simulator:
        uvloop.run(stage.serve_simulator(int(options.serve_simulator[0])))
    elif options.serve_gateway:
        port, simulator, folder, trace = options.serve_gateway
        uvloop.run(serve_gateway(int(port), simulator, folder, trace=bool(trace)))
    elif options.serve_bare:
        uvloop.run(Probe().serve())
    else:
        figures = asyncio.run(measure(options))
        late = missed(figures["gateway"][-1])
        if options.json:
            print(json.dumps(figures | {"cpus": os.cpu_count(), "missed": late}))
        else:
            show(figures)
            print("; ".join(late) if late else "both targets are met")
        return 1 if late and not options.trace else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
