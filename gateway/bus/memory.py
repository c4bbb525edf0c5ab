"""The bus of one process: wake whoever waits for a job. What it carries may be lost; the store is the truth."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from gateway.bus.contract import Draw, Drawn, Limits, NoSlot, Slot, Topic
from gateway.bus.meters import Meters
from policies.values import Observation


class MemoryBus:
    """Wake-ups by topic within one process, where limits are the planner's own and nobody else observes anything."""

    recheck_s = math.inf

    def __init__(self) -> None:
        self._waiting: defaultdict[tuple[str, str], set[asyncio.Event]] = defaultdict(set)
        self._acts: defaultdict[str, list[Callable[[str], None]]] = defaultdict(list)
        self._meters = Meters()

    @property
    def degraded(self) -> bool:
        """Never: there are no others."""
        return False

    def publish(self, topic: Topic, name: str) -> None:
        """Wake everyone who listens here."""
        self._wake(topic, name)

    def _wake(self, topic: str, name: str) -> None:
        for event in self._waiting.get((topic, name), ()):
            event.set()
        for act in self._acts.get(topic, ()):
            act(name)

    @contextmanager
    def listen(self, topic: Topic, name: str) -> Iterator[asyncio.Event]:
        """An event that is set at the next publication; clear it before looking at the state again."""
        event, place = asyncio.Event(), (topic, name)
        self._waiting[place].add(event)
        try:
            yield event
        finally:
            self._waiting[place].discard(event)
            if not self._waiting[place]:
                del self._waiting[place]

    def on(self, topic: Topic, act: Callable[[str], None]) -> None:
        """Call this with the name of every publication of a topic."""
        self._acts[topic].append(act)

    def share(self, fact: Observation) -> None:
        """Nobody else is there."""

    def on_fact(self, act: Callable[[Observation], None]) -> None:
        """Nobody else observes anything."""

    async def take(self, slot: Slot, limits: Limits) -> NoSlot | None:
        """Always taken: the planner keeps the limits of one process."""
        return None

    async def draw(self, draws: Sequence[Draw], now_s: float) -> Drawn:
        """Take one request of every quota or of none."""
        return self._meters.draw(draws, now_s)

    def hold(self, slot: Slot) -> None:
        """Nothing to keep."""

    def free(self, attempt: str, *, handed_over: bool = False) -> None:
        """Nothing to give back."""

    def renew(self) -> None:
        """Nothing to keep."""

    async def start(self) -> None:
        """Nothing to begin."""

    async def close(self) -> None:
        """Nothing to stop."""
