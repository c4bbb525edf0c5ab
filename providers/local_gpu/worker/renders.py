"""One render: what was ordered, where it stands, and how it is shown. Pure: the time is handed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from providers.local_gpu.worker.events import Event, FailureCode, Output
from providers.local_gpu.worker.orders import Order

State = Literal["queued", "running", "succeeded", "failed", "canceled"]
TERMINAL: frozenset[State] = frozenset({"succeeded", "failed", "canceled"})


@dataclass(slots=True)
class Render:
    """A render and its past. Times are unix seconds; `tries` counts how often it was begun.

    `handed_over` is true while the engine has it, which may hold many that wait; `lost_unbegun` counts how often the
    engine lost it before a card began. Compiling the network for its shape is no part of it: `compile_s` is not among
    its seconds of the card. `went_back` is true once steps were taken again, with less memory: what it took says
    nothing of the next one.
    """

    order: Order
    digest: str
    accepted_at: float
    state: State = "queued"
    step: int = 0
    tries: int = 0
    handed_over: bool = False
    lost_unbegun: int = 0
    started_at: float | None = None
    stepped_at: float | None = None
    first_step_at: float | None = None
    ended_at: float | None = None
    cancel_wanted: bool = False
    fetched: bool = False
    compile_s: float = 0.0
    compiling_since: float | None = None
    went_back: bool = False
    code: str = ""
    message: str = ""
    output: Output | None = None

    @property
    def id(self) -> str:
        """The id that the client chose."""
        return self.order.id

    @property
    def ended(self) -> bool:
        """Whether nothing about it will change."""
        return self.state in TERMINAL

    def wait_again(self) -> None:
        """Whoever rendered it died: it waits for a card as if it had never had one."""
        self.state, self.step, self.started_at, self.compiling_since = "queued", 0, None, None
        self.handed_over = False

    def hear(self, event: Event, now: float) -> None:
        """Take in that a card began, or what it says of a step."""
        if self.compiling_since is not None:
            self.compile_s, self.compiling_since = self._compiled_s(now), None
        if event.kind == "started":
            self.state, self.step, self.tries = "running", 0, self.tries + 1
            self.started_at, self.stepped_at, self.first_step_at = now, now, None
            self.compile_s, self.went_back = 0.0, False
        if event.kind == "compiling":
            self.compiling_since = now
        if event.kind == "step":
            self.went_back = self.went_back or event.step <= self.step
            self.step = event.step
            self.first_step_at = self.first_step_at or now
            self.stepped_at = now

    def succeed(self, output: Output, now: float) -> None:
        """The file is there."""
        self.output, self.step = output, self.order.steps
        self._end("succeeded", now)

    def fail(self, code: FailureCode, message: str, now: float) -> None:
        """It will not be made; the code says why, in the words of the protocol."""
        self.code, self.message = code, message
        self._end("failed", now)

    def cancel(self, now: float) -> None:
        """It was called off, and nothing computes for it any more."""
        self._end("canceled", now)

    def _end(self, state: State, now: float) -> None:
        self.state, self.ended_at = state, now

    def queued_s(self, now: float) -> float:
        """How long it waited, or has waited, for a card."""
        return max(0.0, (self.started_at or self.ended_at or now) - self.accepted_at)

    def gpu_s(self, now: float) -> float:
        """How long a card worked, or has worked, on its last try, less what it compiled."""
        if self.started_at is None:
            return 0.0
        return max(0.0, (self.ended_at or now) - self.started_at - self._compiled_s(now))

    def _compiled_s(self, now: float) -> float:
        """How long its last try has compiled."""
        since = self.compiling_since
        return self.compile_s + (0.0 if since is None else max(0.0, (self.ended_at or now) - since))

    def shown(self, *, now: float, position: int | None, eta_s: float | None) -> dict[str, Any]:
        """The render as the protocol shows it."""
        output = self.output
        return {
            "id": self.id,
            "model": self.order.model,
            "state": self.state,
            "position": position,
            "step": self.step,
            "steps": self.order.steps,
            "progress": 1.0 if self.state == "succeeded" else round(self.step / (self.order.steps + 1), 4),
            "eta_s": None if eta_s is None else round(eta_s, 3),
            "queued_s": round(self.queued_s(now), 3),
            "gpu_s": round(self.gpu_s(now), 3),
            "compile_s": round(self._compiled_s(now), 3),
            "seed": self.order.parameters["seed"],
            "error": {"code": self.code, "message": self.message} if self.code else None,
            "output": {**asdict(output), "url": f"/v1/renders/{self.id}/output"} if output else None,
        }

    def as_json(self) -> dict[str, Any]:
        """Everything that is kept of it, as plain values."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Render:
        """The render that `as_json` made plain. Raises KeyError or TypeError for anything else."""
        kept = dict(values)
        output = kept.pop("output")
        return Render(order=Order(**kept.pop("order")), output=Output(**output) if output else None, **kept)
