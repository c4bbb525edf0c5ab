"""A money database, in memory and on PostgreSQL, rolled back after every test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from tests.stateful.money_support import memory_engine, money_connection
from tests.support.plain_postgres import PlainPostgres, plain_postgres
from tests.support.postgres import PostgresServer

RUN: pytest.StashKey[Callable[..., Any]] = pytest.StashKey()


@pytest.fixture(scope="session")
def money_engine() -> Iterator[Engine]:
    """One in-memory database for the whole run."""
    engine = memory_engine()
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def money_postgres(postgres: PostgresServer) -> Iterator[PlainPostgres]:
    """One database on a real server for the whole run, with the schema that the migrations make."""
    with plain_postgres(postgres.url(postgres.create("migrated"))) as database:
        yield database


@pytest.fixture
def sqlite_connection(money_engine: Engine) -> Iterator[Connection]:
    """The same on SQLite alone, for what only it says or does that way."""
    with money_connection(money_engine) as open_connection:
        yield open_connection


@pytest.fixture(params=["sqlite", "postgresql"])
def connection(request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A transaction with three teams in it."""
    if request.param == "sqlite":
        with money_connection(request.getfixturevalue("money_engine")) as open_connection:
            yield open_connection
        return
    database: PlainPostgres = request.getfixturevalue("money_postgres")
    context = money_connection(database.engine)
    request.node.stash[RUN] = database.run
    yield database.run(context.__enter__)
    database.run(context.__exit__, None, None, None)


@pytest.fixture
def arrange(request: pytest.FixtureRequest, connection: Connection) -> Callable[..., Any]:
    """Run what prepares a test, as the test itself is run."""
    assert connection.in_transaction()
    return request.node.stash.get(RUN, lambda fn, *args: fn(*args))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a plain test of a PostgreSQL connection where that connection can be used."""
    run = pyfuncitem.stash.get(RUN, None)
    if run is None:
        return None
    names = pyfuncitem._fixtureinfo.argnames
    run(pyfuncitem.obj, **{name: pyfuncitem.funcargs[name] for name in names})
    return True
