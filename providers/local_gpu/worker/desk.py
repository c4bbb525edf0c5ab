"""The desk of a worker: takes orders, queues a bounded number, hands them to the engine and writes down what becomes.

It schedules nothing: orders go to the engine in the order in which they came, as many at once as it has slots.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import structlog

from providers.contract import Clock
from providers.local_gpu.worker.events import Engine, Event, Task
from providers.local_gpu.worker.metrics import Figures
from providers.local_gpu.worker.orders import SEED_MAX, Asked, ordered
from providers.local_gpu.worker.pace import UNMEASURED_S, Pace
from providers.local_gpu.worker.renders import Render
from providers.local_gpu.worker.shelf import Shelf

log = structlog.get_logger()

# What a fault of an engine's, or of ours in reading it, is raised as.
ENGINE_TROUBLES = (RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError, OSError)
# A render whose card dies under it is begun once more: twice may be chance, a third time it is the render.
TRIES_MAX = 2
# One that the engine loses before a card began has cost nobody anything: the engine is given time to come back.
LOST_UNBEGUN_MAX = 5
LOST_UNBEGUN_WAIT_S = 2.0
WAIT_TICK_S = 0.05
# A client that has not fetched a file this long after its end does not want it soon: it is not waited for.
FETCHED_WITHIN_S = 20.0


class QueueFullError(RuntimeError):
    """No more orders are taken until one has ended; `retry_after_s` is when that is expected."""

    def __init__(self, queue_depth: int, queue_max: int, retry_after_s: float) -> None:
        super().__init__(f"{queue_depth} of {queue_max} places of the queue are taken")
        self.queue_depth = queue_depth
        self.queue_max = queue_max
        self.retry_after_s = retry_after_s


class DiskError(RuntimeError):
    """The disk takes no order: it is full, or broken."""


class ConflictError(RuntimeError):
    """The id is that of another order."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many orders wait at most besides those at work, and how long ended renders are kept."""

    queue_max: int
    keep_s: float


