"""Commands to Redis are timed by their names, and those that fail are counted."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import Any

import pytest

from gateway.telemetry.metered_link import MeteredLink
from gateway.telemetry.metrics import Metrics

pytestmark = pytest.mark.anyio


class Line:
    """A connection that carries a command out, fails or hangs, as its first word says."""

    async def execute(self, *command: Any) -> Any:
        if command[0] == "EVAL":
            raise ConnectionError("gone")
        if command[0] == "ZREM":
            await asyncio.sleep(60)
        return b"OK"

    def hear(self, channel: str) -> Any:
        return nullcontext(channel)

    async def reset(self) -> None: ...

    async def close(self) -> None: ...


def value(metrics: Metrics, name: str, command: str) -> float:
    return metrics.registry.get_sample_value(name, {"command": command}) or 0.0


async def test_each_command_is_timed_and_failures_are_counted() -> None:
    """A reply, a fault, and a command that its caller gave up: the time of all three is told."""
    metrics = Metrics()
    link = MeteredLink(Line(), metrics)
    assert await link.execute("PUBLISH", "channel", b"word") == b"OK"
    with pytest.raises(ConnectionError):
        await link.execute("EVAL", "script")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await link.execute("ZREM", "key")
    told = {name: value(metrics, "vidgate_bus_seconds_count", name) for name in ("publish", "eval", "zrem")}
    assert told == {"publish": 1, "eval": 1, "zrem": 1}
    failed = {name: value(metrics, "vidgate_bus_errors_total", name) for name in ("publish", "eval", "zrem")}
    assert failed == {"publish": 0, "eval": 1, "zrem": 1}
    assert value(metrics, "vidgate_bus_seconds_sum", "zrem") > 0


def test_what_is_no_command_is_the_links_own() -> None:
    """Hearing, resetting and closing are passed through."""
    line = Line()
    link = MeteredLink(line, Metrics())
    assert (link.hear, link.reset, link.close) == (line.hear, line.reset, line.close)
