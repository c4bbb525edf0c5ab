"""A money database for tests: in memory for one connection, or a file for many processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from sqlalchemy import Connection, Engine, StaticPool, create_engine, event, insert, text

from gateway.store import schema, schema_money
from gateway.store.metadata import metadata

assert schema_money.MONEY_TABLES

TEAMS = {"alpha": "America/New_York", "beta": "UTC"}
KEYS = {"alpha": ("a1", "a2"), "beta": ("b1",)}


def memory_engine() -> Engine:
    """An engine over one in-memory SQLite database with the whole schema."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    _own_transactions(engine, pragmas=("foreign_keys=ON",))
    metadata.create_all(engine)
    return engine


def file_engine(path: Path) -> Engine:
    """An engine over a SQLite file as the product opens it: WAL, full durability, the write lock at BEGIN."""
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 60})
    _own_transactions(engine, pragmas=("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=60000"))
    return engine


def add_teams(connection: Connection) -> None:
    """The teams of the tests, each in another time zone."""
    rows = [{"id": team, "name": team, "timezone": zone, "plan": {}, "created_at": 0.0} for team, zone in TEAMS.items()]
    connection.execute(insert(schema.teams), rows)


@contextmanager
def money_connection(engine: Engine) -> Iterator[Connection]:
    """A connection in a transaction that has the teams and is rolled back at the end."""
    with engine.connect() as connection:
        transaction = connection.begin()
        add_teams(connection)
        try:
            yield connection
        finally:
            transaction.rollback()


def machine_settings(*, runs: int = 500, steps: int = 50) -> settings:
    """How long a state machine runs; `VIDGATE_MACHINE_RUNS` shortens it where a known fault only has to be found."""
    short = "VIDGATE_MACHINE_RUNS" in os.environ
    return settings(
        max_examples=int(os.environ.get("VIDGATE_MACHINE_RUNS", runs)),
        stateful_step_count=steps,
        deadline=None,
        derandomize=short,
        phases=(Phase.generate,) if short else tuple(Phase),
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def _own_transactions(engine: Engine, *, pragmas: tuple[str, ...]) -> None:
    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.execute(text("BEGIN IMMEDIATE"))
