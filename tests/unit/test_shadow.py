"""The shadow: it sees everything, its opinion is kept, and nothing it does or fails to do changes what happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gateway.settings_routing import RoutingSection
from gateway.shadow import OUR_FAULTS, Shadow, make_routers
from policies.router import Router
from policies.settings import RoutingSettings
from policies.values import Candidate, JobFacts, Observation, Ranking
from tests.support.clock import VirtualLoop
from tests.support.gateway import Gateway, Setting, fresh_database, make_template, running
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio
Start = Callable[..., Awaitable[Gateway]]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
async def start(tmp_path: Path, template: Path) -> AsyncIterator[Start]:
    """Start a gateway over a cheap slow vendor and a dear fast one, with this shadow."""
    fresh_database(tmp_path, template)
    async with AsyncExitStack() as stack:

        async def begin(shadow: dict[str, Any] | None) -> Gateway:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, VirtualLoop)
            vendors = (
                Scripted(price_micros=10_000, latency_s=60.0),
                Scripted("beta", price_micros=90_000, latency_s=5.0),
            )
            setting = Setting(tmp_path, loop, vendors, {"routing": {"shadow": shadow}} if shadow is not None else {})
            return await stack.enter_async_context(running(setting))

        yield begin


class Broken(Router):
    """A router with a fault in it."""

    def __init__(self, error: Exception) -> None:
        super().__init__(RoutingSettings(), Random(1))
        self.error = error

    def observe(self, observation: Observation) -> None:
        raise self.error

    def rank(self, job: JobFacts, candidates: Any, now: float) -> Ranking:
        raise self.error


def facts(**changes: Any) -> JobFacts:
    usual: dict[str, Any] = {
        "id": "job-1",
        "created_at": 0.0,
        "deadline_at": 300.0,
        "give_up_at": 600.0,
        "max_cost_micros": None,
        "value_micros": 1_000_000,
        "late_fraction": 0.3,
    }
    return JobFacts(**usual | changes)


CANDIDATES = [
    Candidate("alpha/one", "alpha", "async", 10_000, 60.0),
    Candidate("beta/one", "beta", "async", 90_000, 5.0),
]


async def test_where_the_shadow_differs_the_plan_says_so_and_the_live_choice_runs(start: Start) -> None:
    """The job runs on the live router's route, and its plan keeps what the shadow would have taken."""
    gateway = await start({"objective": "fastest"})
    job = await gateway.made()
    assert job["route"] == "alpha/one"
    opinion = job["plan"]["shadow"]
    assert (opinion["route"], opinion["agrees"], opinion["objective"]) == ("beta/one", False, "fastest")
    assert opinion["score"] > 0
    assert gateway.service.parts.fleet.shadow.counts["differed"] >= 1


async def test_a_shadow_that_agrees_is_counted_as_agreeing(start: Start) -> None:
    """With the same objective and tuning there is nothing to differ in."""
    gateway = await start({})
    job = await gateway.made()
    assert job["plan"]["shadow"]["agrees"] is True
    assert gateway.service.parts.fleet.shadow.counts["differed"] == 0


async def test_the_shadow_is_fed_what_the_live_router_is_fed(start: Start) -> None:
    """Both know the route after one render."""
    gateway = await start({"objective": "cheapest"})
    await gateway.made()
    fleet, now = gateway.service.parts.fleet, gateway.clock.now()
    assert fleet.shadow.router.snapshot("alpha/one", now) == fleet.router.snapshot("alpha/one", now)


async def test_a_quote_does_not_ask_the_shadow(start: Start) -> None:
    """Only planned jobs count: a question is not traffic."""
    gateway = await start({"objective": "fastest"})
    answer = (await gateway.post("/generate/video/quote")).json()
    assert answer["shadow"] is None
    assert not gateway.service.parts.fleet.shadow.counts


async def test_without_a_shadow_the_plan_has_none(start: Start) -> None:
    """Nothing is recorded of what was not asked for."""
    gateway = await start(None)
    assert (await gateway.made())["plan"]["shadow"] is None


@pytest.mark.parametrize("fault", OUR_FAULTS)
async def test_a_fault_in_the_shadow_never_touches_a_job(start: Start, fault: type[Exception]) -> None:
    """Whatever a faulty policy raises: the job is made as if there were no shadow, and the fault is counted."""
    gateway = await start({})
    shadow = gateway.service.parts.fleet.shadow = Shadow(Broken(fault("a fault")))
    job = await gateway.made()
    assert (job["status"], job["plan"]["shadow"]) == ("succeeded", None)
    assert shadow.counts["failed"] >= 3
    assert set(shadow.counts) == {"failed"}


def test_the_shadow_does_not_change_the_live_answer() -> None:
    """The ranking handed in is the ranking that is acted on: it is a frozen value and the shadow has its own memory."""
    live, shadow = make_routers(RoutingSection.model_validate({"shadow": {"objective": "fastest"}}), Random(1))
    alone, _ = make_routers(RoutingSection(), Random(1))
    assert shadow is not None
    for second in range(20):
        ranking = live.rank(facts(), CANDIDATES, float(second))
        assert shadow.opinion(facts(), CANDIDATES, ranking, float(second)) is not None
        assert ranking == alone.rank(facts(), CANDIDATES, float(second))


def test_weights_of_the_shadow_are_its_own() -> None:
    """A balanced shadow that only minds the time takes the fast route where a live one that minds cost does not."""
    section = RoutingSection.model_validate(
        {"shadow": {"objective": "balanced", "weights": {"cost": 0, "time": 1, "failure": 0}}}
    )
    live, shadow = make_routers(section, Random(1))
    assert shadow is not None
    opinion = shadow.opinion(facts(), CANDIDATES, live.rank(facts(objective="cheapest"), CANDIDATES, 1.0), 1.0)
    assert opinion is not None
    assert (opinion.route, opinion.agrees) == ("beta/one", False)
