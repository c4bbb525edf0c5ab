"""Redis goes away and comes back: everything goes on, it is said once, and nobody waits for it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest
from structlog.testing import capture_logs

from gateway.bus.contract import Limits, Slot
from gateway.bus.redis import FACTS_MAX, WAKES_MAX
from policies.values import Observation
from tests.contract.bus.conftest import Opener, eventually
from tests.support.redis_server import RedisServer, redis_server, sentinel

pytestmark = pytest.mark.anyio
SLOT = Slot("alpha", "alpha/one", "a")


def states(logs: list[dict[str, object]]) -> list[object]:
    return [line["event"] for line in logs if str(line["event"]).startswith("bus.") and line["log_level"] != "debug"]


async def test_a_killed_redis_is_said_once_and_found_again(tmp_path: Path, replica: Opener) -> None:
    """One line for each change of state, however often it fails in between; afterwards all is as before."""
    with redis_server(tmp_path / "redis") as server, capture_logs() as logs:
        one, other = await replica(server.url), await replica(server.url)
        server.kill()
        await eventually(lambda: one.degraded and other.degraded)
        await asyncio.sleep(1.0)
        server.start()
        await eventually(lambda: not one.degraded and not other.degraded)
        with other.listen("job", "j") as event:
            one.publish("job", "j")
            await asyncio.wait_for(event.wait(), 5)
    assert sorted(map(str, states(logs))) == ["bus.connected"] * 4 + ["bus.degraded"] * 2


async def test_a_redis_that_hangs_is_noticed_by_its_silence(tmp_path: Path, replica: Opener) -> None:
    """Connections are open and nothing answers: asking for a slot is bounded, and the bus says what it is."""
    with redis_server(tmp_path / "redis") as server:
        bus = await replica(server.url)
        server.pause()
        async with asyncio.timeout(2.0):
            assert await bus.take(SLOT, Limits(1)) is None
        assert bus.degraded
        async with asyncio.timeout(0.2):
            assert await bus.take(SLOT, Limits(1)) is None
        server.resume()
        await eventually(lambda: not bus.degraded)


async def test_a_bus_that_only_listens_notices_silence_too(tmp_path: Path, replica: Opener) -> None:
    """Nobody asks for anything: the bus finds out by itself."""
    with redis_server(tmp_path / "redis") as server:
        bus = await replica(server.url)
        server.pause()
        await eventually(lambda: bus.degraded)
        server.resume()


async def test_a_replica_starts_without_redis_and_joins_when_it_is_there(tmp_path: Path, replica: Opener) -> None:
    """A start never waits long for what may be lost."""
    server = RedisServer(tmp_path / "redis").start()
    server.kill()
    with capture_logs() as logs:
        async with asyncio.timeout(5):
            bus = await replica(server.url, connected=False)
        assert bus.degraded
        assert states(logs) == ["bus.degraded"]
    try:
        server.start()
        await eventually(lambda: not bus.degraded)
    finally:
        server.kill()


async def test_publishing_never_waits_nor_grows_without_redis(tmp_path: Path, replica: Opener) -> None:
    """Thirty thousand facts and wake-ups later it holds a bounded number, and the newest facts."""
    bus = await replica("redis://127.0.0.1:1", connected=False)
    for number in range(30_000):
        bus.publish("job", f"j{number}")
        bus.share(Observation("dispatched", float(number), "alpha/one", "alpha"))
    waiting = bus._out  # type: ignore[attr-defined]
    assert len(waiting.wakes) == WAKES_MAX
    assert len(waiting.facts) == FACTS_MAX
    assert waiting.facts[-1].at == 29_999.0


async def test_listeners_are_woken_when_the_bus_comes_back(tmp_path: Path, replica: Opener) -> None:
    """What would have woken them may be lost: they had better look."""
    with redis_server(tmp_path / "redis") as server:
        bus = await replica(server.url)
        server.kill()
        await eventually(lambda: bus.degraded)
        with bus.listen("job", "j") as event:
            server.start()
            await asyncio.wait_for(event.wait(), 20)


async def test_a_failover_is_followed(tmp_path: Path, replica: Opener) -> None:
    """The master dies, the Sentinel names another, and both replicas meet again there."""
    with sentinel(tmp_path) as watched:
        one, other = await replica(watched.url), await replica(watched.url)
        await eventually(lambda: b"master_link_status:up" in watched.replica.ask("INFO", "replication"))
        await eventually(lambda: b"num-slaves\r\n$1\r\n1" in watched.sentinel.ask("SENTINEL", "master", "watched"))
        watched.master.kill()
        await eventually(lambda: one.degraded and other.degraded)
        await eventually(lambda: not one.degraded and not other.degraded, within_s=30)
        assert watched.master_port() == watched.replica.port
        with other.listen("job", "j") as event:
            one.publish("job", "j")
            await asyncio.wait_for(event.wait(), 5)
        assert await one.take(SLOT, Limits(1)) is None
        assert await other.take(Slot("alpha", "alpha/one", "b"), Limits(1)) is not None


async def test_a_bus_ends_whenever_it_is_told_to(redis: RedisServer, replica: Opener) -> None:
    """In the middle of whatever it does: a cancellation that the client loses would keep a gateway from stopping."""
    random = Random(1)
    for _ in range(100):
        bus = await replica(redis.url)
        for number in range(random.randrange(3)):
            bus.publish("job", f"j{number}")
            await asyncio.sleep(random.uniform(0.0, 0.002))
        async with asyncio.timeout(10):
            await bus.close()


async def test_a_busy_replica_sends_few_messages(redis: RedisServer, replica: Opener) -> None:
    """A thousand words in a moment are a handful of messages, and every one of them arrives."""
    one, other = await replica(redis.url), await replica(redis.url)
    names: list[str] = []
    other.on("job", names.append)
    before = one._number  # type: ignore[attr-defined]
    for number in range(1000):
        one.publish("job", f"j{number}")
        if number % 100 == 0:
            await asyncio.sleep(0)
    await eventually(lambda: len(names) == 1000)
    assert names == [f"j{number}" for number in range(1000)]
    assert one._number - before < 20  # type: ignore[attr-defined]


async def test_a_wrong_password_is_an_outage_that_is_said_without_it(tmp_path: Path, replica: Opener) -> None:
    """The reason stands in the log; the secret does not."""
    with redis_server(tmp_path / "redis", "--requirepass", "right") as server, capture_logs() as logs:
        wrong = await replica(f"redis://:not-that-one@127.0.0.1:{server.port}", connected=False)
        right = await replica(f"redis://:right@127.0.0.1:{server.port}")
        assert (wrong.degraded, right.degraded) == (True, False)
    assert "not-that-one" not in str(logs)


async def test_what_others_write_to_the_channel_does_no_harm(redis: RedisServer, replica: Opener) -> None:
    """Nonsense is left alone and the next message is heard."""
    bus = await replica(redis.url)
    channel = bus._channel  # type: ignore[attr-defined]
    with bus.listen("job", "j") as event:
        for text in ("", "nonsense", '{"v":1}', '{"v":9,"o":"x","n":1}', '{"v":1,"o":"x","n":1,"w":[["job","j"]]}'):
            redis.ask("PUBLISH", channel, text)
        await asyncio.wait_for(event.wait(), 5)
    assert not bus.degraded
