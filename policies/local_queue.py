"""The queue of a local route: how long until a slot is free, and who is waiting at the gateway for one.

Jobs that can wait are held at the gateway instead of in the worker's own first-come queue, so that the most urgent or
the most valuable goes next.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace


def slot_wait_s(slots: int, ages_s: Sequence[float], ahead: int, service_s: float) -> float:
    """Seconds until a slot is free for a job with `ahead` others before it, when each takes `service_s`."""
    if slots <= 0:
        return 1e4
    free = [max(service_s - age_s, 0.12 * service_s) for age_s in ages_s]
    free.extend([0.0] * (slots - len(free)))
    heapq.heapify(free)
    for _ in range(ahead):
        heapq.heapreplace(free, free[0] + service_s)
    return free[0]


Place = tuple[float, float]  # a held job's rank: the lower goes first


def slot_place(latest_start_at: float, head_start_s: float) -> Place:
    """The rank for a local slot: by the latest time that a start is useful, less a head start for what it gains."""
    return (latest_start_at - head_start_s, latest_start_at)


def call_place(benefit: float) -> Place:
    """The rank for a call of a limited account: the job that gains most goes first."""
    return (-benefit, 0.0)


@dataclass(frozen=True, slots=True)
class Held:
    """One held job: its rank, and what wait it was promised when."""

    place: Place
    entered_at: float
    entry_wait_s: float
    seen_at: float


class WaitingRoom:
    """The jobs held for one scarce thing. A job that is not seen for a while has left."""

    __slots__ = ("_jobs", "_patience_s")

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._jobs: dict[str, Held] = {}

    def enter(self, job: str, place: Place, wait_s: float, now: float) -> None:
        """Hold a job that expects to wait `wait_s`, or renew its place."""
        held = self._jobs.get(job)
        self._jobs[job] = Held(place, now, wait_s, now) if held is None else replace(held, place=place, seen_at=now)

    def progress(self, job: str, wait_s: float, now: float, prior_s: float) -> float:
        """How fast a held job's expected wait has been shrinking, as a share of the time that went by.

        Later comers that go first make a queue move slower than it promised. `prior_s` seconds of full speed are
        counted before anything was seen.
        """
        held = self._jobs.get(job)
        if held is None:
            return 1.0
        moved_s = held.entry_wait_s - wait_s
        return max(0.1, min(1.0, (moved_s + prior_s) / (now - held.entered_at + prior_s)))

    def leave(self, job: str) -> None:
        """Forget a job."""
        self._jobs.pop(job, None)

    def ahead(self, job: str, place: Place, now: float) -> int:
        """How many others would go before a job at this place."""
        for name in [name for name, held in self._jobs.items() if now - held.seen_at > self._patience_s]:
            del self._jobs[name]
        return sum(1 for name, held in self._jobs.items() if name != job and held.place < place)

    def __len__(self) -> int:
        return len(self._jobs)
