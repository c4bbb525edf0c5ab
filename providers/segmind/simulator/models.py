"""The simulated models' own parameter tables, written from the vendor's pages apart from the adapter's catalogue."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from providers.contract import Json

Kind = Literal["integer", "number", "text", "boolean", "picture", "choice"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a model: its kind, default and range, or its fixed set (checked before anything runs).

    `required` fields have no default; `starred` ones are called required by their page and have one all the same.
    """

    kind: Kind
    default: Json = None
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Json, ...] = ()
    required: bool = False
    starred: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """How strictly a body is read. `enum_text` has `{field}` and `{choices}`; `defaults` go before the table's own."""

    clamp: bool
    starred_enforced: bool
    enum_text: str
    defaults: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Invalid:
    """Why a body is not taken. `form` says which of the vendor's three ways it is refused in."""

    form: Literal["missing", "choice", "number"]
    text: str


SEED_MAX = 999_999_999_999_999

MODELS: Mapping[str, Mapping[str, Field]] = {
    "svd": {
        "image": Field("picture", required=True),
        "fps": Field("integer", 7, 1, 60),
        "motion": Field("integer", 127, 1, 180),
        "seed": Field("integer", -1, -1, SEED_MAX),
        "cond_aug": Field("number", 0.2, 0, 1),
        "frames": Field("choice", "14", choices=(14, 25, "14", "25")),
        "resize_method": Field("choice", "maintain_aspect_ratio", choices=("maintain_aspect_ratio", "crop_to_16_9")),
        "base64": Field("boolean", default=False),
    },
    "motionctrl-svd": {
        "input_image": Field("picture", required=True),
        "motion": Field(
            "choice",
            "CW",
            choices=("Pan Up", "Pan Down", "Pan Right", "Pan Left", "Zoom In", "Zoom Out", "CW", "ACW"),
            starred=True,
        ),
        "fps": Field("integer", 7, 5, 30, starred=True),
        "motion_bucket_id": Field("integer", 127, 127, 255, starred=True),
        "cond_aug": Field("number", 0.02, 0, 1, starred=True),
        "decoding_t": Field("integer", 1, 1, 64),
        "maintain_aspect_ratio": Field("boolean", default=True),
        "motion_speed": Field("number", 1, 0, 10),
        "seed": Field("integer", 985_445, -1, SEED_MAX),
        "base64": Field("boolean", default=False),
    },
    "ssd-img2img": {
        "image": Field("picture", required=True),
        "prompt": Field("text", required=True),
        "negative_prompt": Field("text", ""),
        "samples": Field("integer", 1, 1, 4),
        "scheduler": Field("text", "DPM2 Karras"),
        "num_inference_steps": Field("integer", 25, 20, 100),
        "guidance_scale": Field("number", 7.5, 1, 25),
        "seed": Field("integer", -1, -1, SEED_MAX),
        "strength": Field("number", 0.9, 0, 0.99),
        "base64": Field("boolean", default=True),
    },
}
PICTURE_FIELDS = frozenset({"image", "input_image"})


def completed(slug: str, body: Mapping[str, Json], rules: Rules) -> dict[str, Json] | Invalid:
    """The body with the model's defaults, unknown fields dropped, or why it is not taken."""
    values: dict[str, Json] = {}
    for name, field in MODELS[slug].items():
        given = body.get(name)
        if given is None or given == "":
            if field.required or (field.starred and rules.starred_enforced):
                return Invalid("missing", f"{name} is a required field")
            values[name] = rules.defaults.get(name, field.default)
            continue
        wrong = _wrong(name, field, given, rules.enum_text)
        if wrong is None:
            values[name] = given
        elif rules.clamp and isinstance(given, int | float) and wrong.form == "number":
            values[name] = min(max(given, field.minimum or 0), field.maximum or given)
        else:
            return wrong
    return values


def _wrong(name: str, field: Field, given: Json, enum_text: str) -> Invalid | None:
    if field.kind == "choice":
        fixed = ", ".join(dict.fromkeys(str(choice) for choice in field.choices))
        taken = any(given == choice and type(given) is type(choice) for choice in field.choices)
        return None if taken else Invalid("choice", enum_text.format(field=name, choices=fixed))
    if field.kind == "boolean":
        return (
            None if isinstance(given, bool | int) and given in {0, 1} else Invalid("number", f"{name} is not a boolean")
        )
    if field.kind in {"text", "picture"}:
        return None if isinstance(given, str) else Invalid("missing", f"{name} must be a string")
    if isinstance(given, bool) or not isinstance(given, int | float):
        return Invalid("number", f"{name} is not a number")
    if isinstance(given, float) and not math.isfinite(given):
        return Invalid("number", f"{name} is not a number")
    if field.kind == "integer" and given != int(given):
        return Invalid("number", f"{name} is not an integer")
    if not (field.minimum or 0) <= given <= (field.maximum if field.maximum is not None else given):
        return Invalid("number", f"{name} is outside its range")
    return None
