"""Virtual time: an event loop whose clock jumps to the next timer the moment that nothing else can happen.

Sockets work as ever, because what is sent on loopback is there at once. Work on other threads does not: it takes no
virtual time at all, so the loop must know of it. Executor calls are counted here, the rest through `counted`.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from gateway.clock import SystemClock

START = 1_800_000_000.0
STUCK_S = 60.0


class _JumpingSelector(selectors.DefaultSelector):
    """Waits in real time for threads, in virtual time for everything else."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        at_once = timeout is not None and timeout <= 0
        ready = super().select(0 if at_once else self.loop.settle_s)
        if ready or at_once:
            return ready
        if self.loop.threads_busy == 0 and timeout is not None:
            self.loop.virtual_s += timeout
            return []
        ready = super().select(STUCK_S)
        if not ready:
            raise RuntimeError("nothing can happen any more: no timer is set, and no thread has answered")
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, which begins at 0 and costs nothing.

    `settle_s` is the real time that the network is given before the clock jumps: a busy machine may be late.
    """

    settle_s = 0.0

    def __init__(self) -> None:
        self.virtual_s = 0.0
        self.threads_busy = 0
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.virtual_s

    def run_in_executor(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future = super().run_in_executor(executor, func, *args)
        self.threads_busy += 1
        future.add_done_callback(self._answered)
        return future

    def _answered(self, _future: asyncio.Future[Any]) -> None:
        self.threads_busy -= 1


@contextmanager
def counted(loop: VirtualLoop) -> Iterator[None]:
    """Hold the time while something on another thread is waited for."""
    loop.threads_busy += 1
    try:
        yield
    finally:
        loop.threads_busy -= 1


class RealPauses(SystemClock):
    """Real time in a virtual loop, for what waits for a server: a pause is the work of a thread."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.get_running_loop().run_in_executor(None, time.sleep, seconds)


class VirtualClock(SystemClock):
    """The service's clock over a virtual loop; waiting is asyncio's own and ends at once.

    `jumped_s` is how far somebody has moved the hands, which the loop's own time knows nothing of.
    """

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self.loop = loop
        self.jumped_s = 0.0

    def now(self) -> float:
        return START + self.loop.virtual_s + self.jumped_s
