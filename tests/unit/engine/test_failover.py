"""The next route: when it is asked, when it is not, and that the job, its hold and its bill stay one."""

from __future__ import annotations

import pytest

from providers.contract import CheckOutcome, Failed, FailureKind, Refused, Report, Token
from tests.support.fixtures import Start
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio

AT_SUBMIT = [
    FailureKind.SERVER_ERROR,
    FailureKind.UNAUTHORIZED,
    FailureKind.FORBIDDEN,
    FailureKind.NO_CREDIT,
    FailureKind.MODEL_GONE,
]
FINAL = [FailureKind.MODERATED, FailureKind.INVALID_REQUEST]


@pytest.mark.parametrize("price_micros", [10_000, 190_000])
@pytest.mark.parametrize("kind", AT_SUBMIT)
async def test_a_refusal_of_the_vendors_making_is_left_at_once(
    start: Start, kind: FailureKind, price_micros: int
) -> None:
    """One submit, no wait, then the next vendor, however much cheaper it would be to come back later."""
    alpha = Scripted(submits=[Refused(kind, "no")], price_micros=price_micros)
    beta = Scripted("beta", price_micros=200_000)
    gateway = await start(alpha, beta)
    job = await gateway.made()
    assert [(attempt["route"], attempt["submits"]) for attempt in job["attempts"]] == [
        ("alpha/one", 1),
        ("beta/one", 1),
    ]
    assert alpha.asked_at == beta.asked_at
    assert job["attempts"][0]["failure"] == {"kind": kind, "detail": "no"}
    assert (await gateway.counts())["holds"] == 1
    assert await gateway.balances() == {f"team:{gateway.team_id}": 200_000, "provider:beta": -200_000}


@pytest.mark.parametrize("kind", FINAL)
@pytest.mark.parametrize("late", [False, True])
async def test_the_callers_own_fault_is_never_shopped_around(start: Start, kind: FailureKind, late: bool) -> None:
    """A moderated or invalid request ends the job with that reason; no other vendor sees it, nothing is charged."""
    alpha = Scripted(checks=[Failed(kind, "blocked")]) if late else Scripted(submits=[Refused(kind, "blocked")])
    beta = Scripted("beta", price_micros=200_000)
    gateway = await start(alpha, beta)
    job = await gateway.made()
    assert (job["status"], len(job["attempts"]), beta.asked) == ("failed", 1, [])
    assert job["error"]["type"].endswith("/request-refused")
    assert job["error"]["reason"] == kind
    assert (job["bill"]["status"], await gateway.balances()) == ("released", {})


async def test_an_accepted_render_that_fails_is_run_again_elsewhere_under_the_same_job_and_hold(start: Start) -> None:
    """The caller sees one job that took two attempts, one hold, and the price of the one that delivered."""
    alpha = Scripted(checks=[Failed(FailureKind.RENDER_FAILED, "worker out of memory")])
    beta = Scripted("beta", price_micros=150_000)
    gateway = await start(alpha, beta)
    job = await gateway.made()
    assert [(attempt["route"], attempt["state"]) for attempt in job["attempts"]] == [
        ("alpha/one", "failed"),
        ("beta/one", "succeeded"),
    ]
    counts = await gateway.counts()
    assert (counts["jobs"], counts["holds"]) == (1, 1)
    assert (job["bill"]["held_micros"], job["bill"]["price_micros"]) == (150_000, 150_000)
    assert [plan["ranked"][0]["route"] for plan in [job["plan"], *job["replans"]]] == ["alpha/one", "beta/one"]


async def test_what_a_vendor_charges_for_a_failed_render_is_the_operators_loss(start: Start) -> None:
    """The team pays for the delivered video alone; the failed one stands in the loss account."""
    alpha = Scripted(checks=[Failed(FailureKind.RENDER_FAILED, "boom", Report(cost_micros=70_000))])
    beta = Scripted("beta", price_micros=150_000)
    gateway = await start(alpha, beta)
    job = await gateway.made()
    assert job["attempts"][0]["cost_micros"] == 70_000
    assert await gateway.balances() == {
        f"team:{gateway.team_id}": 150_000,
        "provider:beta": -150_000,
        "loss": 70_000,
        "provider:alpha": -70_000,
    }


