"""The real pipelines: loaded from a folder or the hub, run with progress, cancel and a way out of full memory."""

from __future__ import annotations

import gc
import hashlib
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import structlog
import torch
from diffusers import StableVideoDiffusionPipeline
from PIL import Image

from providers.local_gpu.worker import speed
from providers.local_gpu.worker.events import DISK_ERRORS, EngineFacts, Event, Output, StartError, Task, disk_failed
from providers.local_gpu.worker.loading import load, served_name
from providers.local_gpu.worker.memory import Footprint, Stage, smaller
from providers.local_gpu.worker.orders import MEDIA_TYPES, MODELS, Order
from providers.local_gpu.worker.pictures import cropped, fitted, picture_bytes
from providers.local_gpu.worker.plan import ModelPlan
from providers.pace import UNGUIDED, Shape
from providers.rendering import encode

log = structlog.get_logger()

T = TypeVar("T")
Say = Callable[[Event], None]
# What libraries raise when a render goes wrong. Anything else is a fault of ours: it ends the process, which is
# replaced.
FAULTS = (RuntimeError, ValueError, TypeError, OSError, ArithmeticError, LookupError, AttributeError, ImportError)
# A CPU is warmed by something small: it has no kernels to choose and nothing to compile.
SMALL = ((64, 64), 2)
# Which part of a clip's pipeline computes after which: each sends the one before it away.
CLIP_TURNS = "image_encoder->vae->unet"


def _nobody(_event: Event) -> None:
    """Nobody listens: nothing is rendered for anybody."""


class CanceledError(Exception):
    """Raised within a step: SVD's pipeline knows no other way to stop."""


