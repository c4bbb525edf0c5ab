"""Turns candidates into options: finds every reason against a route, and what the rest would cost and take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from policies.credit import CreditState, credit_state, refuses, scarce_price
from policies.local_queue import slot_wait_s
from policies.memory import AccountMemory, Memory, RouteMemory
from policies.objective import Option
from policies.ranking import names
from policies.settings import RoutingSettings
from policies.values import Candidate, JobFacts

MICROS = 1_000_000
REPEATING = frozenset({"render_failed", "bad_output"})


@dataclass(frozen=True, slots=True)
class Screened:
    """One candidate: the option it offers (None when it is out), reasons against it now, and whether those pass."""

    candidate: Candidate
    option: Option | None
    reasons: tuple[str, ...] = ()
    passing: bool = False


def dollars(micros: float) -> str:
    """Money for people."""
    return f"${micros / MICROS:.4f}"


def committed_micros(candidates: Sequence[Candidate]) -> dict[str, int]:
    """What the renders in flight will cost each account."""
    committed: dict[str, int] = {}
    for candidate in candidates:
        if candidate.in_flight:
            already = committed.get(candidate.account, 0)
            committed[candidate.account] = already + candidate.price_micros * len(candidate.in_flight)
    return committed


def wishes_against(job: JobFacts, candidate: Candidate) -> list[str]:
    """Reasons that the request itself gives against a route."""
    route = candidate.route
    reasons = list(candidate.refusals)
    if job.pin is not None and not names(route, job.pin):
        reasons.append(f"the request is pinned to {job.pin}")
    if candidate.preview and job.pin is None and not any(names(route, wanted) for wanted in (*job.only, *job.order)):
        reasons.append("a preview is only used when asked for")
    if job.only and not any(names(route, wanted) for wanted in job.only):
        reasons.append("not among the routes the request allows")
    if job.ignore and any(names(route, unwanted) for unwanted in job.ignore):
        reasons.append("the request ignores it")
    return reasons


class Screen:
    """Screens the candidates of one job at one moment."""

    def __init__(self, settings: RoutingSettings, memory: Memory, now: float) -> None:
        self._settings = settings
        self._memory = memory
        self._now = now
        self._pauses: dict[tuple[str, int | None], tuple[float, float]] = {}
        self._credits: dict[tuple[str, int | None], CreditState] = {}

    def candidates(self, job: JobFacts, candidates: Sequence[Candidate]) -> list[Screened]:
        """Screen all candidates, in their order."""
        committed = committed_micros(candidates)
        price_of = {candidate.route: candidate.price_micros for candidate in candidates}
        running = sum(price_of.get(route, 0) for route, flight in job.in_flight if flight.state == "running")
        return [self._one(job, one, committed.get(one.account, 0), job.spent_micros + running) for one in candidates]

    def _one(self, job: JobFacts, candidate: Candidate, committed: int, spent: int) -> Screened:
        now, price = self._now, candidate.price_micros
        reasons = wishes_against(job, candidate)
        if job.max_cost_micros is not None and spent + price > job.max_cost_micros:
            reasons.append(f"{dollars(spent + price)} in all is over the job's limit of {dollars(job.max_cost_micros)}")
        if reasons:
            return Screened(candidate, None, tuple(reasons))
        account = self._memory.account(candidate.account)
        route = self._memory.route(candidate.route, candidate.account)
        route.local = candidate.mode == "local"
        key = (candidate.account, candidate.balance_micros)
        credit = self._credits.get(key)
        if credit is None:
            credit = self._credits[key] = credit_state(candidate.balance_micros, committed, account.burn, now)
        if refuses(credit, price, self._settings):
            left, count = credit.free_micros or 0, len(candidate.in_flight)
            text = f"balance {dollars(left)} after {count} renders in flight is under the price {dollars(price)}"
            return Screened(candidate, None, (text,), passing=True)
        delay_s, waits = self._delay(candidate, account, route)
        option = self._option(job, candidate, delay_s, scarce_price(credit, price, self._settings))
        return Screened(candidate, option, tuple(waits), passing=True)

    def _delay(self, candidate: Candidate, account: AccountMemory, route: RouteMemory) -> tuple[float, list[str]]:
        """Seconds until the route may be called, with a sentence for each thing that holds it up."""
        now, slack_s, reasons = self._now, self._settings.start_slack_s, []
        key = (candidate.account, candidate.requests_per_minute)
        if key not in self._pauses:
            rate_s = account.rate.delay_s(now, candidate.requests_per_minute)
            self._pauses[key] = (rate_s, max(0.0, account.paused_until - now))
        rate_s, pause_s = self._pauses[key]
        if rate_s > slack_s:
            reasons.append(f"rate limit: next call allowed in {rate_s:.1f} s")
        breaker_s = route.breaker.delay_s(now)
        if breaker_s > slack_s:
            reasons.append(f"breaker open for another {breaker_s:.0f} s")
        if pause_s > slack_s:
            reasons.append(f"the account answered {account.paused_for}: out for another {pause_s:.0f} s")
        busy_s = 0.0
        if candidate.concurrency_max is not None and len(candidate.in_flight) >= candidate.concurrency_max:
            busy_s = max(1.0, 0.2 * candidate.nominal_latency_s)
            reasons.append(f"{len(candidate.in_flight)} renders in flight are all that the route may run at once")
        return max(rate_s, breaker_s, pause_s, busy_s), reasons

    def _option(self, job: JobFacts, candidate: Candidate, delay_s: float, price: float) -> Option:
        now, settings = self._now, self._settings
        route = self._memory.route(candidate.route, candidate.account)
        estimate = route.latency(candidate.size_class, candidate.nominal_latency_s)
        wait_s, overdue = 0.0, 0
        if candidate.mode == "local":
            law = estimate.law(now)
            wait_s = local_wait_s(candidate, self._memory, law.mean_s, now)
        else:
            ages_s = [now - flight.started_at for flight in candidate.in_flight]
            law = estimate.law(now, ages_s)
            if ages_s and max(ages_s) > law.p50_s:
                late_s = law.quantile_s(2.6)
                overdue = sum(1 for age_s in ages_s if age_s > late_s)
        success = route.outcome.success_rate(now, overdue)
        probe = route.breaker.state(now) != "closed"
        if probe:
            success = min(success, settings.probe_success)
        if job.tried:
            repeated = sum(1 for tried in job.tried if tried.route == candidate.route and tried.kind in REPEATING)
            success *= 0.5**repeated
        return Option(
            route=candidate.route,
            price_micros=candidate.price_micros,
            price=price,
            delay_s=delay_s,
            wait_s=wait_s,
            law=law,
            success=success,
            failure=route.outcome.shape,
            failure_cost=route.outcome.billed_share * candidate.price_micros,
            probe=probe,
        )


def local_wait_s(candidate: Candidate, memory: Memory, service_s: float, now: float, ahead: int | None = None) -> float:
    """Seconds until a local slot is free, behind the worker's own queue or behind `ahead` jobs."""
    running = [one for one in candidate.in_flight if one.state == "running"]
    ages_s = [now - memory.started_at(one.attempt, one.started_at) for one in running]
    slots = candidate.slots if candidate.slots is not None else 1
    return slot_wait_s(slots, ages_s, candidate.queued if ahead is None else ahead, service_s)
