"""What holds for every bus: the one of a single process, and the ones over each deployment of Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from gateway.bus.contract import Bus, Draw, Limits, Slot
from gateway.bus.memory import MemoryBus
from policies.quotas import Quota
from policies.values import Observation
from tests.contract.bus.conftest import Opener
from tests.support.redis_server import RedisServer, cluster, sentinel

pytestmark = pytest.mark.anyio
FACT = Observation("balance", 5.0, "", "alpha", balance_micros=7_000_000)


@pytest.fixture(scope="module", params=["memory", "single", "sentinel", "cluster"])
def url(request: pytest.FixtureRequest, redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("deployment")
    if request.param == "memory":
        yield "memory://"
    elif request.param == "single":
        yield redis.url
    elif request.param == "sentinel":
        with sentinel(folder) as watched:
            yield watched.url
    else:
        with cluster(folder) as nodes:
            yield f"redis+cluster://127.0.0.1:{nodes[0].port},127.0.0.1:{nodes[1].port}"


async def heard(event: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(5):
            await event.wait()
    except TimeoutError:
        return False
    return True


async def test_a_listener_is_woken_by_its_topic_and_name_only(url: str, replica: Opener) -> None:
    """The same name under another topic, and another name, are somebody else's."""
    bus = await replica(url)
    with bus.listen("job", "j1") as mine, bus.listen("job", "j2") as other, bus.listen("poll", "j1") as topic:
        bus.publish("job", "j1")
        assert mine.is_set()
        assert not other.is_set()
        assert not topic.is_set()
    assert not getattr(bus, "_waiting")  # noqa: B009 - nobody is left listening


async def test_an_act_is_told_every_name_of_its_topic(url: str, replica: Opener) -> None:
    """What drives jobs hears of all of them without listening to each."""
    bus, names = await replica(url), []
    bus.on("cancel", names.append)
    bus.publish("cancel", "j1")
    bus.publish("job", "j2")
    bus.publish("cancel", "j3")
    assert names == ["j1", "j3"]


async def test_a_slot_is_taken_and_given_back(url: str, replica: Opener) -> None:
    """Taking within the limits is granted, and whatever is done with a slot afterwards raises nothing."""
    bus = await replica(url)
    assert await bus.take(Slot("alpha", "alpha/one", "a1"), Limits(1, 60)) is None
    bus.hold(Slot("alpha", "alpha/one", "a2"))
    bus.renew()
    bus.free("a1")
    bus.free("a2", handed_over=True)
    bus.free("never-taken")


async def two(url: str, replica: Opener) -> tuple[Bus, Bus]:
    if url == "memory://":
        pytest.skip("the bus of one process has no other replica")
    return await replica(url), await replica(url)


async def test_replicas_wake_each_other(url: str, replica: Opener) -> None:
    """Listeners and acts of the other replica hear of it, once."""
    one, other = await two(url, replica)
    names: list[str] = []
    other.on("poll", names.append)
    with other.listen("job", "j1") as event:
        one.publish("poll", "j1")
        one.publish("job", "j1")
        assert await heard(event)
    assert names == ["j1"]


async def test_an_observation_reaches_the_other_replica_and_never_comes_back(url: str, replica: Opener) -> None:
    """Both routers know it; nobody learns from himself twice."""
    one, other = await two(url, replica)
    here: list[Observation] = []
    there: list[Observation] = []
    one.on_fact(here.append)
    other.on_fact(there.append)
    one.share(FACT)
    with one.listen("job", "done") as event:
        await asyncio.sleep(0.05)
        other.publish("job", "done")
        assert await heard(event)
    assert (here, there) == ([], [FACT])


async def test_replicas_share_one_limit(url: str, replica: Opener) -> None:
    """What one has taken the other does not get; what one gives back the other can have."""
    one, other = await two(url, replica)
    limits = Limits(concurrency_max=2)
    slots = [Slot("alpha", "alpha/one", f"a{number}") for number in range(4)]
    assert await one.take(slots[0], limits) is None
    assert await other.take(slots[1], limits) is None
    assert await one.take(slots[1], limits) is None, "an attempt that has a slot keeps it"
    refused = await one.take(slots[2], limits)
    assert refused is not None
    assert (refused.wait_s, refused.busy) == (1.0, 2)
    assert await one.take(Slot("alpha", "alpha/two", "b1"), limits) is None, "every route has its own"
    one.free("a0")
    for _ in range(500):
        if await other.take(slots[3], limits) is None:
            break
        await asyncio.sleep(0.01)
    else:
        raise AssertionError("the slot never came back")


async def test_every_bus_counts_requests_as_one_process_does(url: str, replica: Opener) -> None:
    """The same requests against two quotas at once: taken or not, and what is left, are the same in both."""
    seven, ten = Draw("film", "key:k1", Quota(7, 3600)), Draw("film", "team:film", Quota(10, 3600))
    shared, own = await replica(url), MemoryBus()
    for _ in range(14):
        here, there = await own.draw([seven, ten], 1_800_000_000.0), await shared.draw([seven, ten], 1_800_000_000.0)
        assert here.taken == there.taken
        assert [one.requests for one in here.left] == [one.requests for one in there.left]
        for mine, its in zip(here.left, there.left, strict=True):
            assert abs(mine.whole_us - its.whole_us) < 60_000_000
            assert (mine.wait_us == 0) == (its.wait_us == 0)
    assert not shared.degraded
