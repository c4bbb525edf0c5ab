"""Renders by the real pipelines: files, seeds, progress, cancel, memory that runs out, and faults."""

from __future__ import annotations

import errno
import hashlib
import io
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from diffusers import StableVideoDiffusionPipeline
from PIL import Image

from providers.local_gpu.worker.events import Event, StartError, Task
from providers.local_gpu.worker.memory import Footprint
from providers.local_gpu.worker.pictures import fitted
from providers.local_gpu.worker.pipelines import Renderer
from providers.local_gpu.worker.plan import ModelPlan
from tests.support.tiny_renders import frames_of, order, plain, rendered, scene


@pytest.fixture(scope="module")
def svd(models: Path) -> Renderer:
    """SVD as a worker runs it on a CPU."""
    return Renderer(ModelPlan(model=str(models / "svd"), threads=1))


@pytest.fixture(scope="module")
def pictures(models: Path) -> Renderer:
    """SSD-1B as a worker runs it on a CPU."""
    return Renderer(ModelPlan(model=str(models / "ssd-1b"), threads=1))


def test_a_clip_is_a_real_mp4(svd: Renderer, tmp_path: Path) -> None:
    """H.264 in yuv420p with its index in front, every frame decodes, at the rate and size that were asked for."""
    last, data = rendered(svd, tmp_path, order(num_frames=5, fps=9))
    assert last.output is not None
    assert (last.output.size_bytes, last.output.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.average_rate) == (64, 64, 9)
        assert len(list(container.decode(stream))) == 5


@pytest.mark.parametrize("size", [(72, 64), (64, 88), (104, 56)])
def test_a_size_that_no_block_divides_is_kept_exactly(svd: Renderer, tmp_path: Path, size: tuple[int, int]) -> None:
    """The file has the size that was asked for, to the pixel; nothing is scaled to sixteens."""
    last, data = rendered(svd, tmp_path, order(width=size[0], height=max(64, size[1])))
    assert last.output is not None
    assert (last.output.width, last.output.height) == (size[0], max(64, size[1]))
    assert {frame.size for frame in frames_of(data)} == {(size[0], max(64, size[1]))}


@pytest.mark.parametrize("lowest", [1.0, 2.0])
def test_a_clip_may_have_a_single_frame(svd: Renderer, tmp_path: Path, lowest: float) -> None:
    """Its guidance is the lowest of the two, with which the pipeline alone would fail."""
    last, data = rendered(svd, tmp_path, order(num_frames=1, min_guidance_scale=lowest))
    assert last.kind == "finished", last.message
    assert len(frames_of(data)) == 1


@pytest.mark.parametrize(("kind", "form"), [("gif", "GIF"), ("webp", "WEBP")])
def test_other_containers_move_too(svd: Renderer, tmp_path: Path, kind: str, form: str) -> None:
    """GIF and WebP with every frame."""
    last, data = rendered(svd, tmp_path, order(output_format=kind))
    assert last.output is not None
    assert last.output.media_type == f"image/{kind}"
    with Image.open(io.BytesIO(data)) as opened:
        assert (opened.format, getattr(opened, "n_frames", 1), opened.size) == (form, 4, (64, 64))


@pytest.mark.parametrize(("kind", "form"), [("jpg", "JPEG"), ("png", "PNG")])
def test_a_picture_is_made_from_a_picture(pictures: Renderer, tmp_path: Path, kind: str, form: str) -> None:
    """One frame, of the size asked for, after as many steps as the strength leaves."""
    steps: list[int] = []
    last, data = rendered(
        pictures,
        tmp_path,
        order("ssd-1b", output_format=kind, width=72),
        say=lambda event: steps.append(event.step) if event.kind == "step" else None,
    )
    assert last.kind == "finished"
    assert steps == [1, 2, 3]
    with Image.open(io.BytesIO(data)) as opened:
        assert (opened.format, opened.size) == (form, (72, 64))


@pytest.mark.parametrize("model", ["svd", "ssd-1b"])
def test_the_same_seed_gives_the_same_bytes(models: Path, tmp_path: Path, model: str) -> None:
    """In one process, in another renderer after other work, and not for another seed."""
    first, second = (Renderer(ModelPlan(model=str(models / model), threads=1)) for _ in range(2))
    _, data = rendered(first, tmp_path, order(model))
    assert rendered(first, tmp_path, order(model))[1] == data
    rendered(second, tmp_path, order(model, seed=8))
    assert rendered(second, tmp_path, order(model))[1] == data
    assert rendered(second, tmp_path, order(model, seed=8))[1] != data


