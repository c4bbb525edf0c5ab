"""What the engine writes down: each move of a job or an attempt, with the fact for the router, the log and the bus.

Straight-line: every function commits one transaction and tells the rest of the process. What to write, and when, is
decided in engine.py alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import structlog

from gateway import settlement
from gateway.costs import Costs, with_cost
from gateway.delivery import Delivered, reported_deviations
from gateway.jobs import AttemptState, JobStatus
from gateway.money.amounts import AMOUNT_MAX_MICROS
from gateway.money.losses import InSuspense
from gateway.money.true_cost import true_cost
from gateway.orders import order_of, routing_kind
from gateway.parts import Parts
from gateway.planning import Option, Plan, size_class
from gateway.problems import JobCanceled, RequestRefused
from gateway.runs import Run
from gateway.settlement import AttemptEnd, JobEnd, Success
from gateway.store import jobs as rows
from gateway.store.database import CommitUnknownError
from gateway.store.jobs import Attempt, LeaseLostError
from gateway.store.outwaiting import OutwaitingStore
from policies.retry import NextRoute, RetryHere, Stop
from policies.values import Observation, ObservationKind
from providers.contract import Accepted, FailureKind, InDoubt, LookupOutcome, NotFound, Report
from providers.vocabulary import SEED_DRAWN_MAX

log = structlog.get_logger()


class Journal:
    """The engine's pen."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._store = OutwaitingStore(parts.store, parts.clock)
        self._costs = Costs(parts)

    def new_attempt(self, run: Run, option: Option) -> Attempt:
        """The intent to try a route, with a seed drawn in place of "random"; not written yet.

        A drawn seed makes every body one of a kind: a repeat is reproducible, and an attempt can be recognised in the
        vendor's own records.
        """
        now = self._parts.clock.now()
        wire = dict(option.fit.wire)
        row = option.route.capability("seed")
        seed = wire.get(row.wire) if row is not None and row.wire is not None else None
        if row is not None and row.wire is not None and seed == -1:
            seed = wire[row.wire] = self._parts.random.randint(0, SEED_DRAWN_MAX)
        return Attempt(
            id=self._parts.ids.new("att"),
            job_id=run.job.id,
            number=len(run.attempts) + 1,
            route=option.route.name,
            account=option.route.provider,
            size_class=size_class(option.fit),
            state=AttemptState.PREPARED,
            prepared_at=now,
            wire=wire,
            price_micros=option.price.cost_micros if option.price else 0,
            submits=1,
            events=[{"at": now, "what": "submit", "detail": "first submit"}],
            sent_at=now,
            credits_before_micros=self._parts.fleet.account(option.route.name).balance_micros,
            seed=seed if isinstance(seed, int) else None,
        )

    async def start(self, run: Run, attempt: Attempt, plan: Plan, option: Option) -> Attempt:
        """Commit the intent, with the receipt and, on a later route, the new plan."""
        changes = _route_changes(run, attempt, option)
        if run.attempts:
            changes["replans"] = [*run.job.replans, plan.to_json()]
        try:
            run.job, attempt = await self._store.write(settlement.start_attempt, run.job, attempt, changes)
        except CommitUnknownError:  # nothing was sent, so nothing need be in doubt: the intent is there or it is not
            run.job, attempt = await self._parts.store.read(rows.written_attempt, run.job, attempt)
        run.put(attempt)
        self._parts.fleet.account(attempt.route).budget.deposit(self._parts.clock.now())
        self._parts.meter.started(run.job, attempt)
        self._told("attempt.started", run, attempt)
        return attempt

    async def take_up(self, run: Run, lost: Attempt, suspense: InSuspense, found: Accepted, option: Option) -> None:
        """Follow the render of an attempt that was given up in doubt: the records have it after all."""
        now = self._parts.clock.now()
        run.job = replace(run.job, parameters=dict(option.fit.values))
        text = f"the vendor's records have the render that attempt {lost.number} had lost"
        attempt = replace(
            self.new_attempt(run, option),
            wire=lost.wire,
            seed=lost.seed,
            price_micros=lost.price_micros,
            submits=0,
            sent_at=lost.prepared_at,
            state=AttemptState.ACCEPTED,
            accepted_at=now,
            token=found.token,
            eta_s=found.eta_s,
            vendor_request_id=found.report.request_id,
            credits_before_micros=None,
            events=[{"at": now, "what": "taken_up", "detail": text}],
        )
        changes = _route_changes(run, attempt, option)
        run.job, attempt = await self._store.write(settlement.take_up, run.job, attempt, changes, suspense)
        run.put(attempt)
        self._parts.fleet.depart(attempt.route, attempt.id, now)
        self._told("attempt.taken_up", run, attempt, lost=lost.id)

    async def cleared(self, lost: Attempt, suspense: InSuspense, found: NotFound) -> None:
        """The complete records do not have a submit that was given up: nothing is suspected any more."""
        await self._store.write(settlement.clear_absent, suspense, self._parts.clock.now(), found.detail)
        log.info("suspense.cleared", job=lost.job_id, attempt=suspense.name, detail=found.detail)

    async def looked(self, run: Run, attempt: Attempt, found: LookupOutcome) -> Attempt:
        """What the vendor's records told; the same answer again is counted on its line of the story."""
        text = "the vendor's records have it" if isinstance(found, Accepted) else found.detail
        last, now = attempt.events[-1], self._parts.clock.now()
        if (last["what"], last["detail"]) != ("looked_up", text):
            return await self.note(run, attempt, "looked_up", text, {})
        again = {**last, "times": last.get("times", 1) + 1, "last_at": now}
        changes = {"events": [*attempt.events[:-1], again]}
        attempt = await self._store.write(settlement.note_attempt, run.job, attempt, changes)
        run.put(attempt)
        return attempt

    async def note(self, run: Run, attempt: Attempt, what: str, detail: str, changes: dict[str, Any]) -> Attempt:
        """Write one more line of an attempt's story, with what changes in its row."""
        events = [*attempt.events, {"at": self._parts.clock.now(), "what": what, "detail": detail}]
        attempt = await self._store.write(settlement.note_attempt, run.job, attempt, changes | {"events": events})
        run.put(attempt)
        if what == "submit":
            self._parts.meter.repeated(attempt)
        self._told(f"attempt.{what}", run, attempt, detail=detail)
        return attempt

    async def accept(
        self, run: Run, attempt: Attempt, outcome: Accepted, detail: str = "the vendor accepted it"
    ) -> None:
        """The vendor runs it: the token is committed before the first poll."""
        changes = {
            "state": AttemptState.ACCEPTED,
            "accepted_at": self._parts.clock.now(),
            "token": outcome.token,
            "eta_s": outcome.eta_s,
            "vendor_request_id": outcome.report.request_id,
        }
        attempt = await self.note(run, attempt, "accepted", detail, changes)
        run.stage, run.eta_s = "rendering", outcome.eta_s
        self._parts.fleet.depart(attempt.route, attempt.id, attempt.began_at)
        self._parts.fleet.note_balance(attempt.account, outcome.report.credits_remaining_micros)
        self.observe(attempt, "accepted", eta_s=outcome.eta_s)

    async def came_on(self, run: Run) -> None:
        """A step is done: what broke this job's drivers before does not stop it."""
        if run.crashes and run.active and not run.idle:
            await self._store.write(rows.update_job, run.lease, {"crashes": 0})
            run.crashes = 0

    async def keep_lease(self, run: Run) -> None:
        """Make sure of the lease before money is spent: a process that was paused may have lost it unawares."""
        if self._parts.clock.now() >= run.lease_until:
            until = self._parts.clock.now() + self._parts.settings.jobs.lease_s
            await self._store.write(rows.update_job, run.job, {"lease_until": until})
            run.lease_until = until

    def check_lease(self, run: Run) -> None:
        """Raise LeaseLostError when the lease has run out, so that another process may be driving the job by now."""
        if self._parts.clock.now() >= run.lease_until:
            raise LeaseLostError(run.job.id)

    async def again(self, run: Run, attempt: Attempt, decision: RetryHere, detail: str, *, suspected: bool) -> None:
        """Nothing is outstanding any more and it is submitted again; a charge of the lost submit may be suspected."""
        now, delay_s = self._parts.clock.now(), decision.delay_s
        detail = f"{detail}; {decision.why}; again in {delay_s:.1f} s"
        event = {"at": now, "what": "retry", "detail": detail, "again_at": now + delay_s, "suspected": suspected}
        # A token that it had is a dead one: whoever drives the job next would ask for it, and never submit.
        unsent = dict.fromkeys(("sent_at", "accepted_at", "token", "vendor_request_id"))
        changes = {"state": AttemptState.PREPARED, **unsent, "events": [*attempt.events, event]}
        repeat = settlement.repeat_suspected if suspected else settlement.note_attempt
        run.put(await self._store.write(repeat, run.job, attempt, changes))
        self._told("attempt.retry", run, attempt, detail=detail)

    async def doubt(self, run: Run, attempt: Attempt, outcome: InDoubt) -> None:
        """The submit may have been accepted: the attempt is in doubt until evidence or the deadline says otherwise."""
        await self._open_doubt(run, attempt, f"{outcome.detail}: it may have been accepted", status=outcome.status)
        self._parts.meter.doubted(attempt)
        self.unanswered(run.job.id, attempt.route, outcome)

    async def lost_reply(self, run: Run, attempt: Attempt) -> Attempt:
        """The process that sent it ended, or stopped, before the vendor's reply was written.

        Nobody saw its end: it may be on its way yet, or at work at the vendor, and be accepted after a look.
        """
        sure_from = attempt.began_at + self._parts.settings.retry.underway_s
        detail = "the process ended before the vendor's reply was written"
        return await self._open_doubt(run, attempt, detail, sure_from=sure_from)

    async def not_kept(self, run: Run, attempt: Attempt, error: Exception) -> None:
        """The result came in the vendor's reply and cannot be stored: only the vendor's records may have it yet."""
        await self._open_doubt(run, attempt, f"the result came with the reply and could not be stored: {error}")

    async def forgotten(self, run: Run, attempt: Attempt, outcome: InDoubt) -> None:
        """The vendor says that it does not know a job it had accepted."""
        await self._open_doubt(run, attempt, f"{outcome.detail}: the vendor no longer knows the job")

    async def _open_doubt(self, run: Run, attempt: Attempt, detail: str, **facts: float | None) -> Attempt:
        """Write that an attempt is in doubt, with the deadline that is published from now on, and what else is known.

        `status` is HTTP's. `sure_from` is when records without it begin to prove that it was not accepted.
        """
        until = attempt.began_at + self._parts.settings.jobs.in_doubt_s
        event = {"at": self._parts.clock.now(), "what": "in_doubt", "detail": detail, "until": until}
        event |= {name: fact for name, fact in facts.items() if fact is not None}
        changes = {"state": AttemptState.IN_DOUBT, "events": [*attempt.events, event]}
        attempt = await self._store.write(settlement.note_attempt, run.job, attempt, changes)
        run.put(attempt)
        self._told("attempt.in_doubt", run, attempt, detail=detail, until=until)
        return attempt

    async def remembered(self, run: Run, attempt: Attempt) -> None:
        """The vendor knows the job again."""
        text = "the vendor knows the job again"
        await self.note(run, attempt, "accepted", text, {"state": AttemptState.ACCEPTED})

    def lost_lease(self, run: Run) -> None:
        """Another process drives the job now: what this one wanted to write is void."""
        self._parts.meter.lease_lost()
        log.warning("job.lease_lost", job=run.job_id, fence=run.fence)

    def unanswered(self, job_id: str, route: str, outcome: InDoubt) -> None:
        """Log a reply without a verdict; one that matches nothing documented warns, for it may be a new wire fact."""
        if outcome.unrecognised:
            self._parts.meter.unrecognised(route)
        level = log.warning if outcome.unrecognised else log.info
        level("vendor.no_verdict", job=job_id, route=route, status=outcome.status, detail=outcome.detail)

    async def close(
        self,
        run: Run,
        attempt: Attempt,
        decision: NextRoute | Stop,
        kind: FailureKind,
        detail: str,
        report: Report | None = None,
        *,
        suspected: bool = False,
    ) -> None:
        """Close an attempt; with `Stop` close the job too, otherwise the next step looks for another route."""
        cost = self._costs.of_failure(attempt, report or Report())
        end = AttemptEnd(kind, detail, self._parts.clock.now(), suspected=suspected, then=decision.why)
        if cost is not None:
            end = replace(end, loss_micros=cost.amount_micros, disputed_micros=cost.disputed_micros)
        refused = JobEnd(JobStatus.FAILED, RequestRefused(f"{attempt.route}: {detail}", reason=kind))
        await self.fail(run, attempt, end, with_cost(report, cost), refused if isinstance(decision, Stop) else None)
        self._parts.meter.decided(attempt, decision)

    async def fail(
        self, run: Run, attempt: Attempt, end: AttemptEnd, report: Report, job_end: JobEnd | None = None
    ) -> None:
        """Close an attempt that delivered nothing; what the vendor charged is the operator's loss.

        A vendor that accepted it and does not say what it charged is believed by the fall of its balance. With
        `job_end` the job ends in the same transaction.
        """
        source = None if report.cost_micros is None else "book" if end.disputed_micros else "reported"
        if source is None and attempt.token is not None:
            balance = await self._costs.balance_delta(attempt)
            fell = true_cost(reported_micros=None, balance=balance, book_micros=attempt.price_micros)
            if fell.source == "balance":
                source, report = "balance", replace(report, cost_micros=fell.amount_micros)
                end = replace(end, loss_micros=fell.amount_micros, suspected=False)
        changes = {
            "cost_micros": report.cost_micros,
            "cost_source": source,
            "vendor_request_id": report.request_id or attempt.vendor_request_id,
            "events": [*attempt.events, {"at": end.at, "what": "failed", "detail": end.told}],
        }
        if job_end is None:
            attempt = await self._store.write(settlement.fail_attempt, run.job, attempt, end, changes)
        else:
            run.job, attempt = await self._store.write(settlement.fail_and_end, run.job, attempt, end, changes, job_end)
        run.put(attempt)
        run.polls, run.looks, run.eta_s, run.progress = 0, 0, None, None
        self._parts.fleet.arrive(attempt.id)
        self._parts.meter.failed(run.job, attempt, end.kind)
        self._told("attempt.failed", run, attempt, kind=end.kind, detail=end.told)
        if job_end is not None:
            self._told_end(run, job_end)

    async def succeed(self, run: Run, attempt: Attempt, report: Report, delivered: Delivered) -> None:
        """Close attempt and job, and bill the true cost with the team's margin, never above the caller's own limit."""
        now = self._parts.clock.now()
        cost = await self._costs.of_delivery(run.job, attempt, report)
        order = order_of(run.job)
        price = order.team_plan.price_micros(cost.amount_micros, attempt.route)
        limit = order.limit_micros
        seed = report.seed if report.seed is not None else attempt.seed
        differing = reported_deviations(self._parts.fleet.routes[attempt.route].model, attempt.seed, report)
        success = Success(
            result={"files": delivered.files, "seed": seed, "model": report.model, "deviations": differing},
            cost=cost,
            price_micros=min(price, AMOUNT_MAX_MICROS if limit is None else limit),
            provider=attempt.account,
            at=now,
        )
        stored = "verified and stored"
        if cost.disputed_micros:
            stored += "; the cost that the vendor reports is beyond belief, what was expected is billed"
        changes = {
            "seed": seed,
            "model": report.model,
            "vendor_request_id": report.request_id or attempt.vendor_request_id,
            "events": [*attempt.events, {"at": now, "what": "delivered", "detail": stored}],
        }
        run.job, attempt = await self._store.write(settlement.succeed, run.job, attempt, success, changes)
        run.put(attempt)
        self._parts.fleet.arrive(attempt.id)
        self._parts.fleet.note_balance(attempt.account, report.credits_remaining_micros)
        self._parts.fleet.note_queue(attempt, report.queue_s)
        self.observe(attempt, "succeeded", billed_micros=cost.amount_micros)
        self._parts.meter.succeeded(run.job, attempt, run.rendered_at)
        self._told("job.succeeded", run, attempt, price_micros=success.price_micros)

    async def cancel(self, run: Run, attempt: Attempt | None) -> None:
        """Close a job that the caller stopped while no vendor was working for it, or whose vendor stopped."""
        job_end = JobEnd(JobStatus.CANCELED, JobCanceled("canceled by the caller; nothing is charged"))
        if attempt is None:
            await self.end(run, job_end)
            return
        route = self._parts.fleet.routes.get(attempt.route)
        billed = route is not None and route.ambiguous_billing == "may_bill" and attempt.outstanding
        end = AttemptEnd("canceled", "canceled by the caller", self._parts.clock.now(), suspected=billed)
        await self.fail(run, attempt, end, Report(), job_end)
        self.observe(attempt, "canceled")

    async def end(self, run: Run, end: JobEnd) -> None:
        """Close a job without a result; its hold is given back."""
        now = self._parts.clock.now()
        run.job = await self._store.write(settlement.end_job, run.job, end.status, end.problem, now)
        self._told_end(run, end)

    def _told_end(self, run: Run, end: JobEnd) -> None:
        self._parts.meter.ended(run.job, end.problem.slug)
        self._told("job.ended", run, None, status=end.status, reason=end.problem.slug)

    def observe(
        self,
        attempt: Attempt,
        kind: ObservationKind,
        *,
        failure: FailureKind | None = None,
        retry_after_s: float | None = None,
        eta_s: float | None = None,
        billed_micros: int = 0,
    ) -> None:
        """Feed the router one fact about an attempt."""
        now = self._parts.clock.now()
        if failure is not None:
            billed_micros = self._costs.believed_micros(attempt, billed_micros)
        fact = Observation(
            kind=kind,
            at=now,
            route=attempt.route,
            account=attempt.account,
            job=attempt.job_id,
            attempt=attempt.id,
            elapsed_s=now - attempt.began_at,
            failure=routing_kind(failure) if failure is not None else None,
            retry_after_s=retry_after_s,
            eta_s=eta_s,
            billed_micros=billed_micros,
            size_class=attempt.size_class,
            price_micros=attempt.price_micros,
        )
        self._parts.fleet.observe(fact)

    def _told(self, event: str, run: Run, attempt: Attempt | None, **facts: object) -> None:
        """Log what was just committed, and wake whoever follows the job."""
        where = {"route": attempt.route, "attempt": attempt.id} if attempt is not None else {}
        log.info(event, job=run.job.id, team=run.job.team_id, **where, **facts)
        self._parts.bus.publish("job", run.job.id)


def _route_changes(run: Run, attempt: Attempt, option: Option) -> dict[str, Any]:
    """What a job's row says of the route that is on: its name, parameters and receipt."""
    return {
        "route": attempt.route,
        "parameters": run.job.parameters,
        "receipt": option.receipt(attempt.wire),
    }
