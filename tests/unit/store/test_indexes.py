"""What is read while the service runs is found by an index, on both databases, however long the history is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event, insert

from gateway.doubts import open_doubts
from gateway.jobs import AttemptState
from gateway.money.ledger import due_holds
from gateway.money.losses import in_suspense
from gateway.store import jobs as rows
from gateway.store.migrate import migrate
from gateway.store.schema import attempts
from tests.support.plain_postgres import plain_postgres
from tests.support.postgres import PostgresServer
from tests.unit.store.builders import NOW, a_job, add_jobs, add_team, an_attempt

READS: dict[str, Callable[[Connection], object]] = {
    "rivals": lambda connection: rows.rivals(connection, an_attempt(a_job(1)), NOW),
    "finished_attempts": lambda connection: rows.finished_attempts(connection, NOW, 10),
    "open_doubts": open_doubts,
    "in_suspense": in_suspense,
    "in_suspense of a job": lambda connection: in_suspense(connection, job_id="job_001"),
    "due_holds": lambda connection: due_holds(connection, NOW),
    "due_holds of a later page": lambda connection: due_holds(connection, NOW, after="hold_001"),
}
PARTIAL = ("ix_jobs_active", "uq_attempts_one_open", "ix_holds_open_expiry", "ix_entries_suspended")


def asked_by(connection: Connection, read: Callable[[Connection], object]) -> list[tuple[str, Any]]:
    """The statements that a read runs, with what is given to them."""
    asked: list[tuple[str, Any]] = []

    def note(*told: Any) -> None:
        asked.append((told[2], told[3]))

    event.listen(connection, "before_cursor_execute", note)
    read(connection)
    event.remove(connection, "before_cursor_execute", note)
    assert asked
    return asked


@pytest.fixture
def sqlite() -> Iterator[Connection]:
    """A SQLite with the schema of today and nothing in it."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        migrate(connection)
        yield connection
    engine.dispose()


@pytest.mark.parametrize("name", READS)
def test_sqlite_walks_no_history(sqlite: Connection, name: str) -> None:
    """Each table is searched, or walked by an index over what is open alone."""
    plans = [
        str(row[3])
        for text, given in asked_by(sqlite, READS[name])
        for row in sqlite.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", given)
    ]
    assert [plan for plan in plans if plan.startswith("SCAN") and not plan.endswith(PARTIAL)] == []


def test_postgresql_walks_no_history(postgres: PostgresServer) -> None:
    """With walking made dear, the planner has an index for each of them: no table is walked."""
    database = postgres.create("migrated")
    with plain_postgres(postgres.url(database)) as plain:
        plain.run(explained, plain)
    postgres.drop(database)


def explained(plain: Any) -> None:
    with plain.engine.begin() as connection:
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        for name, read in READS.items():
            for text, given in asked_by(connection, read):
                plan = "\n".join(str(row[0]) for row in connection.exec_driver_sql(f"EXPLAIN {text}", given))
                assert "Seq Scan" not in plan, f"{name}: {plan}"


STORIES = {
    "never lost": (None, [{"at": NOW, "what": "submit", "detail": "first submit"}], False),
    "lost and found": ("r-1", [{"at": NOW, "what": "in_doubt", "detail": "HTTP 502"}], False),
    "lost": (None, [{"at": NOW, "what": "in_doubt", "detail": "HTTP 502"}], True),
    "repeated in the dark": ("r-1", [{"at": NOW, "what": "retry", "detail": "", "suspected": True}], True),
    "repeated by the records": ("r-1", [{"at": NOW, "what": "retry", "detail": "", "suspected": False}], False),
}


def rivals_of(connection: Connection, story: str) -> rows.Rivals:
    """What a lost attempt finds beside it: one with the same inputs and this story, and one of another account."""
    request_id, events, _ = STORIES[story]
    add_jobs(connection, a_job(1), a_job(2), a_job(3))
    ended = {"state": AttemptState.SUCCEEDED, "finished_at": NOW + 1}
    twin = an_attempt(a_job(2), vendor_request_id=request_id, events=events, **ended)
    stranger = an_attempt(a_job(3), account="other", vendor_request_id="r-9", **ended)
    connection.execute(insert(attempts), [rows._values(one) for one in (twin, stranger)])
    return rows.rivals(connection, an_attempt(a_job(1)), NOW - 1)


@pytest.mark.parametrize("story", STORIES)
def test_a_twin_is_known_by_its_story_on_sqlite(sqlite: Connection, story: str) -> None:
    """Which stories are read at all changes nothing of what they say."""
    add_team(sqlite)
    found = rivals_of(sqlite, story)
    assert (found.twin, found.claimed) == (STORIES[story][2], frozenset({STORIES[story][0]} - {None}))


def test_a_twin_is_known_by_its_story_on_postgresql(postgres: PostgresServer) -> None:
    """The same, where a story is another kind of column."""
    database = postgres.create("migrated")
    with plain_postgres(postgres.url(database)) as plain:
        plain.run(told, plain)
    postgres.drop(database)


def told(plain: Any) -> None:
    with plain.engine.begin() as connection:
        add_team(connection)
    for story, (_, _, twin) in STORIES.items():
        with plain.engine.connect() as connection:  # not kept: each story begins with no attempt
            assert rivals_of(connection, story).twin is twin, story
