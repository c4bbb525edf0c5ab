"""When sleeping jobs go on: one timer for all of them, and never too many at once.

It runs on the event loop's own clock, which a change of the time of day does not move.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

from gateway.runs import Run

# Jobs that are due together are resumed so many at a time, so that whoever else waits for the loop gets a turn between.
RESUMED_AT_ONCE = 8


class Timetable:
    """The sleeping runs, by the time at which each is resumed."""

    def __init__(self, resume: Callable[[Run], None]) -> None:
        self._resume = resume
        self._entries: list[tuple[float, int, Run]] = []
        self._asleep: dict[str, int] = {}
        self._numbers = 0
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0

    def put(self, run: Run, seconds: float) -> None:
        """Resume a run after so many seconds, or at once when it was woken since it last slept."""
        seconds, run.woken = 0.0 if run.woken else seconds, False
        self._numbers += 1
        self._asleep[run.job_id] = self._numbers
        heapq.heappush(self._entries, (asyncio.get_running_loop().time() + seconds, self._numbers, run))
        self._arm()

    def wake(self, run: Run) -> None:
        """End a run's sleep now; of a run that is awake, the next one."""
        if self._asleep.pop(run.job_id, None) is None:
            run.woken = True
        else:
            self._resume(run)

    def clear(self) -> None:
        """Forget everybody."""
        self._entries.clear()
        self._asleep.clear()
        if self._timer is not None:
            self._timer.cancel()

    def __len__(self) -> int:
        return len(self._asleep)

    def _arm(self) -> None:
        """Set the timer to the next entry."""
        if not self._entries:
            return
        due_at = self._entries[0][0]
        if self._timer is None or due_at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_at(due_at, self._turn)
            self._timer_at = due_at

    def _turn(self) -> None:
        """Resume some of those that are due; an entry of a run that was woken meanwhile is void."""
        self._timer = None
        now = asyncio.get_running_loop().time()
        resumed = 0
        while self._entries and self._entries[0][0] <= now and resumed < RESUMED_AT_ONCE:
            _, number, run = heapq.heappop(self._entries)
            if self._asleep.get(run.job_id) == number:
                del self._asleep[run.job_id]
                self._resume(run)
                resumed += 1
        self._arm()
