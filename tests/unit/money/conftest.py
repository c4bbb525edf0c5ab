"""A money database in memory, rolled back after every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine

from tests.stateful.money_support import memory_engine, money_connection


@pytest.fixture(scope="session")
def money_engine() -> Iterator[Engine]:
    """One in-memory database for the whole run."""
    engine = memory_engine()
    yield engine
    engine.dispose()


@pytest.fixture
def connection(money_engine: Engine) -> Iterator[Connection]:
    """A transaction with three teams in it."""
    with money_connection(money_engine) as open_connection:
        yield open_connection
