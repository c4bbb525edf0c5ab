"""Two lost submits with the very same inputs: a render in the records may be either's, until one of them is known."""

from __future__ import annotations

from collections import Counter

import pytest

from providers.contract import Accepted, LookupOutcome, NoEvidence, NotFound, Report, SentAttempt
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.scripted import Lost, Scripted

pytestmark = pytest.mark.anyio


class ByInputs:
    """Records that know a render by its inputs alone, so that they show the first one that nobody has claimed."""

    def __init__(self, vendor: Scripted) -> None:
        self._vendor = vendor

    def __call__(self, sent: SentAttempt) -> LookupOutcome:
        free = [name for name in self._vendor.running if name not in sent.claimed]
        return Accepted({"id": free[0]}, report=Report(free[0])) if free else NotFound("not in the records")


async def told(gateway: Gateway, job_id: str) -> list[str]:
    """The story of a job's only attempt."""
    (attempt,) = (await gateway.job(job_id))["attempts"]
    return [event["what"] for event in attempt["events"]]


async def test_a_doubt_that_the_records_have_ended_is_no_rival(start: Start) -> None:
    """The first was not accepted, by complete records, and has its render since: what is found now is the second's."""
    alpha = Scripted(looks_up=True, submits=[Lost(accepted=False)])
    gateway = await start(alpha)
    first = await gateway.made(seed=42)
    alpha.submits.append(Lost(accepted=True))
    alpha.lookups.append(ByInputs(alpha))
    second = await gateway.made(seed=42)
    assert [first["status"], second["status"]] == ["succeeded", "succeeded"]
    assert len(alpha.accepted) == len(set(alpha.accepted)) == 2
    assert await told(gateway, second["id"]) == ["submit", "in_doubt", "looked_up", "accepted", "delivered"]
    assert (await gateway.balances()).get("suspense", 0) == 0


async def test_a_render_that_was_left_behind_is_taken_for_nobody_elses(start: Start) -> None:
    """The first was repeated while the records were dark: what they show of it later is not the second's."""
    alpha = Scripted(looks_up=True, submits=[Lost(accepted=True)], lookups=[NoEvidence("dark")])
    gateway = await start(alpha)
    first = await gateway.made(seed=42)
    alpha.submits.append(Lost(accepted=False))
    alpha.lookups.append(ByInputs(alpha))
    second = await gateway.made(seed=42)
    assert [first["status"], second["status"]] == ["succeeded", "succeeded"]
    assert [Counter(alpha.accepted)[job["attempts"][0]["id"]] for job in (first, second)] == [2, 1]
    assert (await told(gateway, second["id"]))[:5] == ["submit", "in_doubt", "looked_up", "retry", "submit"]
