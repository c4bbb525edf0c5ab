"""The PostgreSQL store on a real server: who may do what at a time, and what a server that goes away costs."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from random import Random
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Connection, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.util import await_only

from gateway.clock import SystemClock
from gateway.money.losses import Booked, Loss, book_loss
from gateway.settings import StoreSection
from gateway.store.database import CommitUnknownError, Patience, StoreError, StoreUnavailableError, open_store
from gateway.store.postgres import CONFLICTS_MAX, PostgresStore
from gateway.store.postgres_errors import Fault, fault_of
from gateway.store.schema import teams
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.time_limit import run_bounded

pytestmark = pytest.mark.anyio
OPENING = """
import asyncio
from gateway.settings import StoreSection
from gateway.store.database import open_store
asyncio.run(open_store(StoreSection(url="postgresql://vidgate@127.0.0.1:1/vidgate", retry_s=0)))
"""


class Pauses(SystemClock):
    """A clock whose sleeps are counted and over at once, in time that they make pass."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> float:
        return sum(self.slept)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


def add(connection: Connection, name: str) -> str:
    """Insert a team."""
    connection.execute(insert(teams).values(id=name, name=name, plan={}, created_at=0.0))
    return name


def rename(connection: Connection, name: str, zone: str) -> int:
    """Change a team's time zone; how many teams that were."""
    return connection.execute(update(teams).where(teams.c.id == name).values(timezone=zone)).rowcount


def names(connection: Connection) -> set[str]:
    """The teams that are there."""
    return set(connection.execute(select(teams.c.name)).scalars())


async def opened(url: str, patience: Patience | None = None, **settings: Any) -> PostgresStore:
    """A store in a database."""
    store = await open_store(StoreSection(url=url, **settings), patience=patience)
    assert isinstance(store, PostgresStore)
    return store


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    """A fresh database."""
    made = await opened(postgres_url)
    yield made
    await made.close()


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server of this test's own, which may be killed."""
    with postgres_server() as server:
        yield server


async def test_an_error_of_the_caller_rolls_back_and_is_its_own(store: PostgresStore) -> None:
    """Whatever a transaction raises undoes it and reaches the caller as it was raised, without a second try."""
    tries = []

    def fails(connection: Connection, error: Exception) -> None:
        tries.append(error)
        add(connection, "a")
        raise error

    with pytest.raises(KeyError, match="mine"):
        await store.write(fails, KeyError("mine"))
    await store.write(add, "b")
    with pytest.raises(IntegrityError):
        await store.write(add, "b")
    assert len(tries) == 1
    assert await store.read(names) == {"b"}


async def test_a_read_sees_one_moment_and_changes_nothing(store: PostgresStore) -> None:
    """What is committed during a read does not appear in the middle of it, and a read that writes is refused."""
    loop = asyncio.get_running_loop()

    async def meanwhile() -> None:
        await store.write(add, "later")

    def look_twice(connection: Connection) -> tuple[set[str], set[str]]:
        before = names(connection)
        await_only(loop.create_task(meanwhile()))
        return before, names(connection)

    assert await store.read(look_twice) == (set(), set())
    assert await store.read(names) == {"later"}
    with pytest.raises(DBAPIError, match="read-only"):
        await store.read(add, "x")
    assert await store.read(names) == {"later"}


async def test_a_deadlock_is_run_again(store: PostgresStore) -> None:
    """Two transactions that wait for each other in a ring both end: the one rolled back starts over."""
    for name in ("a", "b"):
        await store.write(add, name)
    both = asyncio.Barrier(2)
    tries: list[str] = []

    def cross(connection: Connection, first: str, second: str) -> None:
        tries.append(first)
        rename(connection, first, first)
        if len(tries) <= 2:
            await_only(both.wait())
        rename(connection, second, first)

    await asyncio.gather(store.write(cross, "a", "b"), store.write(cross, "b", "a"))
    assert len(tries) == 3


async def test_a_conflict_that_never_ends_is_given_up(postgres_url: str) -> None:
    """A transaction that is rolled back again and again is told so after a bounded number of tries, with jitter."""
    pauses = Pauses()
    store = await opened(postgres_url, Patience(pauses, Random(1)))
    tries = []

    def conflicts(connection: Connection) -> None:
        tries.append(1)
        connection.execute(text("DO $$ BEGIN RAISE serialization_failure; END $$"))

    with pytest.raises(StoreUnavailableError):
        await store.write(conflicts)
    assert len(tries) == CONFLICTS_MAX + 1
    assert len(set(pauses.slept)) == CONFLICTS_MAX
    await store.close()


