"""What the gateway adds to a vendor call: latency and throughput against the bare simulator, in one run.

    python bench/overhead.py [--jobs 200] [--concurrency 16] [--json]

Three processes on loopback: the Segmind simulator made instant (no queue, no render time, one cached clip), the gateway
over it with its real store (SQLite, full durability), and this client. Each figure of the gateway stands beside that
of the bare simulator from the same minute; on a noisy machine only the ratios mean something.

Admission is measured on a gateway that may run only one job at a time, so that the jobs admitted before do not compete
with it; whole jobs on one that runs all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable

import httpx
import stage
import uvicorn
from httpx_aiohttp import AiohttpTransport
from rich.console import Console
from rich.table import Table

from gateway.app import build_app
from providers.segmind.simulator.switches import SANDBOX_KEY

Act = Callable[[int], Awaitable[None]]
MODES: dict[str, dict[str, dict[str, float]]] = {
    "admission": {"jobs": {"running_max": 1}, "polling": {"delay_min_s": 60, "delay_max_s": 60}},
    "jobs": {"jobs": {"running_max": 10_000}, "polling": {"delay_min_s": 0.001, "delay_max_s": 0.001}},
}
BODY = {"fps": 7, "motion": 127, "cond_aug": 0.02, "frames": "14", "resize_method": "maintain_aspect_ratio"}


async def serve_gateway(port: int, simulator: str, folder: str, mode: str) -> None:
    """The gateway in a process of its own; prints a key on its first line."""
    settings = stage.gateway_settings(port, simulator, folder, MODES[mode])
    print(await stage.new_key(settings), flush=True)
    config = uvicorn.Config(build_app(settings), port=port, log_level="error", loop="uvloop", http="httptools")
    await uvicorn.Server(config).serve()


async def timed(act: Act, count: int, concurrency: int) -> dict[str, float]:
    """Run an act `count` times, `concurrency` at a time: latency percentiles in ms, and acts a second."""
    numbers = iter(range(count))
    taken_ms: list[float] = []

    async def worker() -> None:
        for number in numbers:
            began = time.perf_counter()
            await act(number)
            taken_ms.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    elapsed_s = time.perf_counter() - began
    cuts = statistics.quantiles(taken_ms, n=100)
    return {"p50_ms": cuts[49], "p99_ms": cuts[98], "per_s": count / elapsed_s}


class Bench:
    """The client side of one run."""

    def __init__(self, client: httpx.AsyncClient, simulator: str, gateway: str, keys: tuple[str, str]) -> None:
        self._client = client
        self._simulator = simulator
        self._gateway = gateway
        self._vendor = {"x-api-key": keys[0]}
        self._caller = {"authorization": f"Bearer {keys[1]}"}
        self._picture = base64.b64encode(stage.picture()).decode()

    def acts(self, mode: str) -> dict[str, Act]:
        """What is measured in a mode: the bare vendor first, then the gateway."""
        if mode == "admission":
            return {"bare submit": self.bare_submit, "gateway admission to 202": self.gateway_admission}
        return {"bare whole job": self.bare_job, "gateway whole job": self.gateway_job}

    async def bare_submit(self, number: int) -> None:
        """A submit straight to the vendor."""
        reply = await self._client.post(f"{self._simulator}/v2/svd", headers=self._vendor, json=self._bare(number))
        reply.raise_for_status()

    async def bare_job(self, number: int) -> None:
        """A whole job straight at the vendor: submit, status until done, result, file."""
        reply = await self._client.post(f"{self._simulator}/v2/svd", headers=self._vendor, json=self._bare(number))
        request = f"{self._simulator}/v2/requests/{reply.json()['request_id']}"
        while True:
            status = await self._client.get(f"{request}/status", headers=self._vendor)
            if status.json()["status"] == "COMPLETED":
                break
        result = await self._client.get(request, headers=self._vendor)
        (await self._client.get(result.json()["output"])).raise_for_status()

    async def gateway_admission(self, number: int) -> None:
        """A request to the gateway, to its 202."""
        reply = await self._post(number, {})
        assert reply.status_code == 202, reply.text

    async def gateway_job(self, number: int) -> None:
        """A whole job through the gateway, to the bytes of its video."""
        reply = await self._post(number, {"prefer": "wait=60"})
        assert reply.status_code == 200, reply.text
        url = f"{self._gateway}/jobs/{reply.json()['id']}/content"
        (await self._client.get(url, headers=self._caller)).raise_for_status()

    async def _post(self, number: int, headers: dict[str, str]) -> httpx.Response:
        body = {"image": self._picture, "seed": number}
        return await self._client.post(f"{self._gateway}/generate/video", headers=self._caller | headers, json=body)

    def _bare(self, number: int) -> dict[str, object]:
        return {"image": self._picture, "seed": number, "base64": False, **BODY}


async def measure(jobs: int, concurrency: int) -> dict[str, object]:
    """Start the simulator, then a gateway for each of the two measurements, and put the bare vendor beside each."""
    port = stage.free_port()
    simulator = f"http://127.0.0.1:{port}"
    figures: dict[str, object] = {}
    with stage.running(__file__, ["--serve-simulator", str(port)]):
        async with httpx.AsyncClient(transport=AiohttpTransport(), timeout=120) as client:
            await stage.until_up(client, simulator)
            (await client.patch(f"{simulator}/_sandbox/settings", json=stage.INSTANT)).raise_for_status()
            for mode in MODES:
                port, folder = stage.free_port(), tempfile.mkdtemp()
                with stage.running(__file__, ["--serve-gateway", str(port), simulator, folder, mode]) as service:
                    assert service.stdout is not None
                    secret = service.stdout.readline().strip()
                    gateway = f"http://127.0.0.1:{port}"
                    await stage.until_up(client, gateway)
                    bench = Bench(client, simulator, gateway, (SANDBOX_KEY, secret))
                    for name, act in bench.acts(mode).items():
                        await timed(act, 5, 1)
                        figures[name] = {
                            "alone": await timed(act, jobs // 2, 1),
                            "together": await timed(act, jobs, concurrency),
                        }
                    figures["gateway peak memory MiB"] = stage.memory_mib(service.pid, "VmHWM")
                shutil.rmtree(folder)
    return figures


def show(figures: dict[str, object], concurrency: int) -> None:
    """The table with the ratios."""
    table = Table(title="vidgate against the bare simulator, one run")
    for column in ("", "p50 alone", f"p50 at {concurrency}", f"p99 at {concurrency}", f"per second at {concurrency}"):
        table.add_column(column, justify="left" if not column else "right")
    rows = {name: value for name, value in figures.items() if isinstance(value, dict)}
    for name, row in rows.items():
        alone, together = row["alone"], row["together"]
        table.add_row(
            name,
            f"{alone['p50_ms']:.1f} ms",
            f"{together['p50_ms']:.1f} ms",
            f"{together['p99_ms']:.1f} ms",
            f"{together['per_s']:.0f}",
        )
    for title, over, under in (
        ("ratio, submit", "gateway admission to 202", "bare submit"),
        ("ratio, whole job", "gateway whole job", "bare whole job"),
    ):
        cells = [rows[over]["alone"]["p50_ms"] / rows[under]["alone"]["p50_ms"]]
        cells += [rows[over]["together"][key] / rows[under]["together"][key] for key in ("p50_ms", "p99_ms", "per_s")]
        table.add_row(title, *(f"{cell:.2f}" for cell in cells))
    console = Console()
    console.print(table)
    added_ms = rows["gateway whole job"]["alone"]["p50_ms"] - rows["bare whole job"]["alone"]["p50_ms"]
    console.print(f"added to a whole job, alone: {added_ms:.1f} ms (p50)")
    console.print(f"peak memory of the gateway: {figures['gateway peak memory MiB']:.0f} MiB")


def main() -> None:
    """Read the arguments and run one of the three processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200, help="acts a measurement")
    parser.add_argument("--concurrency", type=int, default=16, help="acts at a time")
    parser.add_argument("--json", action="store_true", help="figures for machines")
    parser.add_argument("--serve-simulator", nargs=1, help=argparse.SUPPRESS)
    parser.add_argument("--serve-gateway", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_simulator:
        asyncio.run(stage.serve_simulator(int(options.serve_simulator[0])))
    elif options.serve_gateway:
        port, simulator, folder, mode = options.serve_gateway
        asyncio.run(serve_gateway(int(port), simulator, folder, mode))
    else:
        figures = asyncio.run(measure(options.jobs, options.concurrency))
        if options.json:
            print(json.dumps(figures | {"concurrency": options.concurrency, "cpus": os.cpu_count()}))
        else:
            show(figures, options.concurrency)


if __name__ == "__main__":
    main()
