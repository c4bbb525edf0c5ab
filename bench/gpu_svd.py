"""Seconds per clip of SVD-XT on a card: stock diffusers against vidgate's worker, technique by technique, in one run.

    python bench/gpu_svd.py                        a card: full size, random weights (timing does not depend on them)
    python bench/gpu_svd.py --device cpu --tiny    the same code on a toy: shows that it runs, says nothing of a card

A clip is 25 frames of 1024x576 in 25 steps, with both guidance passes, decoded and encoded to MP4. Both ways are warmed
up by a clip of two steps. What counts comes first: stock, then ours with everything on, whose compiling takes minutes
and is told apart. The rest follows as long as `--within-s` allows, and says what it left out. `--json` keeps every
figure, also of a run that is cut off.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import diffusers
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
WARM_UP_STEPS = 2
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
# Each with those above it.
TECHNIQUES: list[tuple[str, dict[str, Any]]] = [
    ("ours, every switch off", {}),
    ("+ constant cross-attention", {"constant_cross_attention": True}),
    ("+ decoding overlapped", {"overlap_decoding": True}),
    ("+ channels last", {"channels_last": "on"}),
    ("+ fastest attention", {"attention": "auto"}),
]
STOCK, OURS = "stock diffusers", "ours, everything on"
PARTS = ((UNetSpatioTemporalConditionModel, "unet"), (AutoencoderKLTemporalDecoder, "vae"))
# A compiler that is missing, a kernel that a card has not, memory: what of one row must not end the others.
ROW_TROUBLES = (RuntimeError, OSError, ValueError, ImportError)


@dataclass(frozen=True)
class Setup:
    """What is measured: a model on a device, and the clip. Seconds count from the start of the script."""

    model: Path
    device: str
    order: Order
    repeats: int
    until_s: float

    @property
    def on_card(self) -> bool:
        """Whether the device is a card."""
        return self.device.startswith("cuda")

    @property
    def compiler(self) -> str:
        """What compiles: a CPU only traces, which is what can break."""
        return "inductor" if self.on_card else "aot_eager"

    @property
    def warming(self) -> Order:
        """The same clip in a few steps: a first time of everything."""
        return replace(self.order, parameters={**self.order.parameters, "num_inference_steps": WARM_UP_STEPS})


@dataclass(frozen=True)
class Row:
    """One measured way to make the clip, or why it could not be; `compile_s` is not among the seconds."""

    name: str
    seconds: float | None = None
    memory_bytes: int = 0
    compile_s: float = 0.0
    clips: int = 1
    trouble: str = ""


@dataclass
class Report:
    """Everything that was found, kept as it comes."""

    setup: Setup
    file: Path | None
    rows: list[Row] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Print a row beside stock, and keep it."""
        if not self.rows:
            print(f"\n{'':32}{'seconds':>9}{'of stock':>10}{'memory':>12}{'compiling':>12}")
        self.rows.append(row)
        memory = f"{row.memory_bytes / 1e9:8.1f} GB" if row.memory_bytes else "-"
        compiling = f"{row.compile_s:8.1f} s" if row.compile_s else "-"
        ratio = self.ratio(row)
        of_stock = "-" if ratio is None else f"{ratio:.2f}"
        seconds = row.trouble or f"{row.seconds:9.2f}{of_stock:>10}{memory:>12}{compiling:>12}"
        _note("")
        print(f"{row.name:32}{seconds}", flush=True)
        self.keep()

    def ratio(self, row: Row) -> float | None:
        """The seconds of a clip in those of stock's, where both were measured."""
        stock = next((one.seconds for one in self.rows if one.name == STOCK), None)
        return row.seconds / row.clips / stock if row.seconds and stock else None

    def keep(self) -> None:
        """Write everything down that is known so far."""
        if self.file is not None:
            rows = [{**asdict(row), "of_stock": self.ratio(row)} for row in self.rows]
            values = {**self.facts, "order": dict(self.setup.order.parameters), "rows": rows}
            self.file.write_text(json.dumps(values, indent=1) + "\n")


