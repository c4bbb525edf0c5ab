"""A vendor's webhook is a hint to ask now and nothing more: early, repeated, missing, forged or late, end to end."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest

from tests.e2e.conftest import Begin
from tests.support.vendors import World

pytestmark = pytest.mark.anyio

RENDER_S = 10.0
POLL_S = 60.0
# Whoever only polls asks after a minute; the render takes ten seconds.
SLOW_POLLS = {"delay_min_s": POLL_S, "delay_max_s": POLL_S}
ASKED = {"pin": "modelslab/svd", "width": 128, "height": 96}
PRICE_MICROS = 200_000


async def slowly_polled(begin: Begin, webhook: str) -> World:
    """A world whose vendor calls back so often, and whose gateway asks of its own accord only after a minute."""
    world = await begin(sections={"modelslab": {}}, polling=SLOW_POLLS)
    world.modelslab.switch(webhook=webhook)
    return world


async def rendering(world: World) -> tuple[str, str]:
    """Have a job rendered; its id and the address that the vendor was given."""
    response = await world.send(**ASKED)
    job_id = response.json()["id"]
    await world.gateway.until(job_id, "rendering")
    (sent,) = world.modelslab.posted("/api/v6/video/img2video")
    return job_id, sent["webhook"]


def took_s(job: Mapping[str, Any]) -> float:
    """Seconds from the request to the end."""
    return (datetime.fromisoformat(job["finished_at"]) - datetime.fromisoformat(job["created_at"])).total_seconds()


def is_billed_once(world: World, job: Mapping[str, Any]) -> bool:
    return job["bill"]["cost_micros"] == world.modelslab.charged_micros() == PRICE_MICROS


@pytest.mark.parametrize("webhook", ["once", "twice"])
async def test_a_callback_ends_a_job_sooner_than_the_next_poll(begin: Begin, webhook: str) -> None:
    """The result is fetched when the vendor calls, however often it does, and billed once."""
    world = await slowly_polled(begin, webhook)
    job = await world.made(**ASKED)
    assert job["status"] == "succeeded", job
    assert RENDER_S <= took_s(job) < RENDER_S + 2
    assert world.modelslab.polls() == 1
    assert is_billed_once(world, job)


async def test_a_callback_that_never_comes_is_not_waited_for(begin: Begin) -> None:
    """Webhooks are best effort: the poll finds what nobody announced."""
    world = await slowly_polled(begin, "never")
    job = await world.made(**ASKED)
    assert job["status"] == "succeeded", job
    assert took_s(job) >= POLL_S
    assert is_billed_once(world, job)


async def test_trap_26_a_forged_callback_changes_nothing(begin: Begin) -> None:
    """Another token, another attempt's token and another verb are refused, and the vendor is not asked."""
    world = await slowly_polled(begin, "never")
    job_id, address = await rendering(world)
    path, _, token = address.rpartition("/")
    stranger = world.gateway.service.parts.inputs.links.callback_url("att_of_somebody_else").rpartition("/")[2]
    for forged in ("0" * len(token), token[:-1], token[:-1] + ("0" if token[-1] != "0" else "1"), stranger):
        response = await world.client.post(f"{path}/{forged}", json={"status": "success"})
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"
    assert (await world.client.get(address)).status_code == 405
    assert (await world.gateway.job(job_id))["progress"]["stage"] == "rendering"
    assert world.modelslab.polls() == 0
    assert took_s(await world.ended(job_id)) >= POLL_S


LIES: tuple[Any, ...] = (
    {"status": "success", "id": 1, "output": ["https://attacker.example/video.mp4"]},
    {"status": "failed", "id": 1, "message": "Processing failed"},
    ["not", "an", "object"],
    "x" * 200_000,
)


async def test_trap_26_what_a_callback_says_is_never_believed(begin: Begin) -> None:
    """The right address with any body makes vidgate ask; what is true is what the vendor then answers."""
    world = await slowly_polled(begin, "never")
    job_id, address = await rendering(world)
    for polls, lie in enumerate(LIES, start=1):
        assert (await world.client.post(address, json=lie)).status_code == 204
        await world.gateway.clock.sleep(1.0)
        assert world.modelslab.polls() == polls
        assert (await world.gateway.job(job_id))["status"] == "running"
    job = await world.ended(job_id)
    assert job["status"] == "succeeded", job
    assert not [path for _, path, _ in world.modelslab.tap.calls if "attacker" in path]
    assert is_billed_once(world, job)


async def test_a_callback_for_a_finished_job_changes_nothing(begin: Begin) -> None:
    """A late or repeated call is taken with thanks: no poll, no second bill, the same job."""
    world = await slowly_polled(begin, "once")
    job_id, address = await rendering(world)
    job = await world.ended(job_id)
    polls = world.modelslab.polls()
    for _ in range(3):
        assert (await world.client.post(address, json={"status": "failed"})).status_code == 204
    await world.gateway.clock.sleep(2 * POLL_S)
    assert world.modelslab.polls() == polls
    assert await world.gateway.job(job_id) == job
    assert is_billed_once(world, job)


async def test_a_callback_for_an_attempt_that_is_not_there_is_ignored(begin: Begin) -> None:
    """A well signed address whose attempt is gone is no error of the vendor's."""
    world = await slowly_polled(begin, "once")
    path = world.gateway.service.parts.inputs.links.callback_url("att_0")
    assert (await world.client.post(path, json={})).status_code == 204


async def test_no_callback_is_asked_for_where_no_vendor_could_reach_vidgate(begin: Begin) -> None:
    """Without a public address the vendor is given no webhook, and the job ends by polling."""
    world = await begin(public=False, sections={"modelslab": {"upload": True}})
    job = await world.made(**ASKED)
    assert job["status"] == "succeeded", job
    (sent,) = world.modelslab.posted("/api/v6/video/img2video")
    assert sent["webhook"] is None


async def test_each_attempt_has_an_address_of_its_own(begin: Begin) -> None:
    """Two jobs get addresses that neither can be guessed from the other, and each wakes its own job alone."""
    world = await slowly_polled(begin, "never")
    ids = [(await world.send(**ASKED)).json()["id"] for _ in range(2)]
    for job_id in ids:
        await world.gateway.until(job_id, "rendering")
    bodies = world.modelslab.posted("/api/v6/video/img2video")
    tokens = [body["webhook"].rpartition("/")[2] for body in bodies]
    assert len(set(tokens)) == 2
    assert min(map(len, tokens)) >= 32
    await world.client.post(bodies[0]["webhook"], json={})
    await world.gateway.clock.sleep(1.0)
    assert world.modelslab.polls() == 1
    jobs = [await world.ended(job_id) for job_id in ids]
    assert [job["status"] for job in jobs] == ["succeeded", "succeeded"]
