"""What the simulated models make: real clips that move as asked, and pictures."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageOps

from providers.contract import Json
from providers.segmind.simulator.switches import SegmindSwitches
from providers.simulated_media import ClipOrder, Clips, fitted_size

MULTIPLE = 64
MEDIA_TYPES = {"mp4": "video/mp4", "gif": "image/gif", "webp": "image/webp", "jpg": "image/jpeg"}


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file that anyone may fetch."""

    data: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a run makes its files from; `container` is `jpg` for pictures."""

    slug: str
    body: Mapping[str, Json]
    seed: int
    container: str


class Studio:
    """Makes the files of finished runs; a run's files are the same every time."""

    def __init__(self) -> None:
        self._clips = Clips()

    async def make(self, recipe: Recipe, picture: bytes, switches: SegmindSwitches) -> tuple[OutputFile, ...]:
        """The files of a run: one clip, or one picture a sample."""
        if recipe.container == "jpg":
            return await asyncio.to_thread(_pictures, recipe, picture)
        order = _clip_order(recipe, picture, switches)
        clip = await self._clips.render(picture, order, cached=switches.clip == "cached")
        return (OutputFile(clip, MEDIA_TYPES[recipe.container]),)


def _clip_order(recipe: Recipe, picture: bytes, switches: SegmindSwitches) -> ClipOrder:
    body = recipe.body
    fps = int(_number(body, "fps", 7))
    size = fitted_size(picture, long_side=switches.long_side_px, multiple=MULTIPLE)
    if recipe.slug == "motionctrl-svd":
        return ClipOrder(
            num_frames=14,
            fps=switches.motionctrl_playback_fps or fps,
            size=size,
            move=str(body["motion"]).lower().replace(" ", "_"),
            speed=_number(body, "motion_speed", 1),
            container=recipe.container,
        )
    wide = (switches.long_side_px, switches.long_side_px * 9 // 16 // 2 * 2)
    return ClipOrder(
        num_frames=int(_number(body, "frames", 14)),
        fps=fps,
        size=wide if body.get("resize_method") == "crop_to_16_9" else size,
        move="zoom_in",
        speed=_number(body, "motion", 127) / 127,
        container=recipe.container,
    )


def _number(body: Mapping[str, Json], name: str, default: float) -> float:
    value = body.get(name)
    return float(value) if isinstance(value, int | float | str) else default


def _pictures(recipe: Recipe, picture: bytes) -> tuple[OutputFile, ...]:
    samples = int(_number(recipe.body, "samples", 1))
    strength = _number(recipe.body, "strength", 0.9)
    return tuple(
        OutputFile(_variation(picture, recipe.seed + sample, strength), MEDIA_TYPES["jpg"]) for sample in range(samples)
    )


def _variation(picture: bytes, seed: int, strength: float) -> bytes:
    """The picture in two colours drawn from the seed, blended in by the strength."""
    random = Random(seed)
    dark, light = (tuple(random.randint(low, low + 96) for _ in range(3)) for low in (0, 159))
    with Image.open(io.BytesIO(picture)) as image:
        still = image.convert("RGB")
    toned = ImageOps.colorize(still.convert("L"), dark, light)
    output = io.BytesIO()
    Image.blend(still, toned, min(1.0, max(0.0, strength))).save(output, "JPEG", quality=90)
    return output.getvalue()
