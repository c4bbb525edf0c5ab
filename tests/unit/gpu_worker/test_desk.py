"""The desk of a worker in virtual time: its queue, its one card at a time, cancel, loss, restart and drain."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from providers.local_gpu.worker.desk import ConflictError, Desk, DiskError, QueueFullError
from providers.local_gpu.worker.events import Event, StartError
from providers.local_gpu.worker.pace import UNMEASURED_S
from providers.local_gpu.worker.renders import Render
from providers.local_gpu.worker.shelf import Shelf
from tests.support.clock import VirtualClock
from tests.support.gpu_worker import FILE, STEP_S, ScriptedEngine, asked, figure, make_desk, until

pytestmark = pytest.mark.anyio
# Five steps and the end.
RENDER_S = 6 * STEP_S


@asynccontextmanager
async def working(desk: Desk) -> AsyncIterator[None]:
    """The desk hands out work while the block runs."""
    task = asyncio.create_task(desk.work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ended(desk: Desk, *renders: Render) -> None:
    """Wait for these renders to end."""
    await until(desk.clock, lambda: all(render.ended for render in renders))


async def test_orders_run_one_at_a_time_in_their_order(clock: VirtualClock, tmp_path: Path) -> None:
    """One card works on one render; the next begins when it has ended, and each tells its steps on the way."""
    engine = ScriptedEngine(clock)
    desk = make_desk(tmp_path, engine)
    together: list[int] = []
    engine.on_step = lambda _id, _step: together.append(desk.running)
    async with working(desk):
        renders = [desk.accept(name, asked()) for name in ("a", "b", "c")]
        await clock.sleep(STEP_S * 2.5)
        assert [render.state for render in renders] == ["running", "queued", "queued"]
        assert desk.shown(renders[0])["step"] == 2
        assert [desk.shown(render)["position"] for render in renders] == [None, 1, 2]
        await ended(desk, *renders)
    assert engine.begun == ["a", "b", "c"]
    assert set(together) == {1}
    assert desk.shelf.output("c").read_bytes() == FILE


async def test_a_full_queue_says_when_to_come_back(clock: VirtualClock, tmp_path: Path) -> None:
    """Two wait and one runs; the next is told the time that the running one still needs, once that was measured."""
    desk = make_desk(tmp_path, ScriptedEngine(clock), queue_max=2)
    async with working(desk):
        for name in ("a", "b", "c"):
            desk.check_room()
            desk.accept(name, asked())
        with pytest.raises(QueueFullError) as full:
            desk.check_room()
        assert full.value.retry_after_s == UNMEASURED_S
        await until(clock, lambda: desk.queue_depth == 1)
        desk.accept("d", asked())
        await clock.sleep(STEP_S)
        with pytest.raises(QueueFullError) as full:
            desk.check_room()
        assert 0 < full.value.retry_after_s <= RENDER_S
        assert figure(desk, "vidgate_gpu_refused_total") == 2


async def test_times_are_told_from_what_was_measured(clock: VirtualClock, tmp_path: Path) -> None:
    """After one render the next has an end in sight, behind those before it; twice the frames take twice as long."""
    desk = make_desk(tmp_path, ScriptedEngine(clock))
    async with working(desk):
        first = desk.accept("a", asked())
        assert desk.eta_s(first) is None
        await ended(desk, first)
        assert desk.eta_s(first) == 0.0
        (known,) = desk.pace.of("svd")
        assert known.step_s == pytest.approx(STEP_S)
        assert known.fixed_s == pytest.approx(STEP_S)
        second, third = desk.accept("b", asked()), desk.accept("c", asked(num_frames=8))
        assert desk.eta_s(second) == pytest.approx(RENDER_S)
        assert desk.eta_s(third) == pytest.approx(RENDER_S + 2 * RENDER_S)
        await until(clock, lambda: second.step == 3)
        assert desk.eta_s(second) == pytest.approx(3 * STEP_S, abs=0.5)


async def test_the_same_id_never_renders_twice(clock: VirtualClock, tmp_path: Path) -> None:
    """The same order is the render that is known; another one under its id is a conflict."""
    desk = make_desk(tmp_path, ScriptedEngine(clock))
    render = desk.accept("a", asked(fps=7))
    assert desk.known("a", asked(fps=7)) is render
    assert desk.known("b", asked(fps=7)) is None
    with pytest.raises(ConflictError, match="a"):
        desk.known("a", asked(fps=8))


async def test_a_cancel_ends_a_waiting_render_at_once_and_a_running_one_at_its_next_step(
    clock: VirtualClock, tmp_path: Path
) -> None:
    """Nothing is rendered for one that waited; the one that runs stops within a step; ended ones stay as they are."""
    engine = ScriptedEngine(clock)
    desk = make_desk(tmp_path, engine)
    async with working(desk):
        running, waiting = desk.accept("a", asked()), desk.accept("b", asked())
        await until(clock, lambda: running.step == 2)
        await desk.cancel(waiting)
        assert waiting.state == "canceled"
        await desk.cancel(running)
        await clock.sleep(STEP_S)
        assert (running.state, running.step) == ("canceled", 2)
        await desk.cancel(running)
        assert running.state == "canceled"
    assert engine.begun == ["a"]
    assert figure(desk, "vidgate_gpu_renders_total", model="svd", state="canceled") == 2


async def test_a_render_that_waits_at_the_engine_is_canceled_at_once(clock: VirtualClock, tmp_path: Path) -> None:
    """It was handed over and has not begun: its end is told now, whatever the engine still says of it."""
    engine = ScriptedEngine(clock, begins_after_s=30.0)
    desk = make_desk(tmp_path, engine)
    async with working(desk):
        render = desk.accept("a", asked())
        await clock.sleep(10)
        assert (render.state, engine.begun) == ("queued", ["a"])
        await desk.cancel(render)
        assert render.state == "canceled"
        assert engine.canceled == {"a"}
        assert desk.shelf.picture("a").exists()
        await clock.sleep(60)
        assert (render.state, render.step) == ("canceled", 0)
        assert not desk.shelf.picture("a").exists()
    assert figure(desk, "vidgate_gpu_renders_total", model="svd", state="canceled") == 1


async def test_a_lost_render_is_begun_again_once(clock: VirtualClock, tmp_path: Path) -> None:
    """A card that dies once costs time; the second time under the same render it is the render's fault."""
    engine = ScriptedEngine(clock)
    lost = Event("lost", message="the card died")
    engine.script = {"a": [lost], "b": [lost, lost]}
    desk = make_desk(tmp_path, engine)
    async with working(desk):
        once, twice = desk.accept("a", asked()), desk.accept("b", asked())
        await ended(desk, once, twice)
    assert (once.state, once.tries) == ("succeeded", 2)
    assert (twice.state, twice.code, twice.message) == ("failed", "worker_lost", "the card died")
    assert engine.begun == ["a", "a", "b", "b"]
    assert figure(desk, "vidgate_gpu_restarted_total") == 2