def main() -> int:
    """Measure and print; the status says whether a card met the targets."""
    arguments = _arguments()
    on_card = arguments.device.startswith("cuda")
    if on_card and not torch.cuda.is_available():
        built = f"was built for CUDA {torch.version.cuda}" if torch.version.cuda else "is a build for CPUs alone"
        print(f"There is no CUDA device: PyTorch {torch.__version__} {built}, and sees none.")
        print("To see the script run: python bench/gpu_svd.py --device cpu --tiny")
        return 2
    if not on_card:
        torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory(prefix="vidgate-bench-") as folder:
        setup = _setup(arguments, Path(folder))
        report = Report(setup, arguments.json)
        report.facts = {
            "device": torch.cuda.get_device_name() if on_card else "cpu",
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "diffusers": diffusers.__version__,
        }
        print(", ".join(f"{name} {value}" for name, value in report.facts.items()), flush=True)
        return _measure(setup, report)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a toy model and a small clip")
    parser.add_argument("--model", type=Path, help="a folder with SVD-XT, in the place of random weights")
    parser.add_argument("--repeats", type=int, default=2, help="timed clips of stock and ours; other rows have one")
    parser.add_argument("--threads", type=int, default=1, help="threads of a CPU that renders")
    parser.add_argument("--within-s", type=float, default=480.0, help="no further row is begun after so long")
    parser.add_argument("--json", type=Path, help="where the figures are kept")
    return parser.parse_args()


def _setup(arguments: argparse.Namespace, folder: Path) -> Setup:
    until_s = time.perf_counter() + arguments.within_s
    model = arguments.model or folder / "model"
    if arguments.model is None:
        what = "the tiny model" if arguments.tiny else "SVD-XT with random weights (4.6 GB on disk)"
        print(f"building {what} ...", flush=True)
        if arguments.tiny:
            build_tiny("svd-xt", model)
        else:
            build_full_size(model)
    values: dict[str, Any] = {name: field.default for name, field in MODELS["svd-xt"].fields.items()}
    values |= {"seed": 1, "num_frames": 25, "width": 1024, "height": 576}
    if arguments.tiny:
        values |= {"num_frames": 6, "width": 128, "height": 64, "num_inference_steps": 5, "decode_chunk_size": 2}
    return Setup(model, arguments.device, Order("bench", "svd-xt", values), arguments.repeats, until_s)


def _measure(setup: Setup, report: Report) -> int:
    everything = dict(OFF) | {"compile": setup.compiler}
    for _, change in TECHNIQUES:
        everything |= change
    report.add(_row(STOCK, lambda: _stock(setup, STOCK)))
    report.add(_row(OURS, lambda: _ours(setup, OURS, everything, setup.repeats)))
    ways: list[tuple[str, Callable[[str], Row]]] = []
    options = dict(OFF)
    for name, change in TECHNIQUES:
        options = options | change
        ways.append((name, _way(setup, options)))
    ways.append(("  guidance split", _way(setup, {**options, "guidance": "split"})))
    ways.append(("  two clips in one call of stock", lambda name: _stock(setup, name, count=2)))
    for name, way in ways:
        if time.perf_counter() > setup.until_s:
            print(f"{name:32}left out: the time is over (--within-s)", flush=True)
            continue
        report.add(_row(name, lambda: way(name)))  # noqa: B023 - called within this turn
    _floor(setup, report)
    return _verdict(setup, report)


def _way(setup: Setup, options: dict[str, Any]) -> Callable[[str], Row]:
    return lambda name: _ours(setup, name, options, 1)


def _row(name: str, measured: Callable[[], Row]) -> Row:
    """A row, or why there is none: the others are measured all the same."""
    _note(f"{name} ...")
    try:
        return measured()
    except torch.OutOfMemoryError:
        return Row(name, trouble="the card's memory does not suffice")
    except ROW_TROUBLES as error:
        return Row(name, trouble=f"{type(error).__name__}: {error}"[:200].replace("\n", " "))
    finally:
        _tidy()


def _tidy() -> None:
    """Nothing of a row is left for the next: no graph, no weights."""
    torch._dynamo.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _stock(setup: Setup, name: str, count: int = 1) -> Row:
    """The pipeline as its documentation has it: half precision on a card, decoded in chunks, encoded afterwards."""
    dtype = torch.float16 if setup.on_card else torch.float32
    pipe = StableVideoDiffusionPipeline.from_pretrained(setup.model, dtype=dtype).to(setup.device)
    pipe.set_progress_bar_config(disable=True)
    _stock_clip(pipe, setup.warming, count)
    row = _timed(setup, name, lambda: _stock_clip(pipe, setup.order, count), setup.repeats if count == 1 else 1)
    return replace(row, clips=count)


def _stock_clip(pipe: Any, order: Order, count: int) -> None:
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
    for clip in frames:
        encode(clip, fps=7)


