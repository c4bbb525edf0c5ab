"""One job while this process drives it: its rows as last written, and what need not outlive the process.

A job that waits for a vendor keeps no rows: thousands of them wait in one process, most of their lives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from sys import intern

from sqlalchemy import Connection

from gateway.jobs import ACTIVE, AttemptState
from gateway.store import jobs as rows
from gateway.store.database import Store
from gateway.store.jobs import Attempt, Job, Lease, LeaseLostError, open_attempt
from gateway.telemetry.trace_context import Trace
from providers.contract import Pending, Token

LOOK_INTERVAL_MAX_S = 60.0
# No sleep is shorter: a step that wants to wait lets the others go first.
SLEEP_MIN_S = 0.001
# What callers are told of a wait for a vendor that was chosen already.
LEFT_ALONE, FULL = "the vendor asked to be left alone", "as much runs there as may run at once"


@dataclass(frozen=True, slots=True)
class Render:
    """What it takes to ask a vendor for an attempt that has a token.

    `until` is the deadline at which it is asked for the last time. `known` is False once the vendor has said that it
    does not know it.
    """

    attempt_id: str
    route: str
    size_class: str
    token: Token
    sent_at: float
    eta_s: float | None
    until: float
    known: bool

    @classmethod
    def of(cls, attempt: Attempt, until: float) -> Render:
        """What to keep of an attempt."""
        return cls(
            attempt_id=attempt.id,
            route=intern(attempt.route),
            size_class=intern(attempt.size_class),
            token=attempt.token or {},
            sent_at=attempt.began_at,
            eta_s=attempt.eta_s,
            until=until,
            known=attempt.state is AttemptState.ACCEPTED,
        )


@dataclass(slots=True)
class Run:
    """The working state of one job. `critical` is set while stopping would lose the outcome of a call.

    `cancel_wanted` stands apart from the job's row, so that a wish that comes in the middle of a write is not lost.
    `lease_until` is how long this process may act for it without asking the store again.
    `sleep_s` is set by a step that has to wait, `idle` by one that does nothing before; `slept` says that the step
    before had to wait, and `woken` ends the next sleep before it begins. `why` and `until` tell callers what is waited
    for. The rows are in memory, or `render` is (at rest), or they are unread. `rendered_at` is when a vendor was last
    seen to be done.
    `team` and `root`, the span of the request that the job came with, say where it stands in logs and traces.
    """

    job_id: str
    fence: int
    team: str = ""
    root: Trace | None = None
    _job: Job | None = None
    _attempts: list[Attempt] = field(default_factory=list)
    render: Render | None = None
    unread: bool = False
    crashes: int = 0
    stage: str = "queued"
    progress: float | None = None
    eta_s: float | None = None
    polls: int = 0
    rendered_at: float = 0.0
    looks: int = 0
    sleep_s: float = 0.0
    idle: bool = False
    slept: bool = False
    woken: bool = False
    why: str = ""
    until: float | None = None
    cancel_wanted: bool = False
    cancel_tried: bool = False
    critical: bool = False
    lease_until: float = inf

    @classmethod
    def of(cls, job: Job) -> Run:
        """A run of a job as it was just admitted or claimed."""
        began = job.fence > 1 or job.route is not None
        root = Trace.parse(job.trace)
        run = cls(job.id, job.fence, intern(job.team_id), root, job, unread=began, crashes=job.crashes)
        run.cancel_wanted = job.cancel_requested_at is not None
        run.lease_until = job.lease_until or run.lease_until
        return run

    def take_again(self, job: Job) -> None:
        """Go on under a new fence: the lease ran out, and this very process was the first to claim the job."""
        self.fence, self.crashes, self.lease_until = job.fence, job.crashes, job.lease_until or inf
        if self._job is not None:
            self._job = replace(self._job, fence=job.fence)

    @property
    def trace(self) -> Trace | None:
        """The span under which it goes on: that of the attempt under way, or the job's."""
        return self.root.at_row(self.facts().get("attempt", self.job_id)) if self.root is not None else None

    def facts(self) -> Mapping[str, str]:
        """What its logs and spans say of it."""
        known = {"job": self.job_id, "team": self.team}
        if self.render is not None:
            return known | {"route": self.render.route, "attempt": self.render.attempt_id}
        attempt = open_attempt(self._attempts)
        return known | ({"route": attempt.route, "attempt": attempt.id} if attempt is not None else {})

    @property
    def lease(self) -> Lease:
        """What every write for this job carries."""
        return Lease(self.job_id, self.fence)

    @property
    def active(self) -> bool:
        """Whether there is anything left to do for the job."""
        return self.unread or self.render is not None or self.job.status in ACTIVE

    @property
    def job(self) -> Job:
        """The job's row; only while the run is not at rest."""
        assert self._job is not None, f"{self.job_id} keeps no rows while it waits for a vendor"
        return self._job

    @job.setter
    def job(self, job: Job) -> None:
        """Take in the row as it was just written."""
        self._job = job

    @property
    def attempts(self) -> list[Attempt]:
        """The rows of its attempts, first one first; only while the run is not at rest."""
        assert self._job is not None, f"{self.job_id} keeps no rows while it waits for a vendor"
        return self._attempts

    @property
    def open(self) -> Attempt | None:
        """The attempt under way, if any."""
        return open_attempt(self.attempts)

    @property
    def attempt_id(self) -> str | None:
        """The attempt under way, or the last one."""
        if self.render is not None:
            return self.render.attempt_id
        return self._attempts[-1].id if self._attempts else None

    @property
    def doubt_answered(self) -> bool:
        """Whether the submit in doubt got an HTTP answer (502, 504) and not silence; the attempt's story tells."""
        doubts = [event for event in self.attempts[-1].events if event["what"] == "in_doubt"]
        return bool(doubts) and "status" in doubts[-1]

    @property
    def nothing_outstanding(self) -> bool:
        """Whether no vendor can be working for this job now."""
        return self.open is None or not self.open.outstanding

    def put(self, attempt: Attempt) -> None:
        """Take in an attempt as it was just written."""
        if self.attempts and self.attempts[-1].id == attempt.id:
            self.attempts[-1] = attempt
        else:
            self.attempts.append(attempt)

    def rest(self, render: Render) -> None:
        """Let the rows go: what is kept is enough to ask the vendor, and to read the rows again."""
        self._job, self._attempts, self.render = None, [], render

    async def read(self, store: Store) -> None:
        """Take the rows into memory. Raises LeaseLostError as a write would."""
        job, attempts = await store.read(load_rows, self.job_id)
        if job is None or job.fence != self.fence or job.status not in ACTIVE:
            raise LeaseLostError(self.job_id)
        self._job, self._attempts, self.render, self.unread = job, attempts, None, False
        self.cancel_wanted = self.cancel_wanted or job.cancel_requested_at is not None

    async def rouse(self, store: Store) -> Attempt:
        """End the rest, if any; the attempt under way. Raises LeaseLostError as a write would."""
        if self._job is None:
            await self.read(store)
        assert self.open is not None, "nobody else ends an attempt under this fence"
        return self.open

    def progressed(self, told: Pending) -> bool:
        """Take in what the vendor says of a render at work; whether that is news."""
        changed = (self.eta_s, self.progress) != (told.eta_s, told.progress)
        self.eta_s, self.progress = told.eta_s, told.progress
        return changed

    def begin_step(self) -> None:
        """Forget the sleep that is over, but for the fact."""
        self.slept, self.sleep_s, self.idle = self.sleep_s > 0, 0.0, False
        self.why, self.until = "", None

    def sleep(self, seconds: float, *, idle: bool = False) -> None:
        """Let the next step begin only after so many seconds, or when the run is woken."""
        self.sleep_s, self.idle = max(seconds, SLEEP_MIN_S), idle

    def wait(self, stage: str, seconds: float, *, why: str, until: float | None) -> None:
        """Sleep for so long because of something that is expected to last until then."""
        self.stage, self.why, self.until = stage, why, until
        self.sleep(seconds)

    def next_look_s(self) -> float:
        """Seconds to wait before looking once more at what nobody can tell, doubling up to a minute."""
        self.looks += 1
        return min(LOOK_INTERVAL_MAX_S, 2.0 ** min(self.looks, 10))


def load_rows(connection: Connection, job_id: str) -> tuple[Job | None, list[Attempt]]:
    """A job with its attempts, in one snapshot."""
    return rows.load_job(connection, job_id), rows.load_attempts(connection, job_id)
