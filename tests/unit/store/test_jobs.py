"""The statements over jobs and attempts: claims with a fence, one open attempt, pages, whole rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, insert, update
from sqlalchemy.exc import IntegrityError

from gateway.jobs import TERMINAL, AttemptState, IllegalMoveError, JobStatus
from gateway.store import jobs as rows
from gateway.store import schema
from gateway.store.database import Store
from gateway.store.jobs import Attempt, Job, LeaseLostError
from gateway.store.listing import JobFilter, list_jobs
from providers.vocabulary import SEED_MAX
from tests.unit.store.builders import NOW, a_job, add_jobs, add_team, an_attempt, in_memory

pytestmark = pytest.mark.anyio
OPEN_STATES = (AttemptState.PREPARED, AttemptState.ACCEPTED, AttemptState.IN_DOUBT)
CLOSED_STATES = (AttemptState.SUCCEEDED, AttemptState.FAILED)


@pytest.mark.parametrize(("table", "row"), [(schema.jobs, Job), (schema.attempts, Attempt)], ids=["jobs", "attempts"])
def test_a_row_and_its_class_have_the_same_fields(table: Any, row: type) -> None:
    """No column is forgotten by the dataclass, and no field by the table."""
    assert {column.name for column in table.c} == {field.name for field in fields(row)}


async def test_a_job_comes_back_as_it_was_written(store: Store) -> None:
    """Every field survives, JSON, money beyond 32 bits and Unicode among them."""
    job = a_job(
        1,
        held_micros=10**15,
        request={"written": {"prompt": "a hill \u2603 \U0001f30b"}, "nested": [1, {"a": None}]},
        parameters={"seed": SEED_MAX},
        plan={"ranked": []},
        replans=[{"a": 1}],
        receipt=[{"parameter": "seed"}],
        result={"files": []},
        started_at=NOW + 0.25,
    )
    await store.write(add_jobs, job)
    assert await store.read(rows.load_job, job.id) == job
    assert await store.read(rows.load_job, job.id, "team") == job


async def test_a_job_of_another_team_is_not_there(store: Store) -> None:
    """A team sees its own jobs; another's is the same as none."""
    await store.write(add_jobs, a_job(1))
    assert await store.read(rows.load_job, "job_001", "another") is None
    assert await store.read(rows.load_job, "job_999") is None


async def test_attempts_come_back_in_order_and_whole(store: Store) -> None:
    """The attempts of a job are read first one first, every field as written."""
    job = a_job(1)
    done = an_attempt(job, 1, state=AttemptState.FAILED, finished_at=NOW, failure_kind="timeout", cost_micros=10**12)
    under_way = an_attempt(job, 2, token={"id": "x"}, state=AttemptState.ACCEPTED, seed=SEED_MAX, accepted_at=NOW)

    def write(connection: Connection) -> None:
        add_jobs(connection, job)
        for attempt in (done, under_way):
            rows.insert_attempt(connection, job, attempt)

    await store.write(write)
    read = await store.read(rows.load_attempts, job.id)
    assert read == [done, under_way]
    assert rows.open_attempt(read) == under_way
    assert rows.open_attempt(read[:1]) is None
    assert rows.open_attempt([]) is None
    assert await store.read(rows.job_of_attempt, under_way.id) == job.id
    assert await store.read(rows.job_of_attempt, "att_none") is None


def page_of(connection: Connection, before: str | None) -> list[Job]:
    """A page of three."""
    return list_jobs(connection, "team", JobFilter(before=before), 3)


async def test_jobs_are_listed_newest_first_and_page_by_page(store: Store) -> None:
    """Every job of a team appears on just one page, in the order of its id; nobody else's does."""

    def write(connection: Connection) -> None:
        add_team(connection, "team_other")
        add_jobs(connection, *(a_job(n) for n in range(7)), a_job(7, team_id="team_other", key_id="key_other"))

    await store.write(write)
    seen: list[str] = []
    before: str | None = None
    while page := await store.read(page_of, before):
        assert len(page) <= 3
        seen += [job.id for job in page]
        before = seen[-1]
    assert seen == [f"job_{number:03d}" for number in range(6, -1, -1)]


