"""Which worker gets a render, what they say together of how busy they are, and where they are found."""

from __future__ import annotations

import asyncio
from random import Random

import httpx
import pytest

from providers.contract import Load, Refused, SimulatorTools, Tools
from providers.local_gpu import PLUGIN
from providers.local_gpu.simulator import simulator
from providers.local_gpu.simulator.switches import SANDBOX_KEY
from providers.local_gpu.workers import Workers
from providers.pace import Measured
from providers.serving import listen, serve
from tests.contract.local_gpu.support import RENDER_S, Bench, accepted, bench, request
from tests.contract.modelslab.support import HandClock

pytestmark = pytest.mark.anyio


async def placed(there: Bench, count: int, **settings: object) -> list[int]:
    """How many of so many renders each worker got, sent one after another."""
    provider = there.provider(**settings)
    for number in range(count):
        await accepted(provider, request(attempt_id=f"att_{number}"))
        there.clock.advance(1.5)  # a status is asked for anew
    return [len(there.accepted(number)) for number in range(len(there.workers))]


async def test_renders_go_to_the_worker_that_is_done_first() -> None:
    """The idle one before the busy one."""
    async with bench(3) as there:
        assert await placed(there, 6) == [2, 2, 2]


async def test_a_fast_worker_gets_more() -> None:
    """By the seconds per step that each has measured, a queue at a fast card may be shorter than none at a slow one."""
    async with bench(2) as there:
        there.switch(0, seconds_per_step=4.0)
        assert await placed(there, 4) == [1, 3]


async def test_renders_sent_at_the_same_moment_are_spread_too() -> None:
    """What is on its way to a worker counts, before its status shows it."""
    async with bench(4) as there:
        provider = there.provider()
        await asyncio.gather(*(provider.submit(request(attempt_id=f"att_{number}")) for number in range(8)))
        assert [len(there.accepted(number)) for number in range(4)] == [2, 2, 2, 2]


async def test_a_ray_address_counts_its_replicas() -> None:
    """One address in front of three cards takes three before a single card takes its second."""
    async with bench(2) as there:
        there.switch(0, replicas=3)
        assert await placed(there, 4) == [3, 1]


async def test_a_worker_that_cannot_serve_is_passed_over() -> None:
    """Draining, without the model, or gone: the others get everything."""
    async with bench(4) as there:
        there.switch(0, state="draining")
        there.switch(1, models=["ssd-1b"])
        there.unplug(2)
        assert await placed(there, 3) == [0, 0, 0, 3]


async def test_a_worker_that_fills_up_in_between_passes_the_render_on() -> None:
    """Its refusal says nothing against the next worker."""
    async with bench(2) as there:
        there.workers[0].sandbox.script("submit", "429")
        assert await placed(there, 1) == [0, 1]


async def test_when_all_are_full_the_soonest_says_when_to_come_again() -> None:
    """One refusal, with the shortest wait, and no card is asked for nothing."""
    async with bench(2, queue_max=1) as there:
        assert await placed(there, 4) == [2, 2]
        provider = there.provider()
        refused = await provider.submit(request(attempt_id="one_more"))
        assert isinstance(refused, Refused)
        assert refused.kind == "rate_limited"
        assert refused.retry_after_s is not None
        assert 20 <= refused.retry_after_s <= RENDER_S
        there.clock.advance(RENDER_S)
        await accepted(provider, request(attempt_id="one_more"))


async def test_no_worker_at_all_is_a_refusal_that_says_so() -> None:
    """Nothing was sent."""
    async with bench(2) as there:
        there.unplug(0)
        there.switch(1, models=[])
        refused = await there.provider().submit(request())
        assert isinstance(refused, Refused)
        assert refused.kind == "unavailable"
        assert "no worker" in refused.detail


async def test_the_load_is_that_of_the_workers_that_serve() -> None:
    """Slots, what runs and waits, and the measured pace, by route; a model that nobody has is not offered."""
    async with bench(3, models=["svd"]) as there:
        there.switch(1, seconds_per_step=3.0, replicas=2)
        provider = there.provider()
        paces = tuple((Measured(step_s, 5.0),) for step_s in (1.0, 3.0, 1.0))
        assert (await provider.load())["local/svd"] == Load(4, 0, 0, paces=paces)
        await placed(there, 6)
        load = (await provider.load())["local/svd"]
        assert (load.slots, load.running, load.waiting) == (4, 4, 2)
        assert not load.full
        for number in range(3):
            there.switch(number, queue_max=0)
        there.clock.advance(2)
        assert (await provider.load())["local/svd"].full
        there.switch(2, state="draining")
        there.unplug(0)
        there.clock.advance(2)
        loads = await provider.load()
        assert loads["local/svd"].slots == 2
        assert loads["local/svd"].offered
        assert not loads["local/svd-xt"].offered


async def test_what_never_answered_may_have_any_model() -> None:
    """A gateway that starts before its workers does not call their routes impossible."""
    async with bench() as there:
        there.unplug(0)
        assert (await there.provider().load())["local/svd"] == Load(0, 0, 0)


async def test_every_address_behind_a_name_is_a_worker() -> None:
    """As a headless service has them; a name that cannot be looked up leaves those that were found."""
    listener, url = listen()
    port = url.rsplit(":", 1)[1]
    async with httpx.AsyncClient(trust_env=False) as http:
        tools = Tools(http, HandClock(), Random(1))
        app = simulator(SimulatorTools(url, tools.clock, Random(1), http, {}))
        async with serve(app, listener):
            workers = Workers([f"dns+http://127.0.0.1:{port}"], tools, SANDBOX_KEY)
            assert workers.every() == ()
            assert workers.missing_s("http://127.0.0.1:1") == 0.0
            await workers.look()
            assert [worker.url for worker in workers.every()] == [url]
            assert workers.load("svd").slots == 1
            workers._addresses = ("dns+http://no-such-name.invalid:8000",)
            assert isinstance(tools.clock, HandClock)
            tools.clock.advance(10)
            await workers.look()
            assert [worker.url for worker in workers.every()] == [url]


async def test_a_worker_of_before_the_restart_is_found_by_its_name_first() -> None:
    """A gateway that starts with a stored token and a name looks the name up before it judges the worker."""
    listener, url = listen()
    port = url.rsplit(":", 1)[1]
    clock = HandClock()
    async with httpx.AsyncClient(trust_env=False) as http:
        app = simulator(SimulatorTools(url, clock, Random(1), http, {}))
        async with serve(app, listener):
            section = {"workers": [f"dns+http://127.0.0.1:{port}"], "token": SANDBOX_KEY}
            first, second = (
                PLUGIN.build(PLUGIN.settings.model_validate(section), Tools(http, clock, Random(1))) for _ in range(2)
            )
            token = (await accepted(first, request())).token
            pending = await second.check(request().route, token)
            assert pending.progress == 0.0
