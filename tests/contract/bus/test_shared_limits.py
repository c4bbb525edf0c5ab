"""Slots and rates in a real Redis: exact under a crowd, back when a replica dies, rebuilt when Redis forgets."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.bus.contract import Bus, Limits, NoSlot, Slot
from tests.contract.bus.conftest import Opener, eventually
from tests.support.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.anyio


def slot(attempt: str) -> Slot:
    return Slot("alpha", "alpha/one", attempt)


async def busy(bus: Bus, most: int) -> int:
    """How many slots are taken, as somebody is told who finds none free."""
    refused = await bus.take(slot("probe"), Limits(concurrency_max=most))
    if refused is None:
        bus.free("probe")
        return 0
    return refused.busy


async def test_a_crowd_on_three_replicas_gets_exactly_what_there_is(redis: RedisServer, replica: Opener) -> None:
    """Sixty ask at once for seven slots: seven have one."""
    buses = [await replica(redis.url) for _ in range(3)]
    asked = (buses[number % 3].take(slot(f"a{number}"), Limits(7)) for number in range(60))
    answers = await asyncio.gather(*asked)
    assert answers.count(None) == 7


async def test_calls_in_a_minute_are_counted_over_replicas(redis: RedisServer, replica: Opener) -> None:
    """The one that is too many is told when the first will be a minute old, and not counted."""
    one, other = await replica(redis.url), await replica(redis.url)
    limits = Limits(requests_per_minute=3)
    granted = [await bus.take(slot(f"a{number}"), limits) for number, bus in enumerate((one, other, one))]
    assert granted == [None, None, None]
    for bus in (other, one):
        refused = await bus.take(slot("more"), limits)
        assert isinstance(refused, NoSlot)
        assert 40.0 < refused.wait_s <= 60.0
    assert await other.take(Slot("beta", "beta/one", "b"), limits) is None, "an account has its own calls"


async def test_a_full_route_costs_no_call(redis: RedisServer, replica: Opener) -> None:
    """Who gets no slot has called nobody."""
    bus = await replica(redis.url)
    limits = Limits(1, 2)
    assert await bus.take(slot("a"), limits) is None
    for _ in range(5):
        refused = await bus.take(slot("b"), limits)
        assert refused is not None
        assert refused.busy == 1
    bus.free("a")
    await eventually_taken(bus, "b", limits)


async def eventually_taken(bus: Bus, attempt: str, limits: Limits) -> None:
    for _ in range(500):
        if await bus.take(slot(attempt), limits) is None:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the slot never came back")


async def test_the_slots_of_a_dead_replica_come_back_and_those_of_a_living_one_do_not(
    redis: RedisServer, replica: Opener
) -> None:
    """A lease that is not renewed ends; a heartbeat keeps it as long as the render takes."""
    dead, living = await replica(redis.url, lease_s=0.4), await replica(redis.url, lease_s=0.4)
    assert await dead.take(slot("dead"), Limits(2)) is None
    assert await living.take(slot("living"), Limits(2)) is None
    for _ in range(12):
        living.renew()
        await asyncio.sleep(0.1)
    assert await living.take(slot("next"), Limits(2)) is None
    refused = await living.take(slot("one more"), Limits(2))
    assert refused is not None
    assert refused.busy == 2


async def test_a_slot_that_is_handed_over_stays_taken(redis: RedisServer, replica: Opener) -> None:
    """A render goes on while its job changes replicas: its place is nobody else's in between."""
    old, new = await replica(redis.url, lease_s=0.5), await replica(redis.url, lease_s=0.5)
    assert await old.take(slot("a"), Limits(1)) is None
    old.free("a", handed_over=True)
    new.hold(slot("a"))
    for _ in range(10):
        new.renew()
        await asyncio.sleep(0.1)
        assert await busy(old, 1) == 1
    new.free("a")
    await eventually_taken(old, "b", Limits(1))


async def test_a_redis_that_forgot_everything_is_told_again(tmp_path: Path, replica: Opener) -> None:
    """Redis keeps nothing on disk: what is under way counts again as soon as it is back."""
    with redis_server(tmp_path / "redis") as server:
        bus = await replica(server.url)
        assert await bus.take(slot("a"), Limits(2)) is None
        server.kill()
        await eventually(lambda: bus.degraded)
        assert await bus.take(slot("b"), Limits(2)) is None, "without Redis every replica keeps its own limits"
        assert await bus.take(slot("c"), Limits(2)) is None
        bus.free("c")
        server.start()
        await eventually(lambda: not bus.degraded)
        for _ in range(500):
            if await busy(bus, 2) == 2:
                return
            await asyncio.sleep(0.02)
        raise AssertionError("it was never told again")


async def test_keys_say_whose_they_are_and_end_by_themselves(redis: RedisServer, replica: Opener) -> None:
    """Both keys of a script carry the account as their hash tag, and nothing stays behind for ever."""
    bus = await replica(redis.url)
    assert await bus.take(Slot("account-of-this-test", "account-of-this-test/r", "a"), Limits(1, 1)) is None
    keys = [key for key in redis.ask("KEYS", "*").decode().split("\r\n") if "account-of-this-test" in key]
    assert len(keys) == 2
    for key in keys:
        assert "{account-of-this-test}" in key
        assert 0 < int(redis.ask("PTTL", key).decode().strip(":\r\n")) <= 60_000
