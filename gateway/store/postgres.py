"""PostgreSQL as the store of many replicas: asyncpg under SQLAlchemy Core, the same plain functions as on SQLite.

Writes run at READ COMMITTED: every rule of the money is kept by one conditional statement or by a lock. Reads run over
one snapshot. A transaction that the database rolled back (deadlock, serialization) is run again, and so is one whose
connection was lost before its commit was sent, until `store.retry_s` is over: a restart of PostgreSQL is ridden out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
import structlog
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from gateway.settings import StoreSection
from gateway.store.database import CommitUnknownError, Patience, StoreError, StoreUnavailableError
from gateway.store.migrate import migrate
from gateway.store.postgres_errors import Fault, fault_of

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger()

CONNECT_TIMEOUT_S = 10.0
# The client gives up a little after the server would have: only a server that is gone lets it come to that.
ANSWER_MARGIN_S = 5.0
CONFLICTS_MAX = 8
CONFLICT_PAUSE_S = 0.01
PAUSE_MIN_S = 0.05
PAUSE_MAX_S = 1.0
STATEMENTS_KEPT = 500
# Any number will do, as long as every version of vidgate takes the same one.
MIGRATION_LOCK = text("SELECT pg_advisory_xact_lock(7623980141)")
LOST = frozenset({Fault.LOST, Fault.STANDBY})
FAILURES = (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)


class PostgresStore:
    """A store in a PostgreSQL database. Use `open`; any number of processes may share one."""

    def __init__(self, settings: StoreSection, patience: Patience) -> None:
        self._settings = settings
        self._patience = patience
        self._closed = False
        self._engine = _engine(settings)
        self._snapshots = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @classmethod
    async def open(cls, settings: StoreSection, patience: Patience) -> PostgresStore:
        """Connect and bring the schema up to date, one process after the other. Raises StoreError."""
        store = cls(settings, patience)
        patient = _engine(settings, is_patient=True)
        try:
            await store._patiently(patient, _migrate_alone)
        except FAILURES as error:
            await store.close()
            raise StoreError(f"store.url cannot be used: {error}") from error
        except BaseException:
            await store.close()
            raise
        finally:
            await patient.dispose()
        return store

    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function in one durable transaction and return its result; an exception rolls it back."""
        return await self._patiently(self._engine, partial(_call, fn, args, kwargs))

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function over a consistent snapshot; what it changes is refused by the database."""
        return await self._patiently(self._snapshots, partial(_call, fn, args, kwargs))

    async def ping(self) -> None:
        """Return when the database answers now. Raises StoreUnavailableError at once."""
        try:
            try:
                await _transact(self._snapshots, _is_there)
            except FAILURES as error:
                if fault_of(error) not in LOST:
                    raise
                # Perhaps only the connection that lay ready is gone: a new one tells.
                await _transact(self._snapshots, _is_there)
        except FAILURES as error:
            raise _unavailable(error) from error
        except PoolTimeoutError as error:
            raise self._all_busy() from error

    async def close(self) -> None:
        """Let the connections go."""
        self._closed = True
        await self._engine.dispose()

    async def _patiently(self, engine: AsyncEngine, run: Callable[[Connection], T]) -> T:
        """Run a transaction until it is through, or nothing more can be hoped for."""
        clock, began_at = self._patience.clock, self._patience.clock.now()
        conflicts = losses = 0
        while True:
            if self._closed:
                raise StoreError("the store is closed")
            try:
                return await _transact(engine, run)
            except PoolTimeoutError as error:
                raise self._all_busy() from error
            except FAILURES as error:
                fault = fault_of(error)
                if fault is Fault.CALLERS or (engine is self._snapshots and fault is Fault.STANDBY):
                    raise
                conflicts += fault is Fault.CONFLICT
                losses += fault in LOST
                late = clock.now() - began_at >= self._settings.retry_s
                if fault is Fault.SLOW or conflicts > CONFLICTS_MAX or (losses and late):
                    raise _unavailable(error) from error
                log.info("store.again", fault=fault, error=type(error).__name__)
            ceiling_s = CONFLICT_PAUSE_S * 2**conflicts if fault is Fault.CONFLICT else PAUSE_MIN_S * 2**losses
            await clock.sleep(min(PAUSE_MAX_S, ceiling_s) * self._patience.random.uniform(0.5, 1))

    def _all_busy(self) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"all {self._settings.connections_max} connections to the database are busy: raise store.connections_max"
        )


async def _transact(engine: AsyncEngine, run: Callable[[Connection], T]) -> T:
    """Run a function and commit. Raises CommitUnknownError when the connection is lost in the middle of the commit."""
    async with engine.connect() as connection, connection.begin() as transaction:
        try:
            result = await connection.run_sync(run)
            sent = not await _is_closed(connection)
        except FAILURES as error:
            if fault_of(error) in LOST:
                await connection.invalidate()
            raise
        try:
            await transaction.commit()
        except FAILURES as error:
            if sent and fault_of(error) in LOST:
                raise CommitUnknownError(f"the database went away during a commit: {_first_line(error)}") from error
            raise
    return result


async def _is_closed(connection: AsyncConnection) -> bool:
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    return bool(driver.is_closed())


def _call(fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], connection: Connection) -> T:
    return fn(connection, *args, **kwargs)


def _is_there(connection: Connection) -> None:
    connection.execute(text("SELECT 1"))


def _migrate_alone(connection: Connection) -> None:
    """Bring the schema up to date while every other process that starts waits for its turn."""
    connection.execute(MIGRATION_LOCK)
    migrate(connection)


def _engine(settings: StoreSection, *, is_patient: bool = False) -> AsyncEngine:
    """The way to the database; `is_patient` for a migration, which waits for its turn and takes its time."""
    address, statements_kept = _address(settings.url)
    limits = {
        "statement_timeout": _milliseconds(settings.statement_timeout_s),
        "lock_timeout": _milliseconds(settings.lock_timeout_s),
        "idle_in_transaction_session_timeout": _milliseconds(settings.statement_timeout_s),
    }
    connect = partial(
        asyncpg.connect,
        address,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=None if is_patient else settings.statement_timeout_s + ANSWER_MARGIN_S,
        server_settings={"application_name": "vidgate", "jit": "off"} | ({} if is_patient else limits),
    )
    return create_async_engine(
        "postgresql+asyncpg://",
        hide_parameters=True,  # an error goes into the log, a prompt does not
        async_creator=connect,
        connect_args={"prepared_statement_cache_size": statements_kept},
        isolation_level="READ COMMITTED",
        pool_size=settings.connections_max,
        max_overflow=0,
        pool_timeout=settings.retry_s,
    )


def _address(url: str) -> tuple[str, int]:
    """The address in libpq's words, as asyncpg reads it, and how many prepared statements a connection keeps."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    kept = int(options.pop("prepared_statement_cache_size", STATEMENTS_KEPT))
    if "ssl" in options:
        options["sslmode"] = options.pop("ssl")
    return urlunsplit(parts._replace(scheme="postgresql", query=urlencode(options))), kept


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))


def _unavailable(error: BaseException) -> StoreUnavailableError:
    return StoreUnavailableError(f"the database cannot be used now: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    said = str(cause).strip().splitlines()
    return said[0] if said else type(cause).__name__
