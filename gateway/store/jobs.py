"""The statements over jobs and attempts. Every write of the engine carries the fence of its lease.

All functions are plain and synchronous, take the connection first and never commit (see database.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Text,
    and_,
    case,
    cast,
    func,
    insert,
    or_,
    select,
    update,
)

from gateway.jobs import ACTIVE, AttemptState, JobStatus, check_token
from gateway.store.prepared import Prepared
from gateway.store.schema import attempts, job_tags, jobs
from gateway.store.schema_events import webhook_deliveries
from providers.vocabulary import Media

Json = dict[str, Any]

# From this many crashes on a job may be what kills its drivers: such are taken up a few at a time and in any order, so
# that the others have come on before the one that is.
SUSPECT_CRASHES = 3
# Nobody takes a lease or puts a job off for longer: such a time was written by a clock that was ahead then.
AHEAD_MAX_S = 900.0
# In the text of a story of which a submit was suspected to be charged, and of few others.
SUSPECTED = '%"suspected":%true%'


class LeaseLostError(RuntimeError):
    """Another process drives this job now: whatever this one wanted to write is void."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What a write under a lease must know of its job."""

    id: str
    fence: int


@dataclass(frozen=True, slots=True)
class Job:
    """A row of `jobs`. Times are unix seconds, money is micro-USD."""

    id: str
    team_id: str
    key_id: str
    media: Media
    status: JobStatus
    created_at: float
    deadline_at: float
    give_up_at: float
    hold_id: str
    held_micros: int
    request: Json
    input: Json
    due_at: float
    parameters: Json = field(default_factory=dict)
    plan: Json = field(default_factory=dict)
    replans: list[Json] = field(default_factory=list)
    route: str | None = None
    receipt: list[Json] = field(default_factory=list)
    result: Json | None = None
    error: Json | None = None
    bill: Json | None = None
    started_at: float | None = None
    finished_at: float | None = None
    cancel_requested_at: float | None = None
    lease_owner: str | None = None
    lease_until: float | None = None
    fence: int = 0
    crashes: int = 0
    parked_at: float | None = None
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A row of `attempts`: one try of a job on one route."""

    id: str
    job_id: str
    number: int
    route: str
    account: str
    size_class: str
    state: AttemptState
    prepared_at: float
    wire: Json
    price_micros: int
    submits: int = 0
    events: list[Json] = field(default_factory=list)
    sent_at: float | None = None
    accepted_at: float | None = None
    finished_at: float | None = None
    token: Json | None = None
    eta_s: float | None = None
    failure_kind: str | None = None
    failure_detail: str | None = None
    vendor_request_id: str | None = None
    credits_before_micros: int | None = None
    cost_micros: int | None = None
    cost_source: str | None = None
    seed: int | None = None
    model: str | None = None

    @property
    def began_at(self) -> float:
        """When its last submit was sent, or else when it was prepared."""
        return self.sent_at or self.prepared_at

    @property
    def outstanding(self) -> bool:
        """Whether the vendor can be at work for it now."""
        is_unsent = self.state is AttemptState.PREPARED and self.sent_at is None
        return self.finished_at is None and not is_unsent

    def rest_left_s(self, now: float, *, slept: bool) -> float:
        """Seconds for which the vendor is to be left alone before this is submitted again, by its last event.

        No longer than was meant, however clocks jump: while the event lies ahead of the clock, all of it, and nothing
        once that was slept through.
        """
        last = self.events[-1] if self.events else {}
        at, again_at = float(last.get("at", now)), float(last.get("again_at", now))
        if at > now:
            return 0.0 if slept else max(0.0, again_at - at)
        return max(0.0, again_at - now)


_NAMES = {row: tuple(column.name for column in fields(row)) for row in (Job, Attempt)}
_INSERT_JOB = Prepared(insert(jobs))
_INSERT_TAG = Prepared(insert(job_tags))


def insert_job(connection: Connection, job: Job) -> None:
    """Write a new job and its tags; what it does not have yet is left out."""
    _INSERT_JOB.changed(connection, {name: value for name, value in _values(job).items() if value is not None})
    for name, value in job.request.get("metadata", {}).items():
        tag = {"job_id": job.id, "team_id": job.team_id, "name": name, "value": value}
        _INSERT_TAG.changed(connection, tag)


def load_job(connection: Connection, job_id: str, team_id: str | None = None) -> Job | None:
    """A job by its id; with a team, only that team's."""
    query = select(jobs).where(jobs.c.id == job_id)
    if team_id is not None:
        query = query.where(jobs.c.team_id == team_id)
    row = connection.execute(query).mappings().one_or_none()
    return job_of(row) if row is not None else None