class Renderer:
    """A loaded model. One render at a time, in the thread that calls.

    No two orders share a call of the pipeline: one step of a clip is work enough to fill a card, so that a second one
    beside it would save little, need the memory of both, and keep the first until both are done (docs/local-gpu.md).
    """

    def __init__(self, plan: ModelPlan) -> None:
        if plan.threads:
            torch.set_num_threads(plan.threads)
        self._plan = plan
        self._choices = speed.decide(plan)
        self.pipe = load(plan, self._choices.device, self._choices.dtype)
        self.clip = isinstance(self.pipe, StableVideoDiffusionPipeline)
        self.name = served_name(plan, self.pipe)
        if MODELS[self.name].clip is not self.clip:
            raise StartError(f"{plan.model} is a {type(self.pipe).__name__}: it cannot be served as {self.name}")
        self._vae_dtype = self.pipe.vae.dtype
        self._kernel = speed.fastest_kernel(self._choices)
        # What clips of a shape were found to hold at most, and what the present render holds; it shrinks on the way.
        self._limits: dict[Shape, Footprint] = {}
        self.footprint = Footprint(1)
        self._offloaded = False
        self._say: Say = _nobody
        self._speed_up()

    @property
    def facts(self) -> EngineFacts:
        """What is loaded, and where."""
        device = self._choices.device
        name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
        return EngineFacts((self.name,), device, name, replicas=1)

    def warm_up(self) -> None:
        """Render something once and throw it away, so that the first order pays for no first time.

        A card is warmed at the model's own size, for which its kernels are then chosen and compiled.
        """
        if not self._plan.warm_up:
            return
        own = MODELS[self.name]
        size, frames = SMALL if self._choices.device == "cpu" else (own.size, own.frames)
        values: dict[str, Any] = {name: field.default for name, field in own.fields.items()}
        values |= {"width": size[0], "height": size[1], "num_inference_steps": 2, "seed": 0}
        values |= {"num_frames": frames} if self.clip else {"prompt": "a picture"}
        order = Order("warm-up", self.name, values)
        self._file(order, Image.new("RGB", size, (127, 127, 127)), lambda _number: None)

    def render(self, task: Task, *, say: Say, canceled: Callable[[], bool]) -> Event:
        """Render an order into its file and give the last event; steps are told on the way."""
        order = task.order

        def step(number: int) -> None:
            if canceled():
                raise CanceledError
            say(Event("step", step=number) if number else Event("alive"))

        say(Event("started", steps=order.steps))
        self._say = say
        try:
            with Image.open(task.picture) as opened:
                picture = opened.convert("RGB")
            data = self._file(order, picture, step)
            task.output.write_bytes(data)
        except CanceledError:
            return Event("canceled")
        except torch.OutOfMemoryError as error:
            return Event("failed", code="out_of_memory", message=f"the card's memory does not suffice: {error}"[:500])
        except FAULTS as error:
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                log.warning("gpu.disk", render=order.id, why=str(error))
                return disk_failed(error)
            log.warning("gpu.fault", render=order.id, exc_info=True)
            return Event("failed", code="fault", message=f"{type(error).__name__}: {error}"[:500])
        finally:
            self._say = _nobody
        return Event("finished", output=_facts_of(order, data), memory_bytes=self._memory_peak_bytes())

    def _memory_peak_bytes(self) -> int:
        """The most memory held so far: of the card, or of the process where there is none."""
        if self._choices.device.startswith("cuda"):
            return int(torch.cuda.max_memory_allocated(self._choices.device))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    # -- one order ------------------------------------------------------------------------------------------------

    def _file(self, order: Order, picture: Image.Image, step: Callable[[int], None]) -> bytes:
        """The finished file of an order."""
        values = order.parameters
        kind = str(values["output_format"])
        self.footprint = self._footprint(order)
        if not self.clip:
            frame = self._with_room("denoise", order.shape, lambda: self._picture(order, picture, step))
            return picture_bytes(frame, kind)
        latents = self._with_room("denoise", order.shape, lambda: self._latents(order, picture, step))

        def decode_and_encode() -> bytes:
            chunks = self._decoded(latents, order, self.footprint.chunk, step)
            frames = _ahead(chunks) if self._plan.overlap_decoding else (frame for part in chunks for frame in part)
            return encode(frames, fps=int(values["fps"]), container=kind)

        return self._with_room("decode", order.shape, decode_and_encode)

    def _latents(self, order: Order, picture: Image.Image, step: Callable[[int], None]) -> Any:
        values = order.parameters
        canvas = fitted(picture, _size(order), self._multiple)
        with torch.no_grad(), speed.attention_kernel(self._kernel):
            return self.pipe(
                canvas,
                width=canvas.width,
                height=canvas.height,
                num_frames=values["num_frames"],
                num_inference_steps=values["num_inference_steps"],
                min_guidance_scale=values["min_guidance_scale"],
                # Of a single frame the pipeline takes the lowest, and stumbles where only the highest wants guidance.
                max_guidance_scale=values["max_guidance_scale" if order.shape.frames > 1 else "min_guidance_scale"],
                fps=values["fps"],
                motion_bucket_id=values["motion_bucket_id"],
                noise_aug_strength=values["noise_aug_strength"],
                generator=self._generator(order),
                output_type="latent",
                callback_on_step_end=_after_step(step),
            ).frames

    def _decoded(
        self, latents: Any, order: Order, chunk: int, step: Callable[[int], None]
    ) -> Iterator[list[Image.Image]]:
        """The frames of a clip, so many at a time; the same as the pipeline's own decoding at that chunk size."""
        vae, size = self.pipe.vae, _size(order)
        scaled = 1 / vae.config.scaling_factor * latents.flatten(0, 1)
        for first in range(0, scaled.shape[0], chunk):
            step(0)
            part = scaled[first : first + chunk]
            with torch.no_grad():
                pixels = vae.decode(part, num_frames=part.shape[0]).sample.float()
                (frames,) = self.pipe.video_processor.postprocess_video(pixels.permute(1, 0, 2, 3)[None], "pil")
            yield [cropped(frame, size) for frame in frames]

    def _picture(self, order: Order, picture: Image.Image, step: Callable[[int], None]) -> Image.Image:
        values = order.parameters
        with torch.no_grad(), speed.attention_kernel(self._kernel):
            made: Image.Image = self.pipe(
                prompt=values["prompt"],
                negative_prompt=values["negative_prompt"],
                image=fitted(picture, _size(order), self._multiple),
                strength=values["strength"],
                num_inference_steps=values["num_inference_steps"],
                guidance_scale=values["guidance_scale"],
                generator=self._generator(order),
                callback_on_step_end=_after_step(step),
            ).images[0]
        return cropped(made, _size(order))

    def _generator(self, order: Order) -> Any:
        """The chance of a render: always drawn on the CPU, so that a seed means the same on every device."""
        return torch.Generator("cpu").manual_seed(int(order.parameters["seed"]))

    # -- memory and speed -----------------------------------------------------------------------------------------

    def _footprint(self, order: Order) -> Footprint:
        """What an order holds at once: as asked for, and no more than its shape was found to bear."""
        known = self._limits.get(order.shape, Footprint(order.shape.frames))
        return Footprint(
            min(int(order.parameters.get("decode_chunk_size", 1)), known.chunk),
            # A render without guidance has one pass a step, and nothing to split.
            split=known.split or self._plan.guidance == "split" or order.shape.passes == UNGUIDED,
            offload=self._offloaded,
        )

    def _with_room(self, stage: Stage, shape: Shape, work: Callable[[], T]) -> T:
        """Do it; when the card's memory does not suffice, again with less at once, until nothing is left to give up."""
        while True:
            # Diffusers encodes in float32 and then sets the decoder back: an error between leaves it where it was.
            self.pipe.vae.to(dtype=self._vae_dtype)
            try:
                return work()
            except torch.OutOfMemoryError as error:
                footprint = smaller(self.footprint, stage)
                if footprint is None:
                    raise
                log.warning("gpu.out_of_memory", stage=stage, goes_on_with=str(footprint), error=str(error)[:200])
            # What the error held is gone only here.
            self.footprint = footprint
            known = self._limits.get(shape, Footprint(shape.frames))
            self._limits[shape] = footprint if stage == "decode" else replace(footprint, chunk=known.chunk)
            gc.collect()
            if self._choices.device.startswith("cuda"):
                torch.cuda.empty_cache()
            if footprint.offload and not self._offloaded:
                self._offload()

    def _offload(self) -> None:
        """From now on only the part that computes is on the card (the usual order leaves a clip's decoder there)."""
        if self.clip:
            self.pipe.model_cpu_offload_seq = CLIP_TURNS
        self.pipe.enable_model_cpu_offload(device=self._choices.device)
        self._offloaded = True

    def _speed_up(self) -> None:
        """Change the network as planned. The order matters: what is compiled has the constants' places in it."""
        unet, choices = self.pipe.unet, self._choices
        if choices.channels_last:
            speed.use_channels_last(unet)
            speed.use_channels_last(self.pipe.vae)
        speed.speed_up(unet, choices, one_token=self.clip, around_first=self._compiling)
        speed.run_split(unet, lambda: self.footprint.split)

    @contextmanager
    def _compiling(self) -> Iterator[None]:
        """Tell that the network is compiled while the block runs: that takes its time, and is no step."""
        self._say(Event("compiling"))
        try:
            yield
            if self._choices.device.startswith("cuda"):
                torch.cuda.synchronize()
        finally:
            self._say(Event("compiled"))

    @property
    def _multiple(self) -> int:
        """Into what blocks of pixels the network cuts a frame."""
        halved = len(self.pipe.unet.config.block_out_channels) - 1
        return int(self.pipe.vae_scale_factor * 2**halved)


def _size(order: Order) -> tuple[int, int]:
    return int(order.parameters["width"]), int(order.parameters["height"])


def _after_step(step: Callable[[int], None]) -> Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]:
    def callback(_pipe: Any, number: int, _timestep: Any, _tensors: dict[str, Any]) -> dict[str, Any]:
        step(number + 1)
        return {}

    return callback


def _ahead(chunks: Iterator[list[Image.Image]]) -> Iterator[Image.Image]:
    """The frames of the chunks; while those of one are used, the next is made in a thread beside."""
    with ThreadPoolExecutor(1) as beside:
        made = beside.submit(next, chunks, None)
        while (frames := made.result()) is not None:
            made = beside.submit(next, chunks, None)
            yield from frames


def _facts_of(order: Order, data: bytes) -> Output:
    values = order.parameters
    width, height = _size(order)
    return Output(
        media_type=MEDIA_TYPES[str(values["output_format"])],
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        frames=int(values.get("num_frames", 1)),
        fps=int(values.get("fps", 0)),
        width=width,
        height=height,
    )
