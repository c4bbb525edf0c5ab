"""The worker's protocol over HTTP: statuses, bodies and headers, as the adapter relies on them."""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import pytest

from providers.local_gpu.protocol import NOT_SERVING
from providers.local_gpu.worker import service
from providers.local_gpu.worker.desk import Desk
from providers.local_gpu.worker.orders import Asked
from providers.local_gpu.worker.service import build_service
from tests.support.clock import VirtualClock
from tests.support.gpu_worker import FILE, MODELS, STEP_S, ScriptedEngine, figure, make_desk, order_body, until

pytestmark = pytest.mark.anyio
SMALL = {"width": 64, "height": 64, "num_frames": 4, "num_inference_steps": 5}


@pytest.fixture
async def desk(clock: VirtualClock, tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk at work, with one place to wait."""
    desk = make_desk(tmp_path, ScriptedEngine(clock), queue_max=1)
    task = asyncio.create_task(desk.work())
    yield desk
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def succeeded(desk: Desk) -> float:
    """How many renders have succeeded, by the metrics."""
    return figure(desk, "vidgate_gpu_renders_total", model="svd", state="succeeded")


def client(desk: Desk, token: str = "", shown: str = "") -> httpx.AsyncClient:
    """A client of the desk's service."""
    headers = {"Authorization": shown} if shown else {}
    transport = httpx.ASGITransport(build_service(desk, token=token))
    return httpx.AsyncClient(transport=transport, base_url="http://worker", headers=headers)


async def test_an_order_from_put_to_file(desk: Desk) -> None:
    """202, steps that count up, the facts of the file, and the file: whole, in part and by its head alone."""
    async with client(desk) as http:
        reply = await http.put("/v1/renders/try-1", content=order_body(**SMALL, seed=5))
        assert reply.status_code == 202
        assert reply.json()["state"] == "queued"
        assert (await http.get("/v1/renders/try-1/output")).status_code == 409
        seen = []
        while (shown := (await http.get("/v1/renders/try-1")).json())["state"] != "succeeded":
            seen.append(shown["progress"])
            await desk.clock.sleep(1.0)
        assert seen == sorted(seen)
        assert seen[-1] == pytest.approx(5 / 6, abs=0.001)
        assert (shown["step"], shown["steps"], shown["progress"], shown["seed"]) == (5, 5, 1.0, 5)
        assert shown["gpu_s"] == pytest.approx(6 * STEP_S, abs=0.2)
        assert shown["output"]["url"] == "/v1/renders/try-1/output"
        whole = await http.get(shown["output"]["url"])
        assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, FILE, "video/mp4")
        part = await http.get(shown["output"]["url"], headers={"Range": "bytes=4-11"})
        assert (part.status_code, part.content) == (206, FILE[4:12])
        head = await http.head(shown["output"]["url"])
        assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(FILE)), b"")


async def test_asking_again_is_answered_with_the_same_render(desk: Desk) -> None:
    """200 for the same order, 409 for another under its id, and only one render; a race of two is one render too."""
    async with client(desk) as http:
        replies = await asyncio.gather(
            *(http.put("/v1/renders/a", content=order_body(**SMALL)) for _ in range(3)),
        )
        assert sorted(reply.status_code for reply in replies) == [200, 200, 202]
        other = await http.put("/v1/renders/a", content=order_body(**SMALL, fps=9))
        assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
        await until(desk.clock, lambda: succeeded(desk) == 1)
        assert (await http.put("/v1/renders/a", content=order_body(**SMALL))).json()["state"] == "succeeded"
    assert succeeded(desk) == 1


async def test_a_full_queue_is_429_with_the_figures(desk: Desk) -> None:
    """Retry-After is whole seconds; the body says how much waits and how much may."""
    async with client(desk) as http:
        for name in ("a", "b"):
            assert (await http.put(f"/v1/renders/{name}", content=order_body(**SMALL))).status_code == 202
        full = await http.put("/v1/renders/c", content=order_body(**SMALL))
        error = full.json()["error"]
        assert full.status_code == 429
        assert int(full.headers["retry-after"]) >= 1
        assert (error["code"], error["queue_depth"], error["queue_max"]) == ("queue_full", 1, 1)
        # One that is known is told its state all the same.
        assert (await http.put("/v1/renders/a", content=order_body(**SMALL))).status_code == 200


