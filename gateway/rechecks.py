"""Questions that many ask at a time and all get one answer to, which is good for a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from gateway.clock import Clock

T = TypeVar("T")

KEPT_MAX = 1024


class Shared(Generic[T]):
    """Answers by name. Whoever asks within `good_for_s` of a question gets its answer, also while it is asked."""

    def __init__(self, clock: Clock, good_for_s: float) -> None:
        self._clock = clock
        self._good_for_s = good_for_s
        self._asked: dict[str, tuple[float, asyncio.Future[T]]] = {}

    async def get(self, name: str, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer of this name, asked for again when it is too old. Raises what asking raised."""
        now = self._clock.now()
        at, answer = self._asked.get(name, (0.0, None))
        if answer is None or not 0 <= now - at < self._good_for_s:
            if len(self._asked) >= KEPT_MAX:
                self._forget(now)
            answer = asyncio.ensure_future(ask())
            answer.add_done_callback(_heard)
            self._asked[name] = now, answer
        # Whoever hangs up while it is asked ends his own wait and nobody else's.
        return await asyncio.shield(answer)

    def _forget(self, now: float) -> None:
        good = {name: one for name, one in self._asked.items() if 0 <= now - one[0] < self._good_for_s}
        self._asked = good if len(good) < KEPT_MAX else {}


def _heard(answer: asyncio.Future[Any]) -> None:
    """An error that nobody waits for any more is no error of the loop's."""
    if not answer.cancelled():
        answer.exception()
