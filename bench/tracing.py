"""What tracing costs: whole jobs against an instant vendor with traces off, a tenth of them on, and all of them on.

    python bench/tracing.py [--jobs 100] [--rounds 4] [--concurrency 8] [--json]

Processes of their own on loopback: the Segmind simulator made instant (one tiny cached clip), three gateways over it
with SQLite at full durability, a collector that keeps every span, and this client. The gateways take turns, so that a
slow minute hits all three: read the ratios. "cpu a job" is the gateway's processor time with the exporting thread.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import timeit
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import stage
from httpx_aiohttp import AiohttpTransport
from overhead import Bench
from rich.console import Console
from rich.table import Table
from throughput import FAST_POLLS, INSTANT, rate

sys.path.insert(0, str(Path(__file__).parents[1]))

from gateway.app import build_app
from gateway.cli.servers import serve_until_stopped
from gateway.telemetry.tracing import span
from providers.segmind.simulator.switches import SANDBOX_KEY
from providers.serving import listen
from tests.support.collector import collecting

RATIOS = {"off": None, "a tenth": 0.1, "all": 1.0}
WARM_JOBS = 16


async def serve_gateway(port: int, simulator: str, folder: str, telemetry: str) -> None:
    """A gateway in a process of its own; prints a key on its first line."""
    settings = stage.gateway_settings(port, simulator, folder, {**FAST_POLLS, "telemetry": json.loads(telemetry)})
    print(await stage.new_key(settings), flush=True)
    with listen(port)[0] as listener:
        await serve_until_stopped(build_app(settings), listener, lambda: None)


def serve_collector() -> None:
    """A collector in a process of its own: prints its address, and at the end how many spans it was sent."""
    with collecting() as collector:
        print(collector.url, flush=True)
        sys.stdin.readline()
        print(len(collector.spans), flush=True)


async def measure(jobs: int, rounds: int, concurrency: int) -> dict[str, Any]:
    """All three in turns."""
    folder, port = Path(tempfile.mkdtemp()), stage.free_port()
    simulator = f"http://127.0.0.1:{port}"
    try:
        with ExitStack() as stack:
            stack.enter_context(stage.running(__file__, ["--serve-simulator", str(port)]))
            collector = stack.enter_context(stage.running(__file__, ["--serve-collector"]))
            assert collector.stdin is not None
            assert collector.stdout is not None
            endpoint = collector.stdout.readline().strip()
            async with httpx.AsyncClient(transport=AiohttpTransport(), timeout=120) as client:
                await stage.until_up(client, simulator)
                (await client.patch(f"{simulator}/_sandbox/settings", json=INSTANT)).raise_for_status()
                benches: dict[str, tuple[Bench, int]] = {}
                for name, ratio in RATIOS.items():
                    telemetry = {"otlp_endpoint": endpoint, "trace_ratio": ratio} if ratio is not None else {}
                    (folder / name).mkdir()
                    port = stage.free_port()
                    plan = ["--serve-gateway", str(port), simulator, str(folder / name), json.dumps(telemetry)]
                    process = stack.enter_context(stage.running(__file__, plan))
                    assert process.stdout is not None
                    key = process.stdout.readline().strip()
                    gateway = f"http://127.0.0.1:{port}"
                    await stage.until_up(client, gateway)
                    bench = Bench(client, simulator, gateway, (SANDBOX_KEY, key))
                    benches[name] = bench, process.pid
                    await rate(bench.gateway_job, range(10**6, 10**6 + WARM_JOBS), concurrency)
                figures = await _in_turns(benches, jobs, rounds, concurrency)
                await asyncio.sleep(2)  # the last spans leave
            collector.stdin.write("\n")
            collector.stdin.flush()
            figures["spans"] = int(collector.stdout.readline())
            return figures
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _in_turns(benches: dict[str, tuple[Bench, int]], jobs: int, rounds: int, concurrency: int) -> dict[str, Any]:
    cpu_s, took_s = dict.fromkeys(benches, 0.0), dict.fromkeys(benches, 0.0)
    for turn in range(rounds):
        order = list(benches)[turn % len(benches) :] + list(benches)[: turn % len(benches)]
        for name in order:
            bench, pid = benches[name]
            before_s = stage.cpu_s(pid)
            took_s[name] += jobs / await rate(bench.gateway_job, range(turn * jobs, (turn + 1) * jobs), concurrency)
            cpu_s[name] += stage.cpu_s(pid) - before_s
    done = jobs * rounds
    return {name: {"per_s": done / took_s[name], "cpu_ms_a_job": cpu_s[name] / done * 1000} for name in benches}


def unused_ns() -> float:
    """What a span costs where nothing is traced, nanoseconds."""

    def one() -> None:
        with span("nothing"):
            pass

    return min(timeit.repeat(one, number=100_000, repeat=5)) / 100_000 * 1e9


def show(figures: dict[str, Any], unused: float) -> None:
    """The table, each row against the first."""
    table = Table(title="whole jobs, with and without traces, one run")
    for column in ("traces", "jobs/s", "ratio", "cpu a job", "ratio "):
        table.add_column(column, justify="left" if column == "traces" else "right")
    base = figures["off"]
    for name in RATIOS:
        row = figures[name]
        cells = f"{row['per_s']:.1f}", f"{row['per_s'] / base['per_s']:.3f}"
        cpu = f"{row['cpu_ms_a_job']:.1f} ms", f"{row['cpu_ms_a_job'] / base['cpu_ms_a_job']:.3f}"
        table.add_row(name, *cells, *cpu)
    console = Console(width=100)
    console.print(table)
    console.print(f"{figures['spans']} spans arrived; a span where nothing is traced takes {unused:.0f} ns")


def main() -> None:
    """Read the arguments and run one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=100, help="jobs a round and gateway")
    parser.add_argument("--rounds", type=int, default=4, help="rounds")
    parser.add_argument("--concurrency", type=int, default=8, help="jobs at a time")
    parser.add_argument("--json", action="store_true", help="figures for machines")
    parser.add_argument("--serve-simulator", nargs=1, help=argparse.SUPPRESS)
    parser.add_argument("--serve-gateway", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--serve-collector", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_simulator:
        asyncio.run(stage.serve_simulator(int(options.serve_simulator[0])))
    elif options.serve_gateway:
        port, simulator, folder, telemetry = options.serve_gateway
        asyncio.run(serve_gateway(int(port), simulator, folder, telemetry))
    elif options.serve_collector:
        serve_collector()
    else:
        figures = asyncio.run(measure(options.jobs, options.rounds, options.concurrency))
        if options.json:
            print(json.dumps(figures | {"span_unused_ns": unused_ns()}))
        else:
            show(figures, unused_ns())


if __name__ == "__main__":
    main()
