"""How a worker is set up: every option of `vidgate gpu-worker` and `vidgate gpu-serve`, checked whole."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Switch = Literal["auto", "on", "off"]


class ModelPlan(BaseModel):
    """Which model is loaded and how it computes; what the process with the card is told.

    `auto` chooses by the device: on CUDA half precision, compiled, channels last; on a CPU none of it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1)
    name: str | None = None
    variant: str | None = None
    revision: str | None = None
    offline: bool = False
    device: str = "auto"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    attention: Literal["auto", "default", "cudnn", "flash", "efficient", "math"] = "auto"
    compile: Literal["auto", "off", "inductor", "aot_eager"] = "auto"
    channels_last: Switch = "auto"
    constant_cross_attention: bool = True
    overlap_decoding: bool = True
    guidance: Literal["batched", "split"] = "batched"
    warm_up: bool = True
    threads: int = Field(default=0, ge=0, le=1024)


class ServerPlan(BaseModel):
    """Where a worker listens, how much it takes on and how long it waits. Times are seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    work_dir: Path = Path("var/gpu-worker")
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)
    token: str = Field(default="", repr=False)
    queue_max: int = Field(default=8, ge=0, le=10_000)
    keep_s: float = Field(default=3600.0, gt=0)
    wedged_s: float = Field(default=300.0, gt=0)
    compile_wedged_s: float = Field(default=900.0, gt=0)
    start_s: float = Field(default=1800.0, gt=0)
    drain_s: float = Field(default=120.0, ge=0)


class RayPlan(BaseModel):
    """How many replicas Ray keeps, and what each is given. `address` is empty for a cluster of this process's own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str = ""
    replicas_min: int = Field(default=1, ge=1, le=1000)
    replicas_max: int = Field(default=1, ge=1, le=1000)
    gpus_each: float = Field(default=1.0, ge=0, le=64)
    cpus_each: float = Field(default=1.0, gt=0, le=1024)
    queue_each: float = Field(default=1.0, gt=0, le=1000)
    upscale_s: float = Field(default=30.0, ge=0, le=3600)
    downscale_s: float = Field(default=600.0, ge=0, le=86_400)
