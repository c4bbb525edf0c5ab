"""Each step down when a card is full really holds less: told from the tensors and from where the weights lie.

Memory that does not suffice is made up by what is really held: a batch, the parts on the card. A step down that changed
nothing would find it as full as before, and the render would fail.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageChops

from providers.local_gpu.worker.memory import Footprint
from providers.local_gpu.worker.pipelines import Renderer
from tests.support.tiny_renders import order, plain, rendered

CARD, REST = torch.device("cpu:0"), torch.device("cpu")
GROUPS = {"svd": ("image_encoder", "vae", "unet"), "ssd-1b": ("text_encoder", "text_encoder_2", "vae", "unet")}


def full() -> None:
    """What a card says that has no room."""
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def watch(module: Any, seen: list[int], fits: Callable[[int], bool]) -> None:
    """Write down the batch of every call of a layer, and have no room for those that do not fit."""

    def before(_module: Any, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0].shape[0])
        if not fits(seen[-1]):
            full()

    module.register_forward_pre_hook(before)


def assert_alike(data: bytes, whole: bytes) -> None:
    """A clip is the same bytes; a pixel of a picture is off by one at most."""
    if not data.startswith(b"\x89PNG"):
        assert data == whole
        return
    with Image.open(io.BytesIO(data)) as made, Image.open(io.BytesIO(whole)) as wanted:
        assert max(high for _, high in ImageChops.difference(made, wanted).getextrema()) <= 1


class Placed(torch.nn.Parameter):
    """A weight that lies where it is said to."""

    where = REST

    @property
    def device(self) -> torch.device:
        """Where that is."""
        return self.where


class Places:
    """Where each part of a pipeline lies: `cpu:0` stands for the card, `cpu` for the memory beside it.

    The parts stay where they are; what diffusers and accelerate ask for is written down, and is what they are told.
    """

    def __init__(self, renderer: Renderer) -> None:
        self.where = dict.fromkeys(GROUPS[renderer.name], CARD)
        for name in self.where:
            part = getattr(renderer.pipe, name)
            kind = type(part)
            told = {"to": self._moving(name, kind.to), "parameters": self._weights(name, kind.parameters)}
            # Of the class, as accelerate strips the part itself; of the same name, as transformers looks it up.
            named = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
            part.__class__ = type(kind.__name__, (kind,), told | named)

    @property
    def on_card(self) -> set[str]:
        """The parts that are on the card now."""
        return {name for name, where in self.where.items() if where == CARD}

    def _moving(self, name: str, inner: Any) -> Any:
        def to(part: Any, *arguments: Any, **rest: Any) -> Any:
            for value in (*arguments, rest.get("device")):
                if isinstance(value, str | torch.device):
                    self.where[name] = torch.device(value)
            return inner(part, *arguments, **rest)

        return to

    def _weights(self, name: str, inner: Any) -> Any:
        def parameters(part: Any, *arguments: Any, **rest: Any) -> Iterator[Any]:
            for weight in inner(part, *arguments, **rest):
                placed = weight.data.as_subclass(Placed)
                placed.where = self.where[name]
                yield placed

        return parameters


@pytest.mark.parametrize(
    ("frames", "asked", "tried"), [(5, 4, [4, 2, 1]), (2, 25, [2, 1]), (5, 25, [5, 2, 1]), (3, 1, [1])]
)
def test_decoding_really_takes_fewer_frames_and_nothing_twice(
    models: Path, tmp_path: Path, frames: int, asked: int, tried: list[int]
) -> None:
    """It begins with what is asked for and there is, halves that until it fits, and the next clip begins there."""
    renderer, seen = plain(models / "svd"), list[int]()
    watch(renderer.pipe.vae.decoder.conv_in, seen, lambda batch: batch == 1)
    small = order(num_frames=frames, decode_chunk_size=asked, num_inference_steps=1)
    assert rendered(renderer, tmp_path, small)[0].kind == "finished"
    assert seen == [*tried[:-1], *[1] * frames]
    seen.clear()
    assert rendered(renderer, tmp_path, small)[0].kind == "finished"
    assert seen == [1] * frames


@pytest.mark.parametrize("model", ["svd", "ssd-1b"])
def test_split_guidance_really_computes_half_at_once(models: Path, tmp_path: Path, model: str) -> None:
    """Two passes of one row each in the place of one of two; clips of that shape begin so from then on."""
    renderer, seen = plain(models / model), list[int]()
    rows = 4 if model == "svd" else 1  # the network takes the frames of a clip as rows
    watch(renderer.pipe.unet.conv_in, seen, lambda batch: batch <= rows)
    small = order(model, num_inference_steps=3)
    assert rendered(renderer, tmp_path, small)[0].kind == "finished"
    assert seen == [2 * rows, *[rows] * (2 * small.steps)]
    seen.clear()
    assert rendered(renderer, tmp_path, small)[0].kind == "finished"
    assert seen == [rows] * (2 * small.steps)


@pytest.mark.parametrize("model", ["svd", "ssd-1b"])
def test_offloaded_only_what_computes_is_on_the_card(models: Path, tmp_path: Path, model: str) -> None:
    """While the network denoises nothing else is there (SDXL's own order leaves its small decoder), and while frames
    are decoded the network is not; the result is that of the seed, for a picture to a rounding of its prompt."""
    small = order(model, num_inference_steps=3, output_format="mp4" if model == "svd" else "png")
    _, whole = rendered(plain(models / model, guidance="split"), tmp_path, small)
    renderer = plain(models / model, guidance="split")
    places, denoising, decoding = Places(renderer), list[set[str]](), list[set[str]]()
    allowed = {"unet"} if model == "svd" else {"unet", "vae"}

    def denoise(*_: Any) -> None:
        denoising.append(places.on_card)
        if not places.on_card <= allowed:
            full()

    renderer.pipe.unet.conv_in.register_forward_pre_hook(denoise)
    renderer.pipe.vae.decoder.register_forward_pre_hook(lambda *_: decoding.append(places.on_card))
    assert places.on_card == set(GROUPS[model])
    last, data = rendered(renderer, tmp_path, small)
    assert last.kind == "finished"
    assert_alike(data, whole)
    assert denoising[0] == set(GROUPS[model])
    assert denoising[1:] == [allowed] * (2 * small.steps)
    assert {frozenset(parts) for parts in decoding} == {frozenset({"vae"})}
    denoising.clear()
    last, data = rendered(renderer, tmp_path, small)
    assert last.kind == "finished"
    assert_alike(data, whole)
    assert denoising == [allowed] * (2 * small.steps)


def test_nothing_is_tried_that_changes_nothing(models: Path, tmp_path: Path) -> None:
    """Without guidance there is nothing to split, and what has left the card cannot leave it again."""
    renderer, seen = plain(models / "svd"), list[Footprint]()

    def before(*_: Any) -> None:
        seen.append(renderer.footprint)
        full()

    renderer.pipe.unet.conv_in.register_forward_pre_hook(before)
    unguided = order(max_guidance_scale=1.0)
    for tried in ([False, True], [True]):
        assert rendered(renderer, tmp_path, unguided)[0].code == "out_of_memory"
        assert [one.offload for one in seen] == tried
        seen.clear()
    assert rendered(renderer, tmp_path, order())[0].code == "out_of_memory"
    assert [(one.split, one.offload) for one in seen] == [(False, True), (True, True)]


def test_what_denoising_gave_up_is_no_limit_to_decoding(models: Path, tmp_path: Path) -> None:
    """A clip of the same shape that asks for more frames a decode gets them: with fewer its pixels would be others."""
    renderer, seen = plain(models / "svd"), list[int]()
    watch(renderer.pipe.unet.conv_in, list[int](), lambda batch: batch <= 4)
    watch(renderer.pipe.vae.decoder.conv_in, seen, lambda _batch: True)
    for chunk, batches in ((1, [1, 1, 1, 1]), (4, [4])):
        assert rendered(renderer, tmp_path, order(decode_chunk_size=chunk, num_inference_steps=1))[0].kind == "finished"
        assert seen == batches
        seen.clear()
