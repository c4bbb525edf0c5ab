"""The job engine: the one file with control flow. Intent, submit, token, poll, result, verify, store, settle.

A job is driven by one task, one step at a time, from whatever its rows say: a fresh job, one whose process died and one
that was handed over are the same to it. The rules (retry, next route, when to poll) are `policies`; what is written is
written by journal.py, each time in one transaction under the fence of the job's lease.

Every step commits before the next begins, so a crash anywhere leaves rows from which the next claim goes on:

    no open attempt          choose a route, commit the intent, submit
    prepared, not sent       submit again
    prepared, sent           the reply was lost with the process: in doubt
    accepted, known by token poll, deliver, settle; also while the vendor claims not to know it
    in doubt                 look for evidence; repeat only where that is safe; wait for the published deadline
"""

from __future__ import annotations

from dataclasses import replace

import structlog

from gateway.delivery import Delivered
from gateway.jobs import ACTIVE, AttemptState, JobStatus
from gateway.journal import Journal
from gateway.orders import order_of, tried_of
from gateway.parts import Parts
from gateway.planning import Option, Plan
from gateway.problems import DeadlinePassed, NoRouteLeft, OutcomeUnknown, RequestRefused
from gateway.runs import Run
from gateway.settlement import AttemptEnd
from gateway.store import jobs as rows
from gateway.store.jobs import Attempt, LeaseLostError
from gateway.vendor_transport import permitted_by
from policies.retry import (
    Evidence,
    LookForEvidence,
    NextRoute,
    RetryHere,
    RetryRules,
    Situation,
    StayInDoubt,
    Stop,
    after_doubt,
    after_failure,
    after_refusal,
)
from providers.contract import (
    Accepted,
    Failed,
    FailureKind,
    Finished,
    HasCancel,
    HasLookup,
    InDoubt,
    NoEvidence,
    NotFound,
    Pending,
    Refused,
    RenderRequest,
    Report,
    SentAttempt,
)

log = structlog.get_logger()

REDELIVER_INTERVAL_S = 5.0
RIVALS_WINDOW_S = 86_400.0