def _ours(setup: Setup, name: str, options: dict[str, Any], repeats: int) -> Row:
    plan = {"model": str(setup.model), "name": "svd-xt", "device": setup.device, **options}
    renderer = Renderer(ModelPlan.model_validate(plan))
    compiling: list[float] = []

    def heard(event: Event) -> None:
        if event.kind in {"compiling", "compiled"}:
            compiling.append(time.perf_counter())
        if event.kind == "compiling":
            _note(f"{name}: compiling, which takes some minutes at full size ...")

    with tempfile.TemporaryDirectory(prefix="vidgate-bench-") as folder:
        picture, output = Path(folder) / "picture", Path(folder) / "output"
        _picture(setup.order).save(picture, "PNG")

        def clip(order: Order) -> None:
            last = renderer.render(Task(order, picture, output), say=heard, canceled=lambda: False)
            if last.code == "out_of_memory":
                raise torch.OutOfMemoryError(last.message)
            if last.kind != "finished":
                raise RuntimeError(last.message)

        clip(setup.warming)
        row = _timed(setup, name, lambda: clip(setup.order), repeats)
    if renderer.footprint.chunk < int(setup.order.parameters["decode_chunk_size"]) or renderer.footprint.offload:
        _note("")
        print(f"{name}: memory did not suffice, it went on with {renderer.footprint}", flush=True)
    return replace(row, compile_s=sum(compiling[1::2]) - sum(compiling[::2]))


def _timed(setup: Setup, name: str, clip: Callable[[], None], repeats: int) -> Row:
    """The fastest of some clips, and the most memory that any held.

    A CPU is shared with whatever else runs: there the seconds are those that this process computed.
    """
    clock = time.perf_counter if setup.on_card else time.process_time
    gc.collect()
    if setup.on_card:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    taken = []
    for _ in range(repeats):
        begin = clock()
        clip()
        if setup.on_card:
            torch.cuda.synchronize()
        taken.append(clock() - begin)
    return Row(name, min(taken), torch.cuda.max_memory_allocated() if setup.on_card else 0)


def _floor(setup: Setup, report: Report) -> None:
    """The arithmetic of a clip, counted without computing it, and how long a card at its peak would take for it."""
    print(flush=True)
    steps, stock = int(setup.order.parameters["num_inference_steps"]), _flops(setup, constant=False)
    ours = _flops(setup, constant=True)
    for name, (step, decoding) in (("stock", stock), ("constant cross-attention", ours)):
        total = step * steps + decoding
        print(f"arithmetic, {name}: {total / 1e15:.4g} PFLOP a clip, {step / 1e12:.4g} TFLOP a step", end="")
        print(f", {decoding / 1e12:.4g} TFLOP to decode")
    total = ours[0] * steps + ours[1]
    report.facts |= {"flop_stock": stock[0] * steps + stock[1], "flop_ours": total}
    if setup.on_card:
        card = torch.cuda.get_device_name()
        peak = next((value for word, value in PEAK_PFLOPS.items() if word in card), None)
        report.facts["floor_s"] = total / 1e15 / peak if peak else None
        print(f"floor on {card}: " + (f"{total / 1e15 / peak:.1f} s at its peak" if peak else "its peak is not known"))
    report.keep()


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


def _note(text: str) -> None:
    """What is done now, on a line that the next one takes the place of; nowhere but on a terminal."""
    if sys.stdout.isatty():
        print(f"\r{text:80}\r{text}", end="", flush=True)


def _picture(order: Order) -> Image.Image:
    bands = (Image.radial_gradient("L"), Image.linear_gradient("L"), Image.linear_gradient("L").rotate(90))
    size = int(order.parameters["width"]), int(order.parameters["height"])
    return fitted(Image.merge("RGB", bands), size, 1)


def _verdict(setup: Setup, report: Report) -> int:
    stock, ours = ({row.name: row for row in report.rows}[name] for name in (STOCK, OURS))
    ratio = report.ratio(ours)
    if not setup.on_card:
        print("\nThis is NOT a figure of a GPU: a toy on a CPU shows that the script runs from end to end.")
        return 1 if any(row.trouble for row in report.rows) else 0
    if ratio is None:
        print(f"\nNo ratio: {stock.trouble or ours.trouble}")
        return 1
    print(f"\n{ours.seconds:.2f} s against {stock.seconds:.2f} s: {ratio:.2f}", end="")
    print(f" (target {TARGET_RATIO}, and {TARGET_S:g} s on an H200)")
    return 0 if ratio <= TARGET_RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
