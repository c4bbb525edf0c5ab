"""What a bus does for a replica. Whatever it carries may be lost: the store is the truth, and everybody can look there.

Topics are what one replica tells the others by name: `job` (the rows of this job changed), `cancel` (its caller wants
it stopped), `poll` (its vendor called back: ask now).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from policies.quotas import Left, Quota
from policies.values import Observation

Topic = Literal["job", "cancel", "poll"]
TOPICS: frozenset[str] = frozenset({"job", "cancel", "poll"})


class BusError(RuntimeError):
    """The bus cannot be used as configured; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a vendor allows: renders of a route at once, and calls of its account in a minute; None: no limit."""

    concurrency_max: int | None = None
    requests_per_minute: int | None = None

    def __bool__(self) -> bool:
        """Whether there is any limit at all."""
        return self.concurrency_max is not None or self.requests_per_minute is not None


@dataclass(frozen=True, slots=True)
class Slot:
    """An attempt's place on a route of an account."""

    account: str
    route: str
    attempt: str


@dataclass(frozen=True, slots=True)
class NoSlot:
    """Why there is no slot now: `wait_s` until it pays to ask again, `busy` renders on the route over all replicas."""

    wait_s: float
    busy: int = 0


@dataclass(frozen=True, slots=True)
class Draw:
    """A quota of a team or of one of its keys, under the name of its meter."""

    team: str
    name: str
    quota: Quota


@dataclass(frozen=True, slots=True)
class Drawn:
    """Whether a request was taken of every quota, and how each stands after that."""

    taken: bool
    left: tuple[Left, ...]


class Bus(Protocol):
    """Wake-ups, observations and slots, within one process or between replicas.

    Nothing here raises for a network that fails, and only `take` and `draw` wait for one, for a bounded time.
    `recheck_s` is how long a waiter may rely on being woken before it looks again itself.
    """

    recheck_s: float

    @property
    def degraded(self) -> bool:
        """Whether the others cannot be reached now."""

    def publish(self, topic: Topic, name: str) -> None:
        """Wake everyone who listens to this topic and name, on every replica."""

    def listen(self, topic: Topic, name: str) -> AbstractContextManager[asyncio.Event]:
        """An event that is set at the next publication; clear it before looking at the state again."""

    def on(self, topic: Topic, act: Callable[[str], None]) -> None:
        """Call this with the name of every publication of a topic, whoever published it."""

    def share(self, fact: Observation) -> None:
        """Tell the other replicas what was observed here."""

    def on_fact(self, act: Callable[[Observation], None]) -> None:
        """Call this with every observation of another replica."""

    async def take(self, slot: Slot, limits: Limits) -> NoSlot | None:
        """Take a slot within limits that all replicas share; None when it was taken, or when nobody can tell."""

    async def draw(self, draws: Sequence[Draw], now_s: float) -> Drawn:
        """Take one request of every quota that all replicas share, or of none; of this process's own without them."""

    def hold(self, slot: Slot) -> None:
        """Keep the slot of an attempt that another replica had sent and this one has taken over."""

    def free(self, attempt: str, *, handed_over: bool = False) -> None:
        """Give a slot back, or let another replica keep it; harmless when there is none."""

    def renew(self) -> None:
        """Keep every slot held here for another lease."""

    async def start(self) -> None:
        """Begin to hear and to tell; returns soon, whether the others can be reached or not."""

    async def close(self) -> None:
        """Stop."""