async def test_a_job_ends_when_every_attempt_is_used_up(start: Start) -> None:
    """The number of attempts is bounded; the error names each of them, and the hold goes back."""
    failing = [Scripted(name, submits=[Refused(FailureKind.SERVER_ERROR, "500")] * 9) for name in ("alpha", "beta")]
    gateway = await start(*failing, jobs={"attempts_max": 3, "lease_s": 600, "heartbeat_s": 200})
    job = await gateway.made()
    assert (job["status"], len(job["attempts"])) == ("failed", 3)
    assert job["error"]["type"].endswith("/no-route-left")
    assert "alpha/one: server_error" in job["error"]["detail"]
    assert "beta/one: server_error" in job["error"]["detail"]
    assert job["bill"]["status"] == "released"


async def test_a_route_that_failed_the_job_comes_back_when_it_is_the_only_one(start: Start) -> None:
    """With nowhere else to go the same vendor is asked once more, as a new attempt."""
    alpha = Scripted(submits=[Refused(FailureKind.SERVER_ERROR, "500")])
    gateway = await start(alpha)
    job = await gateway.made()
    assert [attempt["state"] for attempt in job["attempts"]] == ["failed", "succeeded"]


async def test_a_pinned_job_stays_on_its_route(start: Start) -> None:
    """A caller who names the route gets that one or none."""
    alpha = Scripted(submits=[Refused(FailureKind.SERVER_ERROR, "500")] * 9)
    beta = Scripted("beta", price_micros=150_000)
    gateway = await start(alpha, beta)
    job = await gateway.made(routing={"pin": "alpha/one"})
    assert (job["status"], beta.asked) == ("failed", [])


async def test_failing_over_never_costs_more_than_was_held(start: Start) -> None:
    """A route that has become dearer than the hold is not taken on credit."""
    alpha = Scripted(submits=[Refused(FailureKind.SERVER_ERROR, "500")] * 9)
    beta = Scripted("beta", price_micros=300_000)
    gateway = await start(alpha, beta, jobs={"attempts_max": 2, "lease_s": 600, "heartbeat_s": 200})
    job = await gateway.made(routing={"max_cost_usd": 0.2})
    assert (job["status"], job["bill"]["held_micros"], beta.asked) == ("failed", 100_000, [])


async def test_a_vendor_that_is_known_to_fail_is_no_longer_asked_first(start: Start) -> None:
    """What one job learned spares the next ones: after enough failures the breaker keeps the route out."""
    alpha = Scripted(submits=[Refused(FailureKind.SERVER_ERROR, "500")] * 99, price_micros=90_000)
    beta = Scripted("beta", price_micros=100_000)
    gateway = await start(alpha, beta)
    for _ in range(8):
        assert (await gateway.made())["status"] == "succeeded"
    assert len(alpha.asked) < 4


async def test_a_failed_render_that_was_charged_all_the_same_is_the_operators_loss(start: Start) -> None:
    """A vendor that charges at submit and tells no cost is found out by the fall of its balance."""

    def fail(vendor: Scripted, _token: Token) -> CheckOutcome:
        vendor.charged["at submit"] = 90_000
        return Failed(FailureKind.RENDER_FAILED, "worker out of memory")

    alpha = Scripted(checks=[fail], balance_micros=5_000_000)
    beta = Scripted("beta", price_micros=150_000)
    gateway = await start(alpha, beta)
    job = await gateway.made()
    assert (job["route"], job["attempts"][0]["cost_micros"]) == ("beta/one", 90_000)
    assert job["attempts"][0]["cost_source"] == "balance"
    assert (await gateway.balances())["loss"] == 90_000


@pytest.mark.parametrize("kind", [FailureKind.UNAUTHORIZED, FailureKind.NO_CREDIT])
async def test_the_next_job_does_not_wait_for_an_account_that_is_out(start: Start, kind: FailureKind) -> None:
    """When a bad key or an empty account recovers is a guess: while another route is free, nobody waits for it."""
    alpha = Scripted(submits=[Refused(kind, "no")] * 9, price_micros=10_000)
    beta = Scripted("beta", price_micros=200_000)
    gateway = await start(alpha, beta)
    await gateway.made()
    before = gateway.clock.now()
    job = await gateway.made()
    assert (job["route"], len(job["attempts"]), len(alpha.asked)) == ("beta/one", 1, 1)
    assert beta.asked_at[-1] == pytest.approx(before, abs=0.1)
