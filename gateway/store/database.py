"""How SQL is run: a transaction is a plain function over a connection, handed to `write` or `read`.

The same functions run on every database. `write` returns after the commit, so what a caller was told is durable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection

P = ParamSpec("P")
T = TypeVar("T")


class StoreError(RuntimeError):
    """The database could not be used; the text says what to do."""


class Store(Protocol):
    """A database with its migrations applied."""

    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function in one durable transaction and return its result; an exception rolls it back."""

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function over a consistent snapshot."""

    async def close(self) -> None:
        """Finish what is queued and let the connections go."""


def open_store(url: str) -> Store:
    """Open the database that a URL names and bring its schema up to date.

    Raises StoreError for a database kind that this installation does not have.
    """
    if url.startswith("sqlite:///"):
        from gateway.store.sqlite import SqliteStore  # noqa: PLC0415 - a database's driver is loaded only when used

        return SqliteStore.open(url)
    raise StoreError(f"store.url {url.split(':', 1)[0]!r} is not supported; use sqlite:///path/to/file.db")