async def test_only_due_unfinished_and_free_jobs_are_claimed_oldest_first(store: Store) -> None:
    """Not due, finished and held jobs are passed over; the limit takes those that have waited longest."""
    ended = {"status": JobStatus.FAILED, "finished_at": NOW}
    held = {"lease_owner": "other", "lease_until": NOW + 1}
    expired = {"lease_owner": "dead", "lease_until": NOW - 0.1, "fence": 4}
    jobs = [
        a_job(1, due_at=NOW + 0.1),
        a_job(2, **ended),
        a_job(3, **held),
        a_job(4, due_at=NOW - 1, **expired),
        a_job(5, due_at=NOW - 2),
        a_job(6, due_at=NOW),
    ]
    await store.write(add_jobs, *jobs)
    claimed = await store.write(rows.claim_due, "me", NOW, 15.0, 2)
    assert {job.id for job in claimed} == {"job_004", "job_005"}
    assert {(job.lease_owner, job.lease_until) for job in claimed} == {("me", NOW + 15.0)}
    assert {job.id: job.fence for job in claimed} == {"job_004": 5, "job_005": 1}
    assert [job.id for job in await store.write(rows.claim_due, "you", NOW, 15.0, 9)] == ["job_006"]
    assert await store.write(rows.claim_due, "them", NOW, 15.0, 9) == []


async def test_whoever_lost_the_lease_writes_nothing(store: Store) -> None:
    """After a second claim every write under the first fence raises, and changes no row."""
    await store.write(add_jobs, a_job(1))
    [mine] = await store.write(rows.claim_due, "me", NOW, 15.0, 1)
    attempt = an_attempt(mine)
    await store.write(rows.insert_attempt, mine, attempt)
    [theirs] = await store.write(rows.claim_due, "you", NOW + 16, 15.0, 1)
    stale: list[Callable[[Connection], None]] = [
        lambda c: rows.update_job(c, mine, {"route": "stolen"}),
        lambda c: rows.update_attempt(c, mine, attempt, {"submits": 9}),
        lambda c: rows.insert_attempt(c, mine, an_attempt(mine, 2)),
    ]
    for write in stale:
        with pytest.raises(LeaseLostError):
            await store.write(write)
    assert await store.read(rows.load_job, mine.id) == theirs
    assert await store.read(rows.load_attempts, mine.id) == [attempt]
    await store.write(rows.update_job, theirs, {"route": "vendor/model"})
    await store.write(rows.update_attempt, theirs, attempt, {"submits": 2})
    assert [found.submits for found in await store.read(rows.load_attempts, mine.id)] == [2]


@pytest.mark.parametrize("status", sorted(TERMINAL), ids=lambda status: status.value)
async def test_a_finished_job_is_never_written_again(store: Store, status: JobStatus) -> None:
    """Even the holder of the lease cannot change what has ended."""
    await store.write(add_jobs, a_job(1))
    [job] = await store.write(rows.claim_due, "me", NOW, 15.0, 1)
    await store.write(rows.update_job, job, {"status": status, "finished_at": NOW})
    with pytest.raises(LeaseLostError):
        await store.write(rows.update_job, job, {"route": "late"})
    with pytest.raises(LeaseLostError):
        await store.write(rows.insert_attempt, job, an_attempt(job))
    assert not await store.write(rows.request_cancel, job.id, NOW)


async def test_an_attempt_is_changed_only_from_the_state_that_was_read(store: Store) -> None:
    """A write over an attempt that has moved on in between is void."""
    await store.write(add_jobs, a_job(1))
    [job] = await store.write(rows.claim_due, "me", NOW, 15.0, 1)
    attempt = an_attempt(job)
    await store.write(rows.insert_attempt, job, attempt)
    await store.write(rows.update_attempt, job, attempt, {"state": AttemptState.ACCEPTED})
    with pytest.raises(LeaseLostError):
        await store.write(rows.update_attempt, job, attempt, {"state": AttemptState.FAILED, "finished_at": NOW})


