"""`GET /jobs/{id}/events`: the story while it happens, taken up again where it was left, and nobody else's."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest

from gateway.keys import revoke_key
from providers.contract import FailureKind, Pending, Refused
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.scripted import Lost, Scripted

pytestmark = pytest.mark.anyio


def read(text: str) -> list[dict[str, Any]]:
    """The events of a stream: name, id where there is one, and data; comments are left out."""
    found = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if fields:
            found.append({**fields, "data": json.loads(fields["data"])})
    return found


async def follow(gateway: Gateway, job_id: str, **headers: str) -> list[dict[str, Any]]:
    response = await gateway.client.get(f"/jobs/{job_id}/events", headers=headers, timeout=None)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    return read(response.text)


def told(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["id"], event["event"]) for event in events if "id" in event]


async def test_a_job_is_followed_from_its_creation_to_its_end(start: Start) -> None:
    """Lines with ids in order, progress without ids between them, and the stream ends with the job."""
    alpha = Scripted(trouble=Pending(eta_s=20.0, progress=0.4), trouble_s=20.0)
    gateway = await start(alpha)
    job_id = await gateway.submit()
    events = await follow(gateway, job_id)
    assert told(events) == [
        ("0.0", "created"),
        ("1.0", "started"),
        ("1.1", "accepted"),
        ("1.2", "delivered"),
        ("end", "ended"),
    ]
    assert events[-1]["data"]["status"] == "succeeded"
    assert events[-1]["data"]["bill"]["price_micros"] == 100_000
    progress = [event["data"] for event in events if event["event"] == "progress"]
    assert {"stage": "rendering", "fraction": 0.4, "eta_s": 20.0} in progress
    assert all(before != after for before, after in pairwise(progress))
    shown = await gateway.job(job_id)
    assert [line["at"] for line in shown["attempts"][0]["events"]] == [
        event["data"]["at"] for event in events if "attempt" in event["data"]
    ]


async def test_a_story_with_trouble_tells_all_of_it(start: Start) -> None:
    """Retries, doubts and the next route, each with its reason."""
    alpha = Scripted(submits=[Refused(FailureKind.RATE_LIMITED, "slow down", 1.0), Lost(False)], looks_up=True)
    alpha.submits.append(Refused(FailureKind.SERVER_ERROR, "HTTP 500"))
    gateway = await start(alpha, Scripted("beta", price_micros=200_000))
    job_id = await gateway.submit()
    events = await follow(gateway, job_id)
    names = [name for _, name in told(events)]
    assert names[:3] == ["created", "started", "retry"]
    assert {"in_doubt", "looked_up", "failed", "delivered"} <= set(names)
    assert names.count("started") == 2
    assert [event["data"]["route"] for event in events if event["event"] == "started"] == ["alpha/one", "beta/one"]
    assert names[-1] == "ended"


async def test_last_event_id_resumes_after_it(start: Start) -> None:
    """Whoever lost the line asks again with the last id: nothing twice and nothing left out."""
    gateway = await start(Scripted())
    job_id = await gateway.submit()
    whole = told(await follow(gateway, job_id))
    for index, (event_id, _) in enumerate(whole):
        assert told(await follow(gateway, job_id, **{"last-event-id": event_id})) == whole[index + 1 :]
    assert told(await follow(gateway, job_id, **{"last-event-id": "nonsense"})) == whole


async def test_a_failed_job_ends_its_story_with_the_problem(start: Start) -> None:
    """The last event says why."""
    gateway = await start(Scripted(submits=[Refused(FailureKind.MODERATED, "blocked")]))
    events = await follow(gateway, await gateway.submit())
    assert events[-1]["event"] == "ended"
    assert events[-1]["data"]["status"] == "failed"
    assert events[-1]["data"]["error"]["status"] == 422


async def test_silence_is_filled_with_comments(start: Start) -> None:
    """A proxy that closes idle lines finds none: a comment comes at least every fifteen seconds."""
    alpha = Scripted(latency_s=300.0, trouble=Pending(), trouble_s=100.0)
    gateway = await start(alpha, polling={"delay_max_s": 600, "delay_min_s": 60})
    response = await gateway.client.get(f"/jobs/{await gateway.submit()}/events", timeout=None)
    assert response.text.count(": ping") >= 6


async def test_another_teams_story_is_not_found(start: Start) -> None:
    """The same 404 as for a job that there is not, before anything is streamed."""
    gateway = await start(Scripted())
    job_id = await gateway.submit()
    _, _, other = await gateway.new_key("others")
    for path, headers in ((f"/jobs/{job_id}/events", other), ("/jobs/job_none/events", {})):
        response = await gateway.client.get(path, headers=headers)
        assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")
    response = await gateway.client.get(f"/jobs/{job_id}/events", headers={"authorization": "Bearer vg_wrong"})
    assert response.status_code == 401


async def test_a_key_that_is_revoked_while_it_waits_is_told_nothing(start: Start) -> None:
    """Even in the last moment, before anybody looks at keys again: the reply is a 401 and without the job."""
    gateway = await start(Scripted(trouble=Pending(), trouble_s=100.0))
    key_id, _, header = await gateway.new_key()
    waiting = {**header, "prefer": "wait=10"}
    job_id = (await gateway.post(headers=header)).json()["id"]
    held = [
        asyncio.ensure_future(gateway.client.get(f"/jobs/{job_id}", headers=waiting, timeout=None)),
        asyncio.ensure_future(gateway.post(headers=waiting)),
    ]
    await gateway.clock.sleep(1)
    await gateway.write(revoke_key, key_id, gateway.clock.now())
    for response in await asyncio.gather(*held):
        assert (response.status_code, "job_" in response.json()["detail"]) == (401, False)


async def test_who_hangs_up_leaves_nothing_behind(start: Start) -> None:
    """The job goes on and nobody is left listening."""
    gateway = await start(Scripted(trouble=Pending(), trouble_s=60.0))
    job_id = await gateway.submit()
    following = asyncio.ensure_future(gateway.client.get(f"/jobs/{job_id}/events", timeout=None))
    await gateway.clock.sleep(5)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert (await gateway.ended(job_id))["status"] == "succeeded"
    assert gateway.service.parts.bus._waiting == {}  # type: ignore[attr-defined]
