"""Faults of the wire, over a real socket: what the adapter concludes, and what the vendor really did."""

from __future__ import annotations

import pytest

from providers.contract import Accepted, FailureKind, Finished, InDoubt, Pending, Refused
from tests.contract.modelslab.support import until

pytestmark = pytest.mark.anyio

# fault: what the adapter may say, and how many jobs the vendor then has
SUBMIT_FAULTS = {
    "502_before_accept": (InDoubt, 0),
    "502_after_accept": (InDoubt, 1),
    "504_before_accept": (InDoubt, 0),
    "504_after_accept": (InDoubt, 1),
    "html_error": (Refused, 0),
    "429": (Refused, 0),
    "500": (Refused, 0),
    "reset_before_accept": (InDoubt, 0),
    "reset_before_reply": (InDoubt, 1),
    "reset_mid_body": (InDoubt, 1),
    "slow_drip": (Accepted, 1),
    "timeout_before_accept": (InDoubt, 0),
    "timeout": (InDoubt, 1),
}


@pytest.mark.parametrize(("fault", "expected"), SUBMIT_FAULTS.items())
async def test_no_fault_makes_an_accepted_job_look_refused(live, fault, expected):
    """Whatever happens to the reply, one call is one submit, and `Refused` means that nothing runs."""
    verdict, accepted = expected
    live.sandbox.faults.script("submit", fault)
    provider = live.provider()
    # Short enough for the hanging faults, long enough for a picture to be fetched and read on a slow machine.
    timeout_s = 0.3 if fault.startswith("timeout") else 5.0
    outcome = await provider.submit(live.request(provider, timeout_s=timeout_s))
    assert isinstance(outcome, verdict), outcome
    meter = live.sandbox.meter
    await until(lambda: meter.submits_accepted == accepted)
    assert (meter.submits_received, meter.submits_accepted) == (1, accepted)
    assert meter.charged_micros == 200_000 * accepted
    if isinstance(outcome, Refused):
        assert outcome.kind in {FailureKind.RATE_LIMITED, FailureKind.SERVER_ERROR, FailureKind.UNAVAILABLE}
        assert outcome.retry_after_s == (30.0 if fault == "429" else None)


@pytest.mark.parametrize("fault", [name for name in SUBMIT_FAULTS if not name.startswith("timeout")])
async def test_no_fault_of_a_fetch_ends_a_job(live, fault):
    """A spoiled fetch leaves the job pending or in doubt, and the next one delivers it."""
    provider = live.provider()
    request = live.request(provider)
    accepted = await provider.submit(request)
    live.sandbox.faults.script("fetch", fault)
    outcome = await provider.check(request.route, accepted.token)
    assert isinstance(outcome, InDoubt | Pending)
    if isinstance(outcome, InDoubt):
        assert not outcome.gone
        assert not outcome.unrecognised
    live.clock.advance(10)
    assert isinstance(await provider.check(request.route, accepted.token), Finished)
    assert live.sandbox.meter.submits_accepted == 1


async def test_a_vendor_that_is_not_there_refuses_nothing_was_sent(live):
    """A closed port is a refusal: the request provably never left."""
    provider = live.provider(base_url="http://127.0.0.1:1/api")
    outcome = await provider.submit(live.request(provider))
    assert isinstance(outcome, Refused)
    assert outcome.kind is FailureKind.UNAVAILABLE
    assert live.sandbox.meter.submits_received == 0
