"""PostgreSQL for plain functions and plain tests: what is run inside `run` uses its connections as synchronous ones.

The product has one driver, and it is asynchronous. A test of a transaction needs no event loop: it runs in a greenlet,
as a transaction does in the product.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.util import greenlet_spawn

from gateway.settings import StoreSection

T = TypeVar("T")


class PlainPostgres:
    """A database with an event loop of its own. A connection says in its `info` how to run what uses it."""

    def __init__(self, url: str) -> None:
        from gateway.store.postgres import _engine

        self._runner = asyncio.Runner()
        self._engine = _engine(StoreSection(url=url))

    @property
    def engine(self) -> Engine:
        """The engine, for use inside `run`."""
        return self._engine.sync_engine

    def run(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run a plain function that may use the engine's connections."""
        result: T = self._runner.run(greenlet_spawn(fn, *args, **kwargs))
        return result

    def close(self) -> None:
        """Let the connections and the loop go."""
        self._runner.run(self._engine.dispose())
        self._runner.close()


@contextmanager
def plain_postgres(url: str) -> Iterator[PlainPostgres]:
    """The database for the length of the block."""
    opened = PlainPostgres(url)
    try:
        yield opened
    finally:
        opened.close()