async def test_a_render_that_was_called_off_is_not_begun_again(clock: VirtualClock, tmp_path: Path) -> None:
    """Its card dying is its end."""
    engine = ScriptedEngine(clock)
    desk = make_desk(tmp_path, engine)
    engine.script = {"a": [Event("lost")]}
    async with working(desk):
        render = desk.accept("a", asked())
        await until(clock, lambda: render.step == 5)
        engine.canceled.clear()
        render.cancel_wanted = True
        await ended(desk, render)
    assert render.state == "canceled"
    assert engine.begun == ["a"]


@pytest.mark.parametrize("code", ["out_of_memory", "wedged", "invalid", "fault"])
async def test_a_failure_keeps_its_code(clock: VirtualClock, tmp_path: Path, code: str) -> None:
    """What the card says of a failure is what the client reads."""
    engine = ScriptedEngine(clock)
    engine.script = {"a": [Event.from_json({"kind": "failed", "code": code, "message": "so it was"})]}
    desk = make_desk(tmp_path, engine)
    async with working(desk):
        render = desk.accept("a", asked())
        await ended(desk, render)
    assert desk.shown(render)["error"] == {"code": code, "message": "so it was"}


async def test_results_are_kept_for_their_time(clock: VirtualClock, tmp_path: Path) -> None:
    """After it nobody knows the render any more, and nothing of it is left on disk."""
    desk = make_desk(tmp_path, ScriptedEngine(clock), keep_s=100)
    async with working(desk):
        render = desk.accept("a", asked())
        await ended(desk, render)
        await clock.sleep(99)
        assert desk.find("a") is render
        await clock.sleep(2)
        assert desk.find("a") is None
    assert os.listdir(tmp_path) == []


