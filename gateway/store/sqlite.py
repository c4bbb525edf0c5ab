"""SQLite as the store of one process: WAL, full durability, one writer thread that commits in groups.

Writers queue for one thread. It takes all that are waiting, runs each in a savepoint of one transaction and commits
once, so that many admissions share one fsync and none is told of success before it is on disk.
"""

from __future__ import annotations

import asyncio
import fcntl
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, NullPool, QueuePool, create_engine, event, text
from sqlalchemy.exc import OperationalError

from gateway.store.database import StoreError, StoreUnavailableError
from gateway.store.migrate import migrate

P = ParamSpec("P")
T = TypeVar("T")

GROUP_MAX = 64
READERS = 2
BUSY_TIMEOUT_MS = 10_000
PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
    "PRAGMA temp_store=MEMORY",
)


ENVIRONMENT_CODES = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
    }
)


@dataclass(slots=True)
class _Work:
    run: Callable[[Connection], Any]
    done: Future[Any]
    result: Any = None
    error: BaseException | None = None


class SqliteStore:
    """A store in one file. Use `open`; a second server on the same file is refused."""

    def __init__(self, path: Path, lock: Any) -> None:
        self._lock = lock
        self._closed = False
        self._write_engine = _engine(path, begin="BEGIN IMMEDIATE", pool=1)
        self._read_engine = _engine(path, begin="BEGIN", pool=READERS)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-read")
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_loop, name="store-write", daemon=True)
        self._writer.start()

    @classmethod
    def open(cls, url: str, *, exclusive: bool = True) -> SqliteStore:
        """Open `sqlite:///path`, make the file and its folder where missing, and bring the schema up to date.

        With `exclusive` (a server) a second server on the same file raises StoreError; a short command may look in
        beside a server without it.
        """
        path = Path(url.removeprefix("sqlite:///"))
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock(path) if exclusive else None
        engine = _engine(path, begin="BEGIN IMMEDIATE", pool=0)
        with engine.begin() as connection:
            migrate(connection)
        engine.dispose()
        return cls(path, lock)

    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function in one durable transaction and return its result; an exception rolls it back."""
        if self._closed:
            raise StoreError("the store is closed")
        work = _Work(partial(_call, fn, args, kwargs), Future())
        self._queue.put(work)
        with _environment_told():
            result: T = await asyncio.wrap_future(work.done)
        return result

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function over a consistent snapshot."""
        loop = asyncio.get_running_loop()
        with _environment_told():
            return await loop.run_in_executor(self._readers, self._read, partial(_call, fn, args, kwargs))

    async def ping(self) -> None:
        """Return when the file can be read. Raises StoreUnavailableError."""
        await self.read(_is_there)

    async def close(self) -> None:
        """Finish what is queued and let the connections and the file's lock go."""
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._writer.join)
        self._readers.shutdown()
        self._write_engine.dispose()
        self._read_engine.dispose()
        if self._lock is not None:
            self._lock.close()

    def _read(self, run: Callable[[Connection], T]) -> T:
        with self._read_engine.connect() as connection:
            return run(connection)

    def _write_loop(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            group, last = self._group(first)
            self._commit(group)
            if last:
                return

    def _group(self, first: _Work) -> tuple[list[_Work], bool]:
        """Everything that waits now, at most `GROUP_MAX`; True when the end of the queue was met."""
        group = [first]
        while len(group) < GROUP_MAX:
            try:
                work = self._queue.get_nowait()
            except queue.Empty:
                return group, False
            if work is None:
                return group, True
            group.append(work)
        return group, False

    def _commit(self, group: list[_Work]) -> None:
        """Run a group in one transaction. Handing the connection back clears what a failed commit left in it."""
        try:
            with self._write_engine.connect() as connection, connection.begin():
                for work in group:
                    _run_in_savepoint(connection, work, alone=len(group) == 1)
        except BaseException as error:  # handed to every waiting caller, none of which was committed
            for work in group:
                work.error = work.error or error
        for work in group:
            if work.done.set_running_or_notify_cancel():
                if work.error is not None:
                    work.done.set_exception(work.error)
                else:
                    work.done.set_result(work.result)


@contextmanager
def _environment_told() -> Iterator[None]:
    """Tell faults of the disk and of the file from faults of a statement. After any of them nothing is committed."""
    try:
        yield
    except OperationalError as error:
        # The low byte is the primary code: https://www.sqlite.org/rescode.html
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        if code not in ENVIRONMENT_CODES:
            raise
        raise StoreUnavailableError(f"the database file cannot be used now: {error.orig}") from error


def _is_there(connection: Connection) -> None:
    connection.execute(text("SELECT 1"))


def _call(fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], connection: Connection) -> T:
    return fn(connection, *args, **kwargs)


def _run_in_savepoint(connection: Connection, work: _Work, *, alone: bool) -> None:
    if alone:
        work.result = work.run(connection)
        return
    driver: Any = connection.connection.driver_connection
    driver.execute("SAVEPOINT work")
    try:
        work.result = work.run(connection)
    except Exception as error:  # the caller's own error goes back to the caller; the group goes on
        driver.execute("ROLLBACK TO work")
        work.error = error
    driver.execute("RELEASE work")


def _engine(path: Path, *, begin: str, pool: int) -> Engine:
    options: dict[str, Any] = {"poolclass": NullPool} if pool == 0 else {"poolclass": QueuePool, "pool_size": pool}
    engine = create_engine(
        f"sqlite:///{path}", connect_args={"check_same_thread": False}, hide_parameters=True, **options
    )

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # BEGIN is ours: the driver's own would not take the write lock at once
        for pragma in PRAGMAS:
            connection.execute(pragma)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        driver.execute(begin)

    return engine


def _lock(path: Path) -> Any:
    """Hold the file's lock for the life of the process; the operating system lets it go when the process dies."""
    handle = path.with_suffix(path.suffix + ".lock").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise StoreError(
            f"{path} is in use by another vidgate server; SQLite is for one process: "
            "stop the other one, or set store.url to a PostgreSQL database"
        ) from None
    return handle
