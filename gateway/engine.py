"""The job engine: the one file with control flow. Intent, submit, token, poll, result, verify, store, settle.

A job is driven one step at a time, from whatever its rows say: a fresh job, one whose process died and one that was
handed over are the same to it. The rules (retry, next route, when to poll) are `policies`; what is written is written
by journal.py, each time in one transaction under the fence of the job's lease.
A step that has to wait says for how long (`run.sleep`) and returns: a sleeping job is an entry in a timetable and no
task. While a vendor renders, it does not keep its rows in memory either (`run.rest`).

Every step commits before the next begins, so a crash anywhere leaves rows from which the next claim goes on:

    no open attempt          choose a route, commit the intent, submit
    prepared, not sent       submit again
    prepared, sent           the reply was lost with the process: in doubt
    accepted, known by token poll, deliver, settle; also while the vendor claims not to know it
    in doubt                 look for evidence; repeat only where that is safe; wait for the published deadline

No job ends on a guess: the last thing done before a verdict is to ask once more. An operator's word ends a doubt too.
"""

from __future__ import annotations

from dataclasses import replace

import structlog

from gateway.delivery import Delivered
from gateway.doubts import Ruling
from gateway.evidence import Evidence
from gateway.jobs import AttemptState
from gateway.journal import Journal
from gateway.media.artifacts import ArtifactsUnavailableError
from gateway.orders import order_of, tried_of
from gateway.parts import Parts
from gateway.planning import Option, Plan
from gateway.retrying import Retrying
from gateway.runs import FULL, LEFT_ALONE, Render, Run
from gateway.settlement import AttemptEnd, JobEnd, never_told, no_route_left, none_more
from gateway.store.jobs import Attempt, LeaseLostError
from gateway.vendor_transport import permitted_by
from policies import retry
from policies.retry import LookForEvidence, NextRoute, RetryHere, StayInDoubt
from providers.contract import (
    Accepted,
    CheckOutcome,
    Failed,
    FailureKind,
    Finished,
    HasCancel,
    InDoubt,
    NotFound,
    Pending,
    Refused,
    RenderRequest,
    Report,
    SubmitOutcome,
)

log = structlog.get_logger()

REDELIVER_INTERVAL_S = 5.0


