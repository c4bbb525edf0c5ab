"""From a folder, a name on the hub or `tiny:NAME` to a pipeline on its device."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline, StableDiffusionXLImg2ImgPipeline, StableVideoDiffusionPipeline
from diffusers.utils import logging

from providers.local_gpu.worker.events import StartError
from providers.local_gpu.worker.orders import MODELS
from providers.local_gpu.worker.plan import ModelPlan
from providers.local_gpu.worker.tiny import build_tiny

TINY = "tiny:"
CLASSES = {
    "StableVideoDiffusionPipeline": StableVideoDiffusionPipeline,
    "StableDiffusionXLPipeline": StableDiffusionXLImg2ImgPipeline,
    "StableDiffusionXLImg2ImgPipeline": StableDiffusionXLImg2ImgPipeline,
}


def load(plan: ModelPlan, device: str, dtype: Any) -> Any:
    """The pipeline of a plan, on its device. Raises StartError naming what is missing or does not fit."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if plan.model.startswith(TINY):
        with tempfile.TemporaryDirectory(prefix="vidgate-") as folder:
            build_tiny(_tiny_name(plan), Path(folder))
            pipe = _from_pretrained(plan, folder, dtype)
    else:
        pipe = _from_pretrained(plan, plan.model, dtype)
    pipe.set_progress_bar_config(disable=True)
    pipe.to(device)
    return pipe


def served_name(plan: ModelPlan, pipe: Any) -> str:
    """Under which of the protocol's names a pipeline is served: as planned, or by what it is. Raises StartError."""
    name = plan.name
    if name is None and plan.model.startswith(TINY):
        name = _tiny_name(plan)
    if name is None:
        frames = getattr(pipe.unet.config, "num_frames", None)
        name = {None: "ssd-1b", MODELS["svd-xt"].frames: "svd-xt"}.get(frames, "svd")
    if name not in MODELS:
        raise StartError(f"no model is served as {name!r}; names are {', '.join(MODELS)}")
    return name


def _tiny_name(plan: ModelPlan) -> str:
    name = plan.model.removeprefix(TINY)
    if name not in MODELS:
        raise StartError(f"{plan.model} is not known; tiny models are {', '.join(TINY + one for one in MODELS)}")
    return name


def _from_pretrained(plan: ModelPlan, where: str, dtype: Any) -> Any:
    """Weights come as safetensors only: a pickle would run whatever its author wrote."""
    options: dict[str, Any] = {"local_files_only": plan.offline}
    if plan.revision:
        options["revision"] = plan.revision
    config = DiffusionPipeline.load_config(where, **options)
    name = config.get("_class_name") if isinstance(config, dict) else None
    if name not in CLASSES:
        raise StartError(f"{where} is a {name}; a worker serves {', '.join(CLASSES)}")
    variant = plan.variant or _variant(Path(where))
    return CLASSES[name].from_pretrained(where, dtype=dtype, variant=variant, use_safetensors=True, **options)


def _variant(folder: Path) -> str | None:
    """Half-precision files of a folder, where it has them: half to read, and what a card computes with anyway."""
    return "fp16" if any(folder.glob("unet/*.fp16.safetensors")) else None
