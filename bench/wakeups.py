"""How fast one replica's word reaches another, as ratios to a bare Redis ping from the same run.

    python bench/wakeups.py [--rounds 500] [--jobs 60] [--json]

A real redis-server on loopback; two buses, then two whole gateways over one store and one bus, in this process. The
last row is what a caller sees: from the commit that ends a job on one replica to the reply of `Prefer: wait` on the
other, which reads the rows again and renders them. The status is 1 when its 99th percentile is over 100 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import structlog
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from gateway.bus.contract import Bus, Limits, Slot
from gateway.bus.open import Surroundings, open_bus
from gateway.clock import SystemClock
from providers.contract import Pending
from tests.support.redis_server import redis_binary, redis_server, redis_version
from tests.support.replicas import Replica, stand
from tests.support.scripted import Scripted

TARGET_MS = 100.0
NOISE_A_SECOND = 1000
LOST_S, PAUSE_S = 10.0, 0.01


async def timed(rounds: int, act: Callable[[int], Awaitable[float | None]]) -> list[float]:
    """Milliseconds of each round; an act may measure itself."""
    found = []
    for number in range(rounds):
        began = time.perf_counter()
        measured = await act(number)
        found.append(1000 * (time.perf_counter() - began if measured is None else measured))
    return found


async def bare(url: str, rounds: int) -> dict[str, list[float]]:
    """A ping, and a message from one client to another, through redis-py alone."""
    async with Redis.from_url(url) as client, Redis.from_url(url) as other, other.pubsub() as heard:
        await heard.subscribe("bare")
        await heard.get_message(timeout=1)

        async def ping(_: int) -> None:
            await client.ping()

        async def message(_: int) -> None:
            await client.publish("bare", "x")
            while await heard.get_message(timeout=1) is None:
                pass

        return {"bare ping": await timed(rounds, ping), "bare publish to a subscriber": await timed(rounds, message)}


async def buses(url: str, rounds: int) -> dict[str, list[float]]:
    """A wake-up from one bus to the other, quiet and under a thousand others a second; a slot taken and freed."""
    one, other = [open_bus(url, Surroundings(str(n), SystemClock(), Random(n), "bench")) for n in range(2)]
    await one.start()
    await other.start()
    with other.listen("job", "j") as event:

        async def wake(_: int) -> float:
            await asyncio.sleep(PAUSE_S)
            event.clear()
            began = time.perf_counter()
            one.publish("job", "j")
            async with asyncio.timeout(LOST_S):
                await event.wait()
            return time.perf_counter() - began

        async def slot(number: int) -> None:
            await one.take(Slot("a", "a/r", str(number)), Limits(10 * rounds))
            one.free(str(number))

        found = {"wake-up on the other replica": await timed(rounds, wake)}
        noise = [asyncio.create_task(chatter(bus)) for bus in (one, other)]
        found[f"the same beside {2 * NOISE_A_SECOND} others a second"] = await timed(rounds, wake)
        for task in noise:
            task.cancel()
        await asyncio.gather(*noise, return_exceptions=True)
        found["a shared slot"] = await timed(rounds, slot)
    await one.close()
    await other.close()
    return found


async def chatter(bus: Bus) -> None:
    """Publish at a steady rate, ten at a time."""
    number = 0
    while True:
        for _ in range(10):
            number += 1
            bus.publish("job", f"other-{number}")
        await asyncio.sleep(10 / NOISE_A_SECOND)


async def gateways(folder: Path, url: str, jobs: int) -> dict[str, list[float]]:
    """From the commit that ends a job on one gateway to the reply of a wait on the other."""
    async with stand(folder, f"sqlite:///{folder / 'vidgate.db'}", url) as place:
        vendor = Scripted(trouble=Pending(), trouble_s=0.0)
        driver, other = await place.start([vendor]), await place.start([vendor])
        ends: dict[str, float] = {}
        tell = driver.service.parts.bus.publish

        def publish(topic, name):  # type: ignore[no-untyped-def]
            ends[name] = time.perf_counter()
            tell(topic, name)

        driver.service.parts.bus.publish = publish  # type: ignore[method-assign]

        async def follow(_: int) -> float:
            vendor.trouble_s = vendor.now() - (vendor.asked_at[0] if vendor.asked_at else vendor.now()) + 0.15
            return await ended(driver, other, ends)

        return {"end of a job seen by a wait on the other gateway": await timed(jobs, follow)}


async def ended(driver: Replica, other: Replica, ends: dict[str, float]) -> float:
    """Seconds from the last word about a job to the end of a wait for it elsewhere."""
    job_id = await driver.submit()
    shown = await other.job(job_id, wait_s=30)
    assert shown["status"] == "succeeded", shown["status"]
    return time.perf_counter() - ends[job_id]


def table(found: dict[str, list[float]]) -> Table:
    """Percentiles, and their ratio to the bare ping's median."""
    ping = statistics.median(found["bare ping"])
    rows = Table("", "p50", "p99", "p50 in pings", "p99 in pings")
    for name, times in found.items():
        p50, p99 = statistics.median(times), statistics.quantiles(times, n=100)[98]
        rows.add_row(name, f"{p50:.2f} ms", f"{p99:.2f} ms", f"{p50 / ping:.1f}", f"{p99 / ping:.1f}")
    return rows


async def main() -> int:
    """Run everything and print it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=500)
    options.add_argument("--jobs", type=int, default=60)
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="vidgate-bench-") as folder, redis_server(Path(folder) / "redis") as server:
        found = {**await bare(server.url, chosen.rounds), **await buses(server.url, chosen.rounds)}
        found |= await gateways(Path(folder), server.url, chosen.jobs)
    seen_ms = statistics.quantiles(found["end of a job seen by a wait on the other gateway"], n=100)[98]
    if chosen.json:
        print(json.dumps({name: statistics.quantiles(times, n=100) for name, times in found.items()}))
        return int(seen_ms > TARGET_MS)
    Console().print(f"redis-server {'.'.join(map(str, redis_version(redis_binary())))}", table(found))
    print(f"the end of a job is seen within {seen_ms:.0f} ms (p99); the target is {TARGET_MS:.0f} ms")
    return int(seen_ms > TARGET_MS)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
