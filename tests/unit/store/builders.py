"""Rows for the store's tests: a team with a key, jobs that are due, attempts that are open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, StaticPool, create_engine, insert

from gateway.jobs import AttemptState, JobStatus
from gateway.store.jobs import Attempt, Job, insert_job
from gateway.store.metadata import metadata
from gateway.store.schema import attempts, jobs, keys, teams

NOW = 1_000.0


def a_job(number: int, **changes: Any) -> Job:
    """A queued job that is due, with small values in every field that must have one."""
    job = Job(
        id=f"job_{number:03d}",
        team_id="team",
        key_id="key",
        media="video",
        status=JobStatus.QUEUED,
        created_at=NOW,
        deadline_at=NOW + 900,
        give_up_at=NOW + 1_800,
        hold_id=f"hold_{number:03d}",
        held_micros=165_900,
        request={"written": {"num_frames": 14}, "fit": "exact"},
        input={"sha256": "00"},
        due_at=NOW,
    )
    return replace(job, **changes)


def an_attempt(job: Job, number: int = 1, **changes: Any) -> Attempt:
    """An open attempt of a job."""
    attempt = Attempt(
        id=f"{job.id}_att_{number}",
        job_id=job.id,
        number=number,
        route="vendor/model",
        account="vendor",
        size_class="14",
        state=AttemptState.PREPARED,
        prepared_at=NOW,
        wire={"frames": "14"},
        price_micros=3_000_000_000,
    )
    return replace(attempt, **changes)


def add_team(connection: Connection, name: str = "team") -> None:
    """A team and its key; `team` has the key `key`."""
    connection.execute(insert(teams).values(id=name, name=name, plan={}, created_at=0.0))
    key = {"id": name.replace("team", "key"), "team_id": name, "name": "k", "prefix": "vg_", "hash": name}
    connection.execute(insert(keys).values(key | {"grants": {}, "created_at": 0.0}))


def add_jobs(connection: Connection, *new: Job) -> None:
    """Insert jobs of the one team."""
    for job in new:
        insert_job(connection, job)


@contextmanager
def in_memory() -> Iterator[Connection]:
    """A transaction on a fresh database in memory that has the team and the job tables; for property tests."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with engine.begin() as connection:
        metadata.create_all(connection, tables=[teams, keys, jobs, attempts])
        add_team(connection)
        yield connection
    engine.dispose()