async def test_a_worker_that_was_killed_goes_on_with_what_it_had_accepted(clock: VirtualClock, tmp_path: Path) -> None:
    """What had ended is still there, with its file; what ran or waited is rendered, in the old order."""
    engine = ScriptedEngine(clock)
    desk = make_desk(tmp_path, engine)
    async with working(desk):
        done = desk.accept("a", asked(seed=1))
        await ended(desk, done)
        desk.accept("b", asked())
        await clock.sleep(STEP_S)
        desk.accept("c", asked())
    later = make_desk(tmp_path, engine)
    later.take_up()
    found = later.find("a")
    assert found is not None
    assert (found.state, found.output) == ("succeeded", done.output)
    renders = [render for render in map(later.find, ("b", "c")) if render is not None]
    assert [render.state for render in renders] == ["queued", "queued"]
    assert later.known("c", asked()) is renders[1]
    async with working(later):
        await ended(later, *renders)
    assert engine.begun == ["a", "b", "b", "c"]
    assert [render.state for render in renders] == ["succeeded"] * 2


async def test_a_render_that_kills_the_whole_worker_is_not_begun_for_ever(clock: VirtualClock, tmp_path: Path) -> None:
    """Tries are counted across lives: begun twice and never ended, it is given up, and the one behind it is made."""
    engine = ScriptedEngine(clock)
    desk = make_desk(tmp_path, engine)
    desk.accept("poison", asked())
    for _ in range(2):
        async with working(desk):
            await until(clock, lambda: desk.running == 1)  # noqa: B023 - waited for within this turn
        desk = make_desk(tmp_path, engine)
        desk.take_up()
    render = desk.find("poison")
    assert render is not None
    assert (render.state, render.code, desk.queue_depth) == ("failed", "worker_lost", 0)
    assert render.message == "the worker ended each of the 2 times that it rendered this"
    assert not desk.shelf.picture("poison").exists()
    async with working(desk):
        await ended(desk, desk.accept("next", asked()))
    assert engine.begun == ["poison", "poison", "next"]


async def test_a_cancel_outlives_the_worker(clock: VirtualClock, tmp_path: Path) -> None:
    """Called off while it ran, and the worker died before the next step: nothing is rendered or billed."""
    engine = ScriptedEngine(clock)
    desk = make_desk(tmp_path, engine)
    async with working(desk):
        render = desk.accept("a", asked())
        await until(clock, lambda: render.step == 2)
        await desk.cancel(render)
        assert render.state == "running"
    later = make_desk(tmp_path, engine)
    later.take_up()
    async with working(later):
        await clock.sleep(RENDER_S)
        found = later.find("a")
    assert found is not None
    assert (found.state, found.gpu_s(clock.now())) == ("canceled", 0.0)
    assert engine.begun == ["a"]
    assert not later.shelf.picture("a").exists()


async def test_orders_for_a_model_that_is_gone_are_given_back(clock: VirtualClock, tmp_path: Path) -> None:
    """Started again with another model, a worker renders nothing of the old one: the gateway orders it elsewhere."""
    make_desk(tmp_path, ScriptedEngine(clock)).accept("old", asked())
    engine = ScriptedEngine(clock, models=("ssd-1b",))
    desk = make_desk(tmp_path, engine)
    desk.take_up()
    async with working(desk):
        await clock.sleep(STEP_S)
        render = desk.find("old")
    assert render is not None
    assert (render.state, render.code) == ("failed", "worker_lost")
    assert render.message == "the worker has another model now: order it elsewhere"
    assert engine.begun == []
    assert os.listdir(tmp_path) == ["old.json"]


async def test_a_folder_has_one_worker(tmp_path: Path) -> None:
    """A second one is told what to do and touches nothing; once the first has ended, the folder is free."""
    first, second = Shelf(tmp_path), Shelf(tmp_path)
    told = pytest.raises(StartError, match="give this one a folder of its own with --work-dir")
    with first.owned(), told, second.owned():
        pytest.fail("two workers share a folder")
    with second.owned():
        pass


