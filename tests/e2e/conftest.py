"""Fixtures: a virtual loop that leaves the network its time, and worlds whose books are checked when a test ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import fresh_database, make_template
from tests.support.vendors import SocketLoop, World, world

Begin = Callable[..., Awaitable[World]]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": SocketLoop}


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
async def begin(tmp_path: Path, template: Path) -> AsyncIterator[Begin]:
    """Begin a world; see `world` for what can be said about it."""
    fresh_database(tmp_path, template)
    async with AsyncExitStack() as stack:

        async def make(**said: Any) -> World:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, SocketLoop)
            return await stack.enter_async_context(world(tmp_path, loop, **said))

        yield make
