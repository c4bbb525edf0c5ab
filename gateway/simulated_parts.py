"""The things of a simulated week: jobs, accounts, routes at work, and submits."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from gateway.scenario import Kind, Latency, SimulatedAccount, SimulatedRoute
from policies.retry import RetryBudget
from policies.values import InFlight, Tried
from providers.contract import FailureKind

HOUR_S = 3600.0
MINUTE_S = 60.0
MICROS = 1_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """How a vendor refuses a call: the kind, its own hint, and how long the answer takes."""

    kind: FailureKind
    retry_after_s: float | None
    after_s: float


def micros(usd: float) -> int:
    """Whole micro-USD of dollars written in a scenario."""
    return round(usd * MICROS)


@dataclass(slots=True)
class SimulatedJob:
    """One request on its way. Times are seconds from the start of the simulation."""

    id: str
    kind: Kind
    created_at: float
    tried: list[Tried] = field(default_factory=list)
    submits: int = 0
    waiting: bool = False

    @property
    def deadline_at(self) -> float:
        """When it is late, in seconds from the start of the simulation."""
        return self.created_at + self.kind.deadline_s


@dataclass(slots=True)
class Account:
    """A provider's account as the vendor keeps it."""

    name: str
    law: SimulatedAccount
    budget: RetryBudget
    credit_micros: int | None
    minute: int = -1
    calls: int = 0

    def is_out(self, now: float) -> bool:
        """Whether every call to the provider fails now."""
        return any(one.from_h * HOUR_S <= now < (one.from_h + one.hours) * HOUR_S for one in self.law.outages)

    def over_rate(self, now: float) -> float | None:
        """Count a call; the seconds until the next minute when it is one too many."""
        if self.law.requests_per_minute is None:
            return None
        minute = int(now // MINUTE_S)
        self.calls = self.calls + 1 if minute == self.minute else 1
        self.minute = minute
        return (minute + 1) * MINUTE_S - now if self.calls > self.law.requests_per_minute else None


@dataclass(slots=True)
class Line:
    """A route at work: what runs there, and what waits for a local slot."""

    name: str
    law: SimulatedRoute
    account: Account
    running: dict[str, InFlight] = field(default_factory=dict)
    queue: deque[tuple[str, Callable[[], None]]] = field(default_factory=deque)
    shown: tuple[InFlight, ...] | None = ()

    def in_flight(self) -> tuple[InFlight, ...]:
        """What runs and what waits here, as the router is told; the same tuple until it changes."""
        if self.shown is None:
            waiting = (InFlight(name, self.running[name].started_at, "queued") for name, _ in self.queue)
            queued = {name for name, _ in self.queue}
            self.shown = (*(one for name, one in self.running.items() if name not in queued), *waiting)
        return self.shown

    def busy(self) -> int:
        """How many run and do not wait."""
        return len(self.running) - len(self.queue)


@dataclass(frozen=True, slots=True)
class Flight:
    """One submit of a job on a route."""

    job: SimulatedJob
    line: Line
    attempt: str
    sent_at: float
    price_micros: int


def draw_s(law: Latency, random: Random) -> float:
    """One time to a finished video."""
    factor = law.tail_factor if random.random() < law.tail else 1.0
    return law.median_s * math.exp(law.sigma * random.gauss(0.0, 1.0)) * factor
