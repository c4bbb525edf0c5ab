"""The process with the card: what the worker makes of one that dies, hangs, fails or cannot start. Real processes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from providers.local_gpu.worker import card
from providers.local_gpu.worker.card import Card, child_environment
from providers.local_gpu.worker.events import Event, Patience, StartError, Task
from providers.local_gpu.worker.orders import ordered
from providers.local_gpu.worker.plan import ModelPlan
from tests.support.gpu_worker import asked

LIMIT_S = 60.0
FINE, DIES, HANGS, FAULTS, COMPILES, COMPILES_FOR_EVER = 0, 1, 2, 3, 4, 5


@pytest.fixture(autouse=True)
def _scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "CHILD_MODULE", "tests.support.scripted_card")
    monkeypatch.setattr(card, "RESTART_FIRST_S", 0.01)


@asynccontextmanager
async def started(model: str = "fine", wedged_s: float = 20.0, compile_wedged_s: float = 40.0) -> AsyncIterator[Card]:
    """A card whose process is ready."""
    made = Card(
        ModelPlan(model=model), patience=Patience(wedged_s, compile_wedged_s), start_s=20.0, clock=SystemClock()
    )
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


def bounded(work: Callable[[], Awaitable[None]]) -> None:
    """Run in real time, which processes need, and not for ever."""

    async def run() -> None:
        async with asyncio.timeout(LIMIT_S):
            await work()

    asyncio.run(run())


def task(folder: Path, seed: int) -> Task:
    """A render whose seed says what becomes of it."""
    return Task(ordered(f"r{seed}", asked(seed=seed), 0), folder / "picture", folder / "output")


async def events(made: Card, folder: Path, seed: int) -> list[Event]:
    """Everything that is said of a render."""
    return [event async for event in made.render(task(folder, seed))]


def alive(process_id: int) -> bool:
    """Whether a process is there."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_render_tells_its_steps_and_its_end(tmp_path: Path) -> None:
    """One process renders one after the other, and is gone when the card is stopped."""

    async def work() -> None:
        async with started() as made:
            process = made.process_id
            for _ in range(2):
                said = await events(made, tmp_path, FINE)
                assert [event.kind for event in said] == ["started", "step", "finished"]
            assert (tmp_path / "output").read_text() == str(process)
            assert made.facts.device_name == "scripted"
            assert made.ready
        assert process is not None
        assert not alive(process)

    bounded(work)


def test_a_process_that_dies_is_replaced_and_its_render_is_lost(tmp_path: Path) -> None:
    """The render may be begun again; the next one finds a new process."""

    async def work() -> None:
        async with started() as made:
            first = made.process_id
            assert (await events(made, tmp_path, DIES))[-1] == Event("lost", message="the process with the card died")
            assert (await events(made, tmp_path, FINE))[-1].kind == "finished"
            assert made.process_id != first
            assert made.restarts == 1

    bounded(work)


def test_a_render_that_hangs_is_wedged_and_its_process_is_ended(tmp_path: Path) -> None:
    """No step within the time: the render failed, the process that nothing else can end is killed, a new one serves."""

    async def work() -> None:
        async with started(wedged_s=0.5) as made:
            first = made.process_id
            last = (await events(made, tmp_path, HANGS))[-1]
            assert (last.kind, last.code) == ("failed", "wedged")
            assert "0.5 s" in last.message
            assert first is not None
            assert not alive(first)
            assert (await events(made, tmp_path, FINE))[-1].kind == "finished"

    bounded(work)


def test_a_network_that_is_compiled_may_say_nothing_for_longer(tmp_path: Path) -> None:
    """Twice the time of a step and not killed; beyond its own bound it is, by that name, and the next one is served."""

    async def work() -> None:
        async with started(wedged_s=0.5, compile_wedged_s=3.0) as made:
            first = made.process_id
            last = (await events(made, tmp_path, COMPILES))[-1]
            assert last.message == "it was compiled"
            assert made.process_id == first
            last = (await events(made, tmp_path, COMPILES_FOR_EVER))[-1]
            assert (last.code, last.message) == ("wedged", "compiling took longer than 3 s")
            assert made.process_id != first
            assert (await events(made, tmp_path, FINE))[-1].kind == "finished"

    bounded(work)


def test_after_a_fault_on_a_card_its_process_is_replaced(tmp_path: Path) -> None:
    """A card's context is not to be trusted after a fault: the next render would fail the same way."""

    async def work() -> None:
        async with started() as made:
            first = made.process_id
            last = (await events(made, tmp_path, FAULTS))[-1]
            assert (last.code, last.message) == ("fault", "the card is confused")
            assert made.process_id != first
            assert made.ready

    bounded(work)


def test_warming_up_is_timed_apart_from_loading() -> None:
    """It is a fact of the card, and none of any render."""

    async def work() -> None:
        for model, least_s in (("warms-up", 0.3), ("fine", None)):
            async with started(model) as made:
                warm_up_s = made.facts.warm_up_s
                assert warm_up_s is None if least_s is None else warm_up_s is not None and warm_up_s >= least_s

    bounded(work)


@pytest.mark.parametrize(("model", "words"), [("broken", "it is broken"), ("dies-at-once", "died while loading")])
def test_a_model_that_cannot_be_loaded_is_told_at_the_start(model: str, words: str) -> None:
    """In the words of the process that tried; it is not tried for ever."""

    async def work() -> None:
        with pytest.raises(StartError, match=words):
            async with started(model):
                pass

    bounded(work)


def test_the_environment_of_a_card_reports_to_nobody() -> None:
    """No telemetry, no hub where none is wanted, threads as planned, and the operator's own allocator settings stay."""
    plan = ModelPlan(model="m", offline=True, threads=3)
    made = child_environment({"PATH": "/bin", "PYTORCH_CUDA_ALLOC_CONF": "mine"}, plan)
    assert made["PATH"] == "/bin"
    assert made["HF_HUB_OFFLINE"] == made["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert made["OMP_NUM_THREADS"] == "3"
    assert made["PYTORCH_CUDA_ALLOC_CONF"] == "mine"
    assert "HF_HUB_OFFLINE" not in child_environment({}, ModelPlan(model="m"))