async def test_an_attempt_that_is_to_be_submitted_has_no_token(store: Store) -> None:
    """Whoever drove it would ask for that token and never submit: such a row is not written, new or changed."""
    job, token = a_job(1), {"id": "dead"}
    await store.write(add_jobs, job)
    with pytest.raises(IllegalMoveError, match="prepared has a token"):
        await store.write(rows.insert_attempt, job, an_attempt(job, token=token))
    doubted = an_attempt(job, state=AttemptState.IN_DOUBT, token=token)
    await store.write(rows.insert_attempt, job, doubted)
    with pytest.raises(IllegalMoveError, match="prepared has a token"):
        await store.write(rows.update_attempt, job, doubted, {"state": AttemptState.PREPARED})
    await store.write(rows.update_attempt, job, doubted, {"state": AttemptState.PREPARED, "token": None})
    (attempt,) = await store.read(rows.load_attempts, job.id)
    assert (attempt.state, attempt.token) == (AttemptState.PREPARED, None)


async def test_leases_are_kept_and_let_go_by_their_owner(store: Store) -> None:
    """A heartbeat moves one's own leases on the jobs it names only; letting go makes the jobs due at once."""
    await store.write(add_jobs, a_job(1), a_job(2, due_at=NOW + 500, lease_owner="other", lease_until=NOW + 600))
    await store.write(rows.claim_due, "me", NOW, 15.0, 5)
    assert await store.write(rows.extend_leases, "me", NOW + 99, ["job_003"]) == {}
    assert await store.write(rows.extend_leases, "me", NOW + 99, ["job_001", "job_002"]) == {"job_001": False}
    leases = {job.id: job.lease_until for job in await store.read(lambda c: list_jobs(c, "team", JobFilter(), 9))}
    assert leases == {"job_001": NOW + 99, "job_002": NOW + 600}
    await store.write(rows.request_cancel, "job_001", NOW)
    await store.write(rows.request_cancel, "job_002", NOW)
    assert await store.write(rows.extend_leases, "me", NOW + 99, ["job_001", "job_002"]) == {"job_001": True}
    assert await store.write(rows.release_leases, "me", NOW + 1) == 1
    assert [job.id for job in await store.write(rows.claim_due, "you", NOW + 1, 15.0, 5)] == ["job_001"]
    assert await store.write(rows.release_leases, None, NOW + 2) == 2
    assert {job.id for job in await store.write(rows.claim_due, "all", NOW + 2, 15.0, 5)} == {"job_001", "job_002"}


async def test_a_lease_that_was_not_handed_over_counts_as_a_crash(store: Store) -> None:
    """A first claim and a handed-over lease count nothing; another's lease that ran out, or died, does."""
    await store.write(add_jobs, a_job(1))
    assert [job.crashes for job in await store.write(rows.claim_due, "me", NOW, 15.0, 1)] == [0]
    await store.write(rows.release_leases, "me", NOW)
    assert [job.crashes for job in await store.write(rows.claim_due, "you", NOW, 15.0, 1)] == [0]
    assert [job.crashes for job in await store.write(rows.claim_due, "them", NOW + 16, 15.0, 1)] == [1]
    assert [job.crashes for job in await store.write(rows.claim_due, "them", NOW + 32, 15.0, 1)] == [1]
    await store.write(rows.release_leases, None, NOW + 33)
    assert [job.crashes for job in await store.write(rows.claim_due, "all", NOW + 33, 15.0, 1)] == [2]


async def test_times_that_only_a_wrong_clock_can_have_written_hold_nobody_up(store: Store) -> None:
    """The clock was an hour ahead and its process died: its leases and pauses are not waited for."""
    hour = NOW + 3_600
    held = {"lease_owner": "dead", "lease_until": hour + 15}
    await store.write(add_jobs, a_job(1, due_at=hour), a_job(2, **held), a_job(3, due_at=NOW + 600))
    claimed = await store.write(rows.claim_due, "me", NOW, 15.0, 9)
    assert {job.id for job in claimed} == {"job_001", "job_002"}


