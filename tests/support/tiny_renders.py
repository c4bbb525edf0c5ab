"""Renders of tiny models in this process: orders, files and the renderer itself."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
from PIL import Image

from providers.local_gpu.worker.events import Event, Task
from providers.local_gpu.worker.orders import Order, ordered, read_asked
from providers.local_gpu.worker.pipelines import Renderer
from providers.local_gpu.worker.plan import ModelPlan
from tests.support.gpu_worker import order_body

SMALL: dict[str, Any] = {
    "width": 64,
    "height": 64,
    "num_frames": 4,
    "num_inference_steps": 3,
    "seed": 7,
    "decode_chunk_size": 2,
}
SMALL_PICTURE: dict[str, Any] = {
    "prompt": "a dog",
    "width": 64,
    "height": 64,
    "num_inference_steps": 4,
    "seed": 7,
    "strength": 0.75,
}


def plain(model: Path | str, **options: Any) -> Renderer:
    """A renderer on one thread with everything off that can be switched, but what is given."""
    off: dict[str, Any] = {"constant_cross_attention": False, "overlap_decoding": False, "warm_up": False}
    return Renderer(ModelPlan.model_validate({"model": str(model), "threads": 1, **off, **options}))


@lru_cache
def scene(size: tuple[int, int] = (96, 72)) -> bytes:
    """A picture with structure in every channel."""
    bands = (Image.radial_gradient("L"), Image.linear_gradient("L"), Image.linear_gradient("L").rotate(90))
    out = io.BytesIO()
    Image.merge("RGB", bands).resize(size).save(out, "PNG")
    return out.getvalue()


def order(model: str = "svd", render_id: str = "render", **parameters: Any) -> Order:
    """A checked order, small unless told otherwise."""
    small = SMALL_PICTURE if model == "ssd-1b" else SMALL
    return ordered(render_id, read_asked(order_body(model, scene(), **{**small, **parameters}), (model,)), 1)


def rendered(
    renderer: Renderer,
    folder: Path,
    asked: Order,
    *,
    say: Callable[[Event], None] = lambda _event: None,
    canceled: Callable[[], bool] = lambda: False,
) -> tuple[Event, bytes]:
    """The last event of a render and its file, empty when there is none."""
    task = Task(asked, folder / "picture", folder / "output")
    task.picture.write_bytes(scene())
    task.output.unlink(missing_ok=True)
    last = renderer.render(task, say=say, canceled=canceled)
    return last, task.output.read_bytes() if task.output.exists() else b""


def frames_of(data: bytes) -> list[Image.Image]:
    """The frames of a clip, really decoded."""
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_image() for frame in container.decode(video=0)]
