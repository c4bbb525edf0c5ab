"""The simulated cards: renders that wait, run and end, as time goes by; everything happens when it is looked at."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from providers.local_gpu.simulator.orders import NUMBERS, Order
from providers.local_gpu.simulator.switches import Ending, WorkerSwitches
from providers.pace import GUIDED, Measured, Shape, shape_of

State = Literal["queued", "running", "succeeded", "failed", "canceled"]
SEED_DRAWN_MAX = 2**31 - 1
OWN_SHAPE = Shape(14, 1024 * 576, GUIDED)


@dataclass(slots=True)
class Render:
    """One render. Times are unix seconds on the simulator's clock; `took_s` is what it takes on a card."""

    name: str
    order: Order
    seed: int
    accepted_at: float
    state: State = "queued"
    started_at: float = math.inf
    ends_at: float = math.inf
    took_s: float = 0.0
    ending: Ending | Literal["wedged"] = "succeeded"
    stopping: bool = False

    @property
    def is_over(self) -> bool:
        """Whether its state is its last."""
        return self.state not in {"queued", "running"}

    def share(self, now: float) -> float:
        """How much of it is done, 0 to 1."""
        if self.state == "succeeded":
            return 1.0
        ran_s = min(now, self.ends_at) - self.started_at  # minus infinity for what never started
        return 0.0 if self.ending == "wedged" else max(0.0, min(1.0, ran_s / max(1e-9, self.took_s)))

    def gpu_s(self, now: float) -> float:
        """Seconds of a card that it has used."""
        return self.took_s if self.state == "succeeded" else self.took_s * self.share(now)


class Cards:
    """The queue in front of some cards, first come first served."""

    def __init__(self) -> None:
        self.renders: dict[str, Render] = {}
        self.ended: dict[tuple[str, str], int] = {}
        self.busy_s = 0.0

    def in_state(self, state: State) -> list[Render]:
        """The renders in a state, the first accepted first."""
        return [render for render in self.renders.values() if render.state == state]

    def add(self, render: Render, switches: WorkerSwitches, now: float) -> None:
        """Take a render in; it starts at once where a card is free."""
        self.settle(switches, now)
        self.renders[render.name] = render
        self._start(switches, now)

    def settle(self, switches: WorkerSwitches, now: float) -> None:
        """Bring everything up to a moment: ends, and starts in the moments at which a card came free."""
        while (over := self._next_end(now)) is not None:
            over.state = "canceled" if over.stopping else "succeeded" if over.ending == "succeeded" else "failed"
            self._count(over)
            self._start(switches, over.ends_at)
        self._start(switches, now)
        for name in [name for name, one in self.renders.items() if one.is_over and now > one.ends_at + switches.keep_s]:
            del self.renders[name]

    def cancel(self, render: Render, switches: WorkerSwitches, now: float) -> None:
        """Ask a render to stop: at once while it waits, at its next step while it runs."""
        if render.state == "queued":
            render.state, render.ends_at = "canceled", now
            self._count(render)
        elif render.state == "running":
            step_s = pace_of(render.order.model, switches).at(shape_of(render.order.numbers)).step_s
            render.stopping, render.ends_at = True, min(render.ends_at, now + step_s)

    def forget(self) -> None:
        """A restart: nothing is left."""
        self.renders.clear()

    def left_s(self, render: Render, switches: WorkerSwitches, now: float) -> float | None:
        """Seconds until a render is done, behind those before it; None when nobody can tell."""
        if render.state == "running":
            return render.ends_at - now if render.ending != "wedged" else None
        if render.state != "queued":
            return None
        before = [one for one in self.in_state("queued") if one.accepted_at < render.accepted_at]
        running_s = sum(max(0.0, one.ends_at - now) for one in self.in_state("running"))
        waiting_s = sum(_took_s(one, switches) for one in [*before, render])
        return (running_s + waiting_s) / switches.replicas

    def _start(self, switches: WorkerSwitches, at: float) -> None:
        free = max(0, switches.replicas - len(self.in_state("running")))
        for render in self.in_state("queued")[:free]:
            render.state, render.started_at = "running", max(at, render.accepted_at)
            render.took_s = _took_s(render, switches)
            render.ending = "wedged" if switches.wedged else switches.ending
            lasts_s = render.took_s * (1.0 if render.ending == "succeeded" else 0.5)
            render.ends_at = render.started_at + (switches.wedged_after_s if switches.wedged else lasts_s)

    def _next_end(self, now: float) -> Render | None:
        due = [render for render in self.in_state("running") if render.ends_at <= now]
        return min(due, key=lambda render: render.ends_at, default=None)

    def _count(self, render: Render) -> None:
        key = (render.order.model, render.state)
        self.ended[key] = self.ended.get(key, 0) + 1
        self.busy_s += render.gpu_s(render.ends_at)

    def taken(self, *, a_step: bool) -> dict[str, list[float]]:
        """How long the kept renders that succeeded took, or a step of theirs, in seconds by model."""
        taken: dict[str, list[float]] = {}
        for one in self.in_state("succeeded"):
            taken.setdefault(one.order.model, []).append(one.took_s / (one.order.steps if a_step else 1))
        return taken

    def counts(self) -> Iterator[tuple[str, str, int]]:
        """How many renders of each model ended in each state."""
        return ((model, state, count) for (model, state), count in self.ended.items())


def _took_s(render: Render, switches: WorkerSwitches) -> float:
    known = pace_of(render.order.model, switches).at(shape_of(render.order.numbers))
    return known.fixed_s + known.step_s * render.order.steps


def pace_of(model: str, switches: WorkerSwitches) -> Measured:
    """What the card takes: for its own shape of a clip where that matters, for anything else alike."""
    is_clip = "num_frames" in NUMBERS[model]
    shape = OWN_SHAPE if switches.scales and is_clip else None
    return Measured(switches.seconds_per_step / switches.speed, switches.seconds_fixed / switches.speed, shape)
