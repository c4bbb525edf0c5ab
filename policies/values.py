"""The plain values that routing decides over: what the engine tells the router, and what it gets back.

Money is integer micro-USD. Times are seconds on one monotonic-like clock that the caller owns. Nothing here decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, overload

Mode = Literal["sync", "async", "local"]
AttemptState = Literal["queued", "running"]
Objective = Literal["default", "cheapest", "fastest", "balanced"]
BreakerState = Literal["closed", "open", "half_open"]
ObservationKind = Literal[
    "dispatched", "accepted", "started", "succeeded", "failed", "abandoned", "canceled", "balance", "eta"
]
FailureKind = Literal[
    "rate_limited",
    "no_credit",
    "unauthorized",
    "unavailable",
    "server_error",
    "timeout",
    "render_failed",
    "moderated",
    "invalid_request",
    "bad_output",
]


@dataclass(frozen=True, slots=True)
class InFlight:
    """One attempt that has been sent and has no outcome yet."""

    attempt: str
    started_at: float
    state: AttemptState = "running"
    eta_s: float | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One route as it stands now for one request: its price, its account's credit, its load and its limits.

    `in_flight` lists the route's attempts of all jobs, the oldest first. `balance_micros` None means that the account
    is not metered. `slots` and `queued` describe a local route. `refusals` holds reasons found before routing.
    """

    route: str
    account: str
    mode: Mode
    price_micros: int
    nominal_latency_s: float
    size_class: str = "default"
    balance_micros: int | None = None
    balance_at: float | None = None
    in_flight: tuple[InFlight, ...] = ()
    concurrency_max: int | None = None
    requests_per_minute: int | None = None
    slots: int | None = None
    queued: int = 0
    preview: bool = False
    refusals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Weights:
    """What the `balanced` objective minimises: each part is divided by the best route's, then weighted."""

    cost: float = 1.0
    time: float = 1.0
    failure: float = 1.0


@dataclass(frozen=True, slots=True)
class Tried:
    """One finished attempt of a job that did not succeed."""

    route: str
    kind: FailureKind
    at: float


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What routing may know about one job.

    A video after `deadline_at` loses `late_fraction` of `value_micros` at once, and all of it by `give_up_at`.
    `only`, `ignore`, `order` and `pin` name routes ("provider/model") or whole providers ("provider").
    `in_flight` pairs a route with the job's own attempt there.
    """

    id: str
    created_at: float
    deadline_at: float
    give_up_at: float
    max_cost_micros: int | None
    value_micros: int
    late_fraction: float
    objective: Objective = "default"
    weights: Weights = Weights()
    spent_micros: int = 0
    tried: tuple[Tried, ...] = ()
    in_flight: tuple[tuple[str, InFlight], ...] = ()
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    pin: str | None = None
    deadline_probability: float = 0.95


@dataclass(frozen=True, slots=True)
class Observation:
    """One fact about a route or an account that the engine saw.

    `elapsed_s` counts from dispatch. `balance` carries `balance_micros`; `eta` and `accepted` may carry `eta_s`.
    """

    kind: ObservationKind
    at: float
    route: str
    account: str
    job: str = ""
    attempt: str = ""
    elapsed_s: float = 0.0
    failure: FailureKind | None = None
    retry_after_s: float | None = None
    eta_s: float | None = None
    billed_micros: int = 0
    balance_micros: int | None = None
    size_class: str = "default"
    price_micros: int = 0


class Reasons(Sequence[str]):
    """Sentences that are written when somebody first reads them: most decisions are made and never explained."""

    __slots__ = ("_about", "_write", "_written")

    def __init__(self, write: Callable[..., tuple[str, ...]], *about: object) -> None:
        self._write = write
        self._about = about
        self._written: tuple[str, ...] | None = None

    def _all(self) -> tuple[str, ...]:
        if self._written is None:
            self._written = self._write(*self._about)
        return self._written

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        return self._all()[index]

    def __len__(self) -> int:
        return len(self._all())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._all() == tuple(other)

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        return repr(self._all())


class RouteQuote(NamedTuple):
    """One route that may be used, what is expected of it, and why it stands where it stands. A lower score is better.

    `expected_cost_micros` counts retries. `recheck_after_s` asks the engine to rank again if the attempt is still
    unfinished then; `timeout_s` is when to stop waiting for it.
    """

    route: str
    price_micros: int
    expected_cost_micros: int
    p50_s: float
    p95_s: float
    probability_on_time: float
    probability_success: float
    score: float
    reasons: Sequence[str]
    recheck_after_s: float | None
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """One route that may not be used now, with every reason found."""

    route: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ranking:
    """The decision for one job, best first. When `wait_s` is set, dispatch nothing: wait that long and rank again.

    `why` then says what is waited for, and `over_s` in how many seconds that is expected to be over, where anybody can
    tell: the wait may take several looks.
    """

    ranked: tuple[RouteQuote, ...]
    refused: tuple[Refusal, ...]
    wait_s: float | None
    why: str = ""
    over_s: float | None = None


@dataclass(frozen=True, slots=True)
class RouteStatistics:
    """What has been learned about one route, for people and metrics; `observations` is a decayed count of outcomes."""

    p50_s: float
    p95_s: float
    success_rate: float
    breaker: BreakerState
    observations: float
