"""Two whole gateways over one store and one real Redis: whoever drives a job, both serve it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.bus.redis import RedisBus
from gateway.keys import list_keys, revoke_key
from providers.contract import Pending, RenderRequest, SubmitOutcome
from tests.support.pictures import picture_base64
from tests.support.redis_server import RedisServer, redis_server
from tests.support.replicas import Replica, Stand, stand
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio
ON_BOTH = pytest.mark.parametrize("store_url", ["sqlite", "postgresql"], indirect=True)
# Long enough that nothing but a word over the bus can explain what a test sees sooner.
NEVER_S = 100.0


@pytest.fixture
def anyio_backend() -> str:
    """Real time: Redis is another process."""
    return "asyncio"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """One SQLite store that both share; where a test asks for it, a PostgreSQL database that each opens itself."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return f"sqlite:///{tmp_path / 'vidgate.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def place(
    store_url: str, tmp_path: Path, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stand]:
    monkeypatch.setattr(RedisBus, "recheck_s", NEVER_S)
    async with stand(tmp_path, store_url, redis.url) as started:
        yield started


async def two(place: Stand, *vendors: Scripted, **sections: dict[str, Any]) -> tuple[Replica, Replica]:
    return await place.start(vendors, **sections), await place.start(vendors, **sections)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.01)


async def rendering(replica: Replica, job_id: str) -> None:
    """Wait until a job renders, as told by a replica."""
    for _ in range(1000):
        if (await replica.job(job_id))["progress"]["stage"] == "rendering":
            return
        await asyncio.sleep(0.01)
    raise AssertionError(await replica.job(job_id))


@ON_BOTH
async def test_a_wait_on_any_replica_sees_the_end_of_a_job_that_another_one_runs(place: Stand) -> None:
    """Told by the bus, and at once: nobody looked by himself for a hundred seconds."""
    driver, other = await two(place, Scripted(trouble=Pending(), trouble_s=0.5))
    job_id = await driver.submit()
    assert other.service.dispatcher.run_of(job_id) is None
    async with asyncio.timeout(15):
        shown = await other.job(job_id, wait_s=60)
    assert shown["status"] == "succeeded"


@ON_BOTH
async def test_a_replica_shows_how_a_job_stands_that_another_one_drives(place: Stand) -> None:
    """As far as its rows tell, and the story is the same on both."""
    driver, other = await two(place, Scripted(trouble=Pending(eta_s=9.0), trouble_s=0.6))
    job_id = await driver.submit()
    await rendering(other, job_id)
    assert (await other.job(job_id))["progress"]["fraction"] is None
    async with asyncio.timeout(15):
        there = await other.client.get(f"/jobs/{job_id}/events", timeout=None)
    here = await driver.client.get(f"/jobs/{job_id}/events", timeout=None)
    assert ids(there.text) == ids(here.text) == ["0.0", "1.0", "1.1", "1.2", "end"]
    rest = await other.client.get(f"/jobs/{job_id}/events", headers={"last-event-id": "1.0"}, timeout=None)
    assert ids(rest.text) == ["1.1", "1.2", "end"]


def ids(text: str) -> list[str]:
    return [line.removeprefix("id: ") for line in text.splitlines() if line.startswith("id: ")]


@ON_BOTH
async def test_a_cancel_on_any_replica_wakes_the_one_that_drives(place: Stand) -> None:
    """The wish is a row; the word that it is there goes over the bus."""
    vendor = Scripted(cancels=True, trouble=Pending(), trouble_s=NEVER_S)
    driver, other = await two(place, vendor, polling={"delay_min_s": 50, "delay_max_s": 60})
    job_id = await driver.submit()
    await rendering(other, job_id)
    assert (await other.client.post(f"/jobs/{job_id}/cancel")).status_code == 202
    async with asyncio.timeout(15):
        shown = await other.job(job_id, wait_s=60)
    assert shown["status"] == "canceled"
    assert len(vendor.cancel_asked) == 1


async def test_a_vendors_callback_on_any_replica_has_the_driver_ask_now(place: Stand) -> None:
    """A vendor calls one address; whichever replica answers there passes the hint on."""
    vendor = Scripted()
    driver, other = await two(place, vendor, polling={"delay_min_s": 50, "delay_max_s": 60})
    job_id = await driver.submit()
    await rendering(other, job_id)
    attempt_id = (await other.job(job_id))["attempts"][0]["id"]
    token = other.service.parts.inputs.links.sign("callback", attempt_id)
    assert (await other.client.post(f"/callbacks/{attempt_id}/{token}")).status_code == 204
    async with asyncio.timeout(15):
        assert (await other.job(job_id, wait_s=60))["status"] == "succeeded"


