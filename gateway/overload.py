"""Shedding load: a request that this process cannot hold any more is refused before anything is done for it.

Work (asking for renders and quotes, which bring pictures) is refused first; looking at jobs goes on for longer, and
health and metrics are always answered. A request counts until its reply is sent; events and downloads, whose replies
last, have a number of their own, so that they never take the room of short reads. What is counted is what takes memory:
requests under way, the bytes of their bodies, pictures that are opened; and how late the event loop wakes, which is all
of the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from gateway.problems import TemporaryReducedCapacity
from gateway.settings_edge import OverloadSection
from gateway.telemetry.metrics import Metrics

Kind = Literal["work", "reads", "streams"]
ALWAYS_ANSWERED = frozenset({"/healthz", "/readyz", "/metrics"})
WORK = "/generate/"
STREAMS = frozenset({"/jobs/{job_id}/events", "/jobs/{job_id}/content", "/results/{job_id}/{number}", "/inputs/{name}"})
LIMITS = ("work", "reads", "streams", "bodies", "pictures", "lag")
RETRY_AFTER_S = 2


@dataclass(slots=True)
class Load:
    """What this process has under way. `lag_s` is the less of the event loop's last two delays: a pause is no load."""

    under_way: dict[Kind, int] = field(default_factory=lambda: {"work": 0, "reads": 0, "streams": 0})
    body_bytes: int = 0
    pictures: int = 0
    lag_s: float = 0.0
    last_lag_s: float = 0.0


class Ticket:
    """One request that is being answered, and what it holds."""

    def __init__(self, overload: Overload, kind: Kind) -> None:
        self._overload = overload
        self._load = overload.load
        self._kind: Kind = kind
        self._body_bytes = 0
        self._load.under_way[kind] += 1

    def took(self, size_bytes: int) -> None:
        """More of its body is in memory. Raises TemporaryReducedCapacity when all bodies together are too much."""
        self._body_bytes += size_bytes
        self._load.body_bytes += size_bytes
        self._overload.check_bodies()

    def waits(self) -> None:
        """From here on it only waits for its job, and has let go of its body."""
        self._leave()
        self._kind = "reads"
        self._load.under_way["reads"] += 1

    def done(self) -> None:
        """It is answered."""
        self._leave()

    def _leave(self) -> None:
        self._load.under_way[self._kind] -= 1
        self._load.body_bytes -= self._body_bytes
        self._body_bytes = 0


class Overload:
    """The limits of this process, and what it has under way."""

    def __init__(self, limits: Callable[[], OverloadSection], metrics: Metrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self.load = Load()
        metrics.begin("limit", LIMITS)

    @contextmanager
    def admitted(self, path: str) -> Iterator[Ticket | None]:
        """A request to this path, by its template, for as long as it is answered. Raises TemporaryReducedCapacity."""
        if path in ALWAYS_ANSWERED:
            yield None
            return
        kind: Kind = "work" if path.startswith(WORK) else "streams" if path in STREAMS else "reads"
        self._check(kind)
        ticket = Ticket(self, kind)
        try:
            yield ticket
        finally:
            ticket.done()

    @contextmanager
    def opening(self) -> Iterator[None]:
        """A picture that is opened. Raises TemporaryReducedCapacity when too many are."""
        most = self._limits().pictures_max
        if self.load.pictures >= most:
            raise self._shed("pictures", f"{most} pictures are being opened already")
        self.load.pictures += 1
        try:
            yield
        finally:
            self.load.pictures -= 1

    def lagged(self, lag_s: float) -> None:
        """How late the event loop has woken just now."""
        self.load.lag_s, self.load.last_lag_s = min(lag_s, self.load.last_lag_s), lag_s

    def tell(self) -> None:
        """Set the gauges."""
        for kind, count in self.load.under_way.items():
            self._metrics.set("vidgate_requests_under_way", count, kind=kind)
        self._metrics.set("vidgate_request_body_bytes", self.load.body_bytes)

    def check_bodies(self) -> None:
        """Raises TemporaryReducedCapacity when the bodies in memory are more than they may be together."""
        most = self._limits().body_bytes_max
        if self.load.body_bytes > most:
            raise self._shed("bodies", f"the bodies of requests under way have more than {most} bytes together")

    def _check(self, kind: Kind) -> None:
        limits, load = self._limits(), self.load
        most = {"work": limits.work_max, "reads": limits.reads_max, "streams": limits.streams_max}[kind]
        if load.under_way[kind] >= most:
            raise self._shed(kind, f"{most} requests of this kind are being answered already")
        if kind == "work":
            self.check_bodies()
            if load.lag_s > limits.lag_s_max:
                raise self._shed("lag", f"the event loop wakes {load.lag_s:.1f} s late")

    def _shed(self, limit: str, detail: str) -> TemporaryReducedCapacity:
        self._metrics.count("vidgate_requests_shed", limit=limit)
        return TemporaryReducedCapacity(detail, headers={"Retry-After": str(RETRY_AFTER_S)}, limit=limit)
