"""Killed at every step, once and twice, in a process of its own: each job ends as if nothing had happened."""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, select

from gateway.admission import Admission, Answer, admit
from gateway.clock import SystemClock
from gateway.events import event_id
from gateway.jobs import JobStatus
from gateway.store import jobs as rows
from gateway.store.jobs import AHEAD_MAX_S, Job
from gateway.store.schema import jobs
from gateway.store.schema_events import webhook_deliveries
from gateway.store.schema_money import entries, holds
from tests.crash.cases import CASES, ENDS, Case
from tests.crash.matrix import MatrixStand, matrix_stand
from tests.support.gateway import ENDED, unsound
from tests.support.postgres import PostgresServer

NUMBERS = itertools.count(1)
# `make kills` runs the whole matrix: every step, once and twice, on both databases.
FULL = os.environ.get("VIDGATE_MATRIX") == "full"
WAYS = (("sqlite", 1), ("postgres", 2), ("postgres", 1), ("sqlite", 2))
WAIT_TURNS = 2000
IDLE_TURNS = 40


@pytest.fixture(scope="module")
def sqlite_stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MatrixStand]:
    folder = tmp_path_factory.mktemp("matrix")
    with matrix_stand(folder, f"sqlite:///{folder / 'vidgate.db'}") as stand:
        yield stand


