"""The SQLite store: one writer that commits in groups, and tells nobody before the commit."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Column, Connection, MetaData, Table, Text, event, insert, select, text
from sqlalchemy.exc import IntegrityError

from gateway.settings import StoreSection
from gateway.store.conflict import insert_new
from gateway.store.database import StoreError, open_store
from gateway.store.schema import teams
from gateway.store.sqlite import GROUP_MAX, SqliteStore
from tests.unit.store.builders import add_team

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """A fresh database file with one team, opened as a server opens it."""
    opened = SqliteStore.open(f"sqlite:///{tmp_path}/vidgate.db")
    await opened.write(add_team)
    yield opened
    await opened.close()


def add(connection: Connection, name: str) -> str:
    """Insert a team; raises IntegrityError for a name that is there."""
    connection.execute(insert(teams).values(id=name, name=name, plan={}, created_at=0.0))
    return name


def names(connection: Connection) -> set[str]:
    """The teams that were added by tests."""
    return set(connection.execute(select(teams.c.name).where(teams.c.name != "team")).scalars())


def on_disk(path: Path) -> set[str]:
    """The same, seen by another process's eyes."""
    with closing(sqlite3.connect(path / "vidgate.db")) as connection:
        return {row[0] for row in connection.execute("SELECT name FROM teams WHERE name <> 'team'")}


@contextmanager
def commits(store: SqliteStore, before: Callable[[], None] = lambda: None) -> Iterator[list[int]]:
    """Count the writer's commits; `before` runs in the writer just before each."""
    counted: list[int] = []

    def count(_connection: Connection) -> None:
        before()
        counted.append(1)

    event.listen(store._write_engine, "commit", count)
    try:
        yield counted
    finally:
        event.remove(store._write_engine, "commit", count)


async def together(store: SqliteStore, *writes: Callable[[], Awaitable[object]]) -> list[object]:
    """Let these writes pile up behind a slow one, so that they are committed as a group."""
    go, started = threading.Event(), threading.Event()

    def slow(_connection: Connection) -> None:
        started.set()
        assert go.wait(10)

    first = asyncio.ensure_future(store.write(slow))
    await asyncio.to_thread(started.wait, 10)
    rest = [asyncio.ensure_future(write()) for write in writes]
    await asyncio.sleep(0)
    go.set()
    await first
    return await asyncio.gather(*rest, return_exceptions=True)


async def test_writes_that_wait_share_one_commit(store: SqliteStore) -> None:
    """Twenty admissions at once cost one fsync, and each gets its own result."""
    with commits(store) as counted:
        results = await together(store, *(lambda n=n: store.write(add, f"t{n}") for n in range(20)))
    assert results == [f"t{n}" for n in range(20)]
    assert len(counted) == 2


async def test_a_group_is_bounded(store: SqliteStore) -> None:
    """A flood is committed in groups of limited size, so that the first caller is not told last."""
    flood = 2 * GROUP_MAX + 1
    with commits(store) as counted:
        await together(store, *(lambda n=n: store.write(add, f"t{n}") for n in range(flood)))
    assert len(counted) == 4


async def test_a_failing_write_in_a_group_rolls_back_alone(store: SqliteStore, tmp_path: Path) -> None:
    """One caller's error undoes that caller's rows and nobody else's."""

    def fails(connection: Connection) -> None:
        add(connection, "half done")
        add(connection, "a")

    results = await together(
        store,
        lambda: store.write(add, "a"),
        lambda: store.write(fails),
        lambda: store.write(add, "b"),
    )
    assert results[0] == "a"
    assert isinstance(results[1], IntegrityError)
    assert results[2] == "b"
    assert on_disk(tmp_path) == {"a", "b"}


async def test_an_error_tells_its_statement_and_no_value(store: SqliteStore) -> None:
    """It goes into the log, where nobody's prompt belongs."""
    await store.write(add, "a-word-of-a-client")
    with pytest.raises(IntegrityError, match="INSERT INTO teams") as told:
        await store.write(add, "a-word-of-a-client")
    assert "a-word-of-a-client" not in str(told.value)


async def test_a_write_of_a_group_sees_the_ones_before_it(store: SqliteStore) -> None:
    """Writes run one after the other in the order they were asked for, group or not."""
    results = await together(store, *(lambda n=n: store.write(count_and_add, n) for n in range(5)))
    assert results == [0, 1, 2, 3, 4]


def count_and_add(connection: Connection, number: int) -> int:
    """How many were there before this one."""
    before = len(names(connection))
    add(connection, f"t{number}")
    return before


async def test_a_result_is_given_only_after_the_commit(store: SqliteStore, tmp_path: Path) -> None:
    """Before the commit nobody has been told and nothing is on disk; when the caller is told, it is."""
    told: list[str] = []
    seen_before: list[tuple[list[str], set[str]]] = []
    with commits(store, lambda: seen_before.append((list(told), on_disk(tmp_path)))):
        told.append(await store.write(add, "a"))
        assert on_disk(tmp_path) == {"a"}
    assert seen_before == [([], set())]


