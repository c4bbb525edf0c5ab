"""The one place that reads the time and sleeps; everything else is handed a clock."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

import providers.contract


class Clock(providers.contract.Clock, Protocol):
    """What the service needs of time: the providers' clock, and a wait that an event can end."""

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Return when the event is set (True) or after this many seconds (False)."""


def stopwatch_s() -> float:
    """A reading that only its differences mean something: how long work took in this process, for metrics."""
    return time.perf_counter()


class SystemClock:
    """Real time: unix seconds, and asyncio's sleep."""

    def now(self) -> float:
        """Unix time in seconds."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Return after this many seconds."""
        await asyncio.sleep(max(0.0, seconds))

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Return when the event is set (True) or after this many seconds (False)."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await event.wait()
        except TimeoutError:
            return False
        return True
