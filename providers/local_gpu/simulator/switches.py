"""The habits of the simulated worker, each a switch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from providers.simulation import Switches

SANDBOX_KEY = "local-sandbox-token"
Ending = Literal["succeeded", "out_of_memory", "fault", "worker_lost"]


class WorkerSwitches(Switches):
    """Settings of the simulated worker that may change while it runs.

    `token` is what callers must send, "" for none. `replicas` renders run at a time and `queue_max` more may wait.
    A render takes `seconds_fixed` and `seconds_per_step` for each of its steps, over `speed`: with `scales`, as a real
    card does, that is a clip of 14 frames of 1024x576 with guidance and others are in proportion, as is what the status
    tells; without, every render is alike and no shape is told, as by older workers. `ending` is how renders
    that start from now on end. While `wedged`, renders that start make no step, until the watchdog ends them after
    `wedged_after_s`. While `dead`, no call is answered. Raising `restarts` is a restart: every render is forgotten.
    `retry_after_s` is the hint of a full queue; 0 reckons it from the queue. Renders are kept `keep_s` after their end.
    """

    token: str = SANDBOX_KEY
    models: tuple[str, ...] = ("svd", "svd-xt", "ssd-1b")
    device: str = "cuda:0"
    device_name: str = "Simulated GPU"
    replicas: int = Field(default=1, ge=1, le=1000)
    queue_max: int = Field(default=8, ge=0, le=100_000)
    seconds_per_step: float = Field(default=0.5, ge=0, le=3600)
    seconds_fixed: float = Field(default=2.0, ge=0, le=3600)
    scales: bool = True
    state: Literal["ready", "starting", "draining"] = "ready"
    ending: Ending = "succeeded"
    wedged: bool = False
    wedged_after_s: float = Field(default=120.0, gt=0)
    dead: bool = False
    restarts: int = Field(default=0, ge=0)
    retry_after_s: int = Field(default=0, ge=0, le=86_400)
    keep_s: float = Field(default=3600.0, gt=0)
