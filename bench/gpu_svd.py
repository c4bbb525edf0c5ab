"""Seconds per clip of SVD-XT on a card: stock diffusers against vidgate's worker, technique by technique, in one run.

    python bench/gpu_svd.py                        a card: full size, random weights (timing does not depend on them)
    python bench/gpu_svd.py --device cpu --tiny    the same code on a toy: shows that it runs, says nothing of a card

A clip is 25 frames of 1024x576 in 25 steps, with both guidance passes, decoded and encoded to MP4.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from providers.local_gpu.worker import speed
from providers.local_gpu.worker.events import Event, Task
from providers.local_gpu.worker.orders import MODELS, Order
from providers.local_gpu.worker.pictures import fitted
from providers.local_gpu.worker.pipelines import Renderer
from providers.local_gpu.worker.plan import ModelPlan
from providers.local_gpu.worker.tiny import build_full_size, build_tiny
from providers.rendering import encode

TARGET_RATIO = 0.6
TARGET_S = 8.0
# Dense half-precision arithmetic of a card by its name, in PFLOP a second: for the floor.
PEAK_PFLOPS = {"H200": 0.989, "H100": 0.989, "A100": 0.312, "L40S": 0.362, "4090": 0.165}
OFF: dict[str, Any] = {
    "compile": "off",
    "attention": "default",
    "channels_last": "off",
    "constant_cross_attention": False,
    "overlap_decoding": False,
    "warm_up": False,
}


PARTS = ((UNetSpatioTemporalConditionModel, "unet"), (AutoencoderKLTemporalDecoder, "vae"))


@dataclass(frozen=True)
class Setup:
    """What is measured: a model on a device, and the clip."""

    model: Path
    device: str
    order: Order
    repeats: int

    @property
    def on_card(self) -> bool:
        """Whether the device is a card."""
        return self.device.startswith("cuda")


@dataclass(frozen=True)
class Row:
    """One measured way to make the clip."""

    name: str
    seconds: float
    memory_bytes: int


def main() -> int:
    """Measure and print; the status says whether a card met the targets."""
    arguments = _arguments()
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        print("There is no CUDA device. To see the script run: python bench/gpu_svd.py --device cpu --tiny")
        return 2
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory(prefix="vidgate-bench-") as folder:
        setup = _setup(arguments, Path(folder))
        return _measure(setup)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a toy model and a small clip")
    parser.add_argument("--model", type=Path, help="a folder with SVD-XT, in the place of random weights")
    parser.add_argument("--repeats", type=int, default=2, help="timed clips of each way, after one that warms up")
    parser.add_argument("--threads", type=int, default=1, help="threads of a CPU")
    return parser.parse_args()


def _setup(arguments: argparse.Namespace, folder: Path) -> Setup:
    model = arguments.model or folder / "model"
    if arguments.model is None:
        print(
            "building the tiny model ..." if arguments.tiny else "building SVD-XT with random weights ...", flush=True
        )
        if arguments.tiny:
            build_tiny("svd-xt", model)
        else:
            build_full_size(model)
    values: dict[str, Any] = {name: field.default for name, field in MODELS["svd-xt"].fields.items()}
    values |= {"seed": 1, "num_frames": 25, "width": 1024, "height": 576}
    if arguments.tiny:
        values |= {"num_frames": 6, "width": 128, "height": 64, "num_inference_steps": 5, "decode_chunk_size": 2}
    return Setup(model, arguments.device, Order("bench", "svd-xt", values), arguments.repeats)


def _measure(setup: Setup) -> int:
    compiled = "inductor" if setup.on_card else "aot_eager"
    switches: list[tuple[str, dict[str, Any]]] = [
        ("ours, every switch off", {}),
        ("+ constant cross-attention", {"constant_cross_attention": True}),
        ("+ decoding overlapped", {"overlap_decoding": True}),
        ("+ channels last", {"channels_last": "on"}),
        ("+ fastest attention", {"attention": "auto"}),
        (f"+ compiled ({compiled})", {"compile": compiled}),
    ]
    rows = [_stock(setup)]
    _show(setup, rows[-1], rows[0])
    options = dict(OFF)
    for name, change in switches:
        options |= change
        rows.append(_ours(setup, name, options))
        _show(setup, rows[-1], rows[0])
    rows.append(_ours(setup, "  guidance split", {**options, "guidance": "split"}))
    _show(setup, rows[-1], rows[0])
    _batch(setup, rows[0])
    _floor(setup)
    return _verdict(setup, rows)


def _stock(setup: Setup) -> Row:
    """The pipeline as its documentation has it: half precision on a card, decoded in chunks, encoded afterwards."""
    dtype = torch.float16 if setup.on_card else torch.float32
    pipe = StableVideoDiffusionPipeline.from_pretrained(setup.model, dtype=dtype).to(setup.device)
    pipe.set_progress_bar_config(disable=True)
    return _timed(setup, "stock diffusers", lambda: _stock_clip(pipe, setup.order))


def _stock_clip(pipe: Any, order: Order, count: int = 1) -> bytes:
    values = order.parameters
    picture = _picture(order)
    frames = pipe(
        [picture] * count if count > 1 else picture,
        height=values["height"],
        width=values["width"],
        num_frames=values["num_frames"],
        num_inference_steps=values["num_inference_steps"],
        decode_chunk_size=values["decode_chunk_size"],
        generator=[torch.Generator("cpu").manual_seed(n) for n in range(count)],
    ).frames
    return b"".join(encode(clip, fps=7) for clip in frames)


def _ours(setup: Setup, name: str, options: dict[str, Any]) -> Row:
    torch._dynamo.reset()
    plan = {"model": str(setup.model), "name": "svd-xt", "device": setup.device, **options}
    renderer = Renderer(ModelPlan.model_validate(plan))
    with tempfile.TemporaryDirectory(prefix="vidgate-bench-") as folder:
        task = Task(setup.order, Path(folder) / "picture", Path(folder) / "output")
        _picture(setup.order).save(task.picture, "PNG")

        def clip() -> None:
            last: Event = renderer.render(task, say=lambda _event: None, canceled=lambda: False)
            assert last.kind == "finished", last

        return _timed(setup, name, clip)


def _timed(setup: Setup, name: str, clip: Callable[[], Any]) -> Row:
    """The fastest of some clips, after one that warms up, and the most memory that any held.

    A CPU is shared with whatever else runs: there the seconds are those that this process computed.
    """
    clock = time.perf_counter if setup.on_card else time.process_time
    clip()
    _reset_memory(setup)
    taken = []
    for _ in range(setup.repeats):
        begin = clock()
        clip()
        if setup.on_card:
            torch.cuda.synchronize()
        taken.append(clock() - begin)
    memory = torch.cuda.max_memory_allocated() if setup.on_card else 0
    return Row(name, min(taken), memory)


def _reset_memory(setup: Setup) -> None:
    gc.collect()
    if setup.on_card:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _show(setup: Setup, row: Row, stock: Row) -> None:
    if row is stock:
        print(f"\n{'':32}{'seconds':>9}{'of stock':>10}{'memory':>12}")
    memory = f"{row.memory_bytes / 1e9:8.1f} GB" if setup.on_card else "-"
    print(f"{row.name:32}{row.seconds:9.2f}{row.seconds / stock.seconds:10.2f}{memory:>12}", flush=True)


def _batch(setup: Setup, stock: Row) -> None:
    """Whether two clips in one call are worth their memory and the wait of the first."""
    dtype = torch.float16 if setup.on_card else torch.float32
    pipe = StableVideoDiffusionPipeline.from_pretrained(setup.model, dtype=dtype).to(setup.device)
    pipe.set_progress_bar_config(disable=True)
    row = _timed(setup, "two clips in one call", lambda: _stock_clip(pipe, setup.order, 2))
    print(f"\ntwo clips in one call: {row.seconds:.2f} s, {row.seconds / (2 * stock.seconds):.2f} of two calls", end="")
    print(f", {row.memory_bytes / 1e9:.1f} GB" if setup.on_card else "")


def _floor(setup: Setup) -> None:
    """The arithmetic of a clip, counted without computing it, and how long a card at its peak would take for it."""
    steps, stock = int(setup.order.parameters["num_inference_steps"]), _flops(setup, constant=False)
    ours = _flops(setup, constant=True)
    for name, (step, decoding) in (("stock", stock), ("constant cross-attention", ours)):
        total = step * steps + decoding
        print(f"arithmetic, {name}: {total / 1e15:.4g} PFLOP a clip, {step / 1e12:.4g} TFLOP a step", end="")
        print(f", {decoding / 1e12:.4g} TFLOP to decode")
    if setup.on_card:
        card = torch.cuda.get_device_name()
        peak = next((value for word, value in PEAK_PFLOPS.items() if word in card), None)
        total = ours[0] * steps + ours[1]
        print(f"floor on {card}: " + (f"{total / 1e15 / peak:.1f} s at its peak" if peak else "its peak is not known"))


def _flops(setup: Setup, *, constant: bool) -> tuple[int, int]:
    """Operations of one step with both guidance passes, and of decoding the clip, on tensors without contents."""
    values = setup.order.parameters
    frames, chunk = int(values["num_frames"]), int(values["decode_chunk_size"])
    height, width = int(values["height"]) // 8, int(values["width"]) // 8
    with torch.device("meta"), torch.no_grad():
        unet, vae = (kind.from_config(kind.load_config(setup.model / name)).to("meta") for kind, name in PARTS)
        choices = replace(speed.decide(ModelPlan(model="m", device="cpu")), constant_cross_attention=constant)
        speed.speed_up(unet, choices, one_token=True)
        token = torch.zeros(2, 1, unet.config.cross_attention_dim)
        sample, times = torch.zeros(2, frames, 8, height, width), torch.zeros(2, 3)
        with FlopCounterMode(display=False) as stepping:
            unet(sample, torch.zeros(()), token, added_time_ids=times)
        with FlopCounterMode(display=False) as decoding:
            for first in range(0, frames, chunk):
                count = min(chunk, frames - first)
                vae.decode(torch.zeros(count, 4, height, width), num_frames=count)
    return stepping.get_total_flops(), decoding.get_total_flops()


def _picture(order: Order) -> Image.Image:
    bands = (Image.radial_gradient("L"), Image.linear_gradient("L"), Image.linear_gradient("L").rotate(90))
    size = int(order.parameters["width"]), int(order.parameters["height"])
    return fitted(Image.merge("RGB", bands), size, 1)


def _verdict(setup: Setup, rows: list[Row]) -> int:
    if not setup.on_card:
        print("\nThis is NOT a figure of a GPU: a toy on a CPU shows that the script runs from end to end.")
        return 0
    ours, stock = rows[-2], rows[0]
    ratio = ours.seconds / stock.seconds
    print(f"\n{ours.seconds:.2f} s against {stock.seconds:.2f} s: {ratio:.2f}", end="")
    print(f" (target {TARGET_RATIO}, and {TARGET_S:g} s on an H200)")
    return 0 if ratio <= TARGET_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
