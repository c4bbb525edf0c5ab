"""A transaction over the whole schema whose writes are taken back at its end: made once, for many short examples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from sqlalchemy import Connection, Engine, StaticPool, create_engine

from gateway.store import schema_audit, schema_events
from gateway.store.metadata import metadata
from tests.support.clock import START

assert schema_audit.audit.metadata is schema_events.events.metadata is metadata


class Stopped:
    """A clock that shows one time."""

    def now(self) -> float:
        """The one time."""
        return START

    async def sleep(self, seconds: float) -> None:
        """Nobody sleeps here."""
        raise AssertionError(seconds)


@contextmanager
def undone() -> Iterator[Connection]:
    """A transaction on an empty database in memory, rolled back at the end of the block."""
    with _engine().connect() as connection, connection.begin() as transaction:
        yield connection
        transaction.rollback()


@cache
def _engine() -> Engine:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    metadata.create_all(engine)
    return engine
