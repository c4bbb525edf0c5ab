"""The world of a run: one event loop in virtual time, the processes in it, and what may happen to them.

A process is a `Replica`. Everything it does to the outside goes through `cross`: there it can be killed or stopped.
What belongs to a process is known by a context variable, so that a death takes its tasks along and nobody else's.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from contextvars import Context, ContextVar
from random import Random
from typing import Any, Protocol

import httpx

from gateway import vendor_transport
from tests.sim.scenario import Scenario
from tests.support.clock import VirtualClock, VirtualLoop

TICK_S = 1e-6
# A run takes some 3,000 turns of its loop and a second of a CPU; one that takes this much tries something without end.
TURNS_MAX = 100_000
CPU_S_MAX = 60.0
LAST_WORDS_S = 60.0
OWNER: ContextVar[Replica | None] = ContextVar("owner", default=None)


class EndlessError(RuntimeError):
    """Something is tried again and again, and the run does not end."""


class Edge(Protocol):
    """A request to whichever process answers; None when it died before it did."""

    async def __call__(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> httpx.Response | None: ...


class SimLoop(VirtualLoop):
    """Virtual time without threads: what goes to an executor is done at once, so the order is the seed's alone."""

    def __init__(self) -> None:
        super().__init__()
        self.allow(CPU_S_MAX)

    def allow(self, cpu_s: float) -> None:
        """Let it use so much of a CPU from now on, and as many turns as a run may take."""
        self.turns, self.ends_at = 0, math.inf
        self.stops_at = time.process_time() + cpu_s

    def _run_once(self) -> None:
        self.turns += 1
        if self.turns > TURNS_MAX or self.virtual_s > self.ends_at or time.process_time() > self.stops_at:
            raise EndlessError("something is tried without end")
        super()._run_once()  # type: ignore[misc]

    def call_at(self, when: float, *args: Any, **options: Any) -> asyncio.TimerHandle:
        """Whatever is to come later moves the time: asyncio runs what is due within a nanosecond at once."""
        later = self.virtual_s + TICK_S if when > self.virtual_s else when
        return super().call_at(max(when, later), *args, **options)

    def run_in_executor(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        done: asyncio.Future[Any] = self.create_future()
        done.set_result(func(*args))
        return done


def make_task(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], context: Context | None = None
) -> asyncio.Task[Any]:
    """The loop's task factory: a task belongs to the process in whose context it is made."""
    owner = OWNER.get() if context is None else context.get(OWNER)
    if owner is not None and not owner.alive:
        coro.close()
        raise asyncio.CancelledError
    task = asyncio.Task(coro, loop=loop, context=context)
    if owner is not None:
        owner.tasks[task] = None
        task.add_done_callback(owner.forget, context=context)
    return task


def context_of(owner: Replica | None) -> Context:
    """A context in which whatever is started belongs to this process, or to none."""
    context = Context()
    context.run(OWNER.set, owner)
    return context


def permit() -> None:
    """What the transport of vendor calls does last: ask whether the request may still leave.

    A process that is stopped between this and the first byte cannot know: that no run plays.
    """
    check = vendor_transport._permit.get()
    if check is not None:
        check()


