"""`Prefer`: hold the line for the end of a job, or not, and say which."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from providers.contract import FailureKind, Pending, Refused
from tests.support.fixtures import Start
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio


async def test_a_job_that_ends_within_the_wait_is_answered_with_200_and_its_result(start: Start) -> None:
    """One call from picture to bill."""
    gateway = await start(Scripted())
    response = await gateway.post(headers={"prefer": "wait=30"})
    assert (response.status_code, response.json()["status"]) == (200, "succeeded")
    assert (response.headers["preference-applied"], response.headers["vary"]) == ("wait=30", "Accept, Prefer")


async def test_a_job_that_fails_within_the_wait_is_answered_with_its_error(start: Start) -> None:
    """The reply is the job; why it failed stands in it."""
    gateway = await start(Scripted(submits=[Refused(FailureKind.MODERATED, "blocked")]))
    response = await gateway.post(headers={"prefer": "wait=30"})
    assert (response.status_code, response.json()["status"]) == (200, "failed")
    assert response.json()["error"]["status"] == 422


async def test_a_wait_that_is_over_first_is_answered_with_202(start: Start) -> None:
    """The caller gets the address after exactly the time it wanted to wait."""
    alpha = Scripted(trouble=Pending(), trouble_s=100.0)
    gateway = await start(alpha)
    before = gateway.clock.now()
    response = await gateway.post(headers={"prefer": "wait=20"})
    assert gateway.clock.now() - before == pytest.approx(20, abs=0.001)
    assert (response.status_code, response.headers["preference-applied"]) == (202, "wait=20")
    assert response.headers["location"] == f"/jobs/{response.json()['id']}"
    body = response.json()
    assert (body["status"], body["attempts"][0]["state"]) == ("running", "accepted")
    assert response.headers["x-vidgate-attempts"] == "1"


async def test_a_wait_is_no_longer_than_the_server_allows_and_the_reply_says_so(start: Start) -> None:
    """What was applied is what the server did."""
    alpha = Scripted(trouble=Pending(), trouble_s=500.0)
    gateway = await start(alpha, server={"wait_s_max": 12})
    before = gateway.clock.now()
    response = await gateway.post(headers={"prefer": "wait=3600"})
    assert gateway.clock.now() - before == pytest.approx(12, abs=0.001)
    assert response.headers["preference-applied"] == "wait=12"


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("respond-async", "respond-async"),
        ("Respond-Async", "respond-async"),
        ("handling=lenient", None),
        ("wait=x", None),
        ("wait=-1", None),
        ("wait=0", "wait=0"),
        ("handling=lenient, wait=3", "wait=3"),
        ('WAIT="3"', "wait=3"),
        ("respond-async, wait=3", "respond-async, wait=3"),
        ("wait=3, respond-async", "respond-async, wait=3"),
        ("wait=3, wait=9", "wait=3"),
        ('foo="a, wait=9", wait=3', "wait=3"),
        ('foo="a\\", wait=9", wait=3', "wait=3"),
        ("wait=3; strict, return=minimal", "wait=3"),
        ("respond-async; foo=bar", "respond-async"),
        ("wait = 3", "wait=3"),
        (", ,wait=3,", "wait=3"),
        ("nowait=3", None),
        ("wait=99999999999999999999", None),
        ("wait=3, " + "a" * 1015, "wait=3"),
        ("wait=3, " + "a" * 1017, None),  # beyond what is read, all of it is ignored
        ('wait=3, x="' + "\\" * 900, "wait=3"),
        ("a" * 60_000 + '"', None),  # tried at every place, it would hold the process for minutes
    ],
    ids=lambda value: str(value)[:40],
)
async def test_preferences_are_read_as_the_rfc_has_them(start: Start, prefer: str, applied: str | None) -> None:
    """Unknown ones are ignored, and only what was honoured is confirmed."""
    gateway = await start(Scripted(trouble=Pending(), trouble_s=50.0))
    response = await gateway.post(headers={"prefer": prefer})
    assert (response.status_code, response.headers.get("preference-applied")) == (202, applied)


async def test_looking_at_a_job_can_wait_for_its_end_too(start: Start) -> None:
    """GET with a wait answers the moment that the job ends."""
    alpha = Scripted(trouble=Pending(), trouble_s=25.0)
    gateway = await start(alpha)
    job_id = await gateway.submit()
    response = await gateway.client.get(f"/jobs/{job_id}", headers={"prefer": "wait=60"})
    assert response.json()["status"] == "succeeded"
    assert gateway.clock.now() == pytest.approx(alpha.checked_at[-1], abs=0.001)


async def test_many_can_wait_for_one_job(start: Start) -> None:
    """Every waiter is woken, and nobody is left listening."""
    gateway = await start(Scripted(trouble=Pending(), trouble_s=25.0))
    job_id = await gateway.submit()

    async def look() -> dict[str, Any]:
        return dict((await gateway.client.get(f"/jobs/{job_id}", headers={"prefer": "wait=60"})).json())

    assert {shown["status"] for shown in await asyncio.gather(*(look() for _ in range(20)))} == {"succeeded"}
    assert gateway.service.parts.bus._waiting == {}


async def test_a_waiter_that_hangs_up_does_not_stop_the_job(start: Start) -> None:
    """The job belongs to the gateway from the moment that it was admitted."""
    alpha = Scripted(trouble=Pending(), trouble_s=60.0)
    gateway = await start(alpha)
    waiting = asyncio.ensure_future(gateway.post(headers={"prefer": "wait=50"}))
    await gateway.clock.sleep(5)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    (job,) = (await gateway.client.get("/jobs")).json()["jobs"]
    assert (await gateway.ended(job["id"]))["status"] == "succeeded"
