"""What makes the pipelines faster without another result; each part can be switched off by itself.

The constant cross-attention: SVD conditions on ONE token. A softmax over one key is 1, so what a cross-attention adds
is `to_out(to_v(token))`, the same at every place and time: it is computed once a render, and the query, the key, the
norm before them and the attention itself are never computed. The rest: convolutions in the layout that the card's
kernels want, the attention kernel that is fastest there, and a compiled network without a break in its graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from providers.local_gpu.worker.plan import ModelPlan

# The product of a matrix and few rows is summed in another order than that of many. With this many equal rows the
# constants have the bits that the attention itself would have had.
EQUAL_ROWS = 64
# One compiled network a shape of clip; a worker sees few, and none may be refused for being one too many.
COMPILED_SHAPES_MAX = 64
BACKENDS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
BLOCKS = ("BasicTransformerBlock", "TemporalBasicTransformerBlock")
MEASURED_RUNS = 5
# Queries of the largest spatial self-attention of a 1024x576 clip with both guidance passes, less the frames.
MEASURED_SHAPE = (4, 5, 9216, 64)


@dataclass(frozen=True, slots=True)
class Choices:
    """A plan with every `auto` decided for a device."""

    device: str
    dtype: Any
    attention: str
    compile: str
    channels_last: bool
    constant_cross_attention: bool


class Conditions(TypedDict, total=False):
    """What the pipelines hand to their networks by name."""

    added_time_ids: Any
    added_cond_kwargs: Any
    timestep_cond: Any
    cross_attention_kwargs: Any
    return_dict: bool


def decide(plan: ModelPlan) -> Choices:
    """The plan for the device there is: half precision, compiled and channels last on CUDA, none of it on a CPU."""
    device = plan.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    cuda = device.startswith("cuda")
    dtype = {"auto": "float16" if cuda else "float32"}.get(plan.dtype, plan.dtype)
    return Choices(
        device=f"{device}:0" if device == "cuda" else device,
        dtype=getattr(torch, dtype),
        attention=plan.attention if plan.attention != "auto" else ("fastest" if cuda else "default"),
        compile=plan.compile if plan.compile != "auto" else ("inductor" if cuda else "off"),
        channels_last=plan.channels_last == "on" or (plan.channels_last == "auto" and cuda),
        constant_cross_attention=plan.constant_cross_attention,
    )


class ConstantCrossAttention(torch.nn.Module):
    """Stands in for a cross-attention to one token: what that adds, for every row of a batch."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.to_v = attention.to_v
        self.to_out = attention.to_out
        self.register_buffer("value", None, persistent=False)

    def set_token(self, token: Any) -> None:
        """Compute what is added for this token, of shape (batch, 1, features)."""
        rows = token.repeat_interleave(EQUAL_ROWS, dim=0)
        self.value = self.to_out[0](self.to_v(rows))[::EQUAL_ROWS].contiguous()

    def forward(self, hidden_states: Any, encoder_hidden_states: Any = None, attention_mask: Any = None) -> Any:
        """What the attention would have added, of a length of one: the caller's sum spreads it."""
        del encoder_hidden_states, attention_mask
        return self.value.repeat_interleave(hidden_states.shape[0] // self.value.shape[0], dim=0)


def speed_up(
    unet: Any,
    choices: Choices,
    *,
    one_token: bool,
    around_first: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Compile the network, and put constants in the place of its cross-attentions where it is given one token.

    What is compiled has the constants as values that each call may change; computing them stays outside. It is compiled
    for each shape within `around_first`.
    """
    constants = _constants(unet) if one_token and choices.constant_cross_attention else []
    if choices.compile != "off":
        _compile(unet, choices.compile, around_first)
    inner = unet.forward
    last: list[Any] = [None]

    def forward(sample: Any, timestep: Any, encoder_hidden_states: Any, **rest: Unpack[Conditions]) -> Any:
        if last[0] is not encoder_hidden_states:  # every step of a render hands over the same one
            for constant in constants:
                constant.set_token(encoder_hidden_states)
            last[0] = encoder_hidden_states
        return inner(sample, timestep, encoder_hidden_states, **rest)

    if constants:
        unet.forward = forward


def _constants(unet: Any) -> list[ConstantCrossAttention]:
    constants: list[ConstantCrossAttention] = []
    for block in [module for module in unet.modules() if type(module).__name__ in BLOCKS]:
        constant = ConstantCrossAttention(block.attn2)
        block.attn2, block.norm2 = constant, torch.nn.Identity()
        constants.append(constant)
    return constants


def use_channels_last(module: Any) -> None:
    """Lay out every convolution's weights with the channels last, those in time too: each by its own dimensions."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in module.parameters():
        if parameter.dim() in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.dim()])