@pytest.mark.parametrize("chunk", [1, 2, 3, 25])
def test_a_clip_is_what_the_pipeline_itself_makes(models: Path, tmp_path: Path, chunk: int) -> None:
    """Our decoding in chunks is stock diffusers' own, frame by frame and bit by bit."""
    asked = order(num_frames=5, decode_chunk_size=chunk)
    ours = plain(models / "svd", overlap_decoding=True)
    stock = StableVideoDiffusionPipeline.from_pretrained(models / "svd")
    stock.set_progress_bar_config(disable=True)
    with Image.open(io.BytesIO(scene())) as opened:
        picture = fitted(opened.convert("RGB"), (64, 64), 16)
    expected = stock(
        picture, 64, 64, 5, 3, generator=torch.Generator("cpu").manual_seed(7), decode_chunk_size=chunk
    ).frames[0]
    seen: list[Image.Image] = []

    def watch(frames: Any, **_rest: Any) -> bytes:
        seen.extend(frames)
        return b"file"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("providers.local_gpu.worker.pipelines.encode", watch)
        last, _ = rendered(ours, tmp_path, asked)
    assert last.kind == "finished"
    assert [frame.tobytes() for frame in seen] == [frame.tobytes() for frame in expected]


@pytest.mark.parametrize("model", ["svd", "ssd-1b"])
def test_a_cancel_stops_at_the_next_step(svd: Renderer, pictures: Renderer, tmp_path: Path, model: str) -> None:
    """SVD's pipeline has no way to be interrupted; it stops all the same, and the next render is as ever."""
    renderer = svd if model == "svd" else pictures
    _, whole = rendered(renderer, tmp_path, order(model))
    said: list[Event] = []
    last, data = rendered(
        renderer,
        tmp_path,
        order(model, num_inference_steps=20),
        say=said.append,
        canceled=lambda: any(event.step == 2 for event in said),
    )
    assert last == Event("canceled")
    assert [event.step for event in said if event.kind == "step"] == [1, 2]
    assert data == b""
    assert rendered(renderer, tmp_path, order(model))[1] == whole


class Shortage:
    """Memory that runs out: a call fails until the footprint is small enough."""

    def __init__(self, renderer: Renderer, enough: Any) -> None:
        self.footprints: list[Footprint] = []
        self._renderer = renderer
        self._enough = enough

    def around(self, inner: Any) -> Any:
        """The call, which fails as a card does."""

        def call(*arguments: Any, **rest: Any) -> Any:
            self.footprints.append(self._renderer.footprint)
            if not self._enough(self._renderer.footprint):
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
            return inner(*arguments, **rest)

        return call


def test_a_full_card_decodes_fewer_frames_at_a_time(models: Path, tmp_path: Path) -> None:
    """The denoising is not done again, the file is that of the smaller chunk, and the next clip begins there."""
    renderer = plain(models / "svd")
    _, of_one = rendered(renderer, tmp_path, order(decode_chunk_size=1))
    steps: list[int] = []
    shortage = Shortage(renderer, lambda footprint: footprint.chunk == 1)
    renderer.pipe.vae.decode = shortage.around(renderer.pipe.vae.decode)
    last, data = rendered(
        renderer,
        tmp_path,
        order(decode_chunk_size=4),
        say=lambda event: steps.append(event.step) if event.kind == "step" else None,
    )
    assert (last.kind, data) == ("finished", of_one)
    assert steps == [1, 2, 3]
    assert [footprint.chunk for footprint in shortage.footprints] == [4, 2, 1, 1, 1, 1]
    shortage.footprints.clear()
    assert rendered(renderer, tmp_path, order(decode_chunk_size=4))[1] == of_one
    assert {footprint.chunk for footprint in shortage.footprints} == {1}


@pytest.mark.parametrize("model", ["svd", "ssd-1b"])
def test_a_full_card_denoises_in_halves_and_then_offloads(models: Path, tmp_path: Path, model: str) -> None:
    """Each step down is tried once; the result is still the one of the seed, to a rounding."""
    renderer = plain(models / model)
    shortage = Shortage(renderer, lambda footprint: footprint.split and footprint.offload)
    renderer.pipe.unet.forward = shortage.around(renderer.pipe.unet.forward)
    last, data = rendered(renderer, tmp_path, order(model))
    assert last.kind == "finished"
    assert data
    tried = list(dict.fromkeys((one.split, one.offload) for one in shortage.footprints))
    assert tried == [(False, False), (True, False), (True, True)]


