"""What may be ordered, as data: every range is checked here, because the pipelines check almost nothing (WIRE 3.1).

A number outside its range reaches the model as garbage or as a crash of the card, long after it was accepted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from providers.pace import Shape, shape_of, steps_of

Kind = Literal["integer", "number", "text", "choice"]
Value = int | float | str

SEED_MAX = 999_999_999_999_999
PICTURE_BYTES_MAX = 32 * 1024 * 1024
PICTURE_PIXELS_MAX = 64_000_000
ID_FORM = re.compile(r"[A-Za-z0-9_-]{1,64}")


class OrderError(ValueError):
    """An order that cannot be rendered: `field` says where, the text what is allowed and what was given."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Field:
    """One parameter: its kind, its default (None: must be given, or follows from the rest), its range or set."""

    kind: Kind
    default: Value | None = None
    minimum: float = 0
    maximum: float = 0
    choices: tuple[str, ...] = ()
    required: bool = False


_STEPS = Field("integer", 25, 1, 100)
_SEED = Field("integer", -1, -1, SEED_MAX)
_SIDE = Field("integer", None, 64, 2048)
_CLIP: Mapping[str, Field] = {
    "motion_bucket_id": Field("integer", 127, 1, 255),
    "num_frames": Field("integer", 14, 1, 25),
    "fps": Field("integer", 7, 1, 60),
    "noise_aug_strength": Field("number", 0.02, 0, 1),
    "num_inference_steps": _STEPS,
    "min_guidance_scale": Field("number", 1.0, 0, 20),
    "max_guidance_scale": Field("number", 3.0, 0, 20),
    "decode_chunk_size": Field("integer", 8, 1, 25),
    "seed": _SEED,
    "width": _SIDE,
    "height": _SIDE,
    "output_format": Field("choice", "mp4", choices=("mp4", "gif", "webp")),
}
_PICTURE: Mapping[str, Field] = {
    "prompt": Field("text", None, 1, 2000, required=True),
    "negative_prompt": Field("text", "", 0, 2000),
    "strength": Field("number", 0.9, 0, 0.99),
    "num_inference_steps": _STEPS,
    "guidance_scale": Field("number", 7.5, 1, 25),
    "seed": _SEED,
    "width": _SIDE,
    "height": _SIDE,
    "output_format": Field("choice", "jpg", choices=("jpg", "png")),
}


@dataclass(frozen=True, slots=True)
class Model:
    """What one kind of model takes, its own size in pixels, and how large a frame may be."""

    fields: Mapping[str, Field]
    clip: bool
    size: tuple[int, int]
    frames: int
    pixels_max: int


MODELS: Mapping[str, Model] = {
    "svd": Model(_CLIP, clip=True, size=(1024, 576), frames=14, pixels_max=1024 * 1024),
    "svd-xt": Model(_CLIP, clip=True, size=(1024, 576), frames=25, pixels_max=1024 * 1024),
    "ssd-1b": Model(_PICTURE, clip=False, size=(1024, 1024), frames=1, pixels_max=2048 * 2048),
}
MEDIA_TYPES: Mapping[str, str] = {
    "mp4": "video/mp4",
    "gif": "image/gif",
    "webp": "image/webp",
    "jpg": "image/jpeg",
    "png": "image/png",
}
SIDE_MULTIPLE = 8


@dataclass(frozen=True, slots=True)
class Order:
    """A checked render: every parameter has a value within its range, and the seed is drawn."""

    id: str
    model: str
    parameters: Mapping[str, Value]

    @property
    def shape(self) -> Shape:
        """How much it is to compute and to hold: what durations and memory are compared by."""
        shape = shape_of(self.parameters)
        assert shape is not None, "every order was given a size"
        return shape

    @property
    def steps(self) -> int:
        """Denoising steps that really run (WIRE 3.2)."""
        return steps_of(self.parameters) or 0


@dataclass(frozen=True, slots=True)
class Asked:
    """The body of an order that was read: what was asked for, the picture, and a digest of both."""

    model: str
    parameters: Mapping[str, Value]
    picture: bytes
    digest: str


def read_asked(body: bytes, models: Sequence[str]) -> Asked:
    """The order in a body of JSON, its picture opened and every parameter checked. Raises OrderError."""
    values = _json_object(body)
    model = values.get("model")
    if model not in models or model not in MODELS:
        raise OrderError("model", f"model must be one of {', '.join(models)} and is {_shown(model)}")
    parameters = values.get("parameters", {})
    if not isinstance(parameters, dict):
        raise OrderError("parameters", f"parameters must be an object and is {_shown(parameters)}")
    for name in sorted(values.keys() - {"model", "parameters", "image"}):
        raise OrderError(name, f"{_shown(name)} is not a field of an order; those are model, parameters and image")
    picture = _picture_bytes(values.get("image"))
    completed = _completed(str(model), parameters, _picture_size(picture))
    told = json.dumps([model, parameters], sort_keys=True).encode()
    digest = hashlib.sha256(told + b"\0" + picture).hexdigest()
    return Asked(str(model), completed, picture, digest)


