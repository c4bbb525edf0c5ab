"""Virtual time for the worker's desk."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.clock import VirtualClock, VirtualLoop


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.fixture
async def clock() -> VirtualClock:
    """The clock of the loop that the test runs on."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return VirtualClock(loop)