async def test_suspects_are_taken_up_a_few_a_turn_and_parked_jobs_never(store: Store) -> None:
    """Jobs whose drivers crashed do not come back together, so that only the one to blame crashes again."""
    suspects = [a_job(number, crashes=rows.SUSPECT_CRASHES) for number in (1, 2, 3)]
    await store.write(add_jobs, *suspects, a_job(4), a_job(5, crashes=1), a_job(6, parked_at=NOW - 1))
    first = {job.id for job in await store.write(rows.claim_due, "me", NOW, 15.0, 9)}
    assert {"job_004", "job_005"} < first
    turns = [await store.write(rows.claim_due, "me", NOW, 15.0, 9) for _ in range(3)]
    assert [len(turn) for turn in turns] == [1, 1, 0]
    await store.write(rows.release_leases, "me", NOW)
    assert len(await store.write(rows.claim_due, "me", NOW, 15.0, 9, suspects_max=2)) == 4
    claimed = first | {job.id for turn in turns for job in turn}
    assert claimed == {f"job_00{number}" for number in (1, 2, 3, 4, 5)}


async def test_a_cancel_is_noted_once(store: Store) -> None:
    """The first wish counts and keeps its time; a repeat is told that it is one."""
    await store.write(add_jobs, a_job(1))
    assert await store.write(rows.request_cancel, "job_001", NOW + 1)
    assert not await store.write(rows.request_cancel, "job_001", NOW + 2)
    job = await store.read(rows.load_job, "job_001")
    assert job is not None
    assert job.cancel_requested_at == NOW + 1


@pytest.mark.parametrize("first", OPEN_STATES, ids=lambda state: state.value)
@pytest.mark.parametrize("second", OPEN_STATES, ids=lambda state: state.value)
async def test_a_job_has_one_open_attempt_at_most(store: Store, first: AttemptState, second: AttemptState) -> None:
    """The database itself refuses a second try beside one that is under way."""
    job = a_job(1)
    await store.write(add_jobs, job)
    await store.write(rows.insert_attempt, job, an_attempt(job, 1, state=first))
    with pytest.raises(IntegrityError, match=r"attempts\.job_id|uq_attempts_one_open"):
        await store.write(rows.insert_attempt, job, an_attempt(job, 2, state=second))


@pytest.mark.parametrize("closed", CLOSED_STATES, ids=lambda state: state.value)
async def test_a_closed_attempt_makes_room_for_the_next(store: Store, closed: AttemptState) -> None:
    """Once a try has ended another may be opened; of other jobs there may be any number."""
    jobs = [a_job(1), a_job(2)]
    await store.write(add_jobs, *jobs)
    for job in jobs:
        await store.write(rows.insert_attempt, job, an_attempt(job, 1, state=closed, finished_at=NOW))
        await store.write(rows.insert_attempt, job, an_attempt(job, 2))
    with pytest.raises(IntegrityError):
        await store.write(
            rows.insert_attempt, jobs[0], an_attempt(jobs[0], 1, id="again", state=closed, finished_at=NOW)
        )


IMPOSSIBLE: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "a job in an unknown status": (schema.jobs, "job_001", {"status": "sleeping"}),
    "a running job that has ended": (schema.jobs, "job_001", {"finished_at": NOW}),
    "an ended job without its end": (schema.jobs, "job_001", {"status": "failed"}),
    "a job of no team": (schema.jobs, "job_001", {"team_id": "nobody"}),
    "two jobs on one hold": (schema.jobs, "job_001", {"hold_id": "hold_002"}),
    "an attempt in an unknown state": (schema.attempts, "job_001_att_1", {"state": "lost"}),
    "a failed attempt without its end": (schema.attempts, "job_001_att_1", {"state": "failed"}),
    "an open attempt that has ended": (schema.attempts, "job_001_att_1", {"finished_at": NOW}),
    "an attempt of no job": (schema.attempts, "job_001_att_1", {"job_id": "none"}),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