class Desk:
    """All renders of one worker."""

    def __init__(self, engine: Engine, shelf: Shelf, *, limits: Limits, clock: Clock, random: Random) -> None:
        self.engine = engine
        self.shelf = shelf
        self.limits = limits
        self.clock = clock
        self.pace = Pace()
        self.figures = Figures()
        self.draining = False
        self._random = random
        self._renders: dict[str, Render] = {}
        self._pending: deque[Render] = deque()
        self._work = asyncio.Event()

    # -- what the protocol asks -----------------------------------------------------------------------------------

    def find(self, render_id: str) -> Render | None:
        """The render of this id, None when it is not known or was kept long enough."""
        self._forget_old()
        return self._renders.get(render_id)

    def known(self, render_id: str, asked: Asked) -> Render | None:
        """The render of this id when it is the same order. Raises ConflictError when it is another."""
        render = self.find(render_id)
        if render is not None and render.digest != asked.digest:
            raise ConflictError(f"render {render_id} was ordered with other content")
        return render

    def check_room(self) -> None:
        """Raises QueueFullError when no order is taken now."""
        if self.queue_depth + self.running >= self.limits.queue_max + self._cards:
            self.figures.refused()
            depth = min(self.queue_depth, self.limits.queue_max)  # one of those may be on its way to a card
            raise QueueFullError(depth, self.limits.queue_max, self.room_in_s())

    def accept(self, render_id: str, asked: Asked) -> Render:
        """Take an order: it is on the shelf before it is answered for. Raises DiskError when it cannot be."""
        order = ordered(render_id, asked, self._random.randint(0, SEED_MAX))
        render = Render(order, asked.digest, self.clock.now())
        try:
            self.shelf.keep_picture(render_id, asked.picture)
            self.shelf.keep(render)
        except OSError as error:
            log.warning("gpu.order_not_kept", render=render_id, why=str(error))
            with contextlib.suppress(OSError):
                self.shelf.forget(render_id)
            raise DiskError(f"the worker's disk does not take the order: {error.strerror or error}") from error
        self._queue(render)
        return render

    async def cancel(self, render: Render) -> None:
        """Ask for the end of a render: at once while it waits, at the next step while it runs."""
        if render.ended:
            return
        render.cancel_wanted = True
        self._note(render)  # a worker that dies now must not render it after all
        if render.state == "queued":
            render.cancel(self.clock.now())
            self._close(render)
        if render in self._pending:
            self._pending.remove(render)
        else:
            await self.engine.cancel(render.id)

    @property
    def queue_depth(self) -> int:
        """Orders that wait for a card."""
        return len(self._waiting())

    @property
    def running(self) -> int:
        """Renders that a card works on."""
        return sum(render.state == "running" for render in self._renders.values())

    def exposition(self) -> bytes:
        """The figures for Prometheus, with the gauges as they stand now."""
        figures = self.figures
        figures.queue_depth.set(self.queue_depth)
        figures.queue_max.set(self.limits.queue_max)
        figures.running.set(self.running)
        figures.ready.set(self.engine.ready and not self.draining)
        figures.warm_up_s.set(self.engine.facts.warm_up_s or 0.0)
        return figures.exposition()

    def shown(self, render: Render) -> dict[str, object]:
        """A render as the protocol shows it."""
        waiting = self._waiting()
        position = waiting.index(render) + 1 if render in waiting else None
        return render.shown(now=self.clock.now(), position=position, eta_s=self.eta_s(render))

    def eta_s(self, render: Render) -> float | None:
        """Seconds until a render ends, as far as can be told."""
        if render.ended:
            return 0.0
        left, waiting = self._left_s(render), self._waiting()
        if render not in waiting or left is None:
            return left
        running = [one for one in self._renders.values() if one.state == "running"]
        waits = [self._left_s(one) for one in (*running, *waiting[: waiting.index(render)])]
        known = [wait for wait in waits if wait is not None]
        return None if len(known) < len(waits) else left + sum(known) / self._cards

    def room_in_s(self) -> float:
        """Seconds until a place is free: when the first of those at work ends."""
        running = [self._left_s(render) for render in self._renders.values() if render.state == "running"]
        known = [left for left in running if left is not None]
        return min(known) if known else UNMEASURED_S

    # -- work -----------------------------------------------------------------------------------------------------

    def take_up(self) -> None:
        """Go on with what was on the shelf: what had ended is kept, the rest waits again for a card.

        What was called off is canceled, and what was begun as often as it may be is not begun again: it may be what
        ends the worker.
        """
        for render in self.shelf.renders():
            self._renders[render.id] = render
            if render.ended:
                continue
            render.wait_again()
            render.lost_unbegun = 0
            if render.cancel_wanted:
                render.cancel(self.clock.now())
            elif render.tries >= TRIES_MAX:
                why = f"the worker ended each of the {render.tries} times that it rendered this"
                render.fail("worker_lost", why, self.clock.now())
            else:
                self._queue(render)
                continue
            self._close(render)
            self._forget_picture(render)
        self._forget_old()

    async def work(self) -> None:
        """Hand orders to the engine, which has started, for as long as this runs."""
        models = self.engine.facts.models
        self._give_back(lambda render: render.order.model not in models, "the worker has another model now")
        async with asyncio.TaskGroup() as slots:
            for _ in range(self.engine.slots):
                slots.create_task(self._slot())

    async def drain(self, seconds: float) -> None:
        """Take nothing more and give back what waits; return when what runs has ended and was fetched, or by time."""
        self.draining = True
        self._give_back(lambda _render: True, "the worker is stopping")
        begun = self.clock.now()
        await self._call_back(self._waiting())
        await self._while(lambda: any(not render.ended for render in self._renders.values()), begun + seconds)
        fetching_until = min(begun + seconds, self.clock.now() + FETCHED_WITHIN_S)
        await self._while(lambda: self._unfetched(begun), fetching_until)

    def _give_back(self, unwanted: Callable[[Render], bool], why: str) -> None:
        """Have what waits here and is unwanted ordered elsewhere."""
        for render in [one for one in self._pending if unwanted(one)]:
            self._pending.remove(render)
            render.fail("worker_lost", f"{why}: order it elsewhere", self.clock.now())
            self._close(render)
            self._forget_picture(render)

    async def _call_back(self, handed_over: list[Render]) -> None:
        """Give back what was handed to the engine and has not begun: an engine with many cards holds all that waits."""
        for render in handed_over:
            if render.state != "queued":
                continue
            render.fail("worker_lost", "the worker is stopping: order it elsewhere", self.clock.now())
            self._close(render)
            await self.engine.cancel(render.id)

    async def _while(self, condition: Callable[[], bool], until: float) -> None:
        while condition() and self.clock.now() < until:
            await self.clock.sleep(WAIT_TICK_S)

    def _unfetched(self, since: float) -> bool:
        """Whether a file that was only just finished has not been asked for."""
        fresh = since - FETCHED_WITHIN_S
        return any(
            one.state == "succeeded" and not one.fetched and (one.ended_at or 0.0) >= fresh
            for one in self._renders.values()
        )

    async def _slot(self) -> None:
        while True:
            while not self._pending:
                self._work.clear()
                await self._work.wait()
            await self._drive(self._pending.popleft())

    async def _drive(self, render: Render) -> None:
        """Have a render made. What the disk does to one ends that one, as lost, and not the worker."""
        await self.clock.sleep(render.lost_unbegun * LOST_UNBEGUN_WAIT_S)
        if render.state != "queued":  # it was called off meanwhile
            return
        render.handed_over = True
        try:
            self.shelf.keep(render)  # a disk that takes nothing is found before a card works for it
            await self._make(render)
        except OSError as error:
            log.warning("gpu.disk", render=render.id, why=str(error))
            if not render.ended:
                render.fail("worker_lost", f"the worker's disk failed: {error.strerror or error}", self.clock.now())
                self._close(render)
        if render.ended:
            self._forget_picture(render)

    async def _make(self, render: Render) -> None:
        task = Task(render.order, self.shelf.picture(render.id), self.shelf.output(render.id))
        told = False
        try:
            async for event in self.engine.render(task):
                if render.ended:  # it was called off while it waited at the engine
                    continue
                now = self.clock.now()
                render.hear(event, now)
                if event.kind == "started":
                    self._note(render)  # a render that ends the whole worker is counted too
                if event.ends:
                    told = True
                    self._end(render, event, now)
        except ENGINE_TROUBLES as error:  # it costs this render and none beside it
            if isinstance(error, OSError) and (render.ended or not told):
                raise
            log.exception("gpu.engine_failed", render=render.id)
            if not told and not render.ended:
                self._end(render, Event("lost", message=f"{type(error).__name__}: {error}"[:300]), self.clock.now())

    @property
    def _cards(self) -> int:
        return max(1, self.engine.facts.replicas)

    def _waiting(self) -> list[Render]:
        """What waits for a card, here or at the engine, in the order in which it was accepted."""
        return [render for render in self._renders.values() if render.state == "queued"]

    def _end(self, render: Render, event: Event, now: float) -> None:
        if event.kind == "lost" and self._goes_again(render):
            self.figures.restarted()
            log.warning("gpu.render_restarted", render=render.id, why=event.message)
            render.wait_again()
            self._pending.appendleft(render)
            self._work.set()
            return
        if event.kind == "finished" and event.output is not None:
            self._learn(render, now)
            self.figures.held(event.memory_bytes)
            render.succeed(event.output, now)
        elif event.kind == "canceled" or (event.kind == "lost" and render.cancel_wanted):
            render.cancel(now)
        else:
            render.fail("worker_lost" if event.kind == "lost" else event.code or "fault", event.message, now)
        self._close(render)

    def _goes_again(self, render: Render) -> bool:
        """Whether a render that was lost is begun anew: only so often, whoever is to blame."""
        if render.cancel_wanted or self.draining:
            return False
        if render.started_at is not None:
            return render.tries < TRIES_MAX
        render.lost_unbegun += 1
        return render.lost_unbegun < LOST_UNBEGUN_MAX

    def _learn(self, render: Render, now: float) -> None:
        """Steps are timed from the end of the first, before which the picture is encoded."""
        if render.stepped_at is None or render.first_step_at is None or render.went_back:
            return
        steps, gpu_s = render.order.steps, render.gpu_s(now)
        timed = render.stepped_at - render.first_step_at
        after = now - render.stepped_at
        stepping = timed * steps / (steps - 1) if steps > 1 else max(0.0, gpu_s - after)
        fixed = max(0.0, gpu_s - stepping)
        self.pace.learn(render.order, stepping_s=stepping, fixed_s=fixed)
        self.figures.stepped(render.order.model, stepping / steps)

    def _close(self, render: Render) -> None:
        self.figures.ended(render, render.gpu_s(self.clock.now()))
        self.figures.compiled(render.order.model, render.compile_s)
        if not render.handed_over:  # else the engine may be about to read it
            self._forget_picture(render)
        self._note(render)
        log.info("gpu.render_ended", render=render.id, state=render.state, code=render.code or None)

    def _note(self, render: Render) -> None:
        """Write down where a render stands; with a disk that takes nothing, it is known until this process ends."""
        try:
            self.shelf.keep(render)
        except OSError as error:
            log.warning("gpu.not_noted", render=render.id, state=render.state, why=str(error))

    def _forget_picture(self, render: Render) -> None:
        with contextlib.suppress(OSError):  # it is swept at the next start
            self.shelf.forget_picture(render.id)

    def _queue(self, render: Render) -> None:
        self._renders[render.id] = render
        self._pending.append(render)
        self._work.set()

    def _left_s(self, render: Render) -> float | None:
        """Seconds that a render still needs; nobody knows how long compiling takes."""
        return None if render.compiling_since is not None else self.pace.left_s(render.order, render.step)

    def _forget_old(self) -> None:
        oldest = self.clock.now() - self.limits.keep_s
        for render in [one for one in self._renders.values() if one.ended_at is not None and one.ended_at < oldest]:
            del self._renders[render.id]
            self.shelf.forget(render.id)
