"""What opening a file costs the worker that does it, and what comes of it."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from gateway.media import allowance
from gateway.media.decoders import Decoders
from gateway.media.verify import BadMedia
from gateway.media.workers import Workers
from gateway.problems import InvalidImage

MEBIBYTE = 1024 * 1024
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    """What it came to: the verdict, memory above the idle worker, time of a processor and on the wall, and whether the
    worker `ended` over it.
    """

    verdict: str
    memory_mib: float
    cpu_s: float
    wall_s: float
    ended: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One file, opened as a picture of a caller and as a file of a vendor."""

    name: str
    size_bytes: int
    taken_in: Cost
    delivered: Cost


def of(pid: int | str, field: str) -> int:
    """A figure of a process, in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def forget_peak(pid: int) -> None:
    """Have the system count a process's highest memory from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def cpu_s(pid: int) -> float:
    """What a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND


class Bench:
    """One worker at a time, looked at from outside; `limits` of time may be shortened for a quick run."""

    def __init__(self) -> None:
        self.workers = Workers(1)
        self.decoders = Decoders(self.workers)

    async def costs(self, act: Callable[[], Awaitable[str]]) -> Cost:
        """Do something with a worker at rest."""
        await self.workers.warm()
        (pid,) = self.workers.processes()
        forget_peak(pid)
        rest_kib, used_s, buried = of(pid, "VmRSS"), cpu_s(pid), resource.getrusage(resource.RUSAGE_CHILDREN)
        began = perf_counter()
        verdict = await act()
        wall_s = perf_counter() - began
        if pid in self.workers.processes():
            taken = (of(pid, "VmHWM") - rest_kib) / 1024, cpu_s(pid) - used_s
            return Cost(verdict, *taken, wall_s, ended=False)
        # What is left of a worker that has ended is the highest peak of all, and the time of all.
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used_s = after.ru_utime + after.ru_stime - buried.ru_utime - buried.ru_stime - used_s
        return Cost(verdict, (after.ru_maxrss - rest_kib) / 1024, used_s, wall_s, ended=True)

    async def row(self, name: str, data: bytes) -> Row:
        """Open a file both ways."""
        return Row(
            name,
            len(data),
            await self.costs(lambda: self._take_in(data)),
            await self.costs(lambda: self._inspect(data)),
        )

    async def _take_in(self, data: bytes) -> str:
        try:
            await self.decoders.take_in(data)
        except InvalidImage as problem:
            return str(problem.extensions["reason"])
        return "taken"

    async def _inspect(self, data: bytes) -> str:
        try:
            await self.decoders.inspect(data)
        except BadMedia:
            return "bad"
        return "opened"


@contextmanager
def hurried(quick: bool) -> Iterator[None]:
    """In a quick run a loop ends after two seconds of a processor and not after five."""
    usual = allowance.CPU_S_MIN
    allowance.CPU_S_MIN = 1 if quick else usual
    try:
        yield
    finally:
        allowance.CPU_S_MIN = usual


def measure(files: dict[str, bytes], *, quick: bool) -> tuple[list[Row], float]:
    """Every file, and by how many MiB this process has grown over all of them."""
    bench = Bench()

    async def all_rows() -> list[Row]:
        await bench.row("warm-up", b"\x89PNG\r\n\x1a\n" + bytes(60))
        before_kib = of("self", "VmHWM")
        rows = [await bench.row(name, data) for name, data in files.items()]
        grown.append((of("self", "VmHWM") - before_kib) / 1024)
        await bench.workers.close()
        return rows

    grown: list[float] = []
    with hurried(quick), suppress(KeyboardInterrupt):
        return asyncio.run(all_rows()), grown[0]
    raise SystemExit(130)
