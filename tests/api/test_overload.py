"""Too much at once, over HTTP: 503 before anything is done, while jobs, health and metrics are looked at as ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.problems import TYPE_BASE
from providers.contract import Pending
from tests.support.fixtures import Start
from tests.support.gateway import NOTHING, Gateway
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio


def check_shed(response: httpx.Response, limit: str) -> None:
    assert response.status_code == 503, response.text
    body = response.json()
    assert (body["type"], body["limit"]) == (TYPE_BASE + "temporary-reduced-capacity", limit)
    assert int(response.headers["retry-after"]) > 0


async def check_watched(gateway: Gateway) -> None:
    """What an operator and a waiting caller look at is answered."""
    for path in ("/healthz", "/readyz", "/metrics", "/jobs"):
        assert (await gateway.client.get(path)).status_code == 200, path


class Upload:
    """A request for a render whose body goes on until it is let go."""

    def __init__(self, gateway: Gateway, first: bytes) -> None:
        self._first = first
        self._go = asyncio.Event()
        self.begun = asyncio.Event()
        headers = {"content-type": "application/json"}
        sent = gateway.client.post("/generate/video", content=self._body(), headers=headers)
        self._task = asyncio.ensure_future(sent)

    async def _body(self) -> AsyncIterator[bytes]:
        yield self._first
        self.begun.set()
        await self._go.wait()
        yield b"}"

    async def end(self) -> httpx.Response:
        self._go.set()
        return await self._task


async def test_more_work_than_allowed_is_refused_and_room_comes_back(start: Start) -> None:
    """The second upload at a time is refused unread; afterwards there is room, and nothing was left behind."""
    gateway = await start(Scripted(), overload={"work_max": 1})
    upload = Upload(gateway, b"{")
    await upload.begun.wait()
    check_shed(await gateway.post(headers={"idempotency-key": "a"}), "work")
    await check_watched(gateway)
    assert (await upload.end()).status_code == 422
    assert await gateway.counts() == NOTHING
    assert (await gateway.post(headers={"idempotency-key": "a"})).status_code == 202
    scraped = (await gateway.client.get("/metrics")).text
    assert 'vidgate_requests_shed_total{limit="work"} 1.0' in scraped
    assert 'vidgate_requests_under_way{kind="work"} 0.0' in scraped


async def test_bodies_together_are_bounded(start: Start) -> None:
    """The upload that would be too much is cut short with 503, and the first goes on."""
    gateway = await start(Scripted(), overload={"body_bytes_max": 20_000})
    upload = Upload(gateway, b"{" + b" " * 15_000)
    await upload.begun.wait()
    check_shed(await gateway.client.post("/generate/video", json={"image": "A" * 10_000}), "bodies")
    await check_watched(gateway)
    assert (await upload.end()).status_code == 422


async def test_callers_who_wait_for_their_job_take_no_room_of_others_work(start: Start) -> None:
    """Ten who hold the line are no reason to refuse the eleventh."""
    gateway = await start(Scripted(checks=[Pending()] * 1000), overload={"work_max": 2})
    waiting = []
    for _ in range(10):
        waiting.append(asyncio.ensure_future(gateway.post(headers={"prefer": "wait=50"})))
        await gateway.clock.sleep(1)
    answers = await asyncio.gather(*waiting)
    assert [answer.status_code for answer in answers] == [202] * 10


async def test_a_loop_that_is_late_again_and_again_takes_no_more_work(start: Start) -> None:
    """What is late twice in a row sheds work and answers the rest."""
    gateway = await start(Scripted())
    for _ in range(2):
        gateway.service.overload.lagged(5.0)
    check_shed(await gateway.post(), "lag")
    await check_watched(gateway)
    gateway.service.overload.lagged(0.0)
    assert (await gateway.post()).status_code == 202


async def test_a_stream_counts_until_it_has_ended(start: Start) -> None:
    """Events that are listened to fill `streams_max`, not the reads, and give their place back at their end."""
    renders = Scripted(checks=[Pending(), Pending(), Pending()])
    gateway = await start(renders, overload={"streams_max": 1, "reads_max": 2})
    path = f"/jobs/{await gateway.submit()}"
    under_way = gateway.service.overload.load.under_way
    listening = asyncio.ensure_future(gateway.client.get(f"{path}/events", timeout=None))
    await gateway.clock.sleep(1)
    assert under_way["streams"] == 1
    check_shed(await gateway.client.get(f"{path}/content"), "streams")
    await check_watched(gateway)
    assert 'vidgate_requests_under_way{kind="streams"} 1.0' in (await gateway.client.get("/metrics")).text
    assert (await listening).status_code == 200
    assert (await gateway.client.get(f"{path}/content")).status_code == 200
    assert set(under_way.values()) == {0}
