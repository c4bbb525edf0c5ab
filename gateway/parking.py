"""Jobs that break whoever drives them: tried again after a pause, and parked for an operator when that goes on.

A crash is counted when a driver raises, and when a lease was not handed over: its process died. It is forgotten as soon
as the job has come a step on, so that only what stops a job from being driven at all adds up. A parked job is claimed
by nobody and keeps its hold, until an operator sends it back to work. Where no vendor can be at work for it, it ends
when its caller cancels it or its time is up; else with the time of its hold (overdue.py).
"""

from __future__ import annotations

from sqlalchemy import Connection, or_, select, update

from gateway import events
from gateway.jobs import ACTIVE
from gateway.store import jobs as rows
from gateway.store.jobs import Job, Lease, LeaseLostError
from gateway.store.schema import jobs

# Between two tries of a job whose driver raised.
CRASH_PAUSE_S = 30.0


def note_crash(connection: Connection, lease: Lease, at: float, crashes_max: int) -> bool:
    """Let go of a job whose driver raised, for a pause; True when it was once too often and the job is parked.

    Raises LeaseLostError when another process drives it now.
    """
    job = rows.load_job(connection, lease.id)
    if job is None or job.fence != lease.fence:
        raise LeaseLostError(lease.id)
    crashes = job.crashes + 1
    if crashes >= crashes_max:
        park(connection, job, at, crashes)
        return True
    changes = {"crashes": crashes, "lease_owner": None, "lease_until": None, "due_at": at + CRASH_PAUSE_S}
    rows.update_job(connection, job, changes)
    return False


def park(connection: Connection, job: Job, at: float, crashes: int) -> None:
    """Take a job out of work and tell the operator. Raises LeaseLostError when another process drives it now."""
    changes = {"crashes": crashes, "lease_owner": None, "lease_until": None, "parked_at": at}
    rows.update_job(connection, job, changes)
    events.job_parked(connection, job, at, crashes)


def requeue(connection: Connection, job_id: str, at: float) -> bool:
    """Send a parked job back to work, its crashes forgotten; False when it is not parked."""
    parked = update(jobs).where(jobs.c.id == job_id, jobs.c.parked_at.is_not(None), jobs.c.status.in_(ACTIVE))
    return connection.execute(parked.values(parked_at=None, crashes=0, due_at=at)).rowcount == 1


def parked_and_over(connection: Connection, at: float) -> list[str]:
    """The parked jobs that their caller canceled, or whose time is up."""
    is_over = or_(jobs.c.cancel_requested_at.is_not(None), jobs.c.give_up_at <= at)
    query = select(jobs.c.id).where(jobs.c.parked_at.is_not(None), jobs.c.status.in_(ACTIVE), is_over)
    return list(connection.execute(query.order_by(jobs.c.parked_at)).scalars())


def list_parked(connection: Connection) -> list[Job]:
    """Every parked job that has not ended, the one that waits longest first."""
    query = select(jobs.c.id).where(jobs.c.parked_at.is_not(None), jobs.c.status.in_(ACTIVE))
    found = [
        rows.load_job(connection, job_id) for job_id in connection.execute(query.order_by(jobs.c.parked_at)).scalars()
    ]
    return [job for job in found if job is not None]
