"""What a render says of itself while it runs: small messages that cross processes as JSON."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from providers.local_gpu.worker.orders import Order

Kind = Literal["started", "step", "alive", "compiling", "compiled", "finished", "failed", "canceled", "lost"]
ENDS: frozenset[Kind] = frozenset({"finished", "failed", "canceled", "lost"})
FailureCode = Literal["out_of_memory", "wedged", "invalid", "fault", "worker_lost"]


@dataclass(frozen=True, slots=True)
class Output:
    """The facts of a finished file."""

    media_type: str
    size_bytes: int
    sha256: str
    frames: int
    fps: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Event:
    """One message. `lost` means that whoever rendered died: the render may be started again under its id.

    Between `compiling` and `compiled` the network is made ready for a shape that it has not seen: that may take
    minutes, and is no part of the render.
    """

    kind: Kind
    step: int = 0
    steps: int = 0
    code: FailureCode | Literal[""] = ""
    message: str = ""
    output: Output | None = None
    memory_bytes: int = 0

    @property
    def ends(self) -> bool:
        """Whether nothing comes after it."""
        return self.kind in ENDS

    def as_json(self) -> dict[str, Any]:
        """The message as plain values."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Event:
        """The message that `as_json` made plain."""
        output = values.get("output")
        return Event(
            kind=values["kind"],
            step=values.get("step", 0),
            steps=values.get("steps", 0),
            code=values.get("code", ""),
            message=values.get("message", ""),
            output=Output(**output) if output else None,
            memory_bytes=values.get("memory_bytes", 0),
        )


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What is told of the engine: the models it loaded and the device they run on.

    `warm_up_s` is how long a card rendered for nobody before it was ready, None where nobody timed that.
    """

    models: tuple[str, ...] = ()
    device: str = ""
    device_name: str = ""
    replicas: int = 0
    size_multiple: int = 64
    warm_up_s: float | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A render as the engine gets it: the order, its picture on disk, and where the file is to be."""

    order: Order
    picture: Path
    output: Path


@dataclass(frozen=True, slots=True)
class Patience:
    """How many seconds a render may say nothing before it is taken for hung: longer while something is compiled."""

    wedged_s: float
    compile_wedged_s: float

    def after(self, event: Event) -> float:
        """How long to wait for what comes after this."""
        return max(self.wedged_s, self.compile_wedged_s) if event.kind == "compiling" else self.wedged_s

    def wedged(self, event: Event) -> Event:
        """The end of a render that said nothing for so long after this."""
        what = "compiling took longer than" if event.kind == "compiling" else "no step ended within"
        return Event("failed", code="wedged", message=f"{what} {self.after(event):g} s")


class Engine(Protocol):
    """What renders: one card's process, or Ray's replicas. `slots` is how many renders it is handed at once."""

    @property
    def slots(self) -> int:
        """How many renders it takes at once."""

    @property
    def ready(self) -> bool:
        """Whether a render would start now."""

    @property
    def facts(self) -> EngineFacts:
        """What is known of it; empty until it has been ready once."""

    async def start(self) -> None:
        """Load and warm up. Raises StartError when that cannot succeed."""

    async def stop(self) -> None:
        """End every process of it."""

    def render(self, task: Task) -> AsyncIterator[Event]:
        """Render, telling how it goes; the last event is one of `ENDS`."""

    async def cancel(self, render_id: str) -> None:
        """Ask for the end of a render; its own events say when it ended, and how."""


# What the system says of a disk that takes nothing. That is no fault of the render's, which can be made elsewhere.
DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


def disk_failed(error: OSError) -> Event:
    """The end of a render whose file the disk did not take: it is given back, as by the desk what its disk strikes."""
    message = f"the worker's disk failed: {error.strerror or error}"
    return Event("failed", code="worker_lost", message=message[:500])


class StartError(RuntimeError):
    """The model cannot be loaded or the device not be used: the text says which and what mends it."""
