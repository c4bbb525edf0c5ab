"""What a worker tells of its pace, by shape, and that compiling is nobody's render: in virtual time."""

from __future__ import annotations

from pathlib import Path

import pytest

from providers.local_gpu.worker.desk import Desk, QueueFullError
from providers.local_gpu.worker.events import Event
from providers.local_gpu.worker.orders import Order, ordered
from providers.local_gpu.worker.pace import SHAPES_MAX, UNMEASURED_S, Pace
from providers.local_gpu.worker.renders import Render
from providers.pace import Measured, Shape
from tests.support.clock import VirtualClock
from tests.support.gpu_worker import STEP_S, ScriptedEngine, asked, figure, make_desk, until
from tests.unit.gpu_worker.test_desk import RENDER_S, ended, working

pytestmark = pytest.mark.anyio
COMPILE_S = 240.0
SMALL = Shape(4, 64 * 64, 2)


async def rendered(desk: Desk, name: str, **parameters: object) -> Render:
    """An order that is made."""
    render = desk.accept(name, asked(**parameters))
    await ended(desk, render)
    return render


async def test_compiling_is_neither_billed_nor_learned(clock: VirtualClock, tmp_path: Path) -> None:
    """Minutes before the first step are told apart: the seconds of the card and the pace are those of the render."""
    engine = ScriptedEngine(clock, compiles_s=COMPILE_S)
    desk = make_desk(tmp_path, engine)
    async with working(desk):
        first = await rendered(desk, "a")
        engine.compiles_s = 0.0
        second = await rendered(desk, "b")
    shown = [desk.shown(one) for one in (first, second)]
    assert [one["gpu_s"] for one in shown] == [pytest.approx(RENDER_S)] * 2
    assert [one["compile_s"] for one in shown] == [pytest.approx(COMPILE_S), 0.0]
    assert desk.pace.of("svd") == (Measured(pytest.approx(STEP_S), pytest.approx(STEP_S), SMALL),)
    assert figure(desk, "vidgate_gpu_compile_seconds_total", model="svd") == pytest.approx(COMPILE_S)
    assert figure(desk, "vidgate_gpu_busy_seconds_total") == pytest.approx(2 * RENDER_S)
    assert figure(desk, "vidgate_gpu_render_seconds_sum", model="svd") == pytest.approx(2 * RENDER_S)


async def test_while_it_compiles_nothing_is_charged_and_no_end_is_promised(clock: VirtualClock, tmp_path: Path) -> None:
    """The seconds of the card stand still, and nobody is told when the render ends or when there is room."""
    engine = ScriptedEngine(clock)
    desk = make_desk(tmp_path, engine, queue_max=0)
    async with working(desk):
        await rendered(desk, "a")
        engine.compiles_s = COMPILE_S
        render = desk.accept("b", asked())
        await clock.sleep(COMPILE_S / 2)
        assert (render.state, desk.eta_s(render)) == ("running", None)
        assert desk.shown(render)["gpu_s"] == pytest.approx(0.0)
        assert desk.shown(render)["compile_s"] == pytest.approx(COMPILE_S / 2)
        with pytest.raises(QueueFullError) as full:
            desk.check_room()
        assert full.value.retry_after_s == UNMEASURED_S
        await until(clock, lambda: render.step == 1)
        assert desk.eta_s(render) == pytest.approx(RENDER_S - STEP_S, abs=0.2)


async def test_a_render_that_hangs_while_it_compiles_cost_its_customer_nothing(
    clock: VirtualClock, tmp_path: Path
) -> None:
    """It ended before anything was compiled: what was waited for is compiling all the same."""
    render = Render(ordered("a", asked(), 1), "digest", clock.now())
    render.hear(Event("started"), 100.0)
    render.hear(Event("compiling"), 101.0)
    render.fail("wedged", "compiling took longer than 900 s", 1001.0)
    shown = render.shown(now=5000.0, position=None, eta_s=None)
    assert (shown["gpu_s"], shown["compile_s"]) == (1.0, 900.0)


async def test_a_render_that_takes_its_steps_again_teaches_nothing(clock: VirtualClock, tmp_path: Path) -> None:
    """Memory that did not suffice made it longer: the next one of its shape begins with less."""
    desk = make_desk(tmp_path, ScriptedEngine(clock, goes_back_at=4))
    async with working(desk):
        render = await rendered(desk, "a")
    assert (render.state, render.gpu_s(clock.now())) == ("succeeded", pytest.approx(RENDER_S + 3 * STEP_S))
    assert desk.pace.of("svd") == ()


async def test_a_single_step_is_known_without_what_was_compiled(clock: VirtualClock, tmp_path: Path) -> None:
    """There is no second step to time it by."""
    desk = make_desk(tmp_path, ScriptedEngine(clock, compiles_s=COMPILE_S))
    async with working(desk):
        await rendered(desk, "a", num_inference_steps=1)
    (known,) = desk.pace.of("svd")
    assert (known.step_s, known.fixed_s) == (pytest.approx(STEP_S), pytest.approx(STEP_S))


async def test_each_shape_has_its_own_pace(clock: VirtualClock, tmp_path: Path) -> None:
    """One that was rendered takes what it took, whatever else was rendered since; another takes its share."""
    desk = make_desk(tmp_path, ScriptedEngine(clock))
    async with working(desk):
        await rendered(desk, "a")
        assert desk.eta_s(desk.accept("large", asked(num_frames=8))) == pytest.approx(2 * RENDER_S)
        await until(clock, lambda: desk.running == 0 and desk.queue_depth == 0)
        again, larger = (ordered(name, asked(num_frames=count), 1) for name, count in (("b", 8), ("c", 16)))
        # The scripted card takes two seconds for any step, and says so of each shape it has rendered.
        assert desk.pace.left_s(again) == pytest.approx(RENDER_S)
        assert desk.pace.left_s(larger) == pytest.approx(2 * RENDER_S)
    assert [one.shape.frames for one in desk.pace.of("svd") if one.shape] == [8, 4]


def test_a_worker_remembers_so_many_shapes() -> None:
    """The one rendered longest ago goes first."""
    pace = Pace()
    for frames in range(1, SHAPES_MAX + 3):
        values = {"width": 64, "height": 64, "num_frames": frames, "num_inference_steps": 10, "seed": 1}
        pace.learn(Order("a", "svd", values), stepping_s=10.0, fixed_s=1.0)
        if frames == 2:
            first = Order("a", "svd", {**values, "num_frames": 1})
        if frames >= 2:
            pace.learn(first, stepping_s=10.0, fixed_s=1.0)
    kept = [one.shape.frames for one in pace.of("svd") if one.shape]
    assert kept == [1, *range(SHAPES_MAX + 2, 3, -1)]