def test_a_card_full_while_it_encodes_computes_in_half_precision_all_the_same(models: Path, tmp_path: Path) -> None:
    """The picture is encoded in float32: memory that runs out there must not leave half of the model in it."""
    renderer, one_step = plain(models / "svd", dtype="float16"), order(num_frames=1, num_inference_steps=1)
    assert (renderer.pipe.vae.config.force_upcast, renderer.pipe.vae.dtype) == (True, torch.float16)
    inner, failures = renderer.pipe.vae.encode, [torch.cuda.OutOfMemoryError("CUDA out of memory")]

    def encode(*arguments: Any, **rest: Any) -> Any:
        assert renderer.pipe.vae.dtype is torch.float32
        if failures:
            raise failures.pop()
        return inner(*arguments, **rest)

    renderer.pipe.vae.encode = encode
    for _ in range(2):
        last, data = rendered(renderer, tmp_path, one_step)
        assert (last.kind, last.message) == ("finished", "")
        assert data
    assert failures == []
    failures.append(RuntimeError("the driver is gone"))
    assert rendered(renderer, tmp_path, one_step)[0].code == "fault"
    assert rendered(renderer, tmp_path, one_step)[0].kind == "finished"


@pytest.mark.parametrize("where", ["unet", "vae"])
def test_a_card_too_small_is_a_typed_failure_and_the_next_render_goes_on(
    models: Path, tmp_path: Path, where: str
) -> None:
    """When nothing is left to give up the render fails by name; the process lives and renders the next."""
    renderer = plain(models / "svd")
    full = True
    shortage = Shortage(renderer, lambda _footprint: not full)
    part, name = (renderer.pipe.unet, "forward") if where == "unet" else (renderer.pipe.vae, "decode")
    setattr(part, name, shortage.around(getattr(part, name)))
    last, data = rendered(renderer, tmp_path, order())
    assert (last.kind, last.code, data) == ("failed", "out_of_memory", b"")
    assert "memory" in last.message
    full = False
    assert rendered(renderer, tmp_path, order())[0].kind == "finished"


def test_a_fault_is_told_by_its_name(models: Path, tmp_path: Path) -> None:
    """What a library raises ends the render and nothing else."""
    renderer = plain(models / "svd")

    def broken(*_arguments: Any, **_rest: Any) -> Any:
        raise RuntimeError("the driver is gone")

    inner, renderer.pipe.unet.forward = renderer.pipe.unet.forward, broken
    last, _ = rendered(renderer, tmp_path, order())
    assert (last.kind, last.code, last.message) == ("failed", "fault", "RuntimeError: the driver is gone")
    renderer.pipe.unet.forward = inner
    assert rendered(renderer, tmp_path, order())[0].kind == "finished"


def no_space(*_arguments: Any, **_rest: Any) -> Any:
    """What a write to a full disk comes to."""
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", ["the file", "the encoder's own"])
def test_a_full_disk_is_no_fault_of_the_render(
    svd: Renderer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """It is given back, so that it is made elsewhere; the process goes on."""
    task = Task(order(num_inference_steps=1), tmp_path / "picture", tmp_path / "output")
    task.picture.write_bytes(scene())
    if where == "the file":
        task.output.symlink_to("/dev/full")
    else:
        monkeypatch.setattr("providers.local_gpu.worker.pipelines.encode", no_space)
    last = svd.render(task, say=lambda _event: None, canceled=lambda: False)
    assert (last.kind, last.code) == ("failed", "worker_lost")
    assert last.message == "the worker's disk failed: No space left on device"
    monkeypatch.undo()
    task.output.unlink(missing_ok=True)
    assert rendered(svd, tmp_path, order(num_inference_steps=1))[0].kind == "finished"


def test_a_model_is_served_as_what_it_is(models: Path, tmp_path: Path) -> None:
    """By its files: the frames of its network tell SVD from SVD-XT. A name that does not fit is refused."""
    for name in ("svd", "svd-xt", "ssd-1b"):
        renderer = plain(models / name)
        assert renderer.facts.models == (name,)
        assert renderer.facts.device == "cpu"
    assert plain(models / "svd", name="svd-xt").name == "svd-xt"
    for model, name in (("svd", "ssd-1b"), ("ssd-1b", "svd"), ("svd", "dall-e")):
        with pytest.raises(StartError, match=name):
            plain(models / model, name=name)
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline", "_diffusers_version": "0.42.1"}')
    with pytest.raises(StartError, match="FluxPipeline"):
        plain(tmp_path)
    with pytest.raises(StartError, match="tiny:svd-xt"):
        plain("tiny:sdv")


def test_weights_that_would_run_code_are_refused(models: Path, tmp_path: Path) -> None:
    """Only safetensors are read: a model kept as pickles is not loaded."""
    stock = StableVideoDiffusionPipeline.from_pretrained(models / "svd")
    stock.save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises((OSError, ValueError), match="safetensors"):
        plain(tmp_path)


def test_the_tiny_models_are_small(models: Path) -> None:
    """Small enough to build in every run, and kept as their real ones are."""
    sizes = {name: sum(file.stat().st_size for file in (models / name).rglob("*")) for name in ("svd", "ssd-1b")}
    assert all(size < 20_000_000 for size in sizes.values()), sizes
    assert (models / "svd" / "unet" / "diffusion_pytorch_model.safetensors").exists()
