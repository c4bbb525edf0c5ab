"""The queue of a local route: how long until a slot is free, and who is waiting at the gateway for one.

Jobs that can wait are held at the gateway instead of in the worker's own first-come queue, so that the most urgent or
the most valuable goes next.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass


def slot_wait_s(slots: int, ages_s: Sequence[float], ahead: int, service_s: float) -> float:
    """Seconds until a slot is free for a job with `ahead` others before it, when each takes `service_s`."""
    if slots <= 0:
        return 1e4
    free = [max(service_s - max(0.0, age_s), 0.12 * service_s) for age_s in ages_s]
    free.extend([0.0] * (slots - len(free)))
    heapq.heapify(free)
    for _ in range(ahead):
        heapq.heapreplace(free, free[0] + service_s)
    return free[0]


Place = tuple[float, float]  # a held job's rank: the lower goes first


def slot_place(latest_at: float, head_start_s: float) -> Place:
    """The rank for a local slot: by the latest time that waiting is free, less a head start for what it gains."""
    return (latest_at - head_start_s, latest_at)


def call_place(benefit: float) -> Place:
    """The rank for a call of a limited account: the job that gains most goes first."""
    return (-benefit, 0.0)


@dataclass(frozen=True, slots=True)
class Held:
    """One held job: its rank, and when it was seen last."""

    place: Place
    seen_at: float


class WaitingRoom:
    """The jobs held for one scarce thing. A job that is not seen for a while has left, by a clock set back too."""

    __slots__ = ("_jobs", "_patience_s")

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._jobs: dict[str, Held] = {}

    def enter(self, job: str, place: Place, now: float) -> None:
        """Hold a job, or renew its place."""
        self._jobs[job] = Held(place, now)

    def leave(self, job: str) -> None:
        """Forget a job."""
        self._jobs.pop(job, None)

    def ahead(self, job: str, place: Place, now: float) -> int:
        """How many others would go before a job at this place."""
        for name in [name for name, held in self._jobs.items() if abs(now - held.seen_at) > self._patience_s]:
            del self._jobs[name]
        return sum(1 for name, held in self._jobs.items() if name != job and held.place < place)

    def __len__(self) -> int:
        return len(self._jobs)
