"""One card: a process of its own that holds the model and renders, watched and replaced when it hangs or dies.

The card's process speaks lines of JSON over a socket. It is a process and not a thread because a render that hangs in
a driver can only be ended by ending the process, and because the memory of a card comes back whole only that way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from providers.contract import Clock
from providers.local_gpu.worker.events import EngineFacts, Event, Patience, StartError, Task
from providers.local_gpu.worker.plan import ModelPlan

log = structlog.get_logger()

CHILD_MODULE = "providers.local_gpu.worker.child"
RESTART_FIRST_S = 1.0
RESTART_LAST_S = 60.0
KILL_WAIT_S = 30.0
LINE_BYTES_MAX = 1 << 20
# What libraries print belongs to the log, not to whoever reads the command's results.
STDERR = 2


@dataclass(slots=True)
class _Child:
    """The process with the card, and the line to it."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def read(self, seconds: float) -> dict[str, Any] | None:
        """The next message; None when the process is gone. Raises TimeoutError when it is silent for too long."""
        async with asyncio.timeout(seconds):
            try:
                line = await self.reader.readline()
            except ConnectionError:
                return None
        values: dict[str, Any] | None = json.loads(line) if line.endswith(b"\n") else None
        return values

    def send(self, message: Mapping[str, Any]) -> None:
        """Say something to the process; to one that is gone it is said in vain."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(json.dumps(message).encode() + b"\n")

    async def end(self) -> None:
        """End the process, whatever it is doing."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        async with asyncio.timeout(KILL_WAIT_S):
            await self.process.wait()
        self.writer.close()


class Card:
    """The engine of `vidgate gpu-worker`: one render at a time."""

    slots = 1

    def __init__(self, plan: ModelPlan, *, patience: Patience, start_s: float, clock: Clock) -> None:
        self._plan = plan
        self._patience = patience
        self._start_s = start_s
        self._clock = clock
        self._child: _Child | None = None
        self._ready = asyncio.Event()
        self._facts = EngineFacts()
        self._running = self._canceled = ""
        self.restarts = 0

    @property
    def ready(self) -> bool:
        """Whether the model is loaded and warm."""
        return self._ready.is_set()

    @property
    def facts(self) -> EngineFacts:
        """What the process told of its model and device."""
        return self._facts

    @property
    def process_id(self) -> int | None:
        """The id of the process with the card, None while there is none."""
        return self._child.process.pid if self._child else None

    async def start(self) -> None:
        """Load the model in a new process. Raises StartError with that process's own words."""
        await self._end_child()
        self._child = child = await self._spawn()
        child.send({"plan": self._plan.model_dump()})
        loaded_at: float | None = None
        try:
            async with asyncio.timeout(self._start_s):
                message = await child.read(self._start_s)
                if message is not None and "loaded" in message:
                    loaded_at = self._clock.now()
                    message = await child.read(self._start_s)
        except TimeoutError as error:
            await self._end_child()
            raise StartError(f"the model was not loaded and warm within {self._start_s:g} s") from error
        if message is None or "failed" in message:
            await self._end_child()
            raise StartError(message["failed"] if message else "the process with the card died while loading the model")
        facts = message["ready"]
        warm_up_s = None if loaded_at is None else round(max(0.0, self._clock.now() - loaded_at), 3)
        self._facts = EngineFacts(**{**facts, "models": tuple(facts["models"]), "warm_up_s": warm_up_s})
        self._ready.set()
        log.info("gpu.ready", models=list(self._facts.models), device=self._facts.device_name)

    async def stop(self) -> None:
        """End the process."""
        self._ready.clear()
        await self._end_child()

    async def render(self, task: Task) -> AsyncIterator[Event]:
        """Render on the card; when its process hangs or dies, that is said and the next render finds a new one."""
        order = task.order
        self._running = order.id
        if not self.ready:
            await self._start_again()
        if self._canceled == order.id:
            yield Event("canceled")
            return
        child = self._child
        assert child is not None
        child.send(
            {
                "render": {"id": order.id, "model": order.model, "parameters": dict(order.parameters)},
                "picture": str(task.picture),
                "output": str(task.output),
            }
        )
        event = Event("alive")
        while not event.ends:
            event = await self._next(child, event)
            if event.ends:
                self._running = ""
            if event.kind == "lost" or event.code == "wedged" or (event.code == "fault" and self._poisoned):
                self._ready.clear()
                await self._end_child()
            yield event
        if not self.ready:
            await self._start_again()

    async def cancel(self, render_id: str) -> None:
        """Ask the card to stop at its next step."""
        if self._running == render_id:
            self._canceled = render_id
            if self._child is not None:
                self._child.send({"cancel": render_id})

    async def _next(self, child: _Child, before: Event) -> Event:
        try:
            message = await child.read(self._patience.after(before))
        except TimeoutError:
            return self._patience.wedged(before)
        if message is None:
            return Event("lost", message="the process with the card died")
        return Event.from_json(message)

    @property
    def _poisoned(self) -> bool:
        """After a fault on a card its context is not to be trusted: every later call may fail the same way."""
        return self._facts.device != "cpu"

    async def _start_again(self) -> None:
        wait_s = RESTART_FIRST_S
        while True:
            self.restarts += 1
            try:
                return await self.start()
            except (StartError, OSError) as error:
                log.warning("gpu.not_restarted", why=str(error), again_in_s=wait_s)
            await self._clock.sleep(wait_s)
            wait_s = min(RESTART_LAST_S, 2 * wait_s)

    async def _spawn(self) -> _Child:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                CHILD_MODULE,
                str(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=STDERR,
                env=child_environment(os.environ, self._plan),
                start_new_session=True,
            )
        reader, writer = await asyncio.open_connection(sock=ours, limit=LINE_BYTES_MAX)
        return _Child(process, reader, writer)

    async def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            await child.end()


def child_environment(environment: Mapping[str, str], plan: ModelPlan) -> dict[str, str]:
    """The environment of a process that computes: no reports to anybody, threads as planned, memory that can grow."""
    own = {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "TQDM_DISABLE": "1",
        "PYTORCH_CUDA_ALLOC_CONF": environment.get("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True"),
    }
    if plan.offline:
        own["HF_HUB_OFFLINE"] = "1"
    if plan.threads:
        own |= {name: str(plan.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return {**environment, **own}
