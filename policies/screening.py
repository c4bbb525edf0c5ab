"""Turns candidates into options: finds every reason against a route, and what the rest would cost and take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

from policies.credit import credit_state, most_micros, scarcity
from policies.local_queue import slot_wait_s
from policies.memory import AccountMemory, Memory, RouteMemory
from policies.objective import Option
from policies.ranking import names
from policies.settings import RoutingSettings
from policies.values import Candidate, JobFacts

MICROS = 1_000_000
REPEATING = frozenset({"render_failed", "bad_output"})


@dataclass(slots=True)  # not frozen, as one is made for every route of every decision; nobody changes it
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


@dataclass(slots=True)
class AccountNow:
    """What all routes of one account share at one moment: what it can pay, how scarce that is, and what holds it up."""

    most_micros: float
    scarcity: float
    wait_s: float
    waits: tuple[str, ...]
    paused: str | None


class Screen:
    """Screens the candidates of one job at one moment."""

    def __init__(self, settings: RoutingSettings, memory: Memory, now: float) -> None:
        self._settings = settings
        self._memory = memory
        self._now = now
        self._accounts: dict[tuple[str, int | None, int | None], AccountNow] = {}

    def candidates(self, job: JobFacts, candidates: Sequence[Candidate]) -> list[Screened]:
        """Screen all candidates, in their order."""
        committed = committed_micros(candidates)
        price_of = {candidate.route: candidate.price_micros for candidate in candidates} if job.in_flight else {}
        running = sum(price_of.get(route, 0) for route, flight in job.in_flight if flight.state == "running")
        left = None if job.max_cost_micros is None else job.max_cost_micros - job.spent_micros - running
        picky = job.pin is not None or bool(job.only or job.ignore)
        return [self._one(job, one, committed, left, picky) for one in candidates]

    def _one(
        self, job: JobFacts, candidate: Candidate, committed: dict[str, int], left: int | None, picky: bool
    ) -> Screened:
        price = candidate.price_micros
        reasons = wishes_against(job, candidate) if picky or candidate.refusals or candidate.preview else []
        if left is not None and price > left:
            limit = job.max_cost_micros or 0
            reasons.append(f"{dollars(limit - left + price)} in all is over the job's limit of {dollars(limit)}")
        if reasons:
            return Screened(candidate, None, tuple(reasons))
        account = self._account(candidate, committed)
        if price > account.most_micros:
            text = f"the account's balance after {len(candidate.in_flight)} renders in flight is under the price"
            return Screened(candidate, None, (text,), passing=True)
        if account.paused is not None:
            return Screened(candidate, None, (account.paused,), passing=True)
        route = self._memory.route(candidate.route, candidate.account)
        route.local = candidate.mode == "local"
        delay_s, waits = account.wait_s, account.waits
        if candidate.concurrency_max is not None or not route.breaker.closed:
            delay_s, waits = self._delay(candidate, account, route)
        option = self._option(job, candidate, route, delay_s, price * account.scarcity)
        return Screened(candidate, option, waits, True)

    def _account(self, candidate: Candidate, committed: dict[str, int]) -> AccountNow:
        key = (candidate.account, candidate.balance_micros, candidate.requests_per_minute)
        known = self._accounts.get(key)
        if known is None:
            memory = self._memory.account(candidate.account)
            wait_s, waits = self._account_waits(memory, candidate.requests_per_minute)
            due = committed.get(candidate.account, 0)
            credit = credit_state(candidate.balance_micros, due, memory.burn, self._now)
            most, scarce = most_micros(credit, self._settings), scarcity(credit, self._settings)
            paused = self._pause(memory)
            known = self._accounts[key] = AccountNow(most, scarce, wait_s, waits, paused)
        return known

    def _account_waits(self, memory: AccountMemory, requests_per_minute: int | None) -> tuple[float, tuple[str, ...]]:
        """Seconds until the account may be called, with a sentence for each thing that holds it up."""
        slack_s, waits = self._settings.start_slack_s, []
        rate_s = memory.rate.delay_s(self._now, requests_per_minute)
        if rate_s > slack_s:
            waits.append(f"rate limit: next call allowed in {rate_s:.1f} s")
        return rate_s, tuple(waits)

    def _pause(self, memory: AccountMemory) -> str | None:
        """Why the account is out for a while, or None. When it recovers is a guess: no wait to plan with."""
        pause_s = memory.pause.left_s(self._now)
        if pause_s <= self._settings.start_slack_s:
            return None
        return f"the account answered {memory.paused_for}: out for another {pause_s:.0f} s"

    def _delay(self, candidate: Candidate, account: AccountNow, route: RouteMemory) -> tuple[float, tuple[str, ...]]:
        """Seconds until the route may be called, with a sentence for each thing that holds it up."""
        delay_s, waits = account.wait_s, list(account.waits)
        breaker_s = route.breaker.delay_s(self._now)
        if breaker_s > self._settings.start_slack_s:
            waits.append(f"breaker open for another {breaker_s:.0f} s")
        busy_s = 0.0
        if candidate.concurrency_max is not None and len(candidate.in_flight) >= candidate.concurrency_max:
            busy_s = max(1.0, 0.2 * candidate.nominal_latency_s)
            waits.append(f"{len(candidate.in_flight)} renders in flight are all that the route may run at once")
        return max(delay_s, breaker_s, busy_s), tuple(waits)

    def _option(self, job: JobFacts, candidate: Candidate, route: RouteMemory, delay_s: float, price: float) -> Option:
        now, outcome = self._now, route.outcome
        estimate = route.latency(candidate.size_class, candidate.nominal_latency_s)
        law, wait_s, overdue = estimate.law(now), 0.0, 0
        if candidate.mode == "local":
            estimate.expect(candidate.nominal_latency_s)
            law = estimate.law(now)
            wait_s = local_wait_s(candidate, self._memory, law.mean_s, now)
        elif candidate.in_flight and now - candidate.in_flight[0].started_at > exp(law.mu):  # the young are no evidence
            ages_s = [now - one.started_at for one in candidate.in_flight[: self._settings.flights_weighed]]
            law = estimate.law(now, ages_s)
            late_s = law.quantile_s(2.6)
            overdue = sum(1 for age_s in ages_s if age_s > late_s)
        success = outcome.success_rate(now, overdue)
        probe = not route.breaker.closed
        if probe:
            success = min(success, self._settings.probe_success)
        if job.tried:
            repeated = sum(1 for tried in job.tried if tried.route == candidate.route and tried.kind in REPEATING)
            success *= 0.5**repeated
        billed = candidate.price_micros
        failure_cost = outcome.billed_share * billed
        return Option(candidate.route, billed, price, delay_s, wait_s, law, success, outcome.shape, failure_cost, probe)


def local_wait_s(candidate: Candidate, memory: Memory, service_s: float, now: float, ahead: int | None = None) -> float:
    """Seconds until a local slot is free, behind the worker's own queue or behind `ahead` jobs."""
    running = [one for one in candidate.in_flight if one.state == "running"]
    ages_s = [now - memory.started_at(one.attempt, one.started_at) for one in running]
    slots = candidate.slots if candidate.slots is not None else 1
    return slot_wait_s(slots, ages_s, candidate.queued if ahead is None else ahead, service_s)
