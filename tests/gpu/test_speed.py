"""Every switch for speed gives the same result: how exactly is stated with each, on the tiny models, on one thread.

The tolerances are of latents, which have a standard deviation of about 1; a pixel of eight bits moves by 1 when a value
in -1..1 moves by 8e-3.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from providers.local_gpu.worker import speed
from providers.local_gpu.worker.events import Event
from providers.local_gpu.worker.pipelines import Renderer
from providers.local_gpu.worker.plan import ModelPlan
from tests.support.tiny_renders import order, plain, rendered, scene

# A sum in another order: some roundings of float32 over three steps.
ROUNDING = 1e-4


def latents(renderer: Renderer, **parameters: Any) -> Any:
    """What the denoising of a small clip gives."""
    with Image.open(io.BytesIO(scene())) as opened:
        return renderer._latents(order(**parameters), opened.convert("RGB"), lambda _number: None)


def difference(first: Any, second: Any) -> float:
    """The largest difference of two results."""
    return float((first - second).abs().max())


@pytest.fixture(scope="module")
def stock(models: Path) -> Renderer:
    """SVD with every switch off."""
    return plain(models / "svd")


def test_constants_in_the_place_of_cross_attention_change_no_bit(models: Path, stock: Renderer, tmp_path: Path) -> None:
    """A softmax over one key is 1. On the CPU not one bit of the latents and not one byte of the file is another."""
    constant = plain(models / "svd", constant_cross_attention=True)
    places = [module for module in constant.pipe.unet.modules() if type(module).__name__ == "ConstantCrossAttention"]
    assert len(places) == 8
    for parameters in ({}, {"num_frames": 5, "motion_bucket_id": 20}, {"max_guidance_scale": 1.0}, {"width": 128}):
        assert torch.equal(latents(constant, **parameters), latents(stock, **parameters)), parameters
    assert rendered(constant, tmp_path, order())[1] == rendered(stock, tmp_path, order())[1]


def test_the_constants_are_those_of_the_picture_at_hand(models: Path) -> None:
    """Another picture is another token: nothing is kept from the render before."""
    constant, fresh = (plain(models / "svd", constant_cross_attention=True) for _ in range(2))
    other = Image.new("RGB", (64, 64), (250, 20, 90))
    constant._latents(order(), other, lambda _number: None)
    assert torch.equal(latents(constant), latents(fresh))
    token = constant.pipe._encode_image(other, "cpu", 1, True)
    assert not torch.equal(token, constant.pipe._encode_image(Image.open(io.BytesIO(scene())), "cpu", 1, True))


def test_the_constants_do_less_work(models: Path, stock: Renderer) -> None:
    """No query, no key, no attention and no norm before it is computed in their place."""
    counts = []
    for renderer in (stock, plain(models / "svd", constant_cross_attention=True)):
        with FlopCounterMode(display=False) as counter:
            latents(renderer)
        counts.append(counter.get_total_flops())
    assert counts[1] < counts[0]


def test_split_guidance_is_batched_guidance_to_a_rounding(models: Path, stock: Renderer) -> None:
    """Two passes of one row in the place of one of two, with and without the constants."""
    for constant in (False, True):
        split = plain(models / "svd", guidance="split", constant_cross_attention=constant)
        assert difference(latents(split), latents(stock)) < ROUNDING
    pictures = [plain(models / "ssd-1b", guidance=guidance) for guidance in ("batched", "split")]
    made = []
    for renderer in pictures:
        with Image.open(io.BytesIO(scene())) as opened:
            made.append(renderer._picture(order("ssd-1b"), opened.convert("RGB"), lambda _number: None))
    assert max(abs(a - b) for a, b in zip(made[0].tobytes(), made[1].tobytes(), strict=True)) <= 1


def decoded(renderer: Renderer, given: Any) -> Any:
    """The pixels of a few latents, as the decoder gives them."""
    with torch.no_grad():
        return renderer.pipe.vae.decode(given, num_frames=given.shape[0]).sample


def test_channels_last_is_the_same_to_a_rounding(models: Path, stock: Renderer) -> None:
    """The weights of every convolution of the network and of the decoder, those in time too, and with them what flows
    between; the latents and the pixels are the same."""
    turned = plain(models / "svd", channels_last="on")
    kinds = {4: torch.channels_last, 5: torch.channels_last_3d}
    for renderer, is_turned in ((turned, True), (stock, False)):
        for part in (renderer.pipe.unet, renderer.pipe.vae.decoder, renderer.pipe.vae.encoder):
            wide = [one for one in part.parameters() if one.dim() in kinds and max(one.shape[2:]) > 1]
            assert {one.dim() for one in wide} == ({4} if part is renderer.pipe.vae.encoder else {4, 5})
            assert {one.is_contiguous(memory_format=kinds[one.dim()]) for one in wide} == {is_turned}
    given = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    layouts: list[bool] = []
    for renderer in (turned, stock):
        inner = renderer.pipe.vae.decoder.conv_in
        hook = inner.register_forward_hook(
            lambda _module, _inputs, out: layouts.append(out.is_contiguous(memory_format=torch.channels_last))
        )
        decoded(renderer, given)
        hook.remove()
    assert layouts == [True, False]
    assert difference(latents(turned), latents(stock)) < ROUNDING
    assert difference(decoded(turned, given), decoded(stock, given)) < ROUNDING


class Kernels(TorchDispatchMode):
    """Counts the attention kernels that are really called: `math` is taken apart, and calls a softmax of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.called: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Any operation on tensors comes by here."""
        name = function.name()
        if "_scaled_dot_product" in name or "softmax" in name:
            self.called[name] += 1
        return function(*args, **(kwargs or {}))


FUSED, PLAIN = "aten::_scaled_dot_product_flash_attention_for_cpu", "aten::_safe_softmax"


@pytest.mark.parametrize(("kernel", "is_fused"), [("default", True), ("flash", True), ("math", False)])
def test_every_attention_kernel_is_the_same_to_a_rounding(
    models: Path, stock: Renderer, kernel: str, is_fused: bool
) -> None:
    """Those that a CPU has, and they are really the ones that compute; a card's others are tried by the same switch."""
    chosen = plain(models / "svd", attention=kernel)
    with Kernels() as kernels:
        made = latents(chosen)
    assert (kernels.called[FUSED] > 0, kernels.called[PLAIN] > 0) == (is_fused, not is_fused), kernels.called
    assert difference(made, latents(stock)) < ROUNDING