def _compile(unet: Any, backend: str, around_first: Callable[[], AbstractContextManager[None]]) -> None:
    """Compile the network as one graph: a break in it is an error here and not a slow render later.

    The first call of a shape compiles. Its result is thrown away and the call repeated, so that what is measured as a
    step is a step, for the price of one.
    """
    torch._dynamo.config.recompile_limit = COMPILED_SHAPES_MAX
    compiled = torch.compile(unet.forward, fullgraph=True, dynamic=False, backend=backend)
    seen: set[tuple[Any, ...]] = set()

    def forward(sample: Any, timestep: Any, encoder_hidden_states: Any, **rest: Unpack[Conditions]) -> Any:
        shape = (sample.shape, sample.dtype, encoder_hidden_states.shape)
        if shape not in seen:
            with around_first():
                compiled(sample, timestep, encoder_hidden_states, **rest)
            seen.add(shape)
        return compiled(sample, timestep, encoder_hidden_states, **rest)

    unet.forward = forward


def run_split(unet: Any, wanted: Callable[[], bool]) -> None:
    """Run the two guidance passes of a call one after the other while that is wanted: half the activations at once."""
    inner = unet.forward

    def forward(sample: Any, timestep: Any, encoder_hidden_states: Any, **rest: Unpack[Conditions]) -> Any:
        if sample.shape[0] != 2 or not wanted():
            return inner(sample, timestep, encoder_hidden_states, **rest)
        halves = [
            inner(sample[n : n + 1], timestep, encoder_hidden_states[n : n + 1], **_half(rest, n))[0] for n in (0, 1)
        ]
        return (torch.cat(halves),)

    unet.forward = forward


def _half(arguments: Any, number: int) -> Any:
    """The arguments of one of two passes: its row of every tensor."""

    def part(value: Any) -> Any:
        if isinstance(value, dict):
            return _half(value, number)
        return value[number : number + 1] if isinstance(value, torch.Tensor) and value.dim() > 0 else value

    return {name: part(value) for name, value in arguments.items()}


@contextmanager
def attention_kernel(name: str) -> Iterator[None]:
    """Use this attention kernel; `default` leaves the choice to PyTorch, `fastest` was decided by `fastest_kernel`."""
    if name == "default":
        yield
        return
    # The others stay allowed behind it: a kernel that does not take a shape must not end a render. `math` takes any
    # shape, and is passed over where it is not alone: a CPU has an order of its own.
    others = [] if name == "math" else [backend for other, backend in BACKENDS.items() if other != name]
    order = [BACKENDS[name], *others]
    with sdpa_kernel(order, set_priority=True):
        yield


def fastest_kernel(choices: Choices) -> str:
    """The attention kernel that is fastest on this card, by trying each on the largest shape of a clip."""
    if choices.attention != "fastest":
        return choices.attention
    timed: dict[str, float] = {}
    query = torch.randn(MEASURED_SHAPE, device=choices.device, dtype=choices.dtype)
    for name, backend in BACKENDS.items():
        if name == "math":  # it holds the whole matrix of products: never the fastest
            continue
        try:
            with sdpa_kernel([backend]):
                timed[name] = _milliseconds(
                    lambda: torch.nn.functional.scaled_dot_product_attention(query, query, query)
                )
        except RuntimeError:  # this card or build has no such kernel
            continue
    return min(timed, key=lambda name: timed[name]) if timed else "default"


def _milliseconds(call: Callable[[], Any]) -> float:
    call()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for _ in range(MEASURED_RUNS):
        call()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end))
