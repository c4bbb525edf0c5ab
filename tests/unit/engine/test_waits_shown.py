"""A job that waits says for what, and until when that is expected to last."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from providers.contract import FailureKind, Pending, Refused
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio


async def progress(gateway: Gateway, job_id: str) -> dict[str, Any]:
    """The job's progress, with the seconds until what it waits for is over in place of the time."""
    shown: dict[str, Any] = (await gateway.job(job_id))["progress"]
    if shown.get("until") is not None:
        shown["until"] = datetime.fromisoformat(shown["until"]).timestamp() - gateway.clock.now()
    return shown


async def test_a_retry_after_is_shown_to_the_job_it_was_said_to_and_to_the_next(start: Start) -> None:
    """The one that was refused is between two submits, the next waits for the account: both about the 60 s."""
    gateway = await start(Scripted(submits=[Refused(FailureKind.RATE_LIMITED, "429", retry_after_s=60.0)]))
    refused_id = await gateway.submit()
    await gateway.until(refused_id, "retrying")
    next_id = await gateway.submit()
    await gateway.until(next_id, "waiting")
    refused, waits = await progress(gateway, refused_id), await progress(gateway, next_id)
    assert refused["reason"] == "alpha/one: rate_limited"
    assert 59.0 <= refused["until"] <= 62.0
    assert waits["reason"].startswith("alpha/one: rate limit: next call allowed in")
    assert 59.0 <= waits["until"] <= 61.0
    for job_id in (refused_id, next_id):
        assert (await gateway.ended(job_id))["status"] == "succeeded"
        assert {"reason", "until"}.isdisjoint((await gateway.job(job_id))["progress"])


async def test_a_full_route_is_shown(start: Start) -> None:
    """A second job on a route for one says what fills it; while it is rendered nothing is waited for."""
    gateway = await start(Scripted(concurrency_max=1, trouble=Pending(), trouble_s=40.0))
    first_id = await gateway.submit()
    await gateway.until(first_id, "rendering")
    second_id = await gateway.submit()
    await gateway.until(second_id, "waiting")
    waits = await progress(gateway, second_id)
    assert waits["reason"] == "alpha/one: 1 renders in flight are all that the route may run at once"
    assert waits["until"] > 0.0
    assert "reason" not in await progress(gateway, first_id)


async def test_what_nobody_can_foresee_has_no_time(start: Start) -> None:
    """An account without credit: the reason is told, and no time, for that is a guess."""
    gateway = await start(Scripted(submits=[Refused(FailureKind.NO_CREDIT, "402", status=402)]))
    job_id = await gateway.submit()
    await gateway.until(job_id, "waiting")
    waits = await progress(gateway, job_id)
    assert waits["reason"].startswith("alpha/one: the account answered no_credit")
    assert waits["until"] is None