@pytest.mark.parametrize("kind", ["mp4", "gif", "webp"])
def test_overlapped_decoding_changes_no_byte(models: Path, tmp_path: Path, kind: str) -> None:
    """The frames are the same whoever makes them when; chunks that do not divide the clip included."""
    files = []
    for overlap in (False, True):
        renderer = plain(models / "svd", overlap_decoding=overlap)
        files.append(rendered(renderer, tmp_path, order(num_frames=5, decode_chunk_size=2, output_format=kind))[1])
    assert files[0]
    assert files[0] == files[1]


def test_everything_together_is_one_compiled_graph_and_the_same_to_a_rounding(models: Path, stock: Renderer) -> None:
    """All switches that a CPU can throw: the network compiles without a break in its graph, once for both orders."""
    torch._dynamo.reset()
    every = plain(
        models / "svd",
        constant_cross_attention=True,
        overlap_decoding=True,
        channels_last="on",
        compile="aot_eager",
        attention="flash",
    )
    told: list[list[str]] = []
    for parameters in ({}, {"seed": 8, "motion_bucket_id": 20}):
        events: list[Event] = []
        every._say = events.append
        assert difference(latents(every, **parameters), latents(stock, **parameters)) < ROUNDING
        told.append([event.kind for event in events])
    assert told == [["compiling", "compiled"], []]
    assert torch._dynamo.utils.counters["graph_break"] == {}
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


class Small(torch.nn.Module):
    """Takes what a network takes."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(4, 4)

    def forward(self, sample: Any, timestep: Any, encoder_hidden_states: Any, return_dict: bool = True) -> Any:
        """Something of everything."""
        del return_dict
        return (self.inner(sample) * timestep + encoder_hidden_states,)


def test_each_shape_is_compiled_once_and_apart_from_its_first_step() -> None:
    """Also the half of a call that memory no longer holds whole; what the first call gives is what every call gives."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    unet, entered = Small(), list[str]()

    @contextmanager
    def around() -> Iterator[None]:
        entered.append("compiling")
        yield
        entered.append("compiled")

    plain_forward = unet.forward
    choices = speed.decide(ModelPlan(model="m", device="cpu", compile="aot_eager"))
    speed.speed_up(unet, choices, one_token=False, around_first=around)
    for rows, count in ((2, 1), (2, 1), (1, 2), (2, 2), (1, 2)):
        given = torch.ones(rows, 4), torch.tensor(3.0), torch.ones(rows, 4)
        with torch.no_grad():
            assert torch.equal(unet(*given, return_dict=False)[0], plain_forward(*given)[0])
        assert entered == ["compiling", "compiled"] * count
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


def test_what_is_automatic_is_plain_on_a_cpu() -> None:
    """No half precision, nothing compiled; asked for, it is done."""
    choices = speed.decide(ModelPlan(model="m", device="cpu"))
    assert (choices.dtype, choices.compile, choices.channels_last, choices.attention) == (
        torch.float32,
        "off",
        False,
        "default",
    )
    card = speed.decide(ModelPlan(model="m", device="cuda"))
    assert (card.device, card.dtype, card.compile, card.channels_last, card.attention) == (
        "cuda:0",
        torch.float16,
        "inductor",
        True,
        "fastest",
    )
    wanted = speed.decide(ModelPlan(model="m", device="cpu", dtype="bfloat16", compile="aot_eager", channels_last="on"))
    assert (wanted.dtype, wanted.compile, wanted.channels_last) == (torch.bfloat16, "aot_eager", True)
