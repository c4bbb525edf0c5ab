"""What a worker checks before it takes a render: the parameters of each model with their ranges, and the picture."""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from providers.simulated_media import PICTURE_PIXELS_MAX

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
SIDE_STEP_PX = 8
SEED_MAX = 999_999_999_999_999


class OrderError(Exception):
    """The worker will not render this: the field that is wrong, and what it must be."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


@dataclass(frozen=True, slots=True)
class Number:
    """A number: its bounds, whether it is whole, and what it is when nothing was said."""

    minimum: float
    maximum: float
    default: float | None
    whole: bool = True


SVD: Mapping[str, Number] = {
    "motion_bucket_id": Number(1, 255, 127),
    "num_frames": Number(1, 25, 14),
    "fps": Number(1, 60, 7),
    "noise_aug_strength": Number(0, 1, 0.02, whole=False),
    "num_inference_steps": Number(1, 100, 25),
    "min_guidance_scale": Number(0, 20, 1.0, whole=False),
    "max_guidance_scale": Number(0, 20, 3.0, whole=False),
    "decode_chunk_size": Number(1, 25, 8),
    "seed": Number(-1, SEED_MAX, -1),
    "width": Number(64, 1024, 1024),
    "height": Number(64, 1024, 576),
}
SSD: Mapping[str, Number] = {
    "strength": Number(0, 1, 0.3, whole=False),
    "num_inference_steps": Number(1, 100, 50),
    "guidance_scale": Number(0, 25, 5.0, whole=False),
    "seed": Number(-1, SEED_MAX, -1),
    "width": Number(64, 1024, None),
    "height": Number(64, 1024, None),
}
NUMBERS: Mapping[str, Mapping[str, Number]] = {"svd": SVD, "svd-xt": SVD, "ssd-1b": SSD}
TEXTS: Mapping[str, tuple[str, ...]] = {"svd": (), "svd-xt": (), "ssd-1b": ("prompt", "negative_prompt")}
FORMATS: Mapping[str, tuple[str, ...]] = {
    "svd": ("mp4", "gif", "webp"),
    "svd-xt": ("mp4", "gif", "webp"),
    "ssd-1b": ("jpg", "png"),
}


@dataclass(frozen=True, slots=True)
class Order:
    """A render that was found good. `content` tells it from any other one, `size` is what is made."""

    model: str
    numbers: Mapping[str, float]
    container: str
    picture: bytes
    size: tuple[int, int]
    content: str

    @property
    def steps(self) -> int:
        """How many steps are really run: with a strength, only that share of them (WIRE 3.2)."""
        steps = int(self.numbers["num_inference_steps"])
        return max(1, int(steps * self.numbers.get("strength", 1.0)))


def read_order(body: object, models: tuple[str, ...]) -> Order:
    """Check a whole request. Raises OrderError naming the field."""
    if not isinstance(body, dict):
        raise OrderError("body", "the body must be a JSON object")
    model, parameters = body.get("model"), body.get("parameters", {})
    if not isinstance(model, str) or model not in models or model not in NUMBERS:
        raise OrderError("model", f"model must be one of {', '.join(models)}")
    if not isinstance(parameters, dict):
        raise OrderError("parameters", "parameters must be an object")
    known = {*NUMBERS[model], *TEXTS[model], "output_format"}
    unknown = sorted(set(parameters) - known)
    if unknown:
        raise OrderError(unknown[0], f"{unknown[0]} is not a parameter of {model}")
    numbers = {name: _number(name, parameters.get(name), row) for name, row in NUMBERS[model].items()}
    _check_texts(model, parameters)
    container = parameters.get("output_format", FORMATS[model][0])
    if container not in FORMATS[model]:
        raise OrderError("output_format", f"output_format must be one of {', '.join(FORMATS[model])}")
    picture, own_size = _picture(body.get("image"))
    size = _size(numbers, own_size)
    said = {name: value for name, value in numbers.items() if value is not None}
    content = json.dumps([model, parameters, body.get("image")], sort_keys=True)
    return Order(model, said, str(container), picture, size, content)


def _number(name: str, value: Any, row: Number) -> float | None:
    if value is None:
        return row.default
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not row.minimum <= value <= row.maximum or (row.whole and value != int(value)):
        what = "a whole number from" if row.whole else "a number from"
        raise OrderError(name, f"{name} must be {what} {row.minimum:g} to {row.maximum:g} and is {str(value)[:40]}")
    return int(value) if row.whole else float(value)


def _check_texts(model: str, parameters: Mapping[str, Any]) -> None:
    for name in TEXTS[model]:
        if not isinstance(parameters.get(name, ""), str):
            raise OrderError(name, f"{name} must be text")
    if "prompt" in TEXTS[model] and not parameters.get("prompt"):
        raise OrderError("prompt", "prompt must be given")


def _picture(value: Any) -> tuple[bytes, tuple[int, int]]:
    try:
        data = base64.b64decode(value, validate=True)
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as image:
            if image.width * image.height > PICTURE_PIXELS_MAX:
                raise OrderError("image", "image has too many pixels")
            image.load()
            return data, image.size
    except (binascii.Error, TypeError, ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise OrderError("image", "image must be a PNG or JPEG in base64") from error


def _size(numbers: Mapping[str, float | None], own: tuple[int, int]) -> tuple[int, int]:
    """The size that is rendered: as asked, else the picture's own in whole steps."""
    asked = [numbers.get("width"), numbers.get("height")]
    sides = [int(given or side // SIDE_STEP_PX * SIDE_STEP_PX) for given, side in zip(asked, own, strict=True)]
    for name, side in zip(("width", "height"), sides, strict=True):
        if side < SIDE_STEP_PX or side % SIDE_STEP_PX:
            raise OrderError(name, f"{name} must be a multiple of {SIDE_STEP_PX} and is {side}")
    return sides[0], sides[1]
