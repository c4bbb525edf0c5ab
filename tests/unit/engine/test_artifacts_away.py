"""The bucket of pictures and videos is away: callers are told so, jobs wait for it, and nobody pays twice."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from obstore.exceptions import GenericError, PermissionDeniedError

from gateway.delivery import IN_HAND_S
from gateway.parking import CRASH_PAUSE_S
from providers.contract import CheckOutcome, Pending, Token
from tests.support.bucket import Bucket
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.pictures import picture_base64
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio
# Longer than five crashes would be apart.
AWAY_S = 10 * CRASH_PAUSE_S


async def calm(gateway: Gateway, job_id: str) -> dict[str, Any]:
    """The job after the bucket was away for long: active, not parked."""
    await asyncio.sleep(AWAY_S)
    rows = (await gateway.counts(), await gateway.job(job_id))
    assert rows[1]["status"] in {"queued", "running"}, rows
    assert "vidgate_jobs_parked 0.0" in (await gateway.client.get("/metrics")).text
    return rows[1]


async def test_a_result_waits_until_it_can_be_kept(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten crashes' time without the bucket park no job and cost no second render."""
    alpha = Scripted()
    gateway = await start(alpha)
    bucket = Bucket(gateway, monkeypatch)
    alpha.checks.append(Pending())

    def done(vendor: Scripted, token: Token) -> CheckOutcome:
        bucket.trouble = GenericError("Generic S3 error: 503 Slow Down")
        return Scripted._check(vendor, token)

    alpha.checks.append(done)
    job_id = await gateway.submit(routing={"deadline_s": 3600})
    await gateway.when(lambda: bucket.trouble is not None)
    await calm(gateway, job_id)
    bucket.trouble = None
    job = await gateway.ended(job_id)
    assert (job["status"], len(job["attempts"]), len(alpha.asked)) == ("succeeded", 1, 1)
    assert (await gateway.balances())["provider:alpha"] == -alpha.price_micros


async def test_a_result_that_came_in_the_reply_is_held_until_it_can_be_kept(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be had again: five minutes without the bucket cost neither the clip nor a second render."""
    alpha = Scripted(mode="sync")
    gateway = await start(alpha)
    bucket = Bucket(gateway, monkeypatch)

    async def away(moment: str, call: str) -> None:
        if (moment, call) == ("after", "submit"):
            bucket.trouble = GenericError("Generic S3 error: 503 Slow Down")

    alpha.hook = away
    job_id = await gateway.submit(routing={"deadline_s": 3600})
    await gateway.when(lambda: bucket.trouble is not None)
    await calm(gateway, job_id)
    bucket.trouble = None
    job = await gateway.ended(job_id)
    assert (job["status"], len(job["attempts"]), len(alpha.asked)) == ("succeeded", 1, 1)
    assert (await gateway.balances())["provider:alpha"] == -alpha.price_micros


async def test_a_result_that_could_not_be_kept_is_told_as_that(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time it is held the attempt is in doubt, for the bucket's reason: no process ended."""
    alpha = Scripted(mode="sync", billing="may_bill")
    gateway = await start(alpha)
    bucket = Bucket(gateway, monkeypatch)

    async def away(moment: str, call: str) -> None:
        if (moment, call) == ("after", "submit"):
            bucket.trouble = GenericError("Generic S3 error: 503 Slow Down")

    alpha.hook = away
    job_id = await gateway.submit(routing={"deadline_s": 3600})
    await gateway.when(lambda: bucket.trouble is not None)
    await asyncio.sleep(IN_HAND_S + 60)
    (attempt,) = (await gateway.job(job_id))["attempts"]
    told = "the result came with the reply and could not be stored: GenericError: Generic S3 error: 503 Slow Down"
    assert (attempt["state"], [one["detail"] for one in attempt["events"] if one["what"] == "in_doubt"]) == (
        "in_doubt",
        [told],
    )


async def test_a_picture_that_cannot_be_read_is_sent_later(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job is there and its vendor is not asked until its picture can be had."""
    alpha = Scripted()
    gateway = await start(alpha)
    bucket = Bucket(gateway, monkeypatch)
    admitted = gateway.service.dispatcher.begin

    def begin(*args: Any, **kwargs: Any) -> Any:
        bucket.trouble = bucket.trouble or GenericError("Generic S3 error: timed out")
        return admitted(*args, **kwargs)

    monkeypatch.setattr(gateway.service.dispatcher, "begin", begin)
    job_id = await gateway.submit(routing={"deadline_s": 3600})
    await calm(gateway, job_id)
    assert len(alpha.asked) == 0
    monkeypatch.setattr(gateway.service.dispatcher, "begin", admitted)
    bucket.trouble = None
    assert (await gateway.ended(job_id))["status"] == "succeeded"


@pytest.mark.parametrize("kind", [GenericError, PermissionDeniedError])
async def test_a_caller_is_told_and_may_come_again(
    start: Start, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """503 with a time to come again, in a batch too; no job, no hold, and the same Idempotency-Key serves again."""
    gateway = await start(Scripted())
    bucket = Bucket(gateway, monkeypatch)

    async def asked(path: str, body: Any) -> httpx.Response:
        return await gateway.client.post(path, json=body, headers={"idempotency-key": "once"})

    film = {"image": picture_base64()}
    bucket.trouble = kind("Generic S3 error: no such bucket")
    refused = await asked("/generate/video", film)
    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (503, "unavailable")
    assert int(refused.headers["retry-after"]) > 0
    assert "S3" not in refused.text
    batch = await asked("/generate/video/batch", {"requests": [film]})
    assert [one["status"] for one in batch.json()["results"]] == [503]
    assert (await gateway.counts())["jobs"] == 0
    bucket.trouble = None
    assert (await asked("/generate/video", film)).status_code == 202


async def test_a_file_that_cannot_be_read_is_not_gone(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 and not 410: it is there."""
    gateway = await start(Scripted())
    bucket = Bucket(gateway, monkeypatch)
    job = await gateway.made()
    bucket.trouble = GenericError("Generic S3 error: timed out")
    assert (await gateway.client.get(f"/jobs/{job['id']}/content")).status_code == 503
    bucket.trouble = None
    assert (await gateway.client.get(f"/jobs/{job['id']}/content")).status_code == 200
