"""A synthetic week in virtual time: the real router and the real retry rules over the routes of a scenario.

Discrete events on one heap, one seeded source of chance: the same seed gives the same week. The simulated vendors
refuse beyond their limits, run dry, fail and go out as the scenario says; jobs are decided as the engine decides them,
one attempt at a time.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Mapping
from random import Random

from gateway.scenario import Kind, Scenario, SimulatedAccount
from gateway.simulate_report import Figures, Sample
from gateway.simulated_parts import HOUR_S, Account, Answer, Flight, Line, SimulatedJob, draw_s, micros
from policies import values
from policies.retry import RetryBudget, RetryHere, RetryRules, Situation, Stop, after_failure, after_refusal
from policies.router import Router
from policies.values import Candidate, InFlight, JobFacts, Observation, ObservationKind, Tried, Weights
from providers.contract import FailureKind

OUTAGE_REPLY_S = 1.0
REPLY_S = 0.1
ROUTER_KINDS: Mapping[FailureKind, values.FailureKind] = {
    FailureKind.RATE_LIMITED: "rate_limited",
    FailureKind.NO_CREDIT: "no_credit",
    FailureKind.UNAVAILABLE: "unavailable",
    FailureKind.RENDER_FAILED: "render_failed",
    FailureKind.MODERATED: "moderated",
}
Event = tuple[float, int, Callable[[], None]]


class Simulation:
    """One run of a scenario. `run` yields the share of the time that has passed; `figures` holds what came of it."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self._scenario = scenario
        self._random = Random(seed)
        self._router = Router(scenario.routing.tuning, Random(seed + 1))
        self._events: list[Event] = []
        self._sequence = 0
        self._now = 0.0
        self._waiting = 0
        retry = scenario.retry
        self._rules = RetryRules(retry.ambiguous, retry.submits_max, retry.base_s, retry.cap_s)
        names = {route.partition("/")[0] for route in scenario.routes}
        self._accounts = {name: self._account(name) for name in sorted(names)}
        self._lines = {
            name: Line(name, law, self._accounts[name.partition("/")[0]]) for name, law in scenario.routes.items()
        }
        self.figures = Figures(scenario.days, tuple(scenario.routes), tuple(self._accounts))

    def _account(self, name: str) -> Account:
        law, retry = self._scenario.providers.get(name, SimulatedAccount()), self._scenario.retry
        budget = RetryBudget(retry.budget_ratio, retry.budget_reserve_per_s, retry.budget_ttl_s)
        return Account(name, law, budget, None if law.credit_usd is None else micros(law.credit_usd))

    def run(self) -> Iterator[float]:
        """Run to the end, yielding after each simulated hour the share that is done, 0-1.

        What is under way at the end of the last hour ends in it.
        """
        hours = self._scenario.days * 24
        for hour in range(hours):
            self._arrive(hour)
            self._until((hour + 1) * HOUR_S if hour + 1 < hours else math.inf)
            self._sample(hour)
            yield (hour + 1) / hours

    def _until(self, end: float) -> None:
        while self._events and self._events[0][0] < end:
            self._now, _, act = heapq.heappop(self._events)
            act()

    def _at(self, when: float, act: Callable[[], None]) -> None:
        self._sequence += 1
        heapq.heappush(self._events, (when, self._sequence, act))

    def _arrive(self, hour: int) -> None:
        """Poisson arrivals of one hour, of kinds drawn by their share."""
        per_s = self._scenario.arrivals.jobs_in_hour(hour) / HOUR_S
        kinds = self._scenario.requests
        shares = [kind.share for kind in kinds]
        when = hour * HOUR_S
        while per_s > 0 and (when := when + self._random.expovariate(per_s)) < (hour + 1) * HOUR_S:
            kind = self._random.choices(kinds, shares)[0]
            job = SimulatedJob(f"job-{self.figures.jobs + 1}", kind, when)
            self.figures.arrived(kind.name)
            self._at(when, lambda job=job: self._decide(job))  # type: ignore[misc]

    def _sample(self, hour: int) -> None:
        credit = {name: account.credit_micros for name, account in self._accounts.items()}
        self.figures.sample(Sample(hour, credit))

    # Deciding, as the engine does

    def _decide(self, job: SimulatedJob) -> None:
        now = self._now
        self._wait(job, False)
        if now >= job.deadline_at + self._scenario.give_up_s or len(job.tried) >= self._scenario.attempts_max:
            self.figures.lost(job.kind.name, "gave up")
            return
        facts = self._facts(job)
        ranking = self._router.rank(facts, self._candidates(job, given_up=True), now)
        if not ranking.ranked and job.tried:
            ranking = self._router.rank(facts, self._candidates(job, given_up=False), now)
        if ranking.wait_s is not None:
            self._wait(job, True)
            self._at(now + ranking.wait_s, lambda: self._decide(job))
        elif not ranking.ranked:
            self.figures.lost(job.kind.name, "no route")
        else:
            job.submits = 0
            line = self._lines[ranking.ranked[0].route]
            line.account.budget.deposit(now)
            self._send(job, line)

    def _wait(self, job: SimulatedJob, waiting: bool) -> None:
        if job.waiting != waiting:
            job.waiting = waiting
            self._waiting += 1 if waiting else -1
            self.figures.waiting(self._now, self._waiting)

    def _facts(self, job: SimulatedJob) -> JobFacts:
        kind, usual = job.kind, self._scenario.routing
        return JobFacts(
            id=job.id,
            created_at=job.created_at,
            deadline_at=job.deadline_at,
            give_up_at=job.deadline_at + self._scenario.give_up_s,
            max_cost_micros=None if kind.max_cost_usd is None else micros(kind.max_cost_usd),
            value_micros=usual.value_micros if kind.value_usd is None else micros(kind.value_usd),
            late_fraction=usual.late_fraction,
            objective=kind.objective or usual.objective,
            weights=Weights(usual.weights.cost, usual.weights.time, usual.weights.failure),
            tried=tuple(job.tried),
            only=kind.only,
            ignore=kind.ignore,
            deadline_probability=usual.deadline_probability,
        )

    def _candidates(self, job: SimulatedJob, *, given_up: bool) -> list[Candidate]:
        tried = {one.route for one in job.tried} if given_up else set()
        return [self._candidate(job.kind, line, line.name in tried) for line in self._lines.values()]

    def _candidate(self, kind: Kind, line: Line, tried: bool) -> Candidate:
        law, account = line.law, line.account
        refusals = ["this job has given it up"] if tried else []
        if kind.routes and line.name not in kind.routes:
            refusals.append("it cannot honour every parameter")
        known = account.law.limits_known
        return Candidate(
            route=line.name,
            account=account.name,
            mode=law.mode,
            price_micros=self._price_micros(kind, line),
            nominal_latency_s=(law.published_latency_s or law.latency.median_s) * kind.size,
            size_class=f"{kind.size:g}",
            balance_micros=account.credit_micros,
            balance_at=self._now,
            in_flight=line.in_flight(),
            concurrency_max=law.concurrency_max if known else None,
            requests_per_minute=account.law.requests_per_minute if known else None,
            slots=law.slots,
            queued=len(line.queue),
            refusals=tuple(refusals),
        )

    def _price_micros(self, kind: Kind, line: Line) -> int:
        return micros(line.law.price_usd * kind.size)

    # What the vendors do

    def _send(self, job: SimulatedJob, line: Line) -> None:
        job.submits += 1
        attempt = f"{job.id}.{len(job.tried) + 1}.{job.submits}"
        flight = Flight(job, line, attempt, self._now, self._price_micros(job.kind, line))
        self.figures.routes[line.name].calls += 1
        self._observe(flight, "dispatched")
        answer = self._answer(flight)
        if answer is not None:
            self._at(self._now + answer.after_s, lambda: self._refused(flight, answer))
            return
        self._observe(flight, "accepted")
        line.running[attempt], line.shown = InFlight(attempt, self._now), None
        self.figures.started(self._now, line.name, len(line.running), self._now - job.created_at)
        start = self._starting(flight)
        if line.law.slots is not None and line.busy() > line.law.slots:
            line.queue.append((attempt, start))
        else:
            start()

    def _answer(self, flight: Flight) -> Answer | None:
        """How the vendor refuses a call now; None when it accepts."""
        line = flight.line
        account, law = line.account, line.law
        if account.is_out(self._now):
            return Answer(FailureKind.UNAVAILABLE, None, OUTAGE_REPLY_S)
        over_s = account.over_rate(self._now)
        if over_s is not None:
            return Answer(FailureKind.RATE_LIMITED, over_s, REPLY_S)
        if law.concurrency_max is not None and len(line.running) >= law.concurrency_max:
            return Answer(FailureKind.RATE_LIMITED, account.law.retry_after_s, REPLY_S)
        if account.credit_micros is not None and account.credit_micros < flight.price_micros:
            self.figures.dry(account.name, self._now)
            return Answer(FailureKind.NO_CREDIT, None, REPLY_S)
        return None

    def _refused(self, flight: Flight, answer: Answer) -> None:
        job, line = flight.job, flight.line
        self.figures.routes[line.name].refused += 1
        self._observe(flight, "failed", failure=answer.kind, retry_after_s=answer.retry_after_s)
        slack_s = job.deadline_at - self._now - line.law.latency.median_s * job.kind.size
        situation = Situation(job.submits, slack_s, line.account.budget.allows(self._now))
        decision = after_refusal(answer.kind, answer.retry_after_s, situation, self._rules, self._random)
        if isinstance(decision, RetryHere):
            line.account.budget.withdraw(self._now)
            self._wait(job, True)
            self._at(self._now + decision.delay_s, lambda: self._again(job, line))
        else:
            self._give_up_route(job, line, answer.kind)

    def _again(self, job: SimulatedJob, line: Line) -> None:
        self._wait(job, False)
        self._send(job, line)

    def _starting(self, flight: Flight) -> Callable[[], None]:
        """What happens when the render begins; how it will end is drawn at once, so that the seed alone decides it."""
        random, law, kind = self._random, flight.line.law, flight.job.kind
        moderated, fails = random.random() < kind.moderated, random.random() < law.failures.rate
        took_s = draw_s(law.latency, random) * kind.size
        failure = FailureKind.MODERATED if moderated else FailureKind.RENDER_FAILED if fails else None
        lasts_s = took_s if failure is None else min(took_s, law.failures.delay_s)

        def start() -> None:
            if law.mode == "local":
                self._observe(flight, "started")
            flight.line.shown = None
            self._at(self._now + lasts_s, lambda: self._ended(flight, failure))

        return start

    def _ended(self, flight: Flight, failure: FailureKind | None) -> None:
        job, line = flight.job, flight.line
        line.running.pop(flight.attempt)
        line.shown = None
        self.figures.stopped()
        billed = flight.price_micros if failure is None or line.law.failures.billed else 0
        self._charge(line, billed)
        kind: ObservationKind = "succeeded" if failure is None else "failed"
        self._observe(flight, kind, failure=failure, billed_micros=billed)
        if line.queue:
            _, start = line.queue.popleft()
            start()
        if failure is None:
            self.figures.delivered(job.kind.name, line.name, self._now - job.created_at, job.kind.deadline_s)
            return
        self.figures.routes[line.name].failed += 1
        if isinstance(after_failure(failure), Stop):
            self.figures.lost(job.kind.name, "moderated")
        else:
            self._give_up_route(job, line, failure)

    def _charge(self, line: Line, billed_micros: int) -> None:
        account = line.account
        self.figures.spent(self._now, line.name, billed_micros)
        if account.credit_micros is None:
            return
        account.credit_micros -= billed_micros
        top_up = account.law.top_up
        if top_up is not None and account.credit_micros < micros(top_up.below_usd):
            account.credit_micros += micros(top_up.add_usd)
            self.figures.accounts[account.name].topped_up_micros += micros(top_up.add_usd)

    def _give_up_route(self, job: SimulatedJob, line: Line, kind: FailureKind) -> None:
        job.tried.append(Tried(line.name, ROUTER_KINDS[kind], self._now))
        self._decide(job)

    def _observe(
        self,
        flight: Flight,
        kind: ObservationKind,
        *,
        failure: FailureKind | None = None,
        retry_after_s: float | None = None,
        billed_micros: int = 0,
    ) -> None:
        self._router.observe(
            Observation(
                kind=kind,
                at=self._now,
                route=flight.line.name,
                account=flight.line.account.name,
                job=flight.job.id,
                attempt=flight.attempt,
                elapsed_s=self._now - flight.sent_at,
                failure=ROUTER_KINDS[failure] if failure is not None else None,
                retry_after_s=retry_after_s,
                billed_micros=billed_micros,
                size_class=f"{flight.job.kind.size:g}",
                price_micros=flight.price_micros,
            )
        )
