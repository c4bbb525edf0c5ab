"""The desk of a worker whose engine has many cards, or fails: in virtual time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

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