async def test_every_router_learns_what_one_replica_sees(place: Stand) -> None:
    """Attempts and balances reach the other replica's decisions."""
    driver, other = await two(place, Scripted(balance_micros=5_000_000))
    await driver.job(await driver.submit(), wait_s=30)
    fleets = [replica.service.parts.fleet for replica in (driver, other)]
    now = driver.service.parts.clock.now
    await until(lambda: fleets[1].router.snapshot("alpha/one", now()).observations > 0.5)
    await driver.service.parts.fleet.refresh_balance("alpha")
    await until(lambda: fleets[1].accounts["alpha"].balance_micros == 4_900_000)
    seen = [fleet.router.snapshot("alpha/one", now()).observations for fleet in fleets]
    assert seen[0] == pytest.approx(seen[1], rel=0.01), "each has learned it once"


async def test_replicas_keep_one_limit_between_them(place: Stand) -> None:
    """A vendor that runs two at a time is never sent a third, however the jobs are spread; all are made."""
    vendor, busy, most = Scripted(concurrency_max=2), 0, 0

    async def submit(request: RenderRequest) -> SubmitOutcome:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.15)
        busy -= 1
        return vendor.finished(vendor._run(request))

    vendor.mode = "sync"
    vendor.submits.extend([submit] * 6)
    replicas = await two(place, vendor)
    jobs = await asyncio.gather(*(replicas[number % 2].submit() for number in range(6)))
    ended = await asyncio.gather(*(replicas[number % 2].job(job, wait_s=60) for number, job in enumerate(jobs)))
    assert [job["status"] for job in ended] == ["succeeded"] * 6
    assert most == 2


@ON_BOTH
@pytest.mark.parametrize("lost", [False, True], ids=["with Redis", "without Redis"])
async def test_a_revoked_key_is_refused_everywhere_at_once(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """Callers are looked up and not remembered, and what is held open is asked about: Redis has no part in it."""
    monkeypatch.setattr(RedisBus, "recheck_s", NEVER_S)
    with redis_server(tmp_path / "redis") as server:
        async with stand(tmp_path, store_url, server.url) as place:
            driver, other = await two(place, Scripted(trouble=Pending(), trouble_s=NEVER_S))
            job_id = await driver.submit()
            await rendering(other, job_id)
            if lost:
                server.kill()
                await until(lambda: other.service.parts.bus.degraded)
            here, there = [
                asyncio.ensure_future(one.client.get(f"/jobs/{job_id}/events", timeout=None)) for one in (driver, other)
            ]
            waits = [asyncio.ensure_future(waited(one, job_id)) for one in (driver, other)]
            await asyncio.sleep(0.2)
            assert (await other.client.get("/jobs")).status_code == 200
            store = driver.service.parts.store
            (key,) = await store.read(list_keys)
            await store.write(revoke_key, key.id, driver.service.parts.clock.now())
            assert [(await one.client.get("/jobs")).status_code for one in (driver, other)] == [401, 401]
            async with asyncio.timeout(10):  # nothing but the look at the key ends them within a hundred seconds
                told = [ids((await stream).text) for stream in (here, there)]
                answers = [await wait for wait in waits]
            assert told == [["0.0", "1.0", "1.1"]] * 2
            assert [(one.status_code, "attempts" in one.text) for one in answers] == [(401, False)] * 2


async def waited(replica: Replica, job_id: str) -> httpx.Response:
    """The answer about a job whose end is waited for, longer than the test lasts."""
    return await replica.client.get(f"/jobs/{job_id}", headers={"prefer": "wait=90"}, timeout=None)


async def test_without_redis_everything_goes_on_a_little_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiters look themselves, the driver finds a wish with its heartbeat, and readiness says `degraded`."""
    monkeypatch.setattr(RedisBus, "recheck_s", 0.3)
    url = f"sqlite:///{tmp_path / 'vidgate.db'}"
    with redis_server(tmp_path / "redis") as server:
        async with stand(tmp_path, url, server.url) as place:
            vendors = Scripted(trouble=Pending(), trouble_s=0.5), Scripted("beta", cancels=True, price_micros=900_000)
            vendors[1].trouble, vendors[1].trouble_s = Pending(), NEVER_S
            heart = {"jobs": {"lease_s": 4, "heartbeat_s": 0.3}}
            driver, other = await two(place, *vendors, **heart)
            assert (await other.client.get("/readyz")).json()["status"] == "ready"
            server.kill()
            await until(lambda: driver.service.parts.bus.degraded and other.service.parts.bus.degraded)
            ready = await other.client.get("/readyz")
            assert (ready.status_code, ready.json()["status"], ready.json()["checks"]["bus"]) == (
                200,
                "degraded",
                "degraded",
            )
            job_id = await driver.submit()
            assert (await other.job(job_id, wait_s=20))["status"] == "succeeded"
            body = {"image": picture_base64(), "routing": {"pin": "beta/one"}}
            job_id = (await driver.client.post("/generate/video", json=body)).json()["id"]
            await rendering(other, job_id)
            await other.client.post(f"/jobs/{job_id}/cancel")
            assert (await other.job(job_id, wait_s=20))["status"] == "canceled"
            server.start()
            await until(lambda: not other.service.parts.bus.degraded)
            assert json.loads((await other.client.get("/readyz")).text)["status"] == "ready"
