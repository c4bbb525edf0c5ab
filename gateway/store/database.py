"""How SQL is run: a transaction is a plain function over a connection, handed to `write` or `read`.

The same functions run on every database. `write` returns after the commit, so what a caller was told is durable. A
store may run a function more than once, when the database rolled it back: functions change nothing but their database.

StoreError
├── StoreUnavailableError   the database does not answer, or not in time: nothing was written
└── CommitUnknownError      the connection was lost while the commit was under way: it may or may not have been written
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection

from gateway.clock import Clock, SystemClock
from gateway.settings import StoreSection

if TYPE_CHECKING:
    from gateway.store.postgres import PostgresStore

P = ParamSpec("P")
T = TypeVar("T")

POSTGRES_SCHEMES = ("postgresql", "postgres")


class StoreError(RuntimeError):
    """The database could not be used; the text says what to do."""


class StoreUnavailableError(StoreError):
    """The database does not answer, or not in time. Nothing was written."""


class CommitUnknownError(StoreError):
    """The connection was lost during the commit: nobody can tell whether it was made. What was to be written says."""


class Store(Protocol):
    """A database with its migrations applied."""

    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function in one durable transaction and return its result; an exception rolls it back.

        Raises StoreUnavailableError and CommitUnknownError.
        """

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function over a consistent snapshot. Raises StoreUnavailableError."""

    async def ping(self) -> None:
        """Return when the database answers now. Raises StoreUnavailableError at once, without trying again."""

    async def close(self) -> None:
        """Finish what is queued and let the connections go."""


@dataclass(frozen=True, slots=True)
class Patience:
    """With what a store waits before it tries again; tests hand in their own."""

    clock: Clock = field(default_factory=SystemClock)
    random: Random = field(default_factory=SystemRandom)


async def open_store(settings: StoreSection, *, patience: Patience | None = None, exclusive: bool = True) -> Store:
    """Open the database that the settings name and bring its schema up to date.

    `exclusive` is a server's: it refuses a SQLite file that another server has. A short command does without.
    Raises StoreError for a database that cannot be opened, or whose kind this installation does not have.
    """
    scheme = settings.url.partition(":")[0]
    # A database's driver is loaded only when it is used: it need not be installed.
    if settings.url.startswith("sqlite:///"):
        from gateway.store.sqlite import SqliteStore  # noqa: PLC0415

        return SqliteStore.open(settings.url, exclusive=exclusive)
    if scheme in POSTGRES_SCHEMES:
        return await postgres_store().open(settings, patience or Patience())
    raise StoreError(
        f"store.url {scheme!r} is not supported; use sqlite:///path/to/file.db or postgresql://user@host/database"
    )


def postgres_store() -> type[PostgresStore]:
    """The store on PostgreSQL, where its driver is installed. Raises StoreError."""
    try:
        from gateway.store.postgres import PostgresStore  # noqa: PLC0415
    except ImportError as error:
        said = str(error).splitlines()[0]
        raise StoreError(f"PostgreSQL needs its driver ({said}): pip install 'vidgate[postgres]'") from error
    return PostgresStore