@pytest.fixture(scope="module")
def postgres_stand(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[MatrixStand]:
    with matrix_stand(tmp_path_factory.mktemp("matrix"), postgres.url(postgres.create("migrated"))) as stand:
        yield stand


def chosen() -> Iterator[Any]:
    """The runs of the matrix: all of them, or for every step one, with databases and kills taking turns."""
    turns = itertools.cycle((*WAYS, WAYS[1]))  # an odd number, so that `before` is not always the same way
    for case in CASES:
        for moment in ("before", "after"):
            ways = [way for way in WAYS if way[0] in case.databases]
            for database, kills in ways if FULL else [next(way for way in turns if way in ways)]:
                name = f"{case.name} {moment} {'twice' if kills == 2 else 'once'} {database}"
                yield pytest.param(database, case, f"{moment} {case.action}", kills, id=name)


@pytest.mark.parametrize(("database", "case", "step", "kills"), list(chosen()))
def test_a_job_ends_as_it_would_have_wherever_its_gateway_is_killed(
    request: pytest.FixtureRequest, database: str, case: Case, step: str, kills: int
) -> None:
    """One render, one bill, no open hold, one event: once and twice killed, before the step and after it."""
    stand: MatrixStand = request.getfixturevalue(f"{database}_stand")
    run(stand, case, step, kills)


def run(stand: MatrixStand, case: Case, step: str, kills: int) -> None:
    """Take a job through all its deaths, and look at what is left of it."""
    stand.running()
    job_number = next(NUMBERS)
    kind = "slow" if case.kind == "parked" else case.kind
    job_id: str | None = None
    for number, target in enumerate([*case.opening, *[step] * kills]):
        if case.beside and target == step:
            stand.transact(add_job_beside, stand, f"{job_number}_{number}", case.beside == "parked")
        occurrence = case.occurrence if number == len(case.opening) else 1
        if number == 0:
            stand.running().aim(target, occurrence)
        elif not stand.start(target, occurrence):
            continue
        job_id = push(stand, case, kind, job_number) or job_id
        if not dies(stand, job_id, IDLE_TURNS):
            assert number == len(case.opening) + 1, f"it never came to {target}\n{stand.log()[-3000:]}"
            again = case.meets_again[step.startswith("after")]
            assert not again, f"the next gateway never came to {target}"
            break
        assert stand.gateway is not None
        stand.gateway.died(target)
    stand.running()
    job_id = push(stand, case, kind, job_number, to_the_end=True) or job_id
    assert job_id is not None
    assert not dies(stand, job_id, 1, to_the_end=True), stand.log()[-3000:]
    verify(stand, case, job_id)


def push(stand: MatrixStand, case: Case, kind: str, number: int, *, to_the_end: bool = False) -> str | None:
    """Do what the caller does, or repeats when it was not answered; the job's id when it was told."""
    job_id = stand.post(kind, number)
    if job_id is None:
        return None
    if kind == "stops" and reaches(stand, job_id, "accepted"):
        stand.cancel(job_id)
    if case.moment == "drain" and not to_the_end and reaches(stand, job_id, "accepted"):
        assert stand.gateway is not None
        stand.gateway.terminate()
    if to_the_end:
        stand.finish()
    return job_id


def reaches(stand: MatrixStand, job_id: str, state: str) -> bool:
    """Wait until a job's attempt is in a state; False when its gateway dies first, or the job ends."""
    for _ in range(WAIT_TURNS):
        job = stand.job(job_id)
        if job is None or job["status"] in ENDED:
            return False
        if job["attempts"] and job["attempts"][-1]["state"] == state:
            return True
    raise AssertionError(f"never {state}: {job}")


def dies(stand: MatrixStand, job_id: str | None, idle_turns: int, *, to_the_end: bool = False) -> bool:
    """Wait until the gateway is dead (True), or has had nothing more to do for the job for some turns (False).

    On the way to the end slow renders are finished as they come: a busy machine may submit the last one only now.
    """
    idle = 0
    for _ in range(WAIT_TURNS):
        if stand.gateway is None or stand.gateway.is_dead():
            return True
        idle += job_id is not None and stand.transact(is_settled, job_id)
        if idle == idle_turns:
            return False
        if to_the_end:
            stand.finish()
        time.sleep(0.01)
    raise AssertionError(f"neither dead nor done: {stand.job(job_id or '')}\n{stand.log()[-3000:]}")


def is_settled(connection: Connection, job_id: str) -> bool:
    """Whether a job has ended or is parked, and everybody was told."""
    job = rows.load_job(connection, job_id)
    if job is None or (job.status.value not in ENDED and job.parked_at is None):
        return False
    pending = select(webhook_deliveries.c.event_id).where(webhook_deliveries.c.state == "pending")
    return connection.execute(pending.limit(1)).first() is None


def verify(stand: MatrixStand, case: Case, job_id: str) -> None:
    """Compare what became of a job with what an uncrashed run reaches."""
    end = ENDS[case.kind]
    job = stand.job(job_id)
    assert job is not None
    bill = job["bill"]
    assert (job["status"], bill["status"], bill["price_micros"]) == (end.status, end.bill, end.price_micros), job
    assert tuple(attempt["state"] for attempt in job["attempts"]) == end.attempts, job
    meter = stand.meter()
    accepted = [meter["accepted"].get(attempt["id"], 0) for attempt in job["attempts"]]
    assert (sum(accepted), max(accepted)) == (end.renders, 1), f"accepted {accepted} times: {job}"
    booked, hold, parked_at, faults = stand.transact(left_behind, job_id)
    assert booked == end.entries
    assert (hold == "open") == (case.kind == "parked"), hold
    assert faults == []
    what = f"{end.event}:{job_id}" if case.kind != "parked" else f"job.parked:{job_id}:{parked_at:.3f}"
    assert meter["hooks"].get(event_id(what), 0) >= 1, "nobody was told"


def left_behind(connection: Connection, job_id: str) -> tuple[Counter[str], str, float, list[str]]:
    """The ledger's lines about a job by kind, the state of its hold, when it was parked, and every broken rule."""
    booked = Counter(connection.execute(select(entries.c.kind).where(entries.c.job_id == job_id)).scalars())
    hold = connection.execute(select(holds.c.state).where(holds.c.job_id == job_id)).scalar_one()
    parked_at = connection.execute(select(jobs.c.parked_at).where(jobs.c.id == job_id)).scalar_one()
    return booked, hold, parked_at or 0.0, unsound(connection)


def add_job_beside(connection: Connection, stand: MatrixStand, name: str, is_parked: bool) -> None:
    """A job that nobody drives and whose time is up: parked, or waiting with a hold that is past its time."""
    at, now = 1_700_000_000.0, SystemClock().now()
    job = Job(
        id=f"job_{name}",
        team_id=stand.team_id,
        key_id=stand.key_id,
        media="video",
        status=JobStatus.QUEUED,
        created_at=at,
        deadline_at=at + 1,
        give_up_at=at + 2,
        hold_id=f"hold_{name}",
        held_micros=1,
        request={"metadata": {}},
        input={},
        due_at=at if is_parked else now + AHEAD_MAX_S / 2,
        parked_at=at if is_parked else None,
    )
    admit(connection, Admission(job, now + 3600 if is_parked else at + 3, None, answered))


def answered(_job: Any) -> Answer:
    return Answer(202, b"{}", {})
