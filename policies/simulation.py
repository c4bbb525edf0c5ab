"""The adapter that lets the routing simulator drive the real router: it converts plain values and nothing else."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

from policies.router import Router
from policies.settings import RoutingSettings
from policies.values import Candidate, FailureKind, InFlight, JobFacts, Observation, ObservationKind, Tried

MICROS = 1_000_000
FAILURES: dict[int, FailureKind] = {
    401: "unauthorized",
    402: "no_credit",
    429: "rate_limited",
    502: "unavailable",
    504: "unavailable",
    598: "timeout",
}
KINDS: dict[str, ObservationKind] = {"success": "succeeded", "failure": "failed", "cancelled": "canceled"}


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Start an attempt; the simulator reads these fields by name."""

    route: str
    timeout_s: float | None = None
    recheck_s: float | None = None
    cancel_queued: bool = True
    why: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Ask again after `seconds`."""

    seconds: float


def micros(dollars: float) -> int:
    """Whole micro-USD."""
    return round(dollars * MICROS)


class Policy:
    """The router behind the simulator's `choose` and `observe`."""

    name = "vidgate"

    def __init__(self, seed: int = 0, settings: RoutingSettings | None = None) -> None:
        self._router = Router(settings or RoutingSettings(), random.Random(seed))
        self._prices: dict[str, int] = {}

    def observe(self, event: Any) -> None:
        """Hand an event of the simulator to the router."""
        self._router.observe(
            Observation(
                kind=KINDS.get(event.kind, event.kind),
                at=event.t,
                route=event.route,
                account=event.account,
                job=str(event.job),
                attempt=str(event.attempt),
                elapsed_s=event.elapsed,
                failure=FAILURES.get(event.status) if event.kind == "failure" else None,
                retry_after_s=event.retry_after,
                eta_s=event.eta_s,
                billed_micros=micros(event.billed),
                price_micros=self._prices.get(event.route, 0),
            )
        )

    def choose(self, job: Any, now: float, view: Any) -> list[Dispatch | Wait]:
        """Ask the router, and answer in the simulator's words."""
        candidates = [self._candidate(job, route, view) for route in view.routes]
        ranking = self._router.rank(facts(job), candidates, now)
        if ranking.wait_s is not None:
            return [Wait(ranking.wait_s)]
        return [Dispatch(one.route, one.timeout_s, one.recheck_after_s) for one in ranking.ranked[:1]]

    def _candidate(self, job: Any, route: str, view: Any) -> Candidate:
        spec = view.routes[route]
        balance, balance_at = view.balance(spec.account)
        slots, _, queued = view.local(route) if spec.mode == "local" else (None, (), 0)
        price = self._prices[route] = micros(view.price(route))
        return Candidate(
            route=route,
            account=spec.account,
            mode=spec.mode,
            price_micros=price,
            nominal_latency_s=spec.nominal_s,
            balance_micros=None if math.isinf(balance) else micros(balance),
            balance_at=balance_at,
            in_flight=tuple(flight(one) for one in view.inflight(route)),
            slots=slots,
            queued=queued,
            refusals=() if job.needs <= spec.features else ("it cannot honour every parameter",),
        )


def flight(attempt: Any) -> InFlight:
    """One attempt of the simulator as a plain value."""
    return InFlight(str(attempt.id), attempt.started, attempt.state, attempt.eta_s)


def facts(job: Any) -> JobFacts:
    """One job of the simulator as a plain value: it states what lateness costs, so no chance is demanded beside it."""
    return JobFacts(
        id=str(job.id),
        created_at=job.arrival,
        deadline_at=job.deadline,
        give_up_at=job.give_up,
        max_cost_micros=micros(job.max_cost),
        value_micros=micros(job.value),
        late_fraction=job.late_frac,
        spent_micros=micros(job.spent),
        tried=tuple(Tried(route, FAILURES.get(status, "unavailable"), at) for route, status, at in job.tried),
        in_flight=tuple((one.route, flight(one)) for one in job.inflight),
        deadline_probability=0.0,
    )