class Engine:
    """Drives jobs from where they stand to their end."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._journal = Journal(parts)
        self._evidence = Evidence(parts)
        self._retrying = Retrying(parts)

    async def drive(self, run: Run) -> float | None:
        """Take a job on until it may sleep: the seconds to its next step, or None when it is over for this process."""
        sleeping = False
        try:
            while run.active and not sleeping:
                run.begin_step()
                await (self._step(run) if run.render is None else self._ask(run, run.render))
                await self._journal.came_on(run)
                sleeping = run.sleep_s > 0
        except LeaseLostError:
            self._journal.lost_lease(run)
        finally:
            if not sleeping and run.attempt_id is not None:
                self._parts.fleet.arrive(run.attempt_id, handed_over=run.active)
        return run.sleep_s if sleeping else None

    async def _step(self, run: Run) -> None:
        if run.unread:
            await run.read(self._parts.store)
            if run.open is not None and not run.nothing_outstanding:
                self._parts.fleet.take_over(run.open)
        attempt = run.open
        if run.cancel_wanted and run.nothing_outstanding:
            await self._journal.cancel(run, attempt)
        elif attempt is None:
            await self._choose(run)
        elif (ruling := await self._evidence.ruling(attempt)) is not None:
            await self._obey(run, attempt, ruling)
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
        over = none_more(run.job, run.attempts, now, self._parts.settings.jobs.attempts_max)
        if over is not None:
            await self._end(run, over)
            return
        plan = self._parts.planner.plan(order_of(run.job), now, tried_of(run.attempts))
        if plan.ranking.wait_s is not None:
            run.wait("waiting", plan.ranking.wait_s, why=plan.ranking.why, until=plan.expected_at)
            return
        wrong = {one.route for one in run.attempts if one.failure_kind == FailureKind.NOT_AS_ORDERED}
        option = plan.choice(run.job.held_micros, wrong)
        if option is None:
            await self._end(run, no_route_left(run.attempts, plan.refusals()))
        elif not await self._late(run, before=len(run.attempts)):
            await self._submit(run, plan, option)

    async def _end(self, run: Run, end: JobEnd) -> None:
        """End a job without a result, after one last look at what was given up in doubt."""
        if not await self._late(run, before=len(run.attempts) + 1):
            await self._journal.end(run, end)

    async def _late(self, run: Run, *, before: int) -> bool:
        """Look back at the attempts before this number that were given up in doubt; True when a render is taken up."""
        for attempt, suspense in await self._evidence.given_up(run, before):
            found = await self._evidence.look_back(run, attempt)
            if isinstance(found, Accepted):
                plan = self._parts.planner.plan(order_of(run.job), self._parts.clock.now())
                await self._journal.take_up(run, attempt, suspense, found, plan.options[attempt.route])
                return True
            if isinstance(found, NotFound):
                await self._journal.cleared(attempt, suspense, found)
        return False

    async def _submit(self, run: Run, plan: Plan, option: Option) -> None:
        run.stage = "submitting"
        run.job = replace(run.job, parameters=dict(option.fit.values))
        attempt = self._journal.new_attempt(run, option)
        with self._parts.fleet.room(attempt.route, attempt.id, attempt.prepared_at):
            if not await self._has_slot(run, attempt):
                return
            request = await self._parts.inputs.request(run.job, attempt)
            if isinstance(request, Refused):  # nothing is sent, and whoever finds the row may submit
                attempt = replace(attempt, sent_at=None)
            run.critical = True
            attempt = await self._journal.start(run, attempt, plan, option)
        await self._send(run, attempt, request)

    async def _submit_again(self, run: Run, attempt: Attempt) -> None:
        run.stage = "submitting"
        if not await self._has_slot(run, attempt):
            if self._parts.clock.now() >= run.job.give_up_at:
                await self._journal.close(
                    run, attempt, NextRoute("no time is left"), FailureKind.RATE_LIMITED, "it stayed full"
                )
            return
        request = await self._parts.inputs.request(run.job, attempt)
        run.critical = True
        sent_at = None if isinstance(request, Refused) else self._parts.clock.now()
        changes = {"submits": attempt.submits + 1, "sent_at": sent_at}
        attempt = await self._journal.note(run, attempt, "submit", f"submit {attempt.submits + 1}", changes)
        await self._send(run, attempt, request)

    async def _has_slot(self, run: Run, attempt: Attempt) -> bool:
        """Take a slot where replicas share limits; when none is free, wait as long as told. The next step sees anew."""
        rest_s = attempt.rest_left_s(self._parts.clock.now(), slept=run.slept)  # it outlives a process
        wait_s = rest_s or await self._parts.fleet.take_slot(attempt.route, attempt.id)
        if wait_s > 0:
            why = f"{attempt.route}: {LEFT_ALONE if rest_s else FULL}"
            run.wait("waiting", wait_s, why=why, until=self._parts.clock.now() + wait_s)
        return wait_s <= 0

    async def _send(self, run: Run, attempt: Attempt, request: RenderRequest | Refused) -> None:
        """Submit once. The intent is committed; what comes back is written before anything else happens.

        Where the vendor did not even take the picture, that is what came back.
        """
        self._parts.fleet.depart(attempt.route, attempt.id, self._parts.clock.now())
        self._journal.observe(attempt, "dispatched")
        try:
            await self._journal.keep_lease(run)
            outcome = request if isinstance(request, Refused) else await self._call(run, attempt, request)
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

    async def _call(self, run: Run, attempt: Attempt, request: RenderRequest) -> SubmitOutcome:
        with permitted_by(lambda: self._journal.check_lease(run)):
            return await self._parts.fleet.account(attempt.route).provider.submit(request)

    async def _refused(self, run: Run, attempt: Attempt, outcome: Refused) -> None:
        self._parts.fleet.arrive(attempt.id)
        self._journal.observe(attempt, "failed", failure=outcome.kind, retry_after_s=outcome.retry_after_s)
        decision = self._retrying.after_refusal(run, attempt, outcome)
        if isinstance(decision, RetryHere):
            await self._again(run, attempt, decision, outcome.detail, suspected=False)
        else:
            await self._journal.close(run, attempt, decision, outcome.kind, outcome.detail)

    async def _again(self, run: Run, attempt: Attempt, decision: RetryHere, detail: str, *, suspected: bool) -> None:
        """Commit that nothing is outstanding, and let the next step submit again after a pause."""
        run.stage = "retrying"
        await self._journal.again(run, attempt, decision, detail, suspected=suspected)
        until = self._parts.clock.now() + decision.delay_s
        run.wait("retrying", decision.delay_s, why=f"{attempt.route}: {decision.why}", until=until)

    # A submit whose outcome nobody knows

    async def _resolve(self, run: Run, attempt: Attempt) -> None:
        """Look for evidence, then repeat where that is safe, or wait for the published deadline."""
        run.stage = "in_doubt"
        if attempt.state is AttemptState.PREPARED:
            attempt = await self._journal.lost_reply(run, attempt)
        decision = self._retrying.after_doubt(run, attempt, "not_looked")
        found: retry.Evidence = "not_looked"
        if isinstance(decision, LookForEvidence):
            if self._evidence.can_tell(attempt) and not run.slept:
                run.sleep(self._parts.settings.retry.verify_settle_s, idle=True)
                return
            found = await self._look(run, attempt)
            attempt = run.attempts[-1]
            if attempt.state is AttemptState.ACCEPTED:
                return
            decision = self._retrying.after_doubt(run, attempt, found)
        if isinstance(decision, StayInDoubt | LookForEvidence):
            await self._outlast(run, attempt)
        else:
            suspected = found != "not_accepted"
            await self._leave(run, attempt, decision, "the outcome of the submit was unknown", suspected=suspected)

    async def _leave(
        self, run: Run, attempt: Attempt, decision: RetryHere | NextRoute, detail: str, *, suspected: bool
    ) -> None:
        """Leave a submit in doubt behind; unless it is known not to be charged, it may have been."""
        self._journal.observe(attempt, "failed", failure=FailureKind.UNAVAILABLE)
        self._parts.fleet.arrive(attempt.id)
        if isinstance(decision, RetryHere):
            await self._again(run, attempt, decision, detail, suspected=suspected)
        else:
            lost = FailureKind.UNAVAILABLE
            await self._journal.close(run, attempt, decision, lost, detail, suspected=suspected)

    async def _obey(self, run: Run, attempt: Attempt, ruling: Ruling) -> None:
        """Take an operator's word for what became of a submit."""
        if ruling.verdict == "accepted":
            await self._journal.accept(run, attempt, Accepted(ruling.token or {}), ruling.told)
        elif ruling.verdict == "not_accepted":
            decision = self._retrying.after_doubt(run, attempt, "not_accepted")
            assert isinstance(decision, RetryHere | NextRoute)
            await self._leave(run, attempt, decision, ruling.told, suspected=False)
        else:
            charged = attempt.price_micros if ruling.charged_micros is None else ruling.charged_micros
            end = AttemptEnd(FailureKind.LOST, ruling.told, self._parts.clock.now(), charged, reason=ruling.told)
            job_end = never_told(attempt) if ruling.verdict == "lost" else None
            await self._journal.fail(run, attempt, end, Report(cost_micros=charged), job_end)

    async def _look(self, run: Run, attempt: Attempt) -> retry.Evidence:
        """Ask the vendor's own records, which have had time to settle; a render that they have is followed."""
        if not self._evidence.can_tell(attempt):
            return "none"
        found = await self._evidence.look(run, attempt)
        attempt = await self._journal.looked(run, attempt, found)
        if isinstance(found, Accepted):
            await self._journal.accept(run, attempt, found)
        return "not_accepted" if isinstance(found, NotFound) else "none"

    async def _outlast(self, run: Run, attempt: Attempt) -> None:
        """Nobody can tell yet. Keep the hold until the published deadline; the loss is then the operator's."""
        run.stage = "in_doubt"
        left_s = self._evidence.left_s(attempt)
        if left_s > 0:
            run.sleep(min(run.next_look_s(), left_s))
            return
        end = AttemptEnd(FailureKind.LOST, "its outcome stayed unknown", self._parts.clock.now(), suspected=True)
        await self._journal.fail(run, attempt, end, Report(), never_told(attempt))

    async def _orphaned(self, run: Run, attempt: Attempt) -> None:
        """An attempt on a route that the configuration no longer has: it can be outlasted, or left when never sent."""
        if run.nothing_outstanding:
            decision = NextRoute("the configuration no longer has this route")
            await self._journal.close(run, attempt, decision, FailureKind.MODEL_GONE, "not sent again")
        else:
            await self._outlast(run, attempt)

    # A render that the vendor has accepted

    async def _follow(self, run: Run, attempt: Attempt) -> None:
        """Let the vendor work, then ask."""
        render = Render.of(attempt, self._evidence.until(attempt))
        if run.slept:
            await self._ask(run, render)
        else:
            run.stage = "rendering" if render.known else "in_doubt"
            self._await_news(run, render)
            run.idle = True

    def _await_news(self, run: Run, render: Render, hint_s: float = 0.0) -> None:
        """Sleep until it pays to ask, and as long as the vendor wants to be left alone, within the deadline."""
        if render.known:
            run.rest(render)
        eta_s, polling = run.eta_s if run.polls else render.eta_s, self._parts.settings.polling
        delay_s = self._parts.fleet.poll_delay_s(render, eta_s, polling) if render.known else run.next_look_s()
        run.sleep(min(max(delay_s, hint_s), render.until - self._parts.clock.now()))

    async def _ask(self, run: Run, render: Render) -> None:
        """Ask once. A timeout is not a verdict: only the vendor's word or the deadline is.

        While there is no news, nothing is read and nothing is written.
        """
        if await self._canceled_there(run, render):
            return
        run.polls += 1
        is_last = self._parts.clock.now() >= render.until
        provider, route = self._parts.fleet.account(render.route).provider, self._parts.fleet.routes[render.route]
        outcome = await provider.check(route, render.token)
        match outcome:
            case Pending() if render.known and not is_last:
                if run.progressed(outcome):
                    self._parts.bus.publish("job", run.job_id)
                self._await_news(run, render)
            case InDoubt() if not is_last and not (outcome.gone and render.known):
                self._journal.unanswered(run.job_id, render.route, outcome)
                self._await_news(run, render, outcome.retry_after_s or 0.0)
            case _:
                await self._news(run, await run.rouse(self._parts.store), outcome)
                if is_last and isinstance(outcome, Pending | InDoubt):
                    await self._outlast(run, run.attempts[-1])

    async def _news(self, run: Run, attempt: Attempt, outcome: CheckOutcome) -> None:
        """The vendor said something that changes the rows."""
        match outcome:
            case Pending() if attempt.state is AttemptState.IN_DOUBT:
                await self._journal.remembered(run, attempt)
            case Finished():
                await self._deliver(run, attempt, outcome)
            case Failed():
                kind, charged = outcome.kind, outcome.report.cost_micros or 0
                self._journal.observe(attempt, "failed", failure=kind, billed_micros=charged)
                await self._journal.close(run, attempt, retry.after_failure(kind), kind, outcome.detail, outcome.report)
            case InDoubt() if outcome.gone and attempt.state is AttemptState.ACCEPTED:
                await self._journal.forgotten(run, attempt, outcome)

    async def _canceled_there(self, run: Run, render: Render) -> bool:
        """Pass a wish to cancel on where the vendor can stop; elsewhere the render runs to its end and is billed."""
        provider = self._parts.fleet.account(render.route).provider
        if not run.cancel_wanted or run.cancel_tried or not isinstance(provider, HasCancel):
            return False
        run.cancel_tried = True
        if not await provider.cancel(self._parts.fleet.routes[render.route], render.token):
            return False
        await self._journal.cancel(run, await run.rouse(self._parts.store))
        return True

    async def _deliver(self, run: Run, attempt: Attempt, outcome: Finished) -> None:
        """Copy the result at once, compare it with the order, and settle."""
        run.stage, run.critical, run.rendered_at = "delivering", True, self._parts.clock.now()
        self._parts.bus.publish("job", run.job.id)
        route = self._parts.fleet.routes[attempt.route]
        try:
            delivered = await self._parts.delivery.collect(outcome, run.job.parameters, route)
        except ArtifactsUnavailableError as error:
            if attempt.token is None:
                await self._journal.not_kept(run, attempt, error)
            raise
        run.critical = attempt.token is None  # what came with the reply itself cannot be asked for again
        if isinstance(delivered, Delivered):
            await self._journal.succeed(run, attempt, outcome.report, delivered)
        elif delivered.passing and attempt.token is not None and self._evidence.left_s(attempt) > 0:
            log.warning("result.not_yet", job=run.job.id, route=attempt.route, detail=delivered.detail)
            run.sleep(REDELIVER_INTERVAL_S)
        else:
            # The vendor delivered and bills: what the team is not charged for is the operator's loss.
            charged = outcome.report.cost_micros
            report = replace(outcome.report, cost_micros=attempt.price_micros if charged is None else charged)
            self._journal.observe(attempt, "failed", failure=delivered.kind, billed_micros=report.cost_micros or 0)
            decision = retry.after_failure(delivered.kind)
            await self._journal.close(run, attempt, decision, delivered.kind, delivered.detail, report)