async def test_the_schema_refuses_what_cannot_be(store: Store, case: str) -> None:
    """Rules stand in the database, so that no caller can break them."""
    table, row_id, changes = IMPOSSIBLE[case]
    job = a_job(1)
    await store.write(add_jobs, job, a_job(2))
    await store.write(rows.insert_attempt, job, an_attempt(job))
    with pytest.raises(IntegrityError):
        await store.write(lambda c: c.execute(update(table).where(table.c.id == row_id).values(changes)))


async def test_two_keys_never_have_one_hash(store: Store) -> None:
    """A secret belongs to one key."""
    twin = {
        "id": "other",
        "team_id": "team",
        "name": "n",
        "prefix": "p",
        "hash": "team",
        "grants": {},
        "created_at": 0.0,
    }
    with pytest.raises(IntegrityError):
        await store.write(lambda c: c.execute(insert(schema.keys).values(twin)))


async def test_ended_attempts_are_read_oldest_first_and_the_latest_ones(store: Store) -> None:
    """What the estimators are rebuilt from: the newest attempts up to the limit, in the order they ended."""

    def write(connection: Connection) -> None:
        for number, ended_at in enumerate([NOW + 3, NOW + 1, None, NOW + 2, NOW - 50]):
            job = a_job(number)
            add_jobs(connection, job)
            state = AttemptState.PREPARED if ended_at is None else AttemptState.SUCCEEDED
            rows.insert_attempt(connection, job, an_attempt(job, state=state, finished_at=ended_at))

    await store.write(write)
    ended = await store.read(rows.finished_attempts, NOW, 2)
    assert [attempt.finished_at for attempt in ended] == [NOW + 2, NOW + 3]
    assert len(await store.read(rows.finished_attempts, NOW, 99)) == 3


STEPS = st.lists(
    st.tuples(st.sampled_from(["claim", "write", "beat", "release"]), st.sampled_from("abc"), st.floats(0, 12)),
    max_size=25,
)


@given(STEPS)
def test_only_the_latest_claim_can_write(steps: list[tuple[str, str, float]]) -> None:
    """Three processes claim, write, renew and let go in any order: just the holder of the newest fence gets through."""
    with in_memory() as connection:
        _race(connection, steps)


def _race(connection: Connection, steps: list[tuple[str, str, float]]) -> None:
    add_jobs(connection, a_job(1))
    now, until, fence, writes = NOW, 0.0, 0, 0
    last: dict[str, Job] = {}
    holder: str | None = None
    for step, owner, later_s in steps:
        now += later_s
        if step == "claim":
            claimed = rows.claim_due(connection, owner, now, 10.0, 1)
            assert bool(claimed) == (holder is None or until < now)
            if claimed:
                fence, holder, until, last[owner] = fence + 1, owner, now + 10.0, claimed[0]
                assert claimed[0].fence == fence
        elif step == "write" and owner in last:
            if last[owner].fence == fence:
                rows.update_job(connection, last[owner], {"result": {"by": owner}})
                writes += 1
            else:
                with pytest.raises(LeaseLostError):
                    rows.update_job(connection, last[owner], {"result": {"by": owner}})
        elif step == "beat":
            assert rows.extend_leases(connection, owner, now + 10.0, ["job_001"]) == (
                {"job_001": False} if holder == owner else {}
            )
            until = now + 10.0 if holder == owner else until
        elif step == "release":
            assert rows.release_leases(connection, owner, now) == (holder == owner)
            holder = None if holder == owner else holder
    job = rows.load_job(connection, "job_001")
    assert job is not None
    assert job.fence == fence
    assert (job.result is not None) == (writes > 0)
    assert replace(job, fence=0).status is JobStatus.QUEUED
