"""The engine with a real adapter against its simulated vendor over HTTP, submits and charges counted by the vendor."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest
from PIL import Image

from gateway.store.jobs import load_attempts
from providers.simulation import SandboxClock
from tests.support.clock import VirtualLoop
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.pictures import picture
from tests.support.scripted import Scripted
from tests.support.segmind import Bench, simulated

pytestmark = pytest.mark.anyio

ROUTE = "segmind/svd"
PRICE = 165_900


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    async with simulated(loop) as running:
        yield running


async def started(start: Start, bench: Bench, *routes: str, **settings: Any) -> Gateway:
    return await start(bench.member(*(routes or (ROUTE,))), http=bench.http, **settings)


async def rendered_from(gateway: Gateway, bench: Bench, job_id: str) -> tuple[int, int]:
    """The size of the picture from which the vendor made what this job was given."""
    attempts = await gateway.read(load_attempts, job_id)
    run = bench.vendor.runs[attempts[-1].vendor_request_id]
    return Image.open(io.BytesIO(run.picture)).size


@pytest.mark.parametrize("route", ["segmind/svd", "segmind/svd-sync", "segmind/motionctrl-svd"])
async def test_a_job_is_rendered_billed_and_paid_once(start: Start, bench: Bench, route: str) -> None:
    """From request to finished file on each kind of route: one submit, and the team pays what the vendor charged."""
    gateway = await started(start, bench, route)
    fields = {"camera_motion": "zoom_in"} if "motionctrl" in route else {}
    job = await gateway.made(**fields)
    assert (job["status"], job["route"]) == ("succeeded", route)
    assert (bench.meter.submits_received, bench.meter.submits_accepted) == (1, 1)
    assert job["bill"]["price_micros"] == bench.meter.charged_micros
    (file,) = job["result"]["files"]
    assert (file["num_frames"], file["fps"], file["deviations"]) == (14, 7.0, [])


@pytest.mark.parametrize("fault", ["502_before_accept", "504_before_accept", "reset_before_accept", "502_after_accept"])
@pytest.mark.parametrize("mode", ["verify", "retry", "never"])
async def test_a_502_or_504_on_submit_never_makes_the_team_pay_twice(
    start: Start, bench: Bench, fault: str, mode: str
) -> None:
    """In every mode one delivery is billed at most, and what was rendered beyond it is in suspense."""
    gateway = await started(start, bench, retry={"ambiguous": mode})
    bench.spoil("submit", fault)
    job = await gateway.made()
    accepted, spent = bench.meter.submits_accepted, await gateway.balances()
    if mode == "never" and "before" in fault:
        # Cleared by the records and never to be repeated: with no other route the attempts on this one go on.
        assert [attempt["submits"] for attempt in job["attempts"]] == [1, 1]
    assert (job["status"], job["bill"]["price_micros"]) == ("succeeded", PRICE)
    assert accepted == (2 if mode == "retry" and "after" in fault else 1)
    assert spent.get("suspense", 0) == (PRICE if mode == "retry" else 0)
    assert bench.meter.charged_micros <= PRICE + spent.get("suspense", 0)


async def test_a_lost_reply_is_found_in_the_vendors_history_by_what_was_sent(start: Start, bench: Bench) -> None:
    """504 after the vendor had accepted: one run at the vendor, one charge, and the story tells how it was found."""
    gateway = await started(start, bench)
    bench.spoil("submit", "504_after_accept")
    job = await gateway.made()
    assert (bench.meter.submits_accepted, bench.meter.charged_micros) == (1, PRICE)
    told = [event["what"] for event in job["attempts"][0]["events"]]
    assert told == ["submit", "in_doubt", "looked_up", "accepted", "delivered"]


@pytest.mark.parametrize("off_s", [300.0, -300.0, 7_200.0])
async def test_a_vendors_wrong_clock_costs_no_second_render(start: Start, bench: Bench, off_s: float) -> None:
    """Its records show the lost submit at another time: found all the same, one run, one charge, nothing suspected."""
    wrong = SandboxClock(bench.vendor.sandbox.clock)
    wrong.advance(off_s)
    bench.vendor.sandbox.clock = wrong
    gateway = await started(start, bench)
    bench.spoil("submit", "502_after_accept")
    job = await gateway.made()
    assert (job["status"], bench.meter.submits_accepted, bench.meter.charged_micros) == ("succeeded", 1, PRICE)
    assert (await gateway.balances()).get("suspense", 0) == 0


async def test_a_429_waits_for_the_reset_that_the_vendor_names(start: Start, bench: Bench) -> None:
    """The header names the next full minute; the repeat comes after it."""
    gateway = await started(start, bench)
    bench.spoil("submit", "429")
    at = gateway.clock.now()
    reset_at = (at // 60 + 1) * 60
    job = await gateway.made()
    (run,) = bench.vendor.runs.values()
    assert job["attempts"][0]["submits"] == 2
    assert run.created_at >= reset_at


async def test_two_lost_submits_with_the_same_inputs_never_get_each_others_video(start: Start, bench: Bench) -> None:
    """Same parameters and seed, two pictures, one accepted: the record cannot tell whose it is, so nobody takes it."""
    gateway = await started(start, bench)
    bench.spoil("submit", "502_after_accept")
    bench.spoil("submit", "502_before_accept")
    wide = base64.b64encode(picture(size=(128, 48))).decode()
    tall = base64.b64encode(picture(size=(48, 128))).decode()
    ids = [await gateway.submit(seed=42, image=image) for image in (wide, tall)]
    assert [(await gateway.ended(job_id))["status"] for job_id in ids] == ["succeeded", "succeeded"]
    assert [await rendered_from(gateway, bench, job_id) for job_id in ids] == [(128, 48), (48, 128)]


async def test_a_lost_submit_does_not_take_the_render_of_a_finished_twin(start: Start, bench: Bench) -> None:
    """A render that an earlier job with the same inputs owns is not this one's, however alike the records are."""
    gateway = await started(start, bench)
    first = await gateway.made(seed=42)
    bench.spoil("submit", "502_before_accept")
    second = await gateway.made(seed=42, image=base64.b64encode(picture(size=(48, 128))).decode())
    assert first["status"] == second["status"] == "succeeded"
    assert second["attempts"][0]["submits"] == 2
    assert await rendered_from(gateway, bench, second["id"]) == (48, 128)
    assert bench.meter.submits_accepted == 2


