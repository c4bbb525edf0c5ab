"""A store that is timed and traced: the same protocol, with the wait for the database counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from gateway.store.database import Store, StoreError
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.tracing import span

P = ParamSpec("P")
T = TypeVar("T")


class MeteredStore:
    """Wraps a store; what a transaction raises on purpose is no error of the database."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics

    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function in one durable transaction and return its result; an exception rolls it back."""
        with span(f"write {fn.__name__}"), self._metrics.timed("vidgate_store_seconds", operation="write"):
            try:
                return await self._store.write(fn, *args, **kwargs)
            except (StoreError, SQLAlchemyError):
                self._metrics.count("vidgate_store_errors", operation="write")
                raise

    async def read(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function over a consistent snapshot."""
        with self._metrics.timed("vidgate_store_seconds", operation="read"):
            try:
                return await self._store.read(fn, *args, **kwargs)
            except (StoreError, SQLAlchemyError):
                self._metrics.count("vidgate_store_errors", operation="read")
                raise

    async def ping(self) -> None:
        """Return when the database answers now. Raises StoreUnavailableError at once, without trying again."""
        await self._store.ping()

    async def close(self) -> None:
        """Finish what is queued and let the connections go."""
        await self._store.close()