async def test_a_lock_that_is_not_given_ends_the_wait(postgres_url: str) -> None:
    """A row that somebody keeps locked costs `store.lock_timeout_s`, not for ever, and is no reason to try again."""
    store = await opened(postgres_url, lock_timeout_s=0.2)
    await store.write(add, "a")
    holding, go = asyncio.Event(), asyncio.Event()

    async def signalled() -> None:
        holding.set()
        await go.wait()

    def hold(connection: Connection) -> None:
        rename(connection, "a", "UTC")
        await_only(signalled())

    holder = asyncio.create_task(store.write(hold))
    await holding.wait()
    with pytest.raises(StoreUnavailableError, match="lock timeout"):
        await store.write(rename, "a", "other")
    go.set()
    await holder
    await store.close()


async def test_a_statement_that_takes_too_long_is_ended(postgres_url: str) -> None:
    """A runaway query does not keep its connection for ever."""
    store = await opened(postgres_url, statement_timeout_s=0.2)
    with pytest.raises(StoreUnavailableError, match="statement timeout"):
        await store.read(lambda connection: connection.execute(text("SELECT pg_sleep(30)")))
    await store.close()


async def test_a_server_that_comes_back_is_waited_for(own_server: PostgresServer) -> None:
    """A kill and a restart under load cost time and nothing else: every write is made, and what was told stays."""
    store = await opened(own_server.url("postgres"))
    told: list[str] = []
    stop, more = asyncio.Event(), asyncio.Condition()

    async def twenty_more() -> None:
        before = len(told)
        async with more:
            await more.wait_for(lambda: len(told) >= before + 20)

    async def load(worker: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with contextlib.suppress(CommitUnknownError):
                told.append(await store.write(add, f"{worker}-{number}"))
            async with more:
                more.notify_all()

    workers = [asyncio.create_task(load(worker)) for worker in range(5)]
    for end in (own_server.kill, own_server.stop):
        await twenty_more()
        await asyncio.to_thread(end)
        await asyncio.to_thread(own_server.start)
    await twenty_more()
    stop.set()
    await asyncio.gather(*workers)
    assert await store.read(names) >= set(told)
    await store.close()


async def test_a_server_that_stays_away_is_told_in_time(own_server: PostgresServer) -> None:
    """After `store.retry_s` the caller is told; a ping is told at once, and again when the server is back."""
    pauses = Pauses()
    store = await opened(own_server.url("postgres"), Patience(pauses, Random(1)), retry_s=3)
    await store.ping()
    own_server.stop()
    with pytest.raises(StoreUnavailableError):
        await store.ping()
    assert pauses.slept == []
    with pytest.raises(StoreUnavailableError, match="cannot be used now"):
        await store.write(add, "a")
    assert 3 <= sum(pauses.slept) < 4
    own_server.start()
    await store.ping()
    assert await store.write(add, "a") == "a"
    await store.close()


async def test_a_connection_lost_during_the_commit_is_its_own_outcome(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell whether the commit was made, and it is neither repeated nor called a failure."""
    tries = []

    def closes_later(connection: Connection) -> None:
        tries.append(1)
        add(connection, "a")
        driver: Any = connection.connection.driver_connection
        commit = driver._protocol

        class Cut:
            """The wire, which breaks after COMMIT was written to it."""

            def __getattr__(self, name: str) -> Any:
                return getattr(commit, name)

            async def query(self, statement: str, timeout: Any) -> Any:
                answer = await commit.query(statement, timeout)
                if statement.startswith("COMMIT"):
                    driver.terminate()
                    raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
                return answer

        driver._protocol = Cut()

    with pytest.raises(CommitUnknownError, match="during a commit"):
        await store.write(closes_later)
    assert len(tries) == 1
    assert await store.read(names) == {"a"}


async def test_all_connections_busy_is_told(postgres_url: str) -> None:
    """More at once than there are connections wait for their turn, and not for ever."""
    store = await opened(postgres_url, connections_max=1, retry_s=0.2)
    nap = text("SELECT pg_sleep(2)")
    first = asyncio.create_task(store.read(lambda connection: connection.execute(nap)))
    await asyncio.sleep(0.1)
    with pytest.raises(StoreUnavailableError, match=r"raise store\.connections_max"):
        await store.read(names)
    await first
    assert await store.read(names) == set()
    await store.close()


async def test_replicas_may_start_at_the_same_moment(postgres: PostgresServer) -> None:
    """Four that find an empty database bring its schema up to date once, one after the other."""
    name = postgres.create()
    stores = await asyncio.gather(*(opened(postgres.url(name)) for _ in range(4)))
    assert await stores[0].write(add, "a") == "a"
    for store in stores:
        await store.close()
    postgres.drop(name)


async def test_an_old_replica_goes_on_over_a_newer_schema(postgres: PostgresServer, postgres_url: str) -> None:
    """While a new version is rolled out, a replica of the old one can still start: it leaves the schema alone."""
    name = postgres.create("migrated")
    postgres.query("UPDATE alembic_version SET version_num = '9999'", name)
    store = await opened(postgres.url(name))
    assert await store.write(add, "a") == "a"
    assert postgres.query("SELECT version_num FROM alembic_version", name) == "9999"
    await store.close()
    postgres.drop(name)


async def test_a_closed_store_says_so(postgres_url: str) -> None:
    """A write after the end fails at once."""
    store = await opened(postgres_url)
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.write(add, "late")


@pytest.mark.parametrize("fault", ["there is no such database", "there is nobody"])
async def test_a_database_that_cannot_be_used_is_told(postgres: PostgresServer, fault: str) -> None:
    """A wrong name is a sentence with the setting's name; nobody at the address is told after the time for retries."""
    url = postgres.url("nothing_here") if "database" in fault else "postgresql://vidgate@127.0.0.1:1/vidgate"
    with pytest.raises(StoreError, match=r"store\.url cannot be used|cannot be used now"):
        await opened(url, Patience(Pauses(), Random(1)), retry_s=1)


async def test_a_role_without_rights_on_the_schema_serves_what_is_migrated(postgres: PostgresServer) -> None:
    """The owner migrates, the replicas' role only reads and writes rows: docs/postgresql.md says how to grant that."""
    name = postgres.create("migrated")
    role = f"app_{name}"
    postgres.query(f'CREATE ROLE "{role}" LOGIN', name)
    postgres.query(f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "{role}"', name)
    postgres.query(f'GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO "{role}"', name)
    store = await opened(postgres.url(name).replace("vidgate@", f"{role}@"))
    await store.write(add, "a")
    assert await store.write(book_loss, Loss("j", "a", "vendor", 5, 1_800_000_000.0, "failed")) == Booked(5)
    with pytest.raises(DBAPIError, match="must be owner"):
        await store.write(lambda connection: connection.execute(text("DROP TABLE entries")))
    await store.close()
    postgres.drop(name)


@pytest.mark.parametrize("missing", ["asyncpg", "greenlet"])
async def test_a_missing_driver_is_told_with_what_installs_it(missing: str) -> None:
    """An installation without the extra says so in a sentence, and not with a traceback."""
    code = f"import sys; sys.modules[{missing!r}] = None; {OPENING}"
    done = await asyncio.to_thread(run_bounded, [sys.executable, "-c", code], timeout_s=60)
    assert done.stderr.splitlines()[-1].startswith("gateway.store.database.StoreError: PostgreSQL needs its driver")
    assert "pip install 'vidgate[postgres]'" in done.stderr.splitlines()[-1]


SQLSTATES: list[tuple[str, Fault]] = [
    ("40001", Fault.CONFLICT),
    ("40P01", Fault.CONFLICT),
    ("57P01", Fault.LOST),
    ("57P03", Fault.LOST),
    ("08006", Fault.LOST),
    ("53300", Fault.LOST),
    ("55P03", Fault.SLOW),
    ("57014", Fault.SLOW),
    ("23505", Fault.CALLERS),
    ("3D000", Fault.CALLERS),
    ("42P01", Fault.CALLERS),
]


@pytest.mark.parametrize(("sqlstate", "fault"), SQLSTATES)
async def test_an_error_is_told_apart_by_its_code(sqlstate: str, fault: Fault) -> None:
    """What is done about an error follows from its SQLSTATE, never from its wording."""
    error = asyncpg.PostgresError.new({"S": "ERROR", "C": sqlstate, "M": "some words"})
    assert fault_of(error) is fault


@pytest.mark.parametrize("error", [ConnectionRefusedError(), FileNotFoundError(), TimeoutError()])
async def test_a_server_that_cannot_be_reached_is_away(error: OSError) -> None:
    """Errors of the way to the server have no code and mean that it is away."""
    assert fault_of(error) is Fault.LOST
