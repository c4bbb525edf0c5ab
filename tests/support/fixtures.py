"""Fixtures for every folder that runs the gateway in virtual time; its conftest imports the names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.clock import VirtualLoop
from tests.support.gateway import Gateway, Setting, fresh_database, make_template, running

Start = Callable[..., Awaitable[Gateway]]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
async def start(tmp_path: Path, template: Path) -> AsyncIterator[Start]:
    """Start a gateway over these vendors; settings are sections by name.

    A gateway started after the first was stopped finds its rows; with `fresh` it begins with an empty database.
    """
    folders = [tmp_path / "0"]
    fresh_database(folders[0], template)
    async with AsyncExitStack() as stack:

        async def begin(
            *vendors: Any, claim_interval_s: float = 5.0, http: Any = None, fresh: bool = False, **settings: Any
        ) -> Gateway:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            if fresh:
                folders.append(tmp_path / str(len(folders)))
                fresh_database(folders[-1], template)
            setting = Setting(folders[-1], loop, vendors, settings, http=http, claim_interval_s=claim_interval_s)
            life = AsyncExitStack()
            gateway = await life.enter_async_context(running(setting))
            gateway.stop = life.aclose
            stack.push_async_callback(life.aclose)
            return gateway

        yield begin
