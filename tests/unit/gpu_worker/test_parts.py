"""The small pure parts of a worker: memory given up, pictures fitted, durations learned, plans checked."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gateway.clock import SystemClock
from providers.local_gpu.worker import program
from providers.local_gpu.worker.memory import Footprint, Stage, smaller
from providers.local_gpu.worker.orders import Order
from providers.local_gpu.worker.pace import Pace
from providers.local_gpu.worker.pictures import cropped, fitted, padded_size, picture_bytes
from providers.local_gpu.worker.program import MissingExtraError, Surroundings, UsageError, serve_card, serve_ray

SIDES = st.integers(8, 40).map(lambda blocks: 8 * blocks)
SURROUNDINGS = Surroundings(SystemClock(), Random(1), on_listening=lambda _url: None, on_ready=lambda _url: None)


def ladder(stage: Stage, chunk: int) -> list[Footprint]:
    """Everything that is tried until nothing is left to give up."""
    tried = [Footprint(chunk)]
    while (footprint := smaller(tried[-1], stage)) is not None:
        tried.append(footprint)
    return tried


def test_memory_is_given_up_step_by_step() -> None:
    """Decoding takes fewer frames at a time, denoising one guidance pass at a time, then idle parts leave the card."""
    assert [one.chunk for one in ladder("decode", 8)] == [8, 4, 2, 1, 1]
    assert [one.offload for one in ladder("decode", 8)] == [False] * 4 + [True]
    assert [(one.split, one.offload) for one in ladder("denoise", 8)] == [(False, False), (True, False), (True, True)]


@given(st.sampled_from(["denoise", "decode"]), st.integers(1, 25))
def test_the_ladder_ends(stage: Stage, chunk: int) -> None:
    """Each step is another one, and the last has given up everything of its stage."""
    tried = ladder(stage, chunk)
    assert len(set(tried)) == len(tried) <= 7
    assert tried[-1].offload


@given(st.tuples(SIDES, SIDES), st.sampled_from([16, 32, 64]), st.tuples(st.integers(3, 90), st.integers(3, 90)))
def test_a_frame_has_exactly_the_size_that_was_asked_for(
    size: tuple[int, int], multiple: int, shape: tuple[int, int]
) -> None:
    """Whatever blocks the network cuts it into: the canvas has whole blocks, the crop is the picture, edges go on."""
    picture = Image.radial_gradient("L").resize(shape).convert("RGB")
    canvas = fitted(picture, size, multiple)
    assert canvas.size == padded_size(size, multiple)
    assert canvas.width % multiple == canvas.height % multiple == 0
    inner = cropped(canvas, size)
    assert inner.size == size
    assert canvas.getpixel((0, 0)) == inner.getpixel((0, 0))
    last = (canvas.width - 1, canvas.height - 1)
    assert canvas.getpixel(last) == inner.getpixel((size[0] - 1, size[1] - 1))


@pytest.mark.parametrize(("kind", "form"), [("jpg", "JPEG"), ("png", "PNG")])
def test_a_picture_is_written_as_asked(kind: str, form: str) -> None:
    """The bytes open as that kind."""
    with Image.open(io.BytesIO(picture_bytes(Image.new("RGB", (24, 16)), kind))) as opened:
        assert (opened.format, opened.size) == (form, (24, 16))


def test_durations_follow_what_was_seen_last() -> None:
    """A card that slows down is known to after a few renders; larger clips take as much longer as they are larger."""
    order = Order("a", "svd", {"width": 1000, "height": 1000, "num_frames": 10, "num_inference_steps": 20, "seed": 1})
    large = Order("b", "svd", {**order.parameters, "num_frames": 20})
    pace = Pace()
    assert pace.left_s(order) is None
    pace.learn(order, stepping_s=20.0, fixed_s=4.0)
    assert pace.left_s(order) == pytest.approx(24.0)
    assert pace.left_s(large, step=10) == pytest.approx(28.0)
    for _ in range(8):
        pace.learn(order, stepping_s=40.0, fixed_s=4.0)
    assert pace.left_s(order) == pytest.approx(44.0, rel=0.05)


@pytest.mark.parametrize(
    ("options", "option"),
    [({"model": ""}, "--model"), ({}, "--model"), ({"model": "m", "dtype": "int4"}, "--dtype"),
     ({"model": "m", "port": 70_000}, "--port"), ({"model": "m", "keep_s": 0}, "--keep-s")],
)  # fmt: skip
def test_an_option_that_cannot_be_is_named(options: dict[str, object], option: str) -> None:
    """Before anything starts."""
    with pytest.raises(UsageError, match=option):
        asyncio.run(serve_card(options, SURROUNDINGS))


def test_a_missing_extra_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each program names its own."""
    monkeypatch.setattr(program, "find_spec", lambda _name: None)
    options = {"model": "tiny:svd", "work_dir": tmp_path}
    with pytest.raises(MissingExtraError, match=r"torch, .*vidgate\[local-gpu\]"):
        asyncio.run(serve_card(options, SURROUNDINGS))
    with pytest.raises(MissingExtraError, match=r"ray not installed: .*vidgate\[local-gpu,ray\]"):
        asyncio.run(serve_ray(options, SURROUNDINGS))
