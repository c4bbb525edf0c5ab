"""The engine's transactions, one function each: job, attempt and money change together or not at all.

Straight-line leaves over a connection; which of them runs, and when, is decided in engine.py alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from sqlalchemy import Connection, String

from gateway import events
from gateway.jobs import AttemptState, IllegalMoveError, JobStatus, move_attempt, move_job
from gateway.money import ledger
from gateway.money.drift import PriceObservation, observe_price
from gateway.money.losses import COST_SUFFIX, InSuspense
from gateway.money.true_cost import TrueCost
from gateway.problems import DeadlinePassed, JobProblem, NoRouteLeft, OutcomeUnknown
from gateway.store import jobs as rows
from gateway.store.jobs import Attempt, Job
from gateway.store.schema import attempts

VENDORS_WORDS = frozenset({"failure_kind", "failure_detail", "vendor_request_id", "model"})


def _storable(changes: Mapping[str, Any]) -> dict[str, Any]:
    """An attempt's changes with what a vendor wrote as every database takes it: whole characters that fit the column.

    PostgreSQL refuses a NUL and a text that is too long: an outcome must not be lost for that.
    """
    storable = dict(changes)
    for name in VENDORS_WORDS & storable.keys():
        told = storable[name]
        if told is not None:
            whole = str(told).replace("\0", "").encode(errors="replace").decode()
            storable[name] = whole[: cast("String", attempts.c[name].type).length]
    return storable


def start_attempt(
    connection: Connection, job: Job, attempt: Attempt, changes: Mapping[str, Any]
) -> tuple[Job, Attempt]:
    """Commit the intent to try a route before anything is sent; `changes` are the job's new plan, receipt and so on."""
    attempt = replace(attempt, **_storable({"vendor_request_id": attempt.vendor_request_id}))
    rows.insert_attempt(connection, job, attempt)
    if job.status is JobStatus.QUEUED:
        changes = {**changes, "status": move_job(job.status, JobStatus.RUNNING), "started_at": attempt.prepared_at}
    rows.update_job(connection, job, changes)
    return replace(job, **changes), attempt


