"""Quotas over replicas: one count in Redis, the same arithmetic as in a process, and one's own without it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.bus.contract import Draw
from gateway.bus.meters import KEPT_MAX, Meters
from policies.quotas import Quota
from tests.contract.bus.conftest import Opener, eventually
from tests.support.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.anyio

NOW_S = 1_800_000_000.0
# An hour's window: nothing to speak of leaks away while a test runs.
SEVEN, TEN = Draw("film", "key:k1", Quota(7, 3600)), Draw("film", "team:film", Quota(10, 3600))


async def test_a_crowd_on_three_replicas_is_let_through_exactly_so_often(redis: RedisServer, replica: Opener) -> None:
    """Sixty requests at once over three replicas, seven allowed: seven are taken."""
    buses = [await replica(redis.url) for _ in range(3)]
    drawn = await asyncio.gather(*(buses[number % 3].draw([SEVEN], NOW_S) for number in range(60)))
    assert sum(one.taken for one in drawn) == 7
    assert all(one.left[0].requests == 0 for one in drawn if not one.taken)


async def test_a_refusal_draws_nothing_from_the_other_quota(redis: RedisServer, replica: Opener) -> None:
    """A key that is over its limit does not use up its team's."""
    bus = await replica(redis.url)
    for _ in range(20):
        last = await bus.draw([SEVEN, TEN], NOW_S)
    assert [one.requests for one in last.left] == [0, 3]
    assert (await bus.draw([TEN], NOW_S)).taken


async def test_what_leaked_away_can_be_drawn_again(redis: RedisServer, replica: Opener) -> None:
    """Redis's own clock lets the quota fill up again, evenly."""
    bus, brief = await replica(redis.url), Draw("film", "key:brief", Quota(4, 1))
    assert [(await bus.draw([brief], NOW_S)).taken for _ in range(4)] == [True] * 4
    refused = await bus.draw([brief], NOW_S)
    if not refused.taken:  # on a very slow machine a quarter of a second has passed meanwhile
        assert 0 < refused.left[0].wait_us <= 250_000
    await asyncio.sleep(0.3)
    assert (await bus.draw([brief], NOW_S)).taken


async def test_without_redis_each_replica_counts_its_own(tmp_path: Path, replica: Opener) -> None:
    """A limit that nobody can share is kept by each process; when Redis is back, it is one again."""
    with redis_server(tmp_path) as server:
        one, other = await replica(server.url), await replica(server.url)
        server.kill()
        for bus in (one, other):
            assert [(await bus.draw([SEVEN], NOW_S)).taken for _ in range(8)] == [True] * 7 + [False]
            assert bus.degraded
        server.start()
        await eventually(lambda: not one.degraded and not other.degraded)
        taken = [(await bus.draw([SEVEN], NOW_S)).taken for _ in range(4) for bus in (one, other)]
        assert taken == [True] * 7 + [False]


def test_a_process_forgets_the_meters_of_those_who_are_gone() -> None:
    """A hundred thousand keys over a month cost the memory of those of the last hours; the others begin whole."""
    meters = Meters()
    for number in range(KEPT_MAX + 1):
        meters.draw([Draw("film", f"key:{number}", Quota(1, 60))], NOW_S)
    meters.draw([SEVEN], NOW_S + 86_400)
    assert len(meters._kept) == 1
    assert meters.draw([Draw("film", "key:1", Quota(1, 60))], NOW_S + 86_400).taken
