"""Short ways to build the plain values that routing decides over."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from policies.router import Router
from policies.settings import RoutingSettings
from policies.values import Candidate, InFlight, JobFacts, Observation

SETTINGS = RoutingSettings()
CHEAP = Candidate("slowco/svd", "slowco", "async", price_micros=70_000, nominal_latency_s=30.0)
FAST = Candidate("fastco/svd", "fastco", "async", price_micros=120_000, nominal_latency_s=8.0)
LOCAL = Candidate("local/svd", "local", "local", price_micros=10_000, nominal_latency_s=45.0, slots=1)
JOB = JobFacts(
    "job-1",
    created_at=0.0,
    deadline_at=180.0,
    give_up_at=360.0,
    max_cost_micros=500_000,
    value_micros=400_000,
    late_fraction=0.5,
)


def router() -> Router:
    """A router with the default constants and a fixed seed."""
    return Router(SETTINGS, Random(7))


def due(deadline_s: float) -> JobFacts:
    """The usual job with another deadline."""
    return replace(JOB, deadline_at=deadline_s, give_up_at=2.0 * deadline_s)


def busy(candidate: Candidate, *ages_s: float, now: float = 0.0) -> Candidate:
    """The candidate with renders of other jobs in flight."""
    flights = tuple(InFlight(f"other-{i}", now - age_s) for i, age_s in enumerate(ages_s))
    return replace(candidate, in_flight=flights)


def failed(candidate: Candidate, at: float, kind: str = "unavailable", **more: float) -> Observation:
    """One failed attempt."""
    seen = Observation("failed", at, candidate.route, candidate.account, elapsed_s=1.0, failure=kind)  # type: ignore[arg-type]
    return replace(seen, **more)  # type: ignore[arg-type]


def succeeded(candidate: Candidate, at: float, elapsed_s: float) -> Observation:
    """One finished render."""
    return Observation("succeeded", at, candidate.route, candidate.account, elapsed_s=elapsed_s)
