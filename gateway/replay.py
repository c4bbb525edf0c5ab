"""Recorded jobs decided again: what would another objective, price book or set of providers have cost?

Reads the store and writes nothing. The real planner and router walk through the recorded time: they are fed every
recorded fact when it happened, and decide each job when it was made. Where the first choice is the recorded one, what
really happened is kept. Elsewhere the job is counted with the book's price and the odds and times that the router had
learned of that route by then. So nothing is assumed of a route that was not seen at the time, and little is known of a
route that was rarely used.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from sqlalchemy import Connection, select

from gateway.clock import SystemClock
from gateway.fleet import Account, Fleet
from gateway.jobs import TERMINAL, AttemptState, JobStatus
from gateway.memory import MEMORY_S
from gateway.money.prices import PriceBook
from gateway.orders import observations_of, order_of
from gateway.planning import Order, Plan, Planner
from gateway.replay_report import Outcome, Replayed
from gateway.settings_routing import RoutingSection
from gateway.store.jobs import Attempt, Job
from gateway.store.schema import attempts, jobs
from gateway.store.schema_money import provider_balances
from policies.retry import RetryBudget
from policies.router import Router
from policies.values import Objective
from providers.capability import Route
from providers.contract import CheckOutcome, ProviderSettings, RenderRequest, SubmitOutcome, Token

# The caller's own doing: another route would not have changed it.
CALLERS_ENDS = frozenset({"request-refused", "job-canceled"})


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the store knows of a stretch of time: ended jobs, all attempts since a day before, and credit seen."""

    jobs: Sequence[Job]
    attempts: Mapping[str, Sequence[Attempt]]
    balances: Sequence[tuple[float, str, int]]

    def route_names(self) -> set[str]:
        """Every route that a plan or an attempt names."""
        planned = {
            one["route"] for job in self.jobs for kind in ("ranked", "refused") for one in job.plan.get(kind, ())
        }
        return planned | {attempt.route for tries in self.attempts.values() for attempt in tries}


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What is to be otherwise. `objective` replaces everybody's; `without` are routes or providers left out."""

    routing: RoutingSection
    prices: PriceBook
    routes: Sequence[Route]
    accounts: Mapping[str, ProviderSettings]
    objective: Objective | None = None
    without: tuple[str, ...] = ()
    repriced: bool = False


def load(connection: Connection, since: float) -> Recorded:
    """The ended jobs made since then, oldest first, with all that the router could have known."""
    ended = jobs.c.status.in_([status.value for status in TERMINAL])
    made = select(jobs).where(jobs.c.created_at >= since, ended).order_by(jobs.c.created_at)
    tried = select(attempts).where(attempts.c.prepared_at >= since - MEMORY_S).order_by(attempts.c.prepared_at)
    seen = select(provider_balances).where(provider_balances.c.at >= since - MEMORY_S).order_by(provider_balances.c.at)
    by_job: dict[str, list[Attempt]] = {}
    for row in connection.execute(tried).mappings():
        attempt = Attempt(**{**row, "state": AttemptState(row["state"])})
        by_job.setdefault(attempt.job_id, []).append(attempt)
    return Recorded(
        [Job(**{**row, "status": JobStatus(row["status"])}) for row in connection.execute(made).mappings()],
        by_job,
        [(row.at, row.provider, row.amount_micros) for row in connection.execute(seen)],
    )


