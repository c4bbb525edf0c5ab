"""A picture that a vendor does not store, or that nobody prepares, is a refusal: the job goes on, here or elsewhere."""

from __future__ import annotations

import shutil
from collections import deque
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, select

from gateway.inputs import Inputs
from gateway.journal import Journal
from gateway.media.decoders import Decoders
from gateway.media.intake import CleanImage
from gateway.problems import Unavailable
from gateway.store.jobs import load_attempts
from gateway.store.schema import jobs
from providers.capability import Capability, Route
from providers.contract import FailureKind, NoEvidence, Refused
from tests.support.fixtures import Start
from tests.support.scripted import Lost, Scripted

pytestmark = pytest.mark.anyio
PRICE_OF_BETA = 150_000


def uploading(*succeed: bool, **kwargs: Any) -> Scripted:
    """A vendor that takes links to its own storage alone; its first uploads go like this, and later ones well."""
    return Scripted(image_form="url", uploads=deque(succeed), **kwargs)


def crashes(connection: Connection) -> list[int]:
    return list(connection.execute(select(jobs.c.crashes)).scalars())


class Cropping(Scripted):
    """A vendor whose pictures vidgate crops."""

    @property
    def route(self) -> Route:
        cropped = Capability("resize", by="gateway", allowed=("keep_aspect", "crop_16_9"))
        return replace(super().route, capabilities=(*super().route.capabilities, cropped))


async def test_a_vendor_that_stores_no_picture_is_left_for_the_next_route(start: Start) -> None:
    """Tried as often as any refusal, sent nothing, told by name; the next vendor delivers under the same hold."""
    alpha, beta = uploading(*[False] * 50), Scripted("beta", price_micros=PRICE_OF_BETA)
    gateway = await start(alpha, beta)
    job = await gateway.ended(await gateway.submit(), within_s=120)
    assert (job["status"], job["route"], job["bill"]["price_micros"]) == ("succeeded", "beta/one", PRICE_OF_BETA)
    refused = {"kind": "unavailable", "detail": "the picture could not be uploaded to alpha"}
    assert (job["attempts"][0]["failure"], job["attempts"][0]["submits"], alpha.asked) == (refused, 3, [])
    assert await gateway.balances() == {f"team:{gateway.team_id}": PRICE_OF_BETA, "provider:beta": -PRICE_OF_BETA}
    assert await gateway.read(crashes) == [0]


async def test_an_upload_that_fails_once_is_repeated(start: Start) -> None:
    """One bad reply of the vendor's storage costs a moment and no route."""
    alpha = uploading(False)
    gateway = await start(alpha, Scripted("beta", price_micros=PRICE_OF_BETA))
    job = await gateway.ended(await gateway.submit(), within_s=120)
    assert (job["status"], job["route"], len(alpha.asked)) == ("succeeded", "alpha/one", 1)
    assert [event["what"] for event in job["attempts"][0]["events"]][:3] == ["submit", "retry", "submit"]


async def test_a_job_without_another_route_ends_with_the_reason(start: Start) -> None:
    """It is not parked: it ends by its own deadline like any other, pays nothing, and its story says why."""
    gateway = await start(uploading(*[False] * 500))
    job = await gateway.made(routing={"deadline_s": 300})
    assert job["status"] in {"failed", "expired"}
    assert (job["bill"]["status"], await gateway.balances(), await gateway.read(crashes)) == ("released", {}, [0])
    assert "alpha/one: unavailable" in job["error"]["detail"]
    assert {one["failure"]["detail"] for one in job["attempts"]} == {"the picture could not be uploaded to alpha"}


async def test_a_process_that_dies_over_it_leaves_no_doubt(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The intent that is written says that nothing was sent: whoever finds it submits, and looks nothing up."""
    alpha = uploading(False, looks_up=True)
    observe, broken = Journal.observe, [True]

    def breaks(self: Journal, attempt: Any, kind: Any, **facts: Any) -> None:
        if broken and broken.pop():
            raise ZeroDivisionError("a fault right after the intent")
        observe(self, attempt, kind, **facts)

    monkeypatch.setattr(Journal, "observe", breaks)
    gateway = await start(alpha)
    job_id = await gateway.submit()
    await gateway.clock.sleep(1)
    (attempt,) = await gateway.read(load_attempts, job_id)
    assert (attempt.state, attempt.sent_at) == ("prepared", None)
    job = await gateway.ended(job_id, within_s=120)
    assert (job["status"], len(alpha.asked), alpha.looked_up) == ("succeeded", 1, [])


async def test_a_picture_that_is_not_prepared_at_once_is_tried_again(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder that cannot be started is no fault of the job's: nothing breaks and the vendor gets the picture."""
    prepare, failing = Decoders.prepare, [True, True]

    async def fails(self: Decoders, *args: Any) -> CleanImage:
        if failing and failing.pop():
            raise Unavailable("the picture could not be prepared: no worker starts")
        return await prepare(self, *args)

    monkeypatch.setattr(Decoders, "prepare", fails)
    alpha = Cropping()
    gateway = await start(alpha)
    job = await gateway.ended(await gateway.submit(resize="crop_16_9"), within_s=120)
    assert (job["status"], len(alpha.asked), await gateway.read(crashes)) == ("succeeded", 1, [0])
    assert "no worker starts" in job["attempts"][0]["events"][1]["detail"]
    assert (alpha.asked[0].image.width, alpha.asked[0].image.height) == (64, 36)


async def test_a_picture_that_somebody_deleted_ends_the_job_by_its_own_time(start: Start) -> None:
    """No driver breaks over it and nothing is parked; the story says what is missing."""
    alpha = Scripted(submits=[Refused(FailureKind.RATE_LIMITED, "429", retry_after_s=5.0)])
    gateway = await start(alpha)
    job_id = await gateway.submit(routing={"deadline_s": 300})
    await gateway.when(lambda: alpha.asked)
    shutil.rmtree(gateway.setting.folder / "artifacts")
    job = await gateway.ended(job_id)
    assert (job["bill"]["status"], len(alpha.asked), await gateway.read(crashes)) == ("released", 1, [0])
    assert {one["failure"]["detail"] for one in job["attempts"]} == {"the picture is no longer stored"}


async def test_a_lookup_touches_no_picture(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an hour of looks at one doubt: the picture went to the vendor once, and is read for none of them."""
    dark = [NoEvidence("the records cannot be read")] * 99
    alpha = uploading(*[True] * 99, billing="may_bill", submits=[Lost(accepted=True)], looks_up=True, lookups=dark)
    gateway = await start(alpha, jobs={"in_doubt_s": 1_800, "lease_s": 600, "heartbeat_s": 200})
    job_id = await gateway.submit()
    await gateway.until(job_id, "in_doubt")
    monkeypatch.setattr(Inputs, "request", None)
    job = await gateway.ended(job_id)
    assert (job["status"], len(alpha.looked_up) > 25, len(alpha.uploads or ())) == ("expired", True, 98)
