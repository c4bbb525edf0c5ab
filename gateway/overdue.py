"""Jobs that nobody drives to an end, and holds whose time is over: so that no team's budget is bound for ever.

A job that is driven, or free to be claimed, ends by the engine's own deadlines. What is left is a job that had ended
before, or one that breaks its driver every time: it waits between two tries, or is parked. While a vendor may be at
work for it, only the time of its hold ends it; where none can be, so do its caller and the job's own time.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, or_, select, update

from gateway import settlement
from gateway.jobs import ACTIVE, JobStatus
from gateway.money import ledger
from gateway.problems import DeadlinePassed, JobCanceled, JobProblem, OutcomeUnknown
from gateway.settlement import AttemptEnd
from gateway.store import jobs as rows
from gateway.store.jobs import Attempt, Job
from gateway.store.schema import jobs
from providers.contract import FailureKind

REASON = "the time of its job is over"


@dataclass(frozen=True, slots=True)
class Overdue:
    """What was ended: a hold, and the job and the attempt that ended with it, where they had not ended before."""

    job: Job | None = None
    attempt: Attempt | None = None


def end_overdue(connection: Connection, hold_id: str, at: float) -> Overdue | None:
    """End a hold that is past its time, with its job; None when the job is alive or the hold was settled before."""
    job_id = connection.execute(select(jobs.c.id).where(jobs.c.hold_id == hold_id)).scalar_one_or_none()
    job = rows.load_job(connection, job_id) if job_id is not None else None
    if job is None or job.status not in ACTIVE:
        expired = ledger.expire(connection, hold_id, at, REASON)
        return Overdue() if isinstance(expired, ledger.Expired) else None
    parked = _take(connection, job, at)
    if parked is None:
        return None
    attempt = rows.open_attempt(rows.load_attempts(connection, job.id))
    if attempt is not None:
        told, suspected = "its job could not be driven to an end", attempt.outstanding
        lost = AttemptEnd(FailureKind.LOST, told, at, suspected=suspected)
        attempt = settlement.fail_attempt(connection, parked, attempt, lost, {})
    unknown = OutcomeUnknown("what became of it could not be found out in time; nothing is charged")
    ended = settlement.end_job(connection, parked, JobStatus.EXPIRED, unknown, at, kind="expired")
    return Overdue(ended, attempt)


def end_parked(connection: Connection, job_id: str, at: float) -> Overdue | None:
    """End a parked job that its caller canceled or whose time is up; None while a vendor may be at work for it."""
    job = rows.load_job(connection, job_id)
    if job is None or job.parked_at is None or job.status not in ACTIVE:
        return None
    attempt = rows.open_attempt(rows.load_attempts(connection, job_id))
    if attempt is not None and attempt.outstanding:
        return None
    why: JobProblem
    if job.cancel_requested_at is not None:
        status, why = JobStatus.CANCELED, JobCanceled("canceled by the caller; nothing is charged")
    elif at >= job.give_up_at:
        told = "nothing could be started in time: whatever drove the job broke, and it waited for an operator"
        status, why = JobStatus.EXPIRED, DeadlinePassed(told)
    else:
        return None
    taken = _take(connection, job, at)
    if taken is None:
        return None
    if attempt is not None:
        end = AttemptEnd("canceled", f"not sent: its job is {status}", at)
        attempt = settlement.fail_attempt(connection, taken, attempt, end, {})
    return Overdue(settlement.end_job(connection, taken, status, why, at), attempt)


def _take(connection: Connection, job: Job, at: float) -> Job | None:
    """The job under a new fence, when nobody holds its lease and nobody would claim it."""
    idle = or_(jobs.c.due_at > at, jobs.c.parked_at.is_not(None))
    free = jobs.c.lease_until.is_(None), idle, jobs.c.status.in_(ACTIVE)
    fenced = update(jobs).where(jobs.c.id == job.id, jobs.c.fence == job.fence, *free).values(fence=job.fence + 1)
    return rows.load_job(connection, job.id) if connection.execute(fenced).rowcount == 1 else None
