"""What a fleet makes of other replicas: their facts as far as they are of use here, and limits that all share."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.bus.contract import Limits, NoSlot, Slot
from gateway.bus.memory import MemoryBus
from gateway.fleet import Account, Fleet
from policies.retry import RetryBudget
from policies.router import Router
from policies.settings import RoutingSettings
from policies.values import Observation
from providers.contract import ProviderSettings
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio
NOW = 1_800_000_000.0


class Still:
    """A clock that stands."""

    def now(self) -> float:
        return NOW

    async def sleep(self, seconds: float) -> None:
        """Nothing sleeps here."""


class Noting(MemoryBus):
    """A bus that notes what it is asked, and answers with `refusal`."""

    def __init__(self) -> None:
        super().__init__()
        self.refusal: NoSlot | None = None
        self.taken: list[tuple[Slot, Limits]] = []
        self.said: list[object] = []

    def share(self, fact: Observation) -> None:
        self.said.append(fact)

    async def take(self, slot: Slot, limits: Limits) -> NoSlot | None:
        self.taken.append((slot, limits))
        return self.refusal

    def free(self, attempt: str, *, handed_over: bool = False) -> None:
        self.said.append((attempt, handed_over))


def fleet(*vendors: Scripted, alone: bool = False) -> tuple[Fleet, Noting]:
    bus = Noting()
    accounts = {
        one.name: Account(one, ProviderSettings(requests_per_minute=None), RetryBudget(0.2, 1.0, 10.0))
        for one in vendors
    }
    return Fleet(accounts, Router(RoutingSettings(), Random(1)), Still(), None, bus, alone=alone), bus


def seen(of: Fleet) -> float:
    return of.router.snapshot("alpha/one", NOW).observations


def test_a_fact_of_another_replica_is_learned_and_not_told_again() -> None:
    """Own facts are told; those of others are not passed on."""
    mine, bus = fleet(Scripted())
    own = Observation("succeeded", NOW, "alpha/one", "alpha", elapsed_s=5.0)
    mine.hear(own)
    assert (seen(mine), bus.said) == (pytest.approx(1.0), [])
    mine.observe(own)
    assert (seen(mine), bus.said) == (pytest.approx(1.9, abs=0.1), [own])


def test_what_is_about_nothing_here_is_left_alone() -> None:
    """Replicas may be configured differently for a while."""
    mine, _ = fleet(Scripted())
    for route, account in (("beta/one", "beta"), ("alpha/two", "alpha"), ("", "beta")):
        mine.hear(Observation("succeeded", NOW, route, account))
    assert mine.router.snapshot("beta/one", NOW).observations == 0.0
    assert mine.router.snapshot("alpha/two", NOW).observations == 0.0


def test_the_newest_balance_counts_and_no_fact_is_from_the_future() -> None:
    """A clock that is ahead elsewhere does not hide what is learned here later."""
    mine, _ = fleet(Scripted())
    mine.hear(Observation("balance", NOW + 60, "", "alpha", balance_micros=5))
    assert (mine.accounts["alpha"].balance_micros, mine.accounts["alpha"].balance_at) == (5, NOW)
    mine.hear(Observation("balance", NOW - 60, "", "alpha", balance_micros=9))
    assert mine.accounts["alpha"].balance_micros == 5
    mine.note_balance("alpha", 4)
    assert mine.accounts["alpha"].balance_micros == 4


def test_a_fact_that_the_router_cannot_use_is_said_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever another release sends, hearing goes on."""
    mine, _ = fleet(Scripted())

    def broken(_self: Router, _fact: Observation) -> None:
        raise ValueError("math domain error")

    monkeypatch.setattr(Router, "observe", broken)
    mine.hear(Observation("succeeded", NOW, "alpha/one", "alpha"))


def test_a_fall_of_the_balance_is_no_evidence_where_others_spend_too() -> None:
    """Only a process that is alone knows what its account was charged for."""
    for alone, before in ((True, 7), (False, None)):
        mine, _ = fleet(Scripted(), alone=alone)
        mine.note_balance("alpha", 7)
        mine.depart("alpha/one", "att", NOW)
        assert mine.balance_before("att") == before


async def test_a_route_without_limits_asks_nobody() -> None:
    """The hot path waits for no network where nothing is configured, nor for what this machine does itself."""
    for vendor in (Scripted(), Scripted(mode="local", concurrency_max=1)):
        mine, bus = fleet(vendor)
        assert await mine.take_slot("alpha/one", "att") == 0.0
        assert bus.taken == []


async def test_a_slot_is_given_back_by_whatever_ends_the_attempt() -> None:
    """Taking it is a departure, so that every arrival frees it, once."""
    mine, bus = fleet(Scripted(concurrency_max=3))
    assert await mine.take_slot("alpha/one", "att") == 0.0
    assert bus.taken == [(Slot("alpha", "alpha/one", "att"), Limits(3, None))]
    mine.arrive("att", handed_over=True)
    mine.arrive("att")
    assert bus.said == [("att", True)]


async def test_what_is_in_flight_is_told_oldest_first() -> None:
    """Also when an older attempt is picked up after newer ones have left: the oldest alone says whether any is late."""
    mine, _ = fleet(Scripted())
    for attempt, at in (("new", NOW), ("picked-up", NOW - 60.0), ("newest", NOW + 1.0)):
        mine.depart("alpha/one", attempt, at)
    assert [one.attempt for one in mine.in_flight("alpha/one")] == ["picked-up", "new", "newest"]


async def test_a_full_route_looks_full_to_the_planner_until_it_is_asked_again() -> None:
    """The other replicas' renders are among those in flight, so that routing can go elsewhere."""
    mine, bus = fleet(Scripted(concurrency_max=3))
    mine.depart("alpha/one", "own", NOW)
    bus.refusal = NoSlot(wait_s=1.0, busy=3)
    assert await mine.take_slot("alpha/one", "att") == 1.0
    assert [one.attempt for one in mine.in_flight("alpha/one")] == ["own", "elsewhere-0", "elsewhere-1"]
    assert bus.said == [("att", False)]
    bus.refusal = NoSlot(wait_s=0.0, busy=0)
    await mine.take_slot("alpha/one", "att")
    assert [one.attempt for one in mine.in_flight("alpha/one")] == ["own"]


@pytest.mark.parametrize(("mode", "learned_s"), [("local", 12.0), ("async", 40.0)])
def test_time_in_a_queue_of_our_own_is_not_learned_as_the_time_of_a_render(mode: str, learned_s: float) -> None:
    """A card's pace and its queue are known apart; a vendor's time is what passes until its video is there."""
    mine, _ = fleet(Scripted(mode=mode))
    for number in range(40):
        attempt: Any = SimpleNamespace(
            id=f"att-{number}", route="alpha/one", account="alpha", job_id="job", began_at=NOW - 40.0
        )
        mine.note_queue(attempt, 28.0)
        done = Observation("succeeded", NOW, "alpha/one", "alpha", "job", attempt.id, elapsed_s=40.0)
        mine.observe(done)
    assert mine.router.snapshot("alpha/one", NOW).p50_s == pytest.approx(learned_s, rel=0.05)
    nothing: Any = SimpleNamespace(id="x", route="gone/one", account="gone", job_id="job", began_at=NOW)
    mine.note_queue(nothing, 5.0)
