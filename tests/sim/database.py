"""The database of a run: the real schema and the real commit groups, in memory, one step at a time.

Every process has a `ReplicaStore`, which is the real `SqliteStore` without its threads: writers queue, a group is taken
and committed by the code that does so in production, and all of it happens when the seed says so.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache, partial
from typing import Any

from sqlalchemy import Connection, StaticPool, create_engine, event, text

from gateway import outbox
from gateway.store import jobs
from gateway.store.database import CommitUnknownError, StoreUnavailableError
from gateway.store.jobs import Job, Lease
from gateway.store.migrate import migrate
from gateway.store.sqlite import PRAGMAS, SqliteStore, _call, _Work
from tests.sim.scenario import pick
from tests.sim.world import Replica, World

_FAULTS = {"fails_before_commit": StoreUnavailableError, "commit_unknown": CommitUnknownError}
# What a claim could take at the most, whatever it asks for.
_IDLE = {
    jobs.claim_due: "SELECT 1 FROM jobs WHERE finished_at IS NULL LIMIT 1",
    outbox.claim_due: "SELECT 1 FROM webhook_deliveries WHERE state = 'pending' LIMIT 1",
}


class _Opener:
    """One engine for all runs, because it remembers the statements it has compiled, over a new connection for each."""

    def __init__(self) -> None:
        self.raw = _connect()
        self.engine = create_engine("sqlite://", creator=lambda: self.raw, poolclass=StaticPool)

        @event.listens_for(self.engine, "begin")
        def _begin(connection: Connection) -> None:
            connection.execute(text("BEGIN IMMEDIATE"))

        with self.engine.begin() as connection:
            migrate(connection)
        self._empty = bytes(self.raw.serialize())

    def fresh(self) -> sqlite3.Connection:
        """An empty database with its schema, which the engine works on from now on."""
        self.engine.dispose()
        self.raw = _connect()
        self.raw.deserialize(self._empty)
        for pragma in PRAGMAS:
            self.raw.execute(pragma)
        return self.raw


def _connect() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


@cache
def _opener() -> _Opener:
    return _Opener()


class Database:
    """What outlives every process. `raw` is for the auditor, who reads it without any code of the gateway."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.raw = _opener().fresh()
        self.engine = _opener().engine

    def run(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Run a function in a transaction of nobody's: what an operator did beforehand."""
        with self.engine.begin() as connection:
            return fn(connection, *args)

    def rows(self, statement: str, *args: Any) -> list[tuple[Any, ...]]:
        """Rows as they stand."""
        return self.raw.execute(statement, args).fetchall()

    def watched(self, replica: Replica, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, which tells when a process that lost a job's lease changes anything for it."""

        def run(connection: Connection, *args: Any, **kwargs: Any) -> Any:
            job = next((one for one in args if isinstance(one, Job | Lease)), None)
            fence = self.rows("SELECT fence FROM jobs WHERE id = ?", job.id) if job is not None else []
            stale = job is not None and bool(fence) and fence[0][0] != job.fence
            before = self.raw.total_changes
            result = fn(connection, *args, **kwargs)
            if stale and self.raw.total_changes != before:
                self.world.violated(f"a zombie wrote: {replica.name} by {_name(fn)} under an old fence")
            return result

        run.__name__ = _name(fn)
        return run


class ReplicaStore(SqliteStore):
    """A process's way to the database; its writes can fail, and a commit's outcome can stay unknown."""

    def __init__(self, database: Database, replica: Replica) -> None:
        self._database = database
        self._replica = replica
        self._world = database.world
        self._closed = False
        self._write_engine = database.engine
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._due = False
        self._random = database.world.random(f"store {replica.name}")

    async def write(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        name = _name(fn)
        await self._replica.cross(f"write {name}")
        if fn in _IDLE and not self._database.rows(_IDLE[fn]):
            return []  # there is nothing that it could take: most turns are such, and cost more than the rest of a run
        watched = self._database.watched(self._replica, fn)
        work = _Work(partial(_call, watched, args, kwargs), Future())
        self._waiting[id(work)] = waiter = self._world.loop.create_future()
        self._queue.put(work)
        if not self._due:
            self._due = True
            self._world.loop.call_later(self._random.uniform(0.0, self._world.scenario.commit_s), self._flush)
        await waiter
        await self._replica.cross(f"wrote {name}")
        return work.done.result()

    async def read(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        await self._replica.cross(f"read {_name(fn)}")
        with self._database.engine.connect() as connection:
            return fn(connection, *args, **kwargs)

    async def close(self) -> None:
        while self._due:  # noqa: ASYNC110 - the writer's own timer ends this, in virtual time
            await asyncio.sleep(self._world.scenario.commit_s)
        self._closed = True

    def _flush(self) -> None:
        """Commit everything that waits, in groups, as the writer's thread does."""
        if self._replica.paused:
            self._world.loop.call_later(self._replica.paused_until - self._world.loop.virtual_s, self._flush)
            return
        self._due = False
        while not self._queue.empty() and self._replica.alive:
            first = self._queue.get_nowait()
            assert first is not None
            group, _ = self._group(first)
            self._run_group(group)

    def _run_group(self, group: list[_Work]) -> None:
        fault = None if self._world.calm else pick(self._random, self._world.scenario.store)
        if fault != "fails_before_commit":
            self._commit(group)
        if fault is not None:
            self._world.happened(f"store {fault}")
        for work in group:
            if fault is not None:
                work.done = Future()
                work.done.set_exception(_FAULTS[fault](f"simulated: {fault}"))
            waiter = self._waiting.pop(id(work))
            if not waiter.done():
                waiter.set_result(None)


def _name(fn: Callable[..., Any]) -> str:
    return getattr(fn, "__name__", "transaction")