async def test_a_commit_that_fails_is_told_to_every_caller_of_the_group(store: SqliteStore, tmp_path: Path) -> None:
    """A full disk at the commit fails all that were waiting on it, and the next write works."""

    def full() -> None:
        raise OSError("no space left on device")

    async def all_fail() -> list[object]:
        with commits(store, full):
            writes = [store.write(add, name) for name in ("a", "b")]
            return await asyncio.gather(*writes, return_exceptions=True)

    assert [str(result) for result in await all_fail()] == ["no space left on device"] * 2
    assert on_disk(tmp_path) == set()
    assert await store.write(add, "c") == "c"
    assert on_disk(tmp_path) == {"c"}


async def test_a_lone_failing_write_leaves_nothing(store: SqliteStore, tmp_path: Path) -> None:
    """An exception undoes the whole transaction and reaches the caller as it was raised."""

    def fails(connection: Connection) -> None:
        add(connection, "a")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await store.write(fails)
    assert on_disk(tmp_path) == set()


async def test_a_caller_that_left_disturbs_nobody(store: SqliteStore, tmp_path: Path) -> None:
    """A canceled wait does not stop the group, and the writer goes on."""

    async def leaves() -> None:
        task = asyncio.ensure_future(store.write(add, "left"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    await together(store, lambda: store.write(add, "a"), leaves, lambda: store.write(add, "b"))
    assert on_disk(tmp_path) >= {"a", "b"}
    assert await store.write(add, "c") == "c"


async def test_a_read_sees_one_moment(store: SqliteStore) -> None:
    """What is committed during a read does not appear in the middle of it."""
    first_look, go_on = threading.Event(), threading.Event()

    def look_twice(connection: Connection) -> tuple[set[str], set[str]]:
        before = names(connection)
        first_look.set()
        assert go_on.wait(10)
        return before, names(connection)

    reading = asyncio.ensure_future(store.read(look_twice))
    await asyncio.to_thread(first_look.wait, 10)
    await store.write(add, "a")
    go_on.set()
    assert await reading == (set(), set())
    assert await store.read(names) == {"a"}


async def test_a_read_leaves_nothing_behind(store: SqliteStore, tmp_path: Path) -> None:
    """Whatever a reading function does to the database is rolled back."""
    assert await store.read(add, "a") == "a"
    assert on_disk(tmp_path) == set()


@pytest.mark.parametrize("access", ["write", "read"])
async def test_every_connection_is_durable_and_keeps_its_references(store: SqliteStore, access: str) -> None:
    """WAL, a synced commit and enforced foreign keys, whichever way the database is used."""

    def pragmas(connection: Connection) -> list[object]:
        wanted = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.execute(text("PRAGMA " + name)).scalar_one() for name in wanted]

    assert await getattr(store, access)(pragmas) == ["wal", 2, 1]


async def test_a_second_server_on_the_same_file_is_refused(store: SqliteStore, tmp_path: Path) -> None:
    """Two servers never share a SQLite file; the refusal says what to do instead."""
    url = f"sqlite:///{tmp_path}/vidgate.db"
    with pytest.raises(StoreError, match=r"in use by another vidgate server.*set store.url to a PostgreSQL database"):
        SqliteStore.open(url)
    beside = SqliteStore.open(url, exclusive=False)
    assert await beside.write(add, "from a short command") == "from a short command"
    await beside.close()
    assert await store.read(names) == {"from a short command"}


async def test_the_file_is_free_again_after_closing(tmp_path: Path) -> None:
    """A server that was closed leaves no lock, and what was written is there for the next one."""
    url = f"sqlite:///{tmp_path}/folder that is made/vidgate.db"
    for number in range(2):
        opened = await open_store(StoreSection(url=url))
        assert await opened.write(count_and_add, number) == number
        await opened.close()


async def test_closing_finishes_what_is_queued(tmp_path: Path) -> None:
    """Writes that were asked for before the end are committed and told."""
    opened = SqliteStore.open(f"sqlite:///{tmp_path}/vidgate.db")
    writes = [asyncio.ensure_future(opened.write(add, f"t{number}")) for number in range(10)]
    await asyncio.sleep(0)
    await opened.close()
    assert await asyncio.gather(*writes) == [f"t{number}" for number in range(10)]


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    """A write after the end fails at once: it does not wait for a writer that has gone."""
    opened = SqliteStore.open(f"sqlite:///{tmp_path}/vidgate.db")
    await opened.close()
    with pytest.raises(StoreError, match="closed"):
        await opened.write(add, "late")


@pytest.mark.parametrize("url", ["mysql://host/db", "vidgate.db", ""])
async def test_an_unknown_kind_of_database_is_refused(url: str) -> None:
    """The refusal names what can be used."""
    with pytest.raises(StoreError, match="use sqlite:///path"):
        await open_store(StoreSection(url=url))


async def test_an_existing_row_is_left_alone(store: SqliteStore) -> None:
    """`insert_new` tells whether the row is new, by any unique column."""

    def twice(connection: Connection) -> list[bool]:
        table = Table("plain", MetaData(), Column("id", Text, primary_key=True), Column("name", Text, unique=True))
        table.create(connection)
        pairs = [("x", "x"), ("x", "x"), ("y", "x"), ("x", "y"), ("z", "z")]
        return [insert_new(connection, table, {"id": one, "name": other}) for one, other in pairs]

    assert await store.write(twice) == [True, False, False, False, True]
