"""Orders for a GPU worker, and an engine that does what a test tells it to."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from providers.contract import Clock
from providers.local_gpu.worker.desk import Desk, Limits
from providers.local_gpu.worker.events import EngineFacts, Event, Output, Task
from providers.local_gpu.worker.orders import Asked, read_asked
from providers.local_gpu.worker.shelf import Shelf
from tests.support.pictures import picture

STEP_S = 2.0
FILE = b"the finished file"
MODELS = ("svd", "ssd-1b")


def order_body(model: str = "svd", image: bytes | None = None, **parameters: Any) -> bytes:
    """The body of an order."""
    data = base64.b64encode(picture() if image is None else image).decode()
    return json.dumps({"model": model, "parameters": parameters, "image": data}).encode()


def asked(**parameters: Any) -> Asked:
    """An order for a small clip, as it was read."""
    small = {"width": 64, "height": 64, "num_frames": 4, "num_inference_steps": 5}
    return read_asked(order_body(**{**small, **parameters}), MODELS)


@dataclass
class ScriptedEngine:
    """Steps every two seconds, unless told to do something else with a render: `script` gives its last event by id.

    It compiles for `compiles_s` before the first step, and begins the steps anew when it comes to `goes_back_at`. It
    loses a render so often before it begins as `loses_unbegun` says.
    """

    clock: Clock
    slots: int = 1
    ready: bool = True
    replicas: int = 1
    models: tuple[str, ...] = MODELS
    begins_after_s: float = 0.0
    compiles_s: float = 0.0
    goes_back_at: int = 0
    loses_unbegun: dict[str, int] = field(default_factory=dict)
    script: dict[str, list[Event]] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)
    canceled: set[str] = field(default_factory=set)
    stopped: bool = False
    on_step: Callable[[str, int], None] | None = None

    @property
    def facts(self) -> EngineFacts:
        """Two models, unless told otherwise, on a device that is none."""
        return EngineFacts(self.models, "cpu", "scripted", self.replicas)

    async def start(self) -> None:
        """Nothing to load."""

    async def stop(self) -> None:
        """Nothing to end."""
        self.stopped = True

    async def cancel(self, render_id: str) -> None:
        """Remembered until the next step."""
        self.canceled.add(render_id)

    async def render(self, task: Task) -> AsyncIterator[Event]:
        """Step by step, then whatever the script says, else the file."""
        order = task.order
        self.begun.append(order.id)
        await self.clock.sleep(self.begins_after_s)
        if self.loses_unbegun.get(order.id, 0) > 0:
            self.loses_unbegun[order.id] -= 1
            yield Event("lost", message="no replica took it")
            return
        yield Event("started", steps=order.steps)
        if self.compiles_s:
            yield Event("compiling")
            await self.clock.sleep(self.compiles_s)
            yield Event("compiled")
        for step in [*range(1, self.goes_back_at), *range(1, order.steps + 1)]:
            await self.clock.sleep(STEP_S)
            if order.id in self.canceled:
                yield Event("canceled")
                return
            if self.on_step is not None:
                self.on_step(order.id, step)
            yield Event("step", step=step)
        await self.clock.sleep(STEP_S)
        if self.script.get(order.id):
            yield self.script[order.id].pop(0)
            return
        task.output.write_bytes(FILE)
        yield Event("finished", output=Output("video/mp4", len(FILE), "0" * 64, 4, 7, 64, 64), memory_bytes=4096)


def make_desk(folder: Path, engine: ScriptedEngine, *, queue_max: int = 2, keep_s: float = 100.0) -> Desk:
    """A desk over a folder."""
    limits = Limits(queue_max, keep_s)
    return Desk(engine, Shelf(folder), limits=limits, clock=engine.clock, random=Random(1))


def figure(desk: Desk, name: str, **labels: str) -> float:
    """A figure of the desk's metrics, 0 for what has not been counted yet."""
    return desk.figures.registry.get_sample_value(name, labels) or 0.0


async def until(clock: Clock, condition: Callable[[], bool], seconds: float = 1000.0) -> None:
    """Wait for a condition in the clock's time. Raises TimeoutError."""
    end = clock.now() + seconds
    while not condition():
        if clock.now() > end:
            raise TimeoutError("the condition was never met")
        await clock.sleep(0.1)
        await asyncio.sleep(0)