def note_attempt(connection: Connection, job: Job, attempt: Attempt, changes: Mapping[str, Any]) -> Attempt:
    """Write what became of an attempt that goes on; a change of state must be a legal move."""
    if "state" in changes and changes["state"] is not attempt.state:
        move_attempt(attempt.state, changes["state"])
    changes = _storable(changes)
    rows.update_attempt(connection, job, attempt, changes)
    return replace(attempt, **changes)


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt ended without a result. `loss_micros` is what the vendor charged for it: the operator's loss.

    `suspected` says that nobody knows whether it charged anything, `disputed_micros` is what it says above what can be
    believed. `reason` explains the booking, where the kind does
    not say it all; `then` tells in the attempt's story what follows.
    """

    kind: str
    detail: str
    at: float
    loss_micros: int = 0
    suspected: bool = False
    reason: str = ""
    then: str = ""
    disputed_micros: int = 0

    @property
    def told(self) -> str:
        """The last line of the attempt's story."""
        return f"{self.detail}; {self.then}" if self.then else self.detail


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job ended without a result."""

    status: JobStatus
    problem: JobProblem


def never_told(attempt: Attempt) -> JobEnd:
    """The end of a job whose attempt nobody could tell the outcome of."""
    problem = OutcomeUnknown(f"{attempt.route} never told what became of it; nothing is charged")
    return JobEnd(JobStatus.EXPIRED, problem)


def none_more(job: Job, tried: Sequence[Attempt], now: float, attempts_max: int) -> JobEnd | None:
    """The end of a job that may begin no further attempt; None while it may."""
    failures = _failures(tried)
    if now >= job.give_up_at:
        late = DeadlinePassed(f"no vendor had it in time; {failures or 'nothing was tried'}")
        return JobEnd(JobStatus.EXPIRED, late)
    if len(tried) >= attempts_max:
        return JobEnd(JobStatus.FAILED, NoRouteLeft(f"{len(tried)} attempts failed: {failures}"))
    return None


def no_route_left(tried: Sequence[Attempt], refusals: str) -> JobEnd:
    """The end of a job that no route is left for: what failed, and what is refused."""
    why = "; ".join(filter(None, (_failures(tried), refusals)))
    return JobEnd(JobStatus.FAILED, NoRouteLeft(why or "no route is left"))


def _failures(tried: Sequence[Attempt]) -> str:
    return "; ".join(f"{one.route}: {one.failure_kind}" for one in tried)


def fail_attempt(
    connection: Connection, job: Job, attempt: Attempt, end: AttemptEnd, changes: Mapping[str, Any]
) -> Attempt:
    """Close an attempt that failed and book what the vendor charged for it, or may have, to the operator."""
    if end.suspected:
        suspect_charge(connection, job, attempt)
    failure = {"failure_kind": end.kind, "failure_detail": end.detail}
    changes = _storable({**changes, **failure, "state": AttemptState.FAILED, "finished_at": end.at})
    if end.loss_micros:
        request_id = changes.get("vendor_request_id")
        reason = end.reason or end.kind
        loss = ledger.Loss(
            job.id, attempt.id, attempt.account, end.loss_micros, end.at, reason, attempt.route, request_id
        )
        ledger.book_loss(connection, loss)
    dispute_cost(connection, attempt, end.disputed_micros, end.at, changes.get("vendor_request_id"))
    return note_attempt(connection, job, attempt, changes)


def fail_and_end(
    connection: Connection, job: Job, attempt: Attempt, end: AttemptEnd, changes: Mapping[str, Any], job_end: JobEnd
) -> tuple[Job, Attempt]:
    """Close the last attempt with its job as one: a crash in between must not leave a job that tries another route."""
    attempt = fail_attempt(connection, job, attempt, end, changes)
    return end_job(connection, job, job_end.status, job_end.problem, end.at), attempt


def take_up(
    connection: Connection, job: Job, attempt: Attempt, changes: Mapping[str, Any], suspense: InSuspense
) -> tuple[Job, Attempt]:
    """Follow a render that was given up as lost, as a further attempt that bears its cost: the suspense is over."""
    reason = f"its render was found and is followed as attempt {attempt.number}"
    ledger.clear_suspense(connection, suspense.name, charged_micros=0, at=attempt.prepared_at, reason=reason)
    return start_attempt(connection, job, attempt, changes)


def clear_absent(connection: Connection, suspense: InSuspense, at: float, detail: str) -> None:
    """End the suspense of a submit that the vendor's complete records do not have."""
    ledger.clear_suspense(connection, suspense.name, charged_micros=0, at=at, reason=f"looked up again: {detail}")


@dataclass(frozen=True, slots=True)
class Success:
    """A delivered result and what it cost. `price_micros` is the team's."""

    result: Mapping[str, Any]
    cost: TrueCost
    price_micros: int
    provider: str
    at: float