async def test_a_run_that_fails_late_is_not_billed_and_ends_where_no_other_route_is(start: Start, bench: Bench) -> None:
    """A failed run costs the team nothing; the vendor charges for success alone."""
    gateway = await started(start, bench)
    bench.switch(failure_rate=1.0)
    job = await gateway.made()
    assert (job["status"], job["bill"]["price_micros"]) == ("failed", 0)
    assert job["error"]["type"].endswith("/no-route-left")
    assert (bench.meter.charged_micros, await gateway.balances()) == (0, {})


async def test_a_blocked_picture_is_refused_once_and_not_shopped_around(start: Start, bench: Bench) -> None:
    """Moderated by one route: no other route of the account is tried."""
    gateway = await started(start, bench, "segmind/svd", "segmind/svd-sync")
    bench.switch(moderation_rate=1.0)
    job = await gateway.made()
    assert (job["status"], len(job["attempts"])) == ("failed", 1)
    assert job["error"]["reason"] == "moderated"
    assert bench.meter.submits_received == 1


async def test_an_empty_account_is_out_before_the_vendor_says_so(start: Start, bench: Bench) -> None:
    """The balance is known: nothing is sent where it cannot be paid for, and the plan says why."""
    beta = Scripted("beta", price_micros=900_000)
    bench.switch(credits_micros=0, free_credits_micros=0)
    gateway = await start(bench.member(ROUTE), beta, http=bench.http)
    assert await gateway.service.parts.fleet.refresh_balance("segmind") == 0  # as the dispatcher does at its first turn
    job = await gateway.made()
    assert ([attempt["route"] for attempt in job["attempts"]], bench.meter.submits_received) == (["beta/one"], 0)
    assert "balance after 0 renders in flight is under the price" in job["plan"]["refused"][0]["reasons"][0]


async def test_an_account_that_refuses_for_its_cap_is_left_with_all_its_routes(start: Start, bench: Bench) -> None:
    """406 for the team's spending cap: the other routes of the account are not asked, the next vendor is."""
    beta = Scripted("beta", price_micros=900_000)
    bench.switch(spend_cap_reached=True)
    gateway = await start(bench.member(ROUTE, "segmind/svd-sync"), beta, http=bench.http)
    job = await gateway.made()
    assert [attempt["route"] for attempt in job["attempts"]] == [ROUTE, "beta/one"]
    assert (job["attempts"][0]["failure"]["kind"], bench.meter.submits_received) == ("no_credit", 1)


async def test_a_result_link_that_answers_too_early_is_asked_again(start: Start, bench: Bench) -> None:
    """The file is there a little after the vendor says so: the job waits for it and is billed once."""
    gateway = await started(start, bench)
    bench.spoil("file", "502_before_accept", 2)
    job = await gateway.made()
    assert (job["status"], bench.meter.calls["file"], bench.meter.submits_accepted) == ("succeeded", 3, 1)


async def test_status_calls_that_fail_are_repeated_freely(start: Start, bench: Bench) -> None:
    """Every fault on a read is only a pause: the render is delivered with one submit."""
    gateway = await started(start, bench)
    for fault in ("502_before_accept", "504_before_accept", "500", "429", "html_error", "reset_before_reply"):
        bench.spoil("status", fault)
    job = await gateway.made()
    assert (job["status"], bench.meter.submits_accepted, len(job["attempts"])) == ("succeeded", 1, 1)