class Engine:
    """Drives jobs from where they stand to their end."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._journal = Journal(parts)

    @property
    def _rules(self) -> RetryRules:
        retry = self._parts.settings.retry
        return RetryRules(retry.ambiguous, retry.submits_max, retry.base_s, retry.cap_s)

    async def drive(self, run: Run) -> None:
        """Take a job to its end, or until another process has taken it over."""
        if run.open is not None and not run.nothing_outstanding:
            self._parts.fleet.take_over(run.open)
        try:
            while run.job.status in ACTIVE:
                await self._step(run)
                await self._journal.came_on(run)
        except LeaseLostError:
            log.warning("job.lease_lost", job=run.job.id, fence=run.job.fence)
        finally:
            if run.attempts:
                self._parts.fleet.arrive(run.attempts[-1].id, handed_over=run.job.status in ACTIVE)

    async def _step(self, run: Run) -> None:
        attempt = run.open
        if run.cancel_wanted and run.nothing_outstanding:
            await self._journal.cancel(run, attempt)
        elif attempt is None:
            await self._choose(run)
        elif attempt.route not in self._parts.fleet.routes:
            await self._orphaned(run, attempt)
        elif attempt.token is not None:
            await self._follow(run, attempt)
        elif run.nothing_outstanding:
            await self._submit_again(run, attempt)
        else:
            await self._resolve(run, attempt)

    # Choosing and submitting

    async def _choose(self, run: Run) -> None:
        """Choose a route, commit the intent with the plan and its receipt, and submit."""
        run.stage = "routing"
        now = self._parts.clock.now()
        failures = "; ".join(f"{one.route}: {one.failure_kind}" for one in run.attempts)
        if now >= run.job.give_up_at:
            late = DeadlinePassed(f"no vendor had it in time; {failures or 'nothing was tried'}")
            await self._journal.end(run, JobStatus.EXPIRED, late)
            return
        if len(run.attempts) >= self._parts.settings.jobs.attempts_max:
            spent = NoRouteLeft(f"{len(run.attempts)} attempts failed: {failures}")
            await self._journal.end(run, JobStatus.FAILED, spent)
            return
        plan = self._parts.planner.plan(order_of(run.job), now, tried_of(run.attempts))
        if plan.ranking.wait_s is not None:
            run.stage = "waiting"
            await self._pause(run, plan.ranking.wait_s)
            return
        wrong = {one.route for one in run.attempts if one.failure_kind == FailureKind.NOT_AS_ORDERED}
        option = plan.choice(run.job.held_micros, wrong)
        if option is None:
            refused = "; ".join(f"{one.route}: {one.reasons[0]}" for one in plan.ranking.refused)
            nobody = NoRouteLeft("; ".join(text for text in (failures, refused) if text) or "no route is left")
            await self._journal.end(run, JobStatus.FAILED, nobody)
            return
        await self._submit(run, plan, option)

    async def _submit(self, run: Run, plan: Plan, option: Option) -> None:
        run.stage = "submitting"
        run.job = replace(run.job, parameters=dict(option.fit.values))
        attempt = self._journal.new_attempt(run, option)
        with self._parts.fleet.room(attempt.route, attempt.id, attempt.prepared_at):
            if not await self._has_slot(run, attempt):
                return
            request = await self._parts.inputs.request(run.job, attempt)
            run.critical = True
            attempt = await self._journal.start(run, attempt, plan, option)
        await self._send(run, attempt, request)

    async def _submit_again(self, run: Run, attempt: Attempt) -> None:
        run.stage = "submitting"
        if not await self._has_slot(run, attempt):
            if self._parts.clock.now() >= run.job.give_up_at:
                await self._fail(run, attempt, NextRoute("no time is left"), FailureKind.RATE_LIMITED, "it stayed full")
            return
        request = await self._parts.inputs.request(run.job, attempt)
        run.critical = True
        changes = {"submits": attempt.submits + 1, "sent_at": self._parts.clock.now()}
        attempt = await self._journal.note(run, attempt, "submit", f"submit {attempt.submits + 1}", changes)
        await self._send(run, attempt, request)

    async def _has_slot(self, run: Run, attempt: Attempt) -> bool:
        """Take a slot where replicas share limits; when none is free, wait as long as told. The next step sees anew."""
        wait_s = await self._parts.fleet.take_slot(attempt.route, attempt.id)
        if wait_s > 0:
            run.stage = "waiting"
            await self._pause(run, wait_s)
        return wait_s <= 0

    async def _send(self, run: Run, attempt: Attempt, request: RenderRequest) -> None:
        """Submit once. The intent is committed; what comes back is written before anything else happens."""
        self._parts.fleet.depart(attempt.route, attempt.id, self._parts.clock.now())
        self._journal.observe(attempt, "dispatched")
        try:
            await self._journal.keep_lease(run)
            with permitted_by(lambda: self._journal.check_lease(run)):
                outcome = await self._parts.fleet.account(attempt.route).provider.submit(request)
            match outcome:
                case Accepted():
                    await self._journal.accept(run, attempt, outcome)
                case Finished():
                    await self._deliver(run, attempt, outcome)
                case Refused():
                    await self._refused(run, attempt, outcome)
                case InDoubt():
                    await self._journal.doubt(run, attempt, outcome)
        finally:
            run.critical = False

    async def _refused(self, run: Run, attempt: Attempt, outcome: Refused) -> None:
        self._parts.fleet.arrive(attempt.id)
        self._journal.observe(attempt, "failed", failure=outcome.kind, retry_after_s=outcome.retry_after_s)
        decision = after_refusal(
            outcome.kind, outcome.retry_after_s, self._situation(run, attempt), self._rules, self._parts.random
        )
        if isinstance(decision, RetryHere):
            self._withdraw(attempt)
            await self._again(run, attempt, decision, outcome.detail)
        else:
            await self._fail(run, attempt, decision, outcome.kind, outcome.detail)

    async def _again(self, run: Run, attempt: Attempt, decision: RetryHere, detail: str) -> None:
        """Commit that nothing is outstanding, wait, and let the next step submit again."""
        run.stage = "retrying"
        text = f"{detail}; {decision.why}; again in {decision.delay_s:.1f} s"
        changes = {"state": AttemptState.PREPARED, "sent_at": None}
        await self._journal.note(run, attempt, "retry", text, changes)
        await self._pause(run, decision.delay_s)

    # A submit whose outcome nobody knows

    async def _resolve(self, run: Run, attempt: Attempt) -> None:
        """Look for evidence, then repeat where that is safe, or wait for the published deadline."""
        run.stage = "in_doubt"
        if attempt.state is AttemptState.PREPARED:
            attempt = await self._journal.lost_reply(run, attempt)
        evidence: Evidence = "not_looked"
        decision = self._after_doubt(run, attempt, evidence)
        if isinstance(decision, LookForEvidence):
            found = await self._look(run, attempt)
            if isinstance(found, Accepted):
                await self._journal.accept(run, run.attempts[-1], found)
                return
            attempt = run.attempts[-1]
            evidence = "not_accepted" if isinstance(found, NotFound) else "none"
            decision = self._after_doubt(run, attempt, evidence)
        if isinstance(decision, StayInDoubt | LookForEvidence):
            await self._outlast(run, attempt)
            return
        self._journal.observe(attempt, "failed", failure=FailureKind.UNAVAILABLE)
        self._parts.fleet.arrive(attempt.id)
        if evidence != "not_accepted":
            await self._journal.suspect(run, attempt)
        if isinstance(decision, RetryHere):
            await self._again(run, attempt, decision, "the outcome of the submit was unknown")
        else:
            await self._fail(run, attempt, decision, FailureKind.UNAVAILABLE, "its outcome was unknown")

    def _after_doubt(
        self, run: Run, attempt: Attempt, evidence: Evidence
    ) -> RetryHere | NextRoute | LookForEvidence | StayInDoubt:
        billing = self._parts.fleet.routes[attempt.route].ambiguous_billing
        decision = after_doubt(evidence, billing, self._situation(run, attempt), self._rules, self._parts.random)
        if isinstance(decision, RetryHere):
            self._withdraw(attempt)
        return decision

    async def _look(self, run: Run, attempt: Attempt) -> Accepted | NotFound | None:
        """Ask the vendor's own records, once they have had time to settle; None when they do not tell."""
        provider = self._parts.fleet.account(attempt.route).provider
        if not isinstance(provider, HasLookup):
            return None
        await self._pause(run, self._parts.settings.retry.verify_settle_s)
        sent_at = attempt.sent_at or attempt.prepared_at
        rivals = await self._parts.store.read(rows.rivals, attempt, sent_at - RIVALS_WINDOW_S)
        request = await self._parts.inputs.request(run.job, attempt)
        sent = SentAttempt(request, sent_at, self._parts.clock.now(), attempt.credits_before_micros, rivals.claimed)
        found = await provider.lookup(sent)
        if isinstance(found, Accepted) and rivals.twin:
            found = NoEvidence("the records have a render of these inputs, which another lost attempt may have started")
        text = "the vendor's records have it" if isinstance(found, Accepted) else found.detail
        last = attempt.events[-1]
        if (last["what"], last["detail"]) != ("looked_up", text):  # a look a minute for a day tells the same once
            await self._journal.note(run, attempt, "looked_up", text, {})
        return found if isinstance(found, Accepted | NotFound) else None

    async def _outlast(self, run: Run, attempt: Attempt) -> None:
        """Nobody can tell yet. Keep the hold until the published deadline; the loss is then the operator's."""
        run.stage = "in_doubt"
        left_s = self._doubt_left_s(attempt)
        if left_s > 0:
            await self._pause(run, min(run.next_look_s(), left_s))
            return
        await self._journal.suspect(run, attempt)
        await self._fail(run, attempt, None, FailureKind.LOST, "its outcome stayed unknown")
        problem = OutcomeUnknown(f"{attempt.route} never told what became of it; nothing is charged")
        await self._journal.end(run, JobStatus.EXPIRED, problem)

    async def _orphaned(self, run: Run, attempt: Attempt) -> None:
        """An attempt on a route that the configuration no longer has: it can be outlasted, or left when never sent."""
        if run.nothing_outstanding:
            decision = NextRoute("the configuration no longer has this route")
            await self._fail(run, attempt, decision, FailureKind.MODEL_GONE, "not sent again")
        else:
            await self._outlast(run, attempt)

    def _doubt_left_s(self, attempt: Attempt) -> float:
        return (attempt.sent_at or attempt.prepared_at) + self._parts.settings.jobs.in_doubt_s - self._parts.clock.now()

    # A render that the vendor has accepted

    async def _follow(self, run: Run, attempt: Attempt) -> None:
        """Ask once, when it pays to ask. A timeout is not a verdict: only the vendor's word or the deadline is."""
        run.stage = "rendering" if attempt.state is AttemptState.ACCEPTED else "in_doubt"
        route = self._parts.fleet.routes[attempt.route]
        provider = self._parts.fleet.account(attempt.route).provider
        eta_s, polling = run.eta_s if run.polls else attempt.eta_s, self._parts.settings.polling
        delay_s = self._parts.fleet.poll_delay_s(attempt, eta_s, polling)
        await self._pause(run, delay_s if run.stage == "rendering" else run.next_look_s())
        if await self._canceled_there(run, attempt):
            return
        run.polls += 1
        outcome = await provider.check(route, attempt.token or {})
        match outcome:
            case Pending():
                run.eta_s, run.progress = outcome.eta_s, outcome.progress
                if attempt.state is AttemptState.IN_DOUBT:
                    await self._journal.remembered(run, attempt)
                self._parts.bus.publish("job", run.job.id)
            case Finished():
                await self._deliver(run, attempt, outcome)
                return
            case Failed():
                kind, charged = outcome.kind, outcome.report.cost_micros or 0
                self._journal.observe(attempt, "failed", failure=kind, billed_micros=charged)
                await self._fail(run, attempt, after_failure(kind), kind, outcome.detail, outcome.report)
                return
            case InDoubt():
                await self._no_verdict(run, attempt, outcome)
        if self._doubt_left_s(attempt) <= 0:
            await self._outlast(run, run.attempts[-1])

    async def _canceled_there(self, run: Run, attempt: Attempt) -> bool:
        """Pass a wish to cancel on where the vendor can stop; elsewhere the render runs to its end and is billed."""
        provider = self._parts.fleet.account(attempt.route).provider
        if not run.cancel_wanted or run.cancel_tried or not isinstance(provider, HasCancel):
            return False
        run.cancel_tried = True
        if not await provider.cancel(self._parts.fleet.routes[attempt.route], attempt.token or {}):
            return False
        await self._journal.cancel(run, attempt)
        return True

    async def _no_verdict(self, run: Run, attempt: Attempt, outcome: InDoubt) -> None:
        if outcome.gone and attempt.state is AttemptState.ACCEPTED:
            await self._journal.forgotten(run, attempt, outcome)
            return
        self._journal.unanswered(run, attempt, outcome)
        if outcome.retry_after_s:
            await self._pause(run, max(0.0, min(outcome.retry_after_s, self._doubt_left_s(attempt))))

    async def _deliver(self, run: Run, attempt: Attempt, outcome: Finished) -> None:
        """Copy the result at once, compare it with the order, and settle."""
        run.stage, run.critical = "delivering", True
        self._parts.bus.publish("job", run.job.id)
        route = self._parts.fleet.routes[attempt.route]
        delivered = await self._parts.delivery.collect(outcome, run.job.parameters, route)
        run.critical = attempt.token is None  # what came with the reply itself cannot be asked for again
        if isinstance(delivered, Delivered):
            await self._journal.succeed(run, attempt, outcome.report, delivered)
        elif delivered.passing and attempt.token is not None and self._doubt_left_s(attempt) > 0:
            log.warning("result.not_yet", job=run.job.id, route=attempt.route, detail=delivered.detail)
            await self._pause(run, REDELIVER_INTERVAL_S)
        else:
            # The vendor delivered and bills: what the team is not charged for is the operator's loss.
            charged = outcome.report.cost_micros
            report = replace(outcome.report, cost_micros=attempt.price_micros if charged is None else charged)
            self._journal.observe(attempt, "failed", failure=delivered.kind, billed_micros=report.cost_micros or 0)
            decision = after_failure(delivered.kind)
            await self._fail(run, attempt, decision, delivered.kind, delivered.detail, report)

    async def _fail(
        self,
        run: Run,
        attempt: Attempt,
        decision: NextRoute | Stop | None,
        kind: FailureKind,
        detail: str,
        report: Report | None = None,
    ) -> None:
        """Close an attempt; with `Stop` close the job too, otherwise the next step looks for another route."""
        cost_micros = report.cost_micros if report is not None else None
        end = AttemptEnd(kind, detail, self._parts.clock.now(), cost_micros or 0, attempt.account)
        why = f"{detail}; {decision.why}" if decision is not None else detail
        await self._journal.fail(run, attempt, end, why, report or Report())
        if isinstance(decision, Stop):
            problem = RequestRefused(f"{attempt.route}: {detail}", reason=kind)
            await self._journal.end(run, JobStatus.FAILED, problem)

    # What the steps above share

    async def _pause(self, run: Run, seconds: float) -> None:
        """Wait, unless a callback, a wish to cancel or a drain wakes the job first."""
        critical, run.critical = run.critical, False
        await self._parts.clock.wait(run.wake, seconds)
        run.wake.clear()
        run.critical = critical

    def _withdraw(self, attempt: Attempt) -> None:
        """Take a repeat out of the budget in the breath that found it allowed: before anything is awaited."""
        self._parts.fleet.account(attempt.route).budget.withdraw(self._parts.clock.now())

    def _situation(self, run: Run, attempt: Attempt) -> Situation:
        now, route = self._parts.clock.now(), self._parts.fleet.routes[attempt.route]
        slack_s = run.job.deadline_at - now - route.latency_nominal_s
        return Situation(
            attempt.submits, slack_s, self._parts.fleet.account(route.name).budget.allows(now), run.doubt_answered
        )
