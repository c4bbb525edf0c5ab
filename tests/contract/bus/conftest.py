"""Real Redis servers for the tests of the bus, one a module that needs it, and buses that are closed at their end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count
from random import Random

import pytest

from gateway.bus.contract import Bus
from gateway.bus.open import Surroundings, open_bus
from gateway.clock import SystemClock
from tests.support.redis_server import RedisServer, redis_server

Opener = Callable[..., Awaitable[Bus]]
_numbers = count()


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests that leave it running."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def replica() -> AsyncIterator[Opener]:
    """Open the bus of one more replica at a URL; those of one test share a namespace of their own."""
    buses: list[Bus] = []
    namespace = f"test-{next(_numbers)}"

    async def begin(url: str, *, lease_s: float = 15.0, connected: bool = True) -> Bus:
        number = len(buses)
        bus = open_bus(url, Surroundings(f"replica-{number}", SystemClock(), Random(number), namespace, lease_s))
        buses.append(bus)
        await bus.start()
        if connected:
            await eventually(lambda: not bus.degraded)
        return bus

    yield begin
    for bus in buses:
        await bus.close()


async def eventually(true: Callable[[], object], within_s: float = 20.0) -> None:
    """Wait for something that another task or process brings about."""
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.01)