def ordered(render_id: str, asked: Asked, seed: int) -> Order:
    """The order with this seed in the place of one that was to be drawn."""
    chosen = seed if asked.parameters["seed"] == -1 else asked.parameters["seed"]
    return Order(render_id, asked.model, {**asked.parameters, "seed": chosen})


def _completed(model: str, given: Mapping[str, Any], picture: tuple[int, int]) -> dict[str, Value]:
    table = MODELS[model]
    for name in given:
        if name not in table.fields:
            raise OrderError(name, f"{model} has no parameter {_shown(name)}; it has {', '.join(table.fields)}")
    values: dict[str, Value] = {}
    for name, field in table.fields.items():
        value = given.get(name)
        if value is None and field.required:
            raise OrderError(name, f"{name} must be given")
        if value is not None:
            values[name] = _checked(name, field, value)
        elif field.default is not None:
            values[name] = field.default
    if table.clip and given.get("num_frames") is None:
        values["num_frames"] = table.frames
    width, height = _size(values, table, picture)
    values["width"], values["height"] = width, height
    _check_together(values)
    return values


def _checked(name: str, field: Field, value: Any) -> Value:
    if field.kind == "choice":
        if value not in field.choices:
            raise OrderError(name, f"{name} must be one of {', '.join(field.choices)} and is {_shown(value)}")
        return str(value)
    if field.kind == "text":
        if not isinstance(value, str) or not field.minimum <= len(value) <= field.maximum:
            long = f"{field.minimum:.0f} to {field.maximum:.0f} characters"
            raise OrderError(name, f"{name} must be text of {long} and is {_shown(value)}")
        return value
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
    whole = number is not None and math.isfinite(number) and (field.kind == "number" or number == int(number))
    if number is None or not whole or not field.minimum <= number <= field.maximum:
        kind = "a whole number from" if field.kind == "integer" else "a number from"
        raise OrderError(
            name, f"{name} must be {kind} {field.minimum:.15g} to {field.maximum:.15g} and is {_shown(value)}"
        )
    return int(number) if field.kind == "integer" else float(number)


def _check_together(values: Mapping[str, Value]) -> None:
    lowest, highest = values.get("min_guidance_scale"), values.get("max_guidance_scale")
    if lowest is not None and highest is not None and float(lowest) > float(highest):
        raise OrderError(
            "min_guidance_scale", f"min_guidance_scale {lowest} must not be above max_guidance_scale {highest}"
        )
    steps, strength = int(values["num_inference_steps"]), values.get("strength")
    if strength is not None and int(steps * float(strength)) < 1:
        raise OrderError("strength", f"strength {strength} of {steps} steps leaves no step to run; raise either")


def _size(values: Mapping[str, Value], table: Model, picture: tuple[int, int]) -> tuple[int, int]:
    """Width and height: as asked, or of the picture's shape at the model's own number of pixels."""
    if ("width" in values) != ("height" in values):
        missing = "height" if "width" in values else "width"
        raise OrderError(missing, f"{missing} must be given when the other side is")
    if "width" not in values:
        return _own_size(table, picture)
    width, height = int(values["width"]), int(values["height"])
    for name, side in (("width", width), ("height", height)):
        if side % SIDE_MULTIPLE:
            raise OrderError(name, f"{name} must be a multiple of {SIDE_MULTIPLE} and is {side}")
    if width * height > table.pixels_max:
        raise OrderError("width", f"a frame may have {table.pixels_max} pixels and {width}x{height} has more")
    return width, height


def _own_size(table: Model, picture: tuple[int, int]) -> tuple[int, int]:
    """The picture's shape at about the number of pixels the model was trained on, in whole blocks of 64."""
    pixels = table.size[0] * table.size[1]
    aspect = min(max(picture[0] / picture[1], 0.25), 4.0)
    width = round(math.sqrt(pixels * aspect) / 64) * 64
    height = round(math.sqrt(pixels / aspect) / 64) * 64
    return min(width, int(_SIDE.maximum)), min(height, int(_SIDE.maximum))


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise OrderError("body", f"the body is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise OrderError("body", f"the body must be an object of JSON and is {_shown(values)}")
    return values


def _picture_bytes(value: Any) -> bytes:
    if not isinstance(value, str) or not value:
        raise OrderError("image", "image must be the base64 of a PNG or JPEG")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise OrderError("image", f"image is not base64: {error}") from error


def _picture_size(data: bytes) -> tuple[int, int]:
    """The size of a picture that really opens. Raises OrderError for anything else."""
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as picture:
            if picture.width * picture.height > PICTURE_PIXELS_MAX:
                raise OrderError("image", f"image has {picture.width}x{picture.height} pixels, which is too many")
            picture.load()
            return picture.size
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise OrderError("image", f"image is not a PNG or JPEG that can be opened: {error}") from error


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 40 else text[:37] + "..."