def load_attempts(connection: Connection, job_id: str) -> list[Attempt]:
    """The attempts of a job, first one first."""
    rows = connection.execute(select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.number))
    return [attempt_of(row) for row in rows.mappings()]


def load_attempt(connection: Connection, attempt_id: str) -> Attempt | None:
    """An attempt by its id."""
    row = connection.execute(select(attempts).where(attempts.c.id == attempt_id)).mappings().one_or_none()
    return attempt_of(row) if row is not None else None


def claim_due(
    connection: Connection, owner: str, now: float, lease_s: float, limit: int, *, suspects_max: int = 1
) -> list[Job]:
    """Take the lease of unfinished jobs that are due and that nobody holds; each claim raises the fence.

    A lease that another process held and did not hand over is a dead one's: a crash of the job's driver.
    """
    free = or_(jobs.c.lease_until.is_(None), jobs.c.lease_until < now, jobs.c.lease_until > now + AHEAD_MAX_S)
    is_due = or_(jobs.c.due_at <= now, jobs.c.due_at > now + AHEAD_MAX_S)
    wanted = jobs.c.status.in_(ACTIVE), jobs.c.parked_at.is_(None), is_due, free
    suspected = select(jobs.c.id).where(*wanted, jobs.c.crashes >= SUSPECT_CRASHES).order_by(func.random())
    # Materialized: a plan that ran an inner query more than once would lock more rows than its limit.
    suspects = suspected.limit(suspects_max).cte("suspects").prefix_with("MATERIALIZED", dialect="postgresql")
    due = (
        select(jobs.c.id)
        .where(*wanted, or_(jobs.c.crashes < SUSPECT_CRASHES, jobs.c.id.in_(select(suspects.c.id))))
        .order_by(jobs.c.due_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    died = case((jobs.c.lease_owner.is_(None), 0), (jobs.c.lease_owner == owner, 0), else_=1)
    chosen = due.cte("chosen").prefix_with("MATERIALIZED", dialect="postgresql")
    statement = (
        update(jobs)
        .where(jobs.c.id.in_(select(chosen.c.id)))
        .values(lease_owner=owner, lease_until=now + lease_s, fence=jobs.c.fence + 1, crashes=jobs.c.crashes + died)
        .returning(jobs)
    )
    claimed = [job_of(row) for row in connection.execute(statement).mappings()]
    return sorted(claimed, key=lambda job: job.due_at)


def extend_leases(connection: Connection, owner: str, until: float, job_ids: Sequence[str]) -> dict[str, bool]:
    """Keep the leases that this process holds on these jobs; those it still had, and whether to stop each was asked."""
    held = and_(jobs.c.id.in_(job_ids), jobs.c.lease_owner == owner, jobs.c.status.in_(ACTIVE))
    extended = update(jobs).where(held).values(lease_until=until).returning(jobs.c.id, jobs.c.cancel_requested_at)
    return {job_id: wished_at is not None for job_id, wished_at in connection.execute(extended)}


def release_leases(connection: Connection, owner: str | None, now: float) -> int:
    """Let go of everything that `owner` holds: the jobs are due at once for whoever claims.

    With no owner, of everything that anybody holds, sends of events too: all are dead, and their drivers crashed.
    """
    held: list[ColumnElement[bool]] = [jobs.c.status.in_(ACTIVE), jobs.c.lease_owner.is_not(None)]
    if owner is not None:
        held.append(jobs.c.lease_owner == owner)
    crashes = jobs.c.crashes + (1 if owner is None else 0)
    released = {"lease_owner": None, "lease_until": None, "due_at": now, "crashes": crashes}
    if owner is None:
        leased = update(webhook_deliveries).where(webhook_deliveries.c.lease_until.is_not(None))
        connection.execute(leased.values(lease_until=None))
    return connection.execute(update(jobs).where(*held).values(released)).rowcount


def update_job(connection: Connection, job: Job | Lease, changes: Mapping[str, Any]) -> None:
    """Change a job under its fence. Raises LeaseLostError when another process has taken it over."""
    statement = update(jobs).where(jobs.c.id == job.id, jobs.c.fence == job.fence, jobs.c.status.in_(ACTIVE))
    if connection.execute(statement.values(dict(changes))).rowcount != 1:
        raise LeaseLostError(job.id)


def request_cancel(connection: Connection, job_id: str, at: float) -> bool:
    """Note that the caller wants a job stopped; False when it has ended or was asked before."""
    statement = update(jobs).where(jobs.c.id == job_id, jobs.c.status.in_(ACTIVE), jobs.c.cancel_requested_at.is_(None))
    return connection.execute(statement.values(cancel_requested_at=at)).rowcount == 1


def insert_attempt(connection: Connection, job: Job, attempt: Attempt) -> None:
    """Write the intent to try, before anything is sent. Raises LeaseLostError as `update_job` does."""
    check_token(attempt.state, attempt.token)
    hold_fence(connection, job)
    connection.execute(insert(attempts), _values(attempt))


def written_attempt(connection: Connection, job: Job, attempt: Attempt) -> tuple[Job, Attempt]:
    """A job and its attempt as they are now. Raises LeaseLostError without the attempt, or under another fence."""
    now = load_job(connection, job.id)
    written = next((one for one in load_attempts(connection, job.id) if one.id == attempt.id), None)
    if now is None or now.fence != job.fence or written is None:
        raise LeaseLostError(job.id)
    return now, written


def update_attempt(connection: Connection, job: Job, attempt: Attempt, changes: Mapping[str, Any]) -> None:
    """Change an attempt under its job's fence. Raises LeaseLostError as `update_job` does."""
    check_token(changes.get("state", attempt.state), changes.get("token", attempt.token))
    hold_fence(connection, job)
    statement = update(attempts).where(attempts.c.id == attempt.id, attempts.c.state == attempt.state)
    if connection.execute(statement.values(dict(changes))).rowcount != 1:
        raise LeaseLostError(job.id)


@dataclass(frozen=True, slots=True)
class Rivals:
    """What else on an account a render in the vendor's records may belong to.

    `claimed` are the request ids that belong to other attempts. `twin` says that another attempt with the very same
    inputs was lost too, so that a render found in the records cannot be told to be either's.
    """

    claimed: frozenset[str]
    twin: bool


def rivals(connection: Connection, attempt: Attempt, since: float) -> Rivals:
    """The rivals of a lost attempt among those prepared since then on its account."""
    others = attempts.c.account == attempt.account, attempts.c.prepared_at >= since, attempts.c.id != attempt.id
    named = select(attempts.c.vendor_request_id).where(*others, attempts.c.vendor_request_id.is_not(None))
    # Roughly, in the text: most attempts were never lost, and their stories need not be read to know it.
    perhaps_lost = or_(attempts.c.vendor_request_id.is_(None), cast(attempts.c.events, Text).like(SUSPECTED))
    columns = attempts.c.vendor_request_id, attempts.c.state, attempts.c.wire, attempts.c.events
    rows = connection.execute(select(*columns).where(*others, perhaps_lost)).all()
    return Rivals(
        claimed=frozenset(connection.execute(named).scalars()),
        twin=any(row.wire == attempt.wire and _was_lost(row) for row in rows),
    )


def _was_lost(row: Any) -> bool:
    """Whether an attempt may have started a render that nobody knows to be its own.

    A doubt that the records have ended is none any more: by its request id such an attempt has its render.
    """
    doubted = any(event["what"] == "in_doubt" for event in row.events)
    unknown = row.vendor_request_id is None and (doubted or row.state in {AttemptState.PREPARED, AttemptState.IN_DOUBT})
    return unknown or any(event.get("suspected", False) for event in row.events)


def finished_attempts(connection: Connection, since: float, limit: int) -> list[Attempt]:
    """Attempts that ended since then, oldest first: what the estimators are rebuilt from."""
    query = select(attempts).where(attempts.c.finished_at >= since).order_by(attempts.c.finished_at.desc()).limit(limit)
    return [attempt_of(row) for row in reversed(connection.execute(query).mappings().all())]


def hold_fence(connection: Connection, job: Job) -> None:
    """Make sure, for the rest of this transaction, that the job is still this process's."""
    statement = update(jobs).where(jobs.c.id == job.id, jobs.c.fence == job.fence, jobs.c.status.in_(ACTIVE))
    if connection.execute(statement.values(fence=job.fence)).rowcount != 1:
        raise LeaseLostError(job.id)


def _values(row: Job | Attempt) -> Json:
    return {name: getattr(row, name) for name in _NAMES[type(row)]}


def job_of(row: RowMapping) -> Job:
    """A job out of its row."""
    return Job(**{**row, "status": JobStatus(row["status"])})


def attempt_of(row: RowMapping) -> Attempt:
    """An attempt out of its row."""
    return Attempt(**{**row, "state": AttemptState(row["state"])})


def open_attempt(tries: Sequence[Attempt]) -> Attempt | None:
    """The attempt under way, if any: at most one can be."""
    last = tries[-1] if tries else None
    return last if last is not None and last.finished_at is None else None


def job_of_attempt(connection: Connection, attempt_id: str) -> str | None:
    """The job that an attempt belongs to."""
    return connection.execute(select(attempts.c.job_id).where(attempts.c.id == attempt_id)).scalar_one_or_none()