async def test_what_has_no_room_is_refused_unread(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the queue full, or while the worker stops, no picture of an order that is new is opened."""
    async with client(desk) as http:
        for name in ("a", "b"):
            await http.put(f"/v1/renders/{name}", content=order_body(**SMALL))
        monkeypatch.setattr(service, "read_asked", lambda _body, _models: pytest.fail("the order was read"))
        assert (await http.put("/v1/renders/c", content=order_body(**SMALL))).status_code == 429
        assert figure(desk, "vidgate_gpu_refused_total") == 1
        desk.draining = True
        assert (await http.put("/v1/renders/c", content=order_body(**SMALL))).status_code == 503


async def test_few_orders_are_read_at_once(
    clock: VirtualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An opened picture is much larger than its file: twelve that come together are opened two at a time."""
    desk = make_desk(tmp_path, ScriptedEngine(clock), queue_max=12)
    counting, open_now, most = threading.Lock(), 0, 0
    inner = service.read_asked

    def read(body: bytes, models: Sequence[str]) -> Asked:
        nonlocal open_now, most
        with counting:
            open_now += 1
            most = max(most, open_now)
        time.sleep(0.005)
        try:
            return inner(body, models)
        finally:
            with counting:
                open_now -= 1

    monkeypatch.setattr(service, "read_asked", read)
    async with client(desk) as http:
        put = [http.put(f"/v1/renders/{number}", content=order_body(**SMALL)) for number in range(12)]
        assert {reply.status_code for reply in await asyncio.gather(*put)} == {202}
    assert most == service.READING_AT_ONCE


async def test_a_disk_that_takes_no_order_is_503(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused in the protocol's words, so that it is ordered elsewhere at once; its id is free."""

    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with client(desk) as http:
        with monkeypatch.context() as patched:
            patched.setattr(desk.shelf, "keep_picture", full)
            reply = await http.put("/v1/renders/a", content=order_body(**SMALL))
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "disk")
        assert reply.json()["error"]["code"] in NOT_SERVING
        assert int(reply.headers["retry-after"]) >= 1
        assert (await http.put("/v1/renders/a", content=order_body(**SMALL))).status_code == 202


async def test_an_order_that_is_wrong_is_422_and_names_the_field(desk: Desk) -> None:
    """Nothing of it is kept, and its id is free."""
    async with client(desk) as http:
        reply = await http.put("/v1/renders/a", content=order_body(**SMALL, fps=99))
        assert reply.status_code == 422
        assert reply.json()["error"] == {
            "code": "invalid",
            "message": "fps must be a whole number from 1 to 60 and is 99",
            "field": "fps",
        }
        for name in ("x" * 65, "a.b", "a%20b"):
            assert (await http.put(f"/v1/renders/{name}", content=order_body(**SMALL))).json()["error"]["field"] == "id"
        assert (await http.get("/v1/renders/a")).status_code == 404
        assert (await http.put("/v1/renders/a", content=order_body(**SMALL))).status_code == 202


async def test_a_body_has_a_limit(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is longer than any order is not read to its end."""
    monkeypatch.setattr(service, "BODY_BYTES_MAX", 1000)
    async with client(desk) as http:
        reply = await http.put("/v1/renders/a", content=b"x" * 1001)
        assert (reply.status_code, reply.json()["error"]["code"]) == (413, "too_large")


async def test_an_unknown_render_is_404_everywhere(desk: Desk) -> None:
    """Asked for, called off or fetched: the worker lost it, or never had it."""
    async with client(desk) as http:
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/output"), ("HEAD", "/output")):
            reply = await http.request(method, f"/v1/renders/gone{path}")
            assert reply.status_code == 404
            if method != "HEAD":
                assert reply.json()["error"]["code"] == "unknown_render"


async def test_delete_asks_and_then_tells(desk: Desk) -> None:
    """202 while the render may still end otherwise, canceled at its next step, 200 from then on."""
    async with client(desk) as http:
        await http.put("/v1/renders/a", content=order_body(**SMALL))
        await desk.clock.sleep(STEP_S * 1.5)
        assert (await http.delete("/v1/renders/a")).status_code == 202
        await desk.clock.sleep(STEP_S)
        shown = (await http.get("/v1/renders/a")).json()
        assert (shown["state"], shown["step"], shown["error"], shown["output"]) == ("canceled", 1, None, None)
        again = await http.delete("/v1/renders/a")
        assert (again.status_code, again.json()["state"]) == (200, "canceled")


async def test_the_token_is_asked_for_where_work_is_ordered(desk: Desk) -> None:
    """Without it or with another: 401. Health, readiness and metrics are open: they tell nothing of anybody's."""
    wrong = ("", "Bearer other", "Bearer ", "Basic s3cret", "bearer s3cret")
    for shown in wrong:
        async with client(desk, "s3cret", shown) as http:
            reply = await http.get("/v1/status")
            assert (reply.status_code, reply.json()["error"]["code"]) == (401, "unauthorized")
            assert (await http.put("/v1/renders/a", content=order_body(**SMALL))).status_code == 401
            for page in ("/healthz", "/readyz", "/metrics"):
                assert (await http.get(page)).status_code == 200
    async with client(desk, "s3cret", "Bearer s3cret") as http:
        assert (await http.get("/v1/status")).status_code == 200


async def test_the_status_is_what_a_router_needs(desk: Desk) -> None:
    """Models, device, queue and measured seconds; unmeasured ones are null and not nothing."""
    async with client(desk) as http:
        first = (await http.get("/v1/status")).json()
        assert first["protocol"] == 1
        assert first["models"] == list(MODELS)
        assert first["seconds_per_step"] == dict.fromkeys(MODELS)
        assert (first["queue_depth"], first["queue_max"], first["running"], first["replicas"]) == (0, 1, 0, 1)
        await http.put("/v1/renders/a", content=order_body(**SMALL))
        await until(desk.clock, lambda: succeeded(desk) == 1)
        later = (await http.get("/v1/status")).json()
        assert later["seconds_per_step"]["svd"] == pytest.approx(STEP_S)
        assert later["seconds_fixed"]["svd"] == pytest.approx(STEP_S, abs=0.1)
        assert later["seconds_per_step"]["ssd-1b"] is None
        assert later["draining"] is False


async def test_a_worker_that_cannot_take_orders_says_so(desk: Desk) -> None:
    """503 with Retry-After while it loads and while it stops; what it has is still told."""
    async with client(desk) as http:
        engine = desk.engine
        assert isinstance(engine, ScriptedEngine)
        await http.put("/v1/renders/a", content=order_body(**SMALL))
        for code in ("starting", "draining"):
            engine.ready, desk.draining = code == "draining", code == "draining"
            for reply in (await http.get("/readyz"), await http.put("/v1/renders/b", content=order_body(**SMALL))):
                assert (reply.status_code, reply.json()["error"]["code"]) == (503, code)
                assert int(reply.headers["retry-after"]) >= 1
            assert (await http.get("/healthz")).status_code == 200
            assert (await http.get("/v1/renders/a")).status_code == 200
            assert (await http.put("/v1/renders/a", content=order_body(**SMALL))).status_code == 200


async def test_the_metrics_count_what_happened(desk: Desk) -> None:
    """Renders by their end, refusals, seconds of the card, and what a step takes."""
    async with client(desk) as http:
        for name in ("a", "b", "c"):
            await http.put(f"/v1/renders/{name}", content=order_body(**SMALL))
        await until(desk.clock, lambda: succeeded(desk) == 2)
        lines = (await http.get("/metrics")).text.splitlines()
    figures = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert figures['vidgate_gpu_renders_total{model="svd",state="succeeded"}'] == "2.0"
    assert figures["vidgate_gpu_refused_total"] == "1.0"
    assert float(figures["vidgate_gpu_busy_seconds_total"]) == pytest.approx(12 * STEP_S, abs=0.5)
    assert float(figures['vidgate_gpu_step_seconds_sum{model="svd"}']) == pytest.approx(2 * STEP_S)
    assert float(figures['vidgate_gpu_render_seconds_count{model="svd"}']) == 2
    assert figures["vidgate_gpu_ready"] == figures["vidgate_gpu_queue_max"] == "1.0"
    assert figures["vidgate_gpu_memory_peak_bytes"] == "4096.0"