def succeed(
    connection: Connection, job: Job, attempt: Attempt, success: Success, changes: Mapping[str, Any]
) -> tuple[Job, Attempt]:
    """Close attempt and job and capture the price, once."""
    changes = _storable(changes)
    capture = ledger.Capture(
        hold_id=job.hold_id,
        price_micros=success.price_micros,
        cost_micros=success.cost.amount_micros,
        cost_source=success.cost.source,
        provider=success.provider,
        at=success.at,
        reason="delivered",
        route=attempt.route,
        attempt_id=attempt.id,
        provider_request_id=changes.get("vendor_request_id"),
    )
    captured = ledger.capture(connection, capture)
    if not isinstance(captured, ledger.Captured):
        rows.hold_fence(connection, job)  # whoever has taken the job over may have ended it: no fault of anybody's
        raise IllegalMoveError(f"job {job.id} is active and its hold was settled before: {captured.kind}")
    dispute_cost(connection, attempt, success.cost.disputed_micros, success.at, capture.provider_request_id)
    if success.cost.source == "reported":
        observe_price(
            connection,
            PriceObservation(
                attempt.id, attempt.route, success.at, success.cost.amount_micros, attempt.price_micros, job.parameters
            ),
        )
    attempt = note_attempt(
        connection,
        job,
        attempt,
        {
            **changes,
            "state": AttemptState.SUCCEEDED,
            "finished_at": success.at,
            "cost_micros": success.cost.amount_micros,
            "cost_source": success.cost.source,
        },
    )
    job_changes: dict[str, Any] = {
        "status": move_job(job.status, JobStatus.SUCCEEDED),
        "finished_at": success.at,
        "result": dict(success.result),
        "bill": {
            "status": "captured",
            "held_micros": job.held_micros,
            "price_micros": success.price_micros,
            "cost_micros": success.cost.amount_micros,
            "margin_micros": success.price_micros - success.cost.amount_micros,
            "cost_source": success.cost.source,
        },
    }
    rows.update_job(connection, job, job_changes)
    ended = replace(job, **job_changes)
    events.job_ended(connection, ended)
    events.emit_usage(connection, job.hold_id, success.at)
    return ended, attempt


def end_job(
    connection: Connection,
    job: Job,
    status: JobStatus,
    problem: JobProblem,
    at: float,
    *,
    kind: Literal["released", "expired"] = "released",
) -> Job:
    """Close a job without a result and give its hold back: it costs the team nothing."""
    give_back = ledger.expire if kind == "expired" else ledger.release
    give_back(connection, job.hold_id, at, problem.slug)
    changes: dict[str, Any] = {
        "status": move_job(job.status, status),
        "finished_at": at,
        "error": problem.body(),
        "bill": {
            "status": kind,
            "held_micros": job.held_micros,
            "price_micros": 0,
            "cost_micros": 0,
            "margin_micros": 0,
            "cost_source": None,
        },
    }
    rows.update_job(connection, job, changes)
    ended = replace(job, **changes)
    events.job_ended(connection, ended)
    return ended


def repeat_suspected(connection: Connection, job: Job, attempt: Attempt, changes: Mapping[str, Any]) -> Attempt:
    """Book the possible charge of a submit in doubt and write that the attempt is submitted again, as one."""
    suspect_charge(connection, job, attempt)
    return note_attempt(connection, job, attempt, changes)


def suspect_charge(connection: Connection, job: Job, attempt: Attempt) -> None:
    """Book a possible duplicate charge of a vendor to the operator's suspense account, never to the team.

    It is booked at the time of the submit, however much later it is given up: there the vendor's charge will be found.
    """
    suspense = ledger.Suspense(
        job_id=job.id,
        # Every submit may have been charged: a second one in doubt is a second suspense.
        attempt_id=attempt.id if attempt.submits <= 1 else f"{attempt.id}/{attempt.submits}",
        provider=attempt.account,
        amount_micros=attempt.price_micros,
        at=attempt.began_at,
        reason="the outcome of a submit is not known",
        route=attempt.route,
        provider_request_id=attempt.vendor_request_id,
    )
    ledger.suspend(connection, suspense)


def dispute_cost(
    connection: Connection, attempt: Attempt, disputed_micros: int, at: float, request_id: str | None
) -> None:
    """Put what a vendor reported above what can be believed into the operator's suspense account; nothing for 0."""
    suspense = ledger.Suspense(
        job_id=attempt.job_id,
        attempt_id=f"{attempt.id}{COST_SUFFIX}",
        provider=attempt.account,
        amount_micros=disputed_micros,
        at=at,
        reason="the vendor reports a cost that is beyond belief: this much above what was expected",
        route=attempt.route,
        provider_request_id=request_id,
    )
    ledger.suspend(connection, suspense)