def full(*_arguments: object) -> None:
    """What every write to a full disk comes to."""
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_full_disk_ends_no_worker(clock: VirtualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done is told and can be fetched; what would begin is given back; what is new is refused and leaves
    nothing; with room again, work goes on."""
    engine = ScriptedEngine(clock)
    desk = make_desk(tmp_path, engine)
    async with working(desk):
        first, second = desk.accept("a", asked()), desk.accept("b", asked())
        await until(clock, lambda: first.step == 1)
        with monkeypatch.context() as patched:
            patched.setattr(desk.shelf, "keep", full)
            await ended(desk, first, second)
            with pytest.raises(DiskError, match="No space left"):
                desk.accept("c", asked())
        assert desk.find("c") is None
        assert first.state == "succeeded"
        assert (second.state, second.code) == ("failed", "worker_lost")
        assert second.message == "the worker's disk failed: No space left on device"
        await ended(desk, desk.accept("d", asked()))
    assert engine.begun == ["a", "d"]
    assert sorted(os.listdir(tmp_path)) == ["a.json", "a.output", "b.json", "d.json", "d.output"]


async def test_what_a_killed_worker_left_half_written_is_swept(clock: VirtualClock, tmp_path: Path) -> None:
    """Pictures of no order, files cut short and their parts go; what somebody else keeps there is not touched."""
    desk = make_desk(tmp_path, ScriptedEngine(clock))
    desk.accept("waits", asked())
    kept = {"waits.json", "waits.picture", "notes.txt", "other.part"}
    swept = {"gone.picture", "gone.output", "waits.output", "x.picture.part", "waits.json.part"}
    for name in (swept | kept) - {"waits.json", "waits.picture"}:
        (tmp_path / name).write_bytes(b"half")
    later = make_desk(tmp_path, ScriptedEngine(clock))
    later.take_up()
    assert set(os.listdir(tmp_path)) == kept
    assert later.find("waits") is not None


async def test_what_is_broken_on_disk_is_removed(clock: VirtualClock, tmp_path: Path) -> None:
    """A record cut short, one of another shape, an order without its picture, a success without its file."""
    engine = ScriptedEngine(clock)
    desk = make_desk(tmp_path, engine)
    async with working(desk):
        done = desk.accept("done", asked())
        await ended(desk, done)
    desk.accept("waits", asked())
    (tmp_path / "done.output").unlink()
    (tmp_path / "waits.picture").unlink()
    (tmp_path / "cut.json").write_text('{"order": ')
    (tmp_path / "other.json").write_text('{"x": 1}')
    later = make_desk(tmp_path, engine)
    later.take_up()
    assert [later.find(name) for name in ("done", "waits", "cut", "other")] == [None] * 4
    assert os.listdir(tmp_path) == []


async def test_draining_finishes_what_runs_and_gives_back_what_waits(clock: VirtualClock, tmp_path: Path) -> None:
    """A waiting order is lost at once, so that it is ordered elsewhere; the running one ends and is fetched."""
    engine = ScriptedEngine(clock)
    desk = make_desk(tmp_path, engine)
    async with working(desk):
        running, waiting = desk.accept("a", asked()), desk.accept("b", asked())
        await until(clock, lambda: running.step == 1)
        draining = asyncio.create_task(desk.drain(60))
        await clock.sleep(0.1)
        assert (waiting.state, waiting.code) == ("failed", "worker_lost")
        await ended(desk, running)
        await clock.sleep(1)
        assert not draining.done()
        running.fetched = True
        await clock.sleep(1)
        assert draining.done()
    assert running.state == "succeeded"


async def test_draining_ends_by_its_time(clock: VirtualClock, tmp_path: Path) -> None:
    """A render that takes longer is left behind; on disk it waits for the next worker."""
    desk = make_desk(tmp_path, ScriptedEngine(clock))
    async with working(desk):
        render = desk.accept("a", asked(num_inference_steps=100))
        await until(clock, lambda: render.step == 1)
        before = clock.now()
        await desk.drain(20)
        assert 20 <= clock.now() - before <= 21
    later = make_desk(tmp_path, ScriptedEngine(clock))
    later.take_up()
    assert later.find("a") is not None


async def test_an_engine_with_many_cards_is_handed_everything(clock: VirtualClock, tmp_path: Path) -> None:
    """Two replicas work at once; what was handed over and has not begun is told as waiting."""
    engine = ScriptedEngine(clock, slots=2, replicas=2)
    desk = make_desk(tmp_path, engine, queue_max=1)
    async with working(desk):
        renders = [desk.accept(name, asked()) for name in ("a", "b", "c")]
        with pytest.raises(QueueFullError):
            desk.check_room()
        await clock.sleep(STEP_S)
        assert desk.running == 2
        assert desk.queue_depth == 1
        await ended(desk, *renders)
    assert {render.state for render in renders} == {"succeeded"}
