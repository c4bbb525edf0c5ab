"""The one place that reads the time and sleeps; everything else is handed a clock."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

import structlog

import providers.contract

log = structlog.get_logger()


class Clock(providers.contract.Clock, Protocol):
    """What the service needs of time: the providers' clock, and a wait that an event can end."""

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Return when the event is set (True) or after this many seconds (False)."""


def stopwatch_s() -> float:
    """A reading that only its differences mean something: how long work took in this process, for metrics."""
    return time.perf_counter()


# A change of the machine's clock by less than this is a correction and followed at once.
STEP_S = 1.0
# A larger one is believed when it has lasted this long; until then time goes on as it did.
STEP_LASTS_S = 60.0
# Counts on while the machine sleeps, where there is such a clock.
STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """Real time: unix seconds, and asyncio's sleep.

    Leases, deadlines and holds end by this clock, so that a machine's clock that jumps for a moment must not reach
    them: `now` follows a steady clock, and the time of day only where both agree or the difference stays.
    """

    def __init__(self) -> None:
        self._offset_s = _wall_s() - _steady_s()
        self._stepped: tuple[float, float] | None = None

    def now(self) -> float:
        """Unix time in seconds."""
        wall_s, steady_s = _wall_s(), _steady_s()
        ahead_s = wall_s - steady_s - self._offset_s
        if -STEP_S < ahead_s < STEP_S:
            self._offset_s, self._stepped = self._offset_s + ahead_s, None
        elif self._stepped is None or abs(ahead_s - self._stepped[1]) >= STEP_S:
            self._stepped = steady_s, ahead_s
            log.warning("clock.stepped", by_s=round(ahead_s, 3), believed_after_s=STEP_LASTS_S)
        elif steady_s - self._stepped[0] >= STEP_LASTS_S:
            self._offset_s, self._stepped = self._offset_s + ahead_s, None
            log.warning("clock.step_believed", by_s=round(ahead_s, 3))
        return steady_s + self._offset_s

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


class BlockingClock:
    """Real time for programs without an event loop: seconds that only go forward, and a sleep that blocks."""

    def now(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Return after this many seconds."""
        time.sleep(max(0.0, seconds))


def _wall_s() -> float:
    """The machine's time of day, which people and NTP may set."""
    return time.time()


def _steady_s() -> float:
    """Seconds since some moment, which nobody can set."""
    return time.clock_gettime(STEADY)