class World:
    """Time, the log, the count of what happened, and the faults found."""

    def __init__(self, scenario: Scenario, loop: SimLoop, *, verbose: bool = False) -> None:
        self.scenario = scenario
        self.loop = loop
        self.calm = False
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.replicas: list[Replica] = []
        self.lines: list[str] | None = [] if verbose else None
        self.files: dict[str, bytes] = {}
        self.edge: Edge | None = None
        self._digest = hashlib.sha256()
        self._streams: dict[str, Random] = {}

    @property
    def now(self) -> float:
        """The true time, unix seconds."""
        return self.scenario.starts_at + self.loop.virtual_s

    @property
    def digest(self) -> str:
        """A fingerprint of everything that was logged: two runs of one seed have the same."""
        return self._digest.hexdigest()

    def random(self, name: str) -> Random:
        """A source of chance of its own for every part, so that one part's draws do not shift another's."""
        if name not in self._streams:
            self._streams[name] = Random(f"{name} {self.scenario.seed}")
        return self._streams[name]

    def log(self, text: str) -> None:
        """Note an event."""
        line = f"{self.loop.virtual_s:12.3f}  {text}"
        self._digest.update(line.encode())
        if self.lines is not None:
            self.lines.append(line)

    def happened(self, fault: str) -> None:
        """Count an injected fault."""
        self.counts[fault] += 1
        self.log(f"! {fault}")

    def violated(self, rule: str) -> None:
        """Note a broken promise, once."""
        if rule not in self.violations:
            self.violations.append(rule)
            self.log(f"VIOLATION {rule}")
            # A world that is broken need not be played to its end, which may never come.
            self.loop.ends_at = min(self.loop.ends_at, self.loop.virtual_s + LAST_WORDS_S)

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(max(0.0, seconds))

    async def call_back(self, path: str, after_s: float) -> None:
        """A vendor's word that something has changed, at whichever process answers."""
        await self.sleep(after_s)
        if self.edge is not None:
            await self.edge("POST", path)

    def living(self) -> list[Replica]:
        """The processes that answer."""
        return [one for one in self.replicas if one.alive and one.app is not None]


class Replica:
    """One gateway process: its clock's error, its tasks, its death and its sleep."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.draining = False
        self.app: Any = None
        self.skew_s = 0.0
        self.dies_in: int | None = None
        self.dies_where = ""
        self.paused_until = 0.0
        self.gone = asyncio.Event()
        self.tasks: dict[asyncio.Task[Any], None] = {}
        world.replicas.append(self)

    @property
    def paused(self) -> bool:
        """Whether the process is stopped, as by SIGSTOP."""
        return self.world.loop.virtual_s < self.paused_until

    def forget(self, task: asyncio.Task[Any]) -> None:
        """A task has ended."""
        self.tasks.pop(task, None)
        if not task.cancelled():
            task.exception()  # a task that failed because its process died is nobody's to ask about

    async def cross(self, where: str) -> None:
        """Pass a point at which the process touches the outside: here it may die, and here it stands while stopped."""
        if not self.alive:
            raise asyncio.CancelledError
        if self.dies_in is not None and where.startswith(self.dies_where):
            self.dies_in -= 1
            if self.dies_in <= 0:
                self.world.log(f"{self.name} dies at {where}")
                self.die()
                raise asyncio.CancelledError
        while self.paused:  # noqa: ASYNC110 - a pause can be prolonged, and time is virtual
            await asyncio.sleep(self.paused_until - self.world.loop.virtual_s)
        if not self.alive:
            raise asyncio.CancelledError

    def die(self) -> None:
        """End as a killed process does: at once, and without a word."""
        if not self.alive:
            return
        self.world.happened("crash" if self.app is not None else "crash during start")
        self.end()

    def end(self) -> None:
        """Be gone, with everything that was under way."""
        self.alive, self.app = False, None
        self.gone.set()
        for task in list(self.tasks):
            task.cancel()

    def pause(self, seconds: float) -> None:
        """Stop the process for a while."""
        self.world.happened("pause past the lease")
        self.world.log(f"{self.name} stops for {seconds:.1f} s")
        self.paused_until = self.world.loop.virtual_s + seconds


class ReplicaClock(VirtualClock):
    """The clock of one process: virtual time, off by what it was set to."""

    def __init__(self, replica: Replica) -> None:
        super().__init__(replica.world.loop)
        self._replica = replica

    def now(self) -> float:
        return self._replica.world.now + self._replica.skew_s

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        await self._replica.cross("wake")

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        woken = await super().wait(event, seconds)
        await self._replica.cross("wake")
        return woken
