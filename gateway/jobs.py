"""The life of a job and of an attempt: the states and the legal moves between them, as one table. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class JobStatus(StrEnum):
    """Where a client's request stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"


class AttemptState(StrEnum):
    """Where one try on one route stands.

    `prepared` is committed before anything is sent, `accepted` before the first poll. `in_doubt` is neither success nor
    failure: the vendor may or may not be working for us.
    """

    PREPARED = "prepared"
    ACCEPTED = "accepted"
    IN_DOUBT = "in_doubt"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


ACTIVE = frozenset({JobStatus.QUEUED, JobStatus.RUNNING})
TERMINAL = frozenset(JobStatus) - ACTIVE

JOB_MOVES: Mapping[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.FAILED, JobStatus.CANCELED, JobStatus.EXPIRED}),
    JobStatus.RUNNING: frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELED, JobStatus.EXPIRED}),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELED: frozenset(),
    JobStatus.EXPIRED: frozenset(),
}

ATTEMPT_MOVES: Mapping[AttemptState, frozenset[AttemptState]] = {
    AttemptState.PREPARED: frozenset(
        {AttemptState.ACCEPTED, AttemptState.IN_DOUBT, AttemptState.SUCCEEDED, AttemptState.FAILED}
    ),
    AttemptState.IN_DOUBT: frozenset(
        {AttemptState.PREPARED, AttemptState.ACCEPTED, AttemptState.SUCCEEDED, AttemptState.FAILED}
    ),
    AttemptState.ACCEPTED: frozenset({AttemptState.IN_DOUBT, AttemptState.SUCCEEDED, AttemptState.FAILED}),
    AttemptState.SUCCEEDED: frozenset(),
    AttemptState.FAILED: frozenset(),
}

# With a token an attempt is polled, without one it is submitted: one that is to be submitted cannot have any.
WITHOUT_TOKEN = frozenset({AttemptState.PREPARED})


class IllegalMoveError(RuntimeError):
    """A programmer's error: a state was to change in a way that the tables do not allow."""


def check_token(state: AttemptState, token: object) -> None:
    """Raise IllegalMoveError for a token where an attempt cannot have one."""
    if state in WITHOUT_TOKEN and token is not None:
        raise IllegalMoveError(f"an attempt that is {state} has a token")


def move_job(old: JobStatus, new: JobStatus) -> JobStatus:
    """The new status, or IllegalMoveError."""
    if new not in JOB_MOVES[old]:
        raise IllegalMoveError(f"a job cannot go from {old} to {new}")
    return new


def move_attempt(old: AttemptState, new: AttemptState) -> AttemptState:
    """The new state, or IllegalMoveError."""
    if new not in ATTEMPT_MOVES[old]:
        raise IllegalMoveError(f"an attempt cannot go from {old} to {new}")
    return new