class RecordedTime(SystemClock):
    """The time of the event at hand."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        """Unix time of the event at hand."""
        return self.at


@dataclass(frozen=True, slots=True)
class _NeverCalled:
    """Stands where a provider stands: a replay plans and sends nothing."""

    name: str
    routes: tuple[Route, ...]

    async def submit(self, request: RenderRequest) -> SubmitOutcome:
        raise AssertionError("a replay sends nothing")

    async def check(self, route: Route, token: Token) -> CheckOutcome:
        raise AssertionError("a replay asks nobody")


class Replay:
    """One walk through recorded time. `run` gives one line a job."""

    def __init__(self, recorded: Recorded, what_if: WhatIf, seed: int = 1) -> None:
        self._recorded = recorded
        self._what_if = what_if
        self._clock = RecordedTime()
        self._fleet = self._make_fleet(seed)
        self._planner = Planner(self._fleet, what_if.prices, what_if.routing, lambda route: route.image_forms[0])
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._done: list[Replayed] = []

    def _make_fleet(self, seed: int) -> Fleet:
        routes = self._what_if.routes
        providers = {name: tuple(route for route in routes if route.provider == name) for name in _providers(routes)}
        accounts = {
            name: Account(_NeverCalled(name, mine), self._what_if.accounts.get(name, ProviderSettings()), RetryBudget())
            for name, mine in providers.items()
        }
        return Fleet(accounts, Router(self._what_if.routing.tuning, Random(seed)), self._clock)

    def run(self, progress: Callable[[float], None] = lambda share: None) -> list[Replayed]:
        """Decide every job again, in the order of time; `progress` is told the share done, 0-1."""
        self._schedule()
        count = 0
        while self._events:
            self._clock.at, _, act = heapq.heappop(self._events)
            act()
            count += 1
            if count % 200 == 0:
                progress(len(self._done) / max(1, len(self._recorded.jobs)))
        return sorted(self._done, key=lambda one: one.created_at)

    def _schedule(self) -> None:
        """Put every recorded fact and every job on the time line."""
        for tries in self._recorded.attempts.values():
            for attempt in tries:
                if attempt.finished_at is not None:
                    for fact in observations_of(attempt):
                        self._at(fact.at, lambda fact=fact: self._fleet.observe(fact))  # type: ignore[misc]
        for at, provider, micros in self._recorded.balances:
            if provider in self._fleet.accounts:
                note = (provider, micros)
                self._at(at, lambda note=note: self._fleet.note_balance(*note))  # type: ignore[misc]
        for job in self._recorded.jobs:
            self._at(job.created_at, lambda job=job: self._decide(job, self._order(job)))  # type: ignore[misc]

    def _at(self, when: float, act: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (when, self._sequence, act))

    def _order(self, job: Job) -> Order:
        order = order_of(job)
        wish = order.routing.model_copy(
            update={
                "objective": self._what_if.objective or order.routing.objective,
                "ignore": (*order.routing.ignore, *self._what_if.without),
            }
        )
        return replace(order, routing=wish)

    def _decide(self, job: Job, order: Order) -> None:
        now = self._clock.now()
        if now >= job.give_up_at:
            self._done.append(self._line(job, Outcome(None, 0, 0.0, None, "lost")))
            return
        plan = self._planner.plan(order, now)
        if plan.ranking.wait_s is not None:
            self._at(now + max(0.1, plan.ranking.wait_s), lambda: self._decide(job, order))
        elif not plan.ranking.ranked:
            self._done.append(self._line(job, Outcome(None, 0, 0.0, None, "lost")))
        else:
            self._take(job, plan)

    def _take(self, job: Job, plan: Plan) -> None:
        """Count a decided job, and keep its route busy for as long as it would have been."""
        now, first = self._clock.now(), plan.ranking.ranked[0]
        tries = self._recorded.attempts.get(job.id, ())
        price = plan.options[first.route].price
        book_micros = price.cost_micros if price is not None else 0
        if tries and tries[0].route == first.route:
            was = real(job, tries)
            cost = book_micros if self._what_if.repriced and was.cost_micros else was.cost_micros
            outcome = replace(was, cost_micros=cost, decision="kept")
            until = tries[0].finished_at or now + first.p50_s
        else:
            waited_s = now - job.created_at
            outcome = Outcome(first.route, book_micros, first.probability_on_time, waited_s + first.p50_s, "moved")
            until = now + first.p50_s
        self._fleet.depart(first.route, job.id, now)
        self._at(max(now, until), lambda: self._fleet.arrive(job.id))
        self._done.append(self._line(job, outcome))

    def _line(self, job: Job, outcome: Outcome) -> Replayed:
        return Replayed(job.id, job.created_at, real(job, self._recorded.attempts.get(job.id, ())), outcome)


def real(job: Job, tries: Sequence[Attempt]) -> Outcome:
    """What became of a job: its route, what the vendors charged for all its attempts, and whether it was in time."""
    succeeded = job.status is JobStatus.SUCCEEDED and job.finished_at is not None
    cost_micros = sum(attempt.cost_micros or 0 for attempt in tries)
    if not succeeded:
        return Outcome(None, cost_micros, 0.0, None, "real")
    assert job.finished_at is not None
    in_time = 1.0 if job.finished_at <= job.deadline_at else 0.0
    return Outcome(job.route, cost_micros, in_time, job.finished_at - job.created_at, "real")


def comparable(recorded: Recorded) -> Recorded:
    """Without the jobs that ended by the caller's own doing, which another route would not have changed."""
    kept = [job for job in recorded.jobs if not _by_caller(job)]
    return replace(recorded, jobs=kept)


def _by_caller(job: Job) -> bool:
    problem = str((job.error or {}).get("type", "")).rpartition("/")[2]
    return job.status is JobStatus.CANCELED or problem in CALLERS_ENDS


def _providers(routes: Sequence[Route]) -> list[str]:
    return sorted({route.provider for route in routes})
