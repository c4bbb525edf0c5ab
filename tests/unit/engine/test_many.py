"""Many jobs in one process: what is true of one job's place among them, and what none of them may cost."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

import gateway.dispatcher
from gateway.fleet import Account, Fleet
from policies.retry import RetryBudget
from policies.router import Router
from policies.settings import RoutingSettings
from providers.contract import Pending, ProviderSettings
from tests.support.clock import START
from tests.support.fixtures import Start
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio
PUBLIC = {"public_base_url": "https://video.example.com"}


class Still:
    """A clock that stands."""

    def now(self) -> float:
        return START

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


def fleet(balance_micros: int) -> Fleet:
    """One account whose balance was read a moment ago."""
    account = Account(Scripted(), ProviderSettings(), RetryBudget(0.2, 1.0, 10.0))
    account.balance_micros, account.balance_at = balance_micros, START
    return Fleet({"alpha": account}, Router(RoutingSettings(), Random(1)), Still())


def test_the_credit_before_an_attempt_counts_only_while_it_is_alone() -> None:
    """The fall of a balance belongs to an attempt that nothing ran beside, and to no other."""
    known = fleet(1_000_000)
    known.depart("alpha/one", "first", START)
    assert known.balance_before("first") == 1_000_000
    known.depart("alpha/one", "first", START)  # followed on: still alone
    assert known.balance_before("first") == 1_000_000
    known.depart("alpha/one", "second", START)
    assert (known.balance_before("first"), known.balance_before("second")) == (None, None)
    known.arrive("first")
    assert known.balance_before("second") is None
    known.depart("alpha/one", "third", START)
    known.arrive("second")
    assert known.balance_before("third") is None


async def test_a_picture_that_is_linked_to_as_it_is_is_not_read_to_be_submitted(start: Start) -> None:
    """The link is made from its hash: a submit reads and writes no artifact."""
    alpha = Scripted(image_form="url", trouble=Pending(), trouble_s=60.0)
    gateway = await start(alpha, server=PUBLIC)
    objects: Any = gateway.service.parts.inputs.artifacts.store
    get, read = objects.get_async, list[str]()

    async def counted(key: str, **options: Any) -> Any:
        read.append(key)
        return await get(key, **options)

    objects.get_async = counted
    job_id = await gateway.submit()
    await gateway.until(job_id, "rendering")
    assert read == []
    image = alpha.asked[0].image
    assert image.url is not None
    digest = image.url.partition("/inputs/")[2].partition(".")[0]
    assert len(await gateway.service.parts.inputs.artifacts.get(digest)) > 0


async def test_leases_are_renewed_and_claims_taken_in_portions(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few fit in one statement: every lease is kept, and what a dead process leaves behind is all taken up."""
    monkeypatch.setattr(gateway.dispatcher, "HEARTBEAT_JOBS_MAX", 2)
    monkeypatch.setattr(gateway.dispatcher, "CLAIMED_AT_ONCE", 2)
    alpha = Scripted(trouble=Pending(), trouble_s=120.0)
    first = await start(alpha, jobs={"lease_s": 15, "heartbeat_s": 4})
    ids = [await first.submit() for _ in range(7)]
    await first.clock.sleep(60)
    assert {(await first.job(job_id))["status"] for job_id in ids} == {"running"}
    assert len(first.service.dispatcher._runs) == 7
    await first.crash()
    await first.stop()  # type: ignore[misc]
    again = await start(alpha, jobs={"lease_s": 15, "heartbeat_s": 4})
    await again.when(lambda: len(again.service.dispatcher._runs) == 7, within_s=60)
    assert {(await again.ended(job_id))["status"] for job_id in ids} == {"succeeded"}
    assert len(alpha.asked) == 7
