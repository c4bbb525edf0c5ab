"""Fixtures: a virtual loop, and gateways over scripted vendors whose books are checked when the test ends."""

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
    """Start a gateway over these vendors; settings are sections by name."""
    fresh_database(tmp_path, template)
    async with AsyncExitStack() as stack:

        async def begin(*vendors: Any, claim_interval_s: float = 5.0, http: Any = None, **settings: Any) -> Gateway:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            setting = Setting(tmp_path, loop, vendors, settings, http=http, claim_interval_s=claim_interval_s)
            return await stack.enter_async_context(running(setting))

        yield begin
