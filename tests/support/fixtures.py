"""Fixtures for every folder that runs the gateway in virtual time; its conftest imports the names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.clock import VirtualLoop
from tests.support.gateway import Gateway, Setting, fresh_database, make_template, running
from tests.support.postgres import PostgresServer

Start = Callable[..., Awaitable[Gateway]]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@asynccontextmanager
async def starting(folder: Path, template: Path, postgres: PostgresServer | None = None) -> AsyncIterator[Start]:
    """A way to start gateways that end with the block; with a server their store is on PostgreSQL."""
    made: list[tuple[Path, str | None]] = []

    def new_place() -> None:
        place = folder / str(len(made))
        fresh_database(place, template)
        made.append((place, postgres.create("migrated") if postgres is not None else None))

    new_place()
    async with AsyncExitStack() as stack:

        async def begin(
            *vendors: Any,
            claim_interval_s: float = 5.0,
            look_every_s: float = 60.0,
            http: Any = None,
            fresh: bool = False,
            **settings: Any,
        ) -> Gateway:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            if fresh:
                new_place()
            place, database = made[-1]
            if postgres is not None and database is not None:
                settings["store"] = {"url": postgres.url(database)} | settings.get("store", {})
            setting = Setting(
                place,
                loop,
                vendors,
                settings,
                http=http,
                claim_interval_s=claim_interval_s,
                look_every_s=look_every_s,
            )
            life = AsyncExitStack()
            gateway = await life.enter_async_context(running(setting))
            gateway.stop = life.aclose
            stack.push_async_callback(life.aclose)
            return gateway

        yield begin
    for _, database in made:
        if postgres is not None and database is not None:
            postgres.drop(database)


@pytest.fixture
async def start(tmp_path: Path, template: Path) -> AsyncIterator[Start]:
    """Start a gateway over these vendors; settings are sections by name.

    A gateway started after the first was stopped finds its rows; with `fresh` it begins with an empty database.
    """
    async with starting(tmp_path, template) as begin:
        yield begin


@pytest.fixture(params=["sqlite", "postgresql"])
async def start_on_both(request: pytest.FixtureRequest, tmp_path: Path, template: Path) -> AsyncIterator[Start]:
    """The same on SQLite and, for a second run of the test, on a real PostgreSQL."""
    postgres = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    async with starting(tmp_path, template, postgres) as begin:
        yield begin
