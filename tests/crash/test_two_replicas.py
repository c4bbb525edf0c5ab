"""Two replicas over one PostgreSQL: one dies and the other takes its jobs up; one is paused and comes back too late."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from gateway.dispatcher import CLAIM_INTERVAL_S
from gateway.store.schema import attempts, jobs
from gateway.store.schema_events import events
from gateway.store.schema_money import entries, holds, settlements
from tests.crash.matrix import MatrixStand, Pace, matrix_stand
from tests.support.gateway import unsound
from tests.support.postgres import PostgresServer

# `make kills` takes 500.
SHARED_JOBS = int(os.environ.get("VIDGATE_REPLICA_JOBS", "60"))
PACE = Pace(claim_s=CLAIM_INTERVAL_S, poll_s=0.5, lease_s=3.0, heartbeat_s=0.8)
PICK_UP_S = PACE.lease_s + PACE.claim_s + 1.0
PATIENCE_S = 60.0
TABLES = (jobs, attempts, holds, settlements, entries, events)


@pytest.fixture
def stand(tmp_path: Path, postgres: PostgresServer) -> Iterator[MatrixStand]:
    name = postgres.create("migrated")
    with matrix_stand(tmp_path, postgres.url(name), PACE) as stand:
        yield stand
    postgres.drop(name)


def leases(connection: Connection) -> list[Any]:
    """Who owns which unfinished job, under which fence."""
    columns = jobs.c.id, jobs.c.lease_owner, jobs.c.fence
    return list(connection.execute(select(*columns).where(jobs.c.status == "running", jobs.c.parked_at.is_(None))))


def everything(connection: Connection) -> dict[str, list[Any]]:
    """Every row that a job may change."""
    return {table.name: sorted(map(str, connection.execute(select(table)))) for table in TABLES}


def test_the_jobs_of_a_dead_replica_are_picked_up_within_lease_claim_and_a_second(stand: MatrixStand) -> None:
    """Half of the running jobs lose their process: by the rows, each has a new owner and a higher fence in time."""
    first = stand.gateway
    assert first is not None
    stand.start()
    second = stand.gateway
    assert second is not None
    for number in range(SHARED_JOBS):
        stand.client.base_url = (first, second)[number % 2].url
        assert stand.post("slow", number + 1) is not None
    until = time.monotonic() + PATIENCE_S
    while len(before := stand.transact(leases)) < SHARED_JOBS:
        assert time.monotonic() < until, f"{len(before)} of {SHARED_JOBS} jobs run"
        time.sleep(0.05)
    shares = Counter(row.lease_owner for row in before)
    assert set(shares) == {first.owner, second.owner}
    began = time.monotonic()
    first.kill()
    while any(row.lease_owner == first.owner for row in stand.transact(leases)):
        assert time.monotonic() < began + PATIENCE_S, "they were never picked up"
        time.sleep(0.02)
    took_s = time.monotonic() - began
    print(f"{shares[first.owner]} of {SHARED_JOBS} jobs picked up within {took_s:.2f} s of {PICK_UP_S:g} s")
    fences = {row.id: row.fence for row in before if row.lease_owner == first.owner}
    after = {row.id: row for row in stand.transact(leases)}
    assert all(after[job_id].fence == fence + 1 for job_id, fence in fences.items())
    assert took_s <= PICK_UP_S
    stand.client.base_url = second.url
    stand.finish()
    for job_id in after:
        ended(stand, job_id)
    assert set(stand.meter()["accepted"].values()) == {1}
    assert stand.transact(unsound) == []


@pytest.mark.parametrize(
    "step",
    [
        "after settlement.start_attempt",
        "before vendor.submit",
        "after vendor.submit",
        "after vendor.check",
        "before settlement.succeed",
    ],
)
def test_a_replica_that_comes_back_after_its_lease_changes_nothing(stand: MatrixStand, step: str) -> None:
    """SIGSTOP in the middle of a job, another replica ends it, SIGCONT: no row changes, nothing is submitted again."""
    paused = stand.gateway
    assert paused is not None
    paused.aim(step, how=signal.SIGSTOP)
    job_id = stand.post("plain", 1)
    assert job_id is not None
    paused.stopped(step)
    stand.start()
    other = stand.gateway
    assert other is not None
    job = ended(stand, job_id)
    assert job["status"] == "succeeded"
    told = {name: rows for name, rows in stand.transact(everything).items() if name != "events"}
    submits = stand.meter()["submits"]
    os.kill(paused.pid, signal.SIGCONT)
    until = time.monotonic() + PATIENCE_S
    while "job.lease_lost" not in stand.log():
        assert time.monotonic() < until, f"it never noticed\n{stand.log()[-2000:]}"
        time.sleep(0.02)
    time.sleep(0.5)
    assert not paused.is_dead(), "it ended over it"
    assert {name: rows for name, rows in stand.transact(everything).items() if name != "events"} == told
    meter = stand.meter()
    assert (meter["submits"], list(meter["accepted"].values())) == (submits, [1])
    assert stand.transact(unsound) == []
    assert (paused.stop(), other.stop()) == (0, 0)


def ended(stand: MatrixStand, job_id: str) -> dict[str, Any]:
    """A job once it has ended."""
    until = time.monotonic() + PATIENCE_S
    while True:
        job = stand.job(job_id)
        assert job is not None
        if job["finished_at"] is not None:
            return job
        assert time.monotonic() < until, f"not ended: {job}\n{stand.log()[-3000:]}"


def test_a_terminated_replica_hands_over_what_it_has_just_begun(stand: MatrixStand) -> None:
    """SIGTERM amid many submits: exit 0 within its grace, the other goes on at once, and nothing is in doubt."""
    first = stand.gateway
    assert first is not None
    stand.start()
    second = stand.gateway
    assert second is not None
    stand.client.base_url = first.url
    ids = [stand.post("slow", number + 1) for number in range(SHARED_JOBS)]
    began = time.monotonic()
    assert first.stop() == 0
    took_s = time.monotonic() - began
    while any(row.lease_owner != second.owner for row in stand.transact(unfinished)):
        assert time.monotonic() < began + took_s + PATIENCE_S, "they were never picked up"
        time.sleep(0.02)
    print(f"{SHARED_JOBS} jobs: drained in {took_s:.2f} s, all owned again after {time.monotonic() - began:.2f} s")
    assert [row.crashes for row in stand.transact(unfinished)] == [0] * SHARED_JOBS
    stand.client.base_url = second.url
    stand.finish()
    for job_id in ids:
        assert job_id is not None
        job = ended(stand, job_id)
        assert job["status"] == "succeeded"
        assert "in_doubt" not in [event["what"] for event in job["attempts"][0]["events"]]
    assert set(stand.meter()["accepted"].values()) == {1}
    assert second.stop() == 0


def unfinished(connection: Connection) -> list[Any]:
    """Every job that has not ended: its owner and what crashed over it."""
    columns = jobs.c.id, jobs.c.lease_owner, jobs.c.crashes
    return list(connection.execute(select(*columns).where(jobs.c.finished_at.is_(None))))
