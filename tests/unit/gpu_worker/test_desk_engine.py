"""The desk of a worker whose engine has many cards, or fails: in virtual time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from providers.local_gpu.worker.desk import LOST_UNBEGUN_MAX, LOST_UNBEGUN_WAIT_S
from providers.local_gpu.worker.events import Event
from tests.support.clock import VirtualClock
from tests.support.gpu_worker import ScriptedEngine, asked, make_desk, until
from tests.unit.gpu_worker.test_desk import ended, working

pytestmark = pytest.mark.anyio


async def test_draining_gives_back_what_waits_at_the_engine(clock: VirtualClock, tmp_path: Path) -> None:
    """An engine with many cards was handed everything: what has not begun there is lost at once and called off."""
    engine = ScriptedEngine(clock, slots=3, replicas=1)
    desk = make_desk(tmp_path, engine)
    async with working(desk):
        running = desk.accept("a", asked())
        await until(clock, lambda: running.step == 1)
        engine.begins_after_s = 1000.0
        waiting = [desk.accept(name, asked()) for name in ("b", "c")]
        await clock.sleep(0.1)
        assert engine.begun == ["a", "b", "c"]
        draining = asyncio.create_task(desk.drain(60))
        await clock.sleep(0.1)
        assert [(one.state, one.code) for one in waiting] == [("failed", "worker_lost")] * 2
        assert engine.canceled == {"b", "c"}
        await ended(desk, running)
        running.fetched = True
        await draining
    assert running.state == "succeeded"


@pytest.mark.parametrize("times", [1, 2])
async def test_an_engine_that_fails_under_a_render_costs_none_beside_it(
    clock: VirtualClock, tmp_path: Path, times: int
) -> None:
    """It is begun once more and then given back; the others are rendered, and the desk works on."""
    engine, failures = ScriptedEngine(clock, slots=2, replicas=2), [RuntimeError("the cluster is gone")] * times

    def on_step(render_id: str, _step: int) -> None:
        if render_id == "bad" and failures:
            raise failures.pop()

    engine.on_step = on_step
    desk = make_desk(tmp_path, engine)
    async with working(desk):
        bad, good = desk.accept("bad", asked()), desk.accept("good", asked())
        await ended(desk, bad, good)
        later = desk.accept("later", asked())
        await ended(desk, later)
    assert (good.state, later.state, bad.tries) == ("succeeded", "succeeded", 2)
    lost = ("failed", "worker_lost", "RuntimeError: the cluster is gone")
    assert (bad.state, bad.code, bad.message) == (("succeeded", "", "") if times == 1 else lost)


async def test_an_order_that_waits_at_the_engine_is_not_spent_by_replicas_that_die(
    clock: VirtualClock, tmp_path: Path
) -> None:
    """Tries count what was begun: lost before that, an order is handed over again, and may still be begun twice."""
    engine = ScriptedEngine(clock, slots=2)
    engine.loses_unbegun = {"a": 3}
    engine.script = {"a": [Event("lost", message="the card died")]}
    desk = make_desk(tmp_path, engine)
    async with working(desk):
        render, other = desk.accept("a", asked()), desk.accept("b", asked())
        await ended(desk, render, other)
    assert (render.state, render.tries, other.state) == ("succeeded", 2, "succeeded")
    assert engine.begun.count("a") == 5


async def test_an_engine_that_takes_nothing_is_not_asked_for_ever(clock: VirtualClock, tmp_path: Path) -> None:
    """Some seconds apart, so that it may come back; then the order is given back, never begun."""
    engine = ScriptedEngine(clock)
    engine.loses_unbegun = {"a": 100}
    desk = make_desk(tmp_path, engine)
    async with working(desk):
        begun_at = clock.now()
        render = desk.accept("a", asked())
        await ended(desk, render)
        waited_s = clock.now() - begun_at
        next_one = desk.accept("next", asked())
        await ended(desk, next_one)
    assert (render.state, render.code, render.tries) == ("failed", "worker_lost", 0)
    assert engine.begun == ["a"] * LOST_UNBEGUN_MAX + ["next"]
    assert waited_s == pytest.approx(sum(range(LOST_UNBEGUN_MAX)) * LOST_UNBEGUN_WAIT_S, abs=0.5)
    assert next_one.state == "succeeded"
    assert render.gpu_s(clock.now()) == 0.0


async def test_one_that_waits_for_the_engine_to_come_back_can_be_called_off(
    clock: VirtualClock, tmp_path: Path
) -> None:
    """It is at no engine then, and is handed to none."""
    engine = ScriptedEngine(clock)
    engine.loses_unbegun = {"a": 100}
    desk = make_desk(tmp_path, engine)
    async with working(desk):
        render = desk.accept("a", asked())
        await until(clock, lambda: render.lost_unbegun == 1)
        await desk.cancel(render)
        assert render.state == "canceled"
        assert not desk.shelf.picture("a").exists()
        await clock.sleep(60)
    assert engine.begun == ["a"]


async def test_an_order_that_was_only_handed_over_has_all_its_tries_after_a_restart(
    clock: VirtualClock, tmp_path: Path
) -> None:
    """A worker that dies twice while an order waits at its engine has begun it never."""
    engine = ScriptedEngine(clock, begins_after_s=1000.0)
    desk = make_desk(tmp_path, engine)
    desk.accept("a", asked())
    for _ in range(3):
        async with working(desk):
            await clock.sleep(10)
        desk = make_desk(tmp_path, engine)
        desk.take_up()
    render = desk.find("a")
    assert render is not None
    assert (render.state, render.tries, engine.begun) == ("queued", 0, ["a"] * 3)
    engine.begins_after_s = 0.0
    async with working(desk):
        await ended(desk, render)
    assert (render.state, render.tries) == ("succeeded", 1)
