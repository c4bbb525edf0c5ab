"""Retries as the vendors see them, over real sockets: hints obeyed, outages ridden out, no render paid for twice."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.store.jobs import load_attempts
from providers.contract import Clock
from tests.e2e.conftest import Begin
from tests.support.vendors import Simulated, World

pytestmark = pytest.mark.anyio


@dataclass
class Stamped:
    """Stands before a simulator and writes down when each POST came, in the vendors' own time."""

    app: ASGIApp
    clock: Clock
    posts: list[tuple[float, str]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            self.posts.append((self.clock.now(), scope["path"]))
        await self.app(scope, receive, send)

    def times(self, ending: str) -> list[float]:
        return [at for at, path in self.posts if path.endswith(ending)]


def stamped(vendor: Simulated) -> Stamped:
    """Have the times of a vendor's calls written down from now on."""
    vendor.tap.app = Stamped(vendor.tap.app, vendor.sandbox.clock)
    return vendor.tap.app


SUBMIT_PATHS = {"segmind": "/v2/svd", "modelslab": "/img2video"}
PRICES = {"segmind": 165_900, "modelslab": 200_000}
ROUTES = {"segmind": "segmind/svd", "modelslab": "modelslab/svd"}
BALANCE_KNOWN_S = 130.0
MINUTE_S = 60.0


async def tries_on(world: World, provider: str) -> tuple[int, int]:
    """Attempts on a provider and all their submits, by vidgate's own records."""
    page = (await world.client.get("/jobs", params={"limit": "100"})).json()["jobs"]
    tries = [one for job in page for one in await world.gateway.read(load_attempts, job["id"])]
    mine = [one for one in tries if one.account == provider]
    return len(mine), sum(one.submits for one in mine)


@pytest.mark.parametrize("form", ["iso", "unix_s", "unix_ms", "http_date"])
async def test_the_reset_that_segmind_names_is_waited_for_in_every_form(begin: Begin, form: str) -> None:
    """429 names the end of the minute: the repeat comes after it, not a moment before, and soon."""
    world = await begin(sections={"segmind": {}})
    world.segmind.switch(rate_reset_format=form)
    world.segmind.spoil("submit", "429")
    seen = stamped(world.segmind)
    await world.gateway.clock.sleep(7.0)
    job = await world.made(pin=ROUTES["segmind"])
    first, second = seen.times(SUBMIT_PATHS["segmind"])
    reset_at = (first // MINUTE_S + 1) * MINUTE_S
    assert job["status"] == "succeeded"
    assert reset_at <= second < reset_at + 5.0


async def test_a_limit_that_is_really_enforced_is_met_again_at_its_reset_only(begin: Begin) -> None:
    """One call a minute is all that the vendor takes: no submit of the second job comes before the minute is over."""
    world = await begin(sections={"segmind": {}})
    world.segmind.switch(requests_per_minute=1)
    seen = stamped(world.segmind)
    jobs = [(await world.send(pin=ROUTES["segmind"])).json()["id"] for _ in range(2)]
    assert [(await world.ended(job_id))["status"] for job_id in jobs] == ["succeeded", "succeeded"]
    accepted, refused, *again = seen.times(SUBMIT_PATHS["segmind"])
    reset_at = (accepted // MINUTE_S + 1) * MINUTE_S
    assert refused < reset_at
    assert again
    assert min(again) >= reset_at


@pytest.mark.parametrize("hint_s", [3, 30, 90])
async def test_the_seconds_that_modelslab_names_are_waited_out(begin: Begin, hint_s: int) -> None:
    """`retry_after` in the body of a 429: the repeat comes after that many seconds."""
    world = await begin(sections={"modelslab": {}})
    world.modelslab.switch(retry_after_s=hint_s)
    world.modelslab.spoil("submit", "429")
    seen = stamped(world.modelslab)
    job = await world.made(pin=ROUTES["modelslab"])
    first, second = seen.times(SUBMIT_PATHS["modelslab"])
    assert job["status"] == "succeeded"
    assert hint_s <= second - first < hint_s + 5.0


async def test_a_hint_longer_than_the_job_has_time_moves_on_at_once(begin: Begin) -> None:
    """A minute of waiting is not to be had before the deadline: the next vendor is asked without a pause."""
    world = await begin(sections={"segmind": {}, "modelslab": {}})
    world.modelslab.switch(retry_after_s=3_600)
    world.modelslab.spoil("submit", "429")
    theirs, others = stamped(world.modelslab), stamped(world.segmind)
    job = await world.made(routing={"order": ["modelslab"], "deadline_s": 120})
    (first,) = theirs.times(SUBMIT_PATHS["modelslab"])
    assert (job["status"], job["attempts"][0]["failure"]["kind"]) == ("succeeded", "rate_limited")
    assert next(at for at, path in others.posts if "svd" in path) - first < 2.0


@pytest.mark.parametrize(
    ("fault", "repeats"), [("502_before_accept", True), ("reset_before_accept", True), ("500", False)]
)
async def test_under_total_outage_of_a_vendor_extra_calls_stay_within_their_budget(
    begin: Begin, fault: str, repeats: bool
) -> None:
    """While every submit to one vendor fails all jobs are made elsewhere and paid once, and few calls are extra."""
    ratio, jobs, pace_s = 0.2, 25, 0.8
    budget = {"budget_ratio": ratio, "budget_reserve_per_s": 0, "submits_max": 10}
    world = await begin(sections={"segmind": {}, "modelslab": {"queue_max": 100}}, retry=budget)
    world.segmind.switch(fault_rates={"submit": {fault: 1.0}})
    world.modelslab.switch(queue_max=100, workers=100)
    sent = []
    for _ in range(jobs):
        sent.append((await world.send(routing={"order": ["segmind"]})).json()["id"])
        await world.gateway.clock.sleep(pace_s)
    ended = [await world.ended(job_id) for job_id in sent]
    assert {(job["status"], job["route"]) for job in ended} == {("succeeded", ROUTES["modelslab"])}
    attempts, submits = await tries_on(world, "segmind")
    assert submits - attempts <= ratio * attempts
    assert (submits > attempts) is repeats
    assert world.segmind.sandbox.meter.submits_received == submits
    assert (world.segmind.charged_micros(), world.modelslab.charged_micros()) == (0, jobs * PRICES["modelslab"])
    books = await world.gateway.balances()
    assert books.get("suspense", 0) == 0
    assert books["provider:modelslab"] == -jobs * PRICES["modelslab"]


@pytest.mark.parametrize(("blocked", "other"), [("segmind", "modelslab"), ("modelslab", "segmind")])
async def test_a_blocked_picture_is_never_shown_to_the_next_vendor(begin: Begin, blocked: str, other: str) -> None:
    """Moderated by one vendor: one submit there, none elsewhere, and the team pays nothing."""
    world = await begin(sections={"segmind": {}, "modelslab": {}})
    world.segmind.switch(moderation_rate=1.0)
    world.modelslab.switch(outcome="moderated")
    job = await world.made(routing={"order": [blocked]})
    assert (job["status"], job["error"]["reason"], job["bill"]["price_micros"]) == ("failed", "moderated", 0)
    assert world.vendors[blocked].sandbox.meter.submits_received == 1
    assert world.vendors[other].sandbox.meter.submits_received == 0
    assert not any(name.startswith("team:") and micros for name, micros in (await world.gateway.balances()).items())


@dataclass(frozen=True, slots=True)
class Doubt:
    """What becomes of a submit that was answered 502: of the job, at the vendor, and in the books."""

    status: str
    accepted: int
    suspended: bool


# Segmind's history shows every request; ModelsLab's wallet shows a charge and not whose it is (WIRE 1.7, 2.6).
MADE, MADE_TWICE = Doubt("succeeded", 1, False), Doubt("succeeded", 2, True)
MADE_AND_SUSPECTED, UNKNOWN = Doubt("succeeded", 1, True), Doubt("expired", 1, True)
DOUBTS = [
    ("segmind", "verify", "before", MADE),
    ("segmind", "verify", "after", MADE),
    ("segmind", "retry", "before", MADE_AND_SUSPECTED),
    ("segmind", "retry", "after", MADE_TWICE),
    ("segmind", "never", "before", MADE),
    ("segmind", "never", "after", MADE),
    ("modelslab", "verify", "before", MADE),
    ("modelslab", "verify", "after", UNKNOWN),
    ("modelslab", "retry", "before", MADE_AND_SUSPECTED),
    ("modelslab", "retry", "after", MADE_TWICE),
    ("modelslab", "never", "before", MADE),
    ("modelslab", "never", "after", UNKNOWN),
]


@pytest.mark.parametrize(("provider", "mode", "when", "doubt"), DOUBTS)
async def test_a_502_on_submit_is_handled_as_the_mode_says(
    begin: Begin, provider: str, mode: str, when: str, doubt: Doubt
) -> None:
    """Runs and charges at the vendor, and every account of the books: the team pays for one delivery or for none."""
    vendor_settings = {"modelslab": {"charged_at_submit": True}, "segmind": {}}[provider]
    sections = {provider: vendor_settings}
    jobs = {"in_doubt_s": 600, "lease_s": 600, "heartbeat_s": 100}
    world = await begin(sections=sections, retry={"ambiguous": mode}, jobs=jobs)
    vendor, price = world.vendors[provider], PRICES[provider]
    await world.gateway.clock.sleep(BALANCE_KNOWN_S)
    vendor.spoil("submit", f"502_{when}_accept")
    job = await world.made(pin=ROUTES[provider])
    books = await world.gateway.balances()
    suspended = price if doubt.suspended else 0
    paid = price if doubt.status == "succeeded" else 0
    assert (job["status"], job["bill"]["price_micros"]) == (doubt.status, paid)
    assert vendor.sandbox.meter.submits_accepted == doubt.accepted
    assert vendor.charged_micros() == doubt.accepted * price
    assert books.get("suspense", 0) == suspended
    assert books[f"provider:{provider}"] == -paid - suspended
    assert sum(micros for name, micros in books.items() if name.startswith("team:")) == paid


async def test_without_any_evidence_a_vendor_that_may_bill_is_not_asked_twice(begin: Begin) -> None:
    """`verify`, and a wallet that tells nothing: one submit, no other vendor, and the doubt is the operator's."""
    jobs = {"in_doubt_s": 600, "lease_s": 600, "heartbeat_s": 100}
    world = await begin(sections={"modelslab": {}, "segmind": {}}, jobs=jobs)
    world.modelslab.spoil("submit", "502_before_accept")
    job = await world.made(routing={"order": ["modelslab"]})
    assert (job["status"], job["bill"]["price_micros"]) == ("expired", 0)
    assert world.modelslab.sandbox.meter.submits_received == 1
    assert world.segmind.sandbox.meter.submits_received == 0
    assert (await world.gateway.balances()) == {"provider:modelslab": -200_000, "suspense": 200_000}
