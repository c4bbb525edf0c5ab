"""Fit a request to a route: what the route can honour, what it is sent, and the receipt that says so.

Pure: the request as written, the route's capability table and the picture's size go in; eligibility, the vendor's own
parameters and the receipt come out. `exact` refuses what it cannot honour, `nearest` moves or drops it and says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from providers.capability import Capability, ImageForm, ImageGiven, Route, SizeRule
from providers.contract import Json
from providers.vocabulary import BY_NAME, ORDERED_PAIRS, Kind, Parameter, Scalar, parameters_for

Outcome = Literal["passed", "renamed", "converted", "moved", "dropped", "defaulted"]
FitMode = Literal["exact", "nearest"]
Size = tuple[int, int]

WIDE: Size = (16, 9)
SIZE_PARAMETERS = ("width", "height")
IMAGE = "image"
# The form in which the picture would travel as it was given.
SAME_FORM: Mapping[ImageGiven, ImageForm] = {
    "file": "bytes",
    "base64": "base64",
    "data_uri": "data_uri",
    "link": "url",
}
TEXT_READERS: Mapping[Kind, Callable[[str], Scalar]] = {
    "integer": int,
    "number": float,
    "boolean": lambda text: text == "True",
    "text": str,
    "choice": str,
}


@dataclass(frozen=True, slots=True)
class ReceiptLine:
    """What became of one parameter. `sent` is the vendor's own value; None when none travelled.

    A dropped parameter that the route has a usual value for is sent that one: vendor defaults are never relied on.
    """

    parameter: str
    asked: Scalar | None
    sent: Json
    vendor_name: str | None
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Fit:
    """A request on one route. With `refusals` it is not eligible; `values` are canonical, `wire` is the vendor's."""

    route: str
    values: Mapping[str, Scalar] = field(default_factory=dict)
    wire: Mapping[str, Json] = field(default_factory=dict)
    receipt: tuple[ReceiptLine, ...] = ()
    refusals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """What vidgate itself must make of the input picture first: crop to an aspect ratio, bring to a size in pixels."""

    crop: Size | None
    size: Size | None


def fit(route: Route, written: Mapping[str, Scalar], *, mode: FitMode, image_size: Size) -> Fit:
    """Fit the canonical parameters that the caller wrote to a route, for a picture of this width and height."""
    lines: list[ReceiptLine] = []
    refusals: list[str] = []
    values: dict[str, Scalar] = {}
    size = _size(route, written, mode, image_size)
    if isinstance(size, str):
        refusals.append(size)
        size = None
    for parameter in parameters_for(route.media):
        if parameter.name == "resize" and "width" in written:
            continue
        derived = dict(zip(SIZE_PARAMETERS, size, strict=True)).get(parameter.name) if size else None
        row, asked = route.capability(parameter.name), written.get(parameter.name)
        line = _absent(route, parameter, asked, mode) if row is None else _line(parameter, row, asked, mode, derived)
        if isinstance(line, str):
            refusals.append(line)
        elif line is not None:
            entry, value = line
            lines.append(entry)
            if value is not None:
                values[parameter.name] = value
    refusals += _put_in_order(route, written, lines, values)
    wire = {line.vendor_name: line.sent for line in lines if line.vendor_name is not None}
    return Fit(route.name, values, wire, tuple(lines), tuple(refusals))


def _put_in_order(
    route: Route, written: Mapping[str, Scalar], lines: list[ReceiptLine], values: dict[str, Scalar]
) -> list[str]:
    """Make a default give way to the other of its pair that the caller wrote; what is still backwards is a refusal."""
    refusals = []
    for low, high in ORDERED_PAIRS:
        if low not in values or high not in values or float(values[low]) <= float(values[high]):
            continue
        fixed, other = (low, high) if low in written else (high, low)
        row = route.capability(other)
        if other in written or row is None or not allows(row, values[fixed]):
            refusals.append(f"{low} {values[low]} is above {high} {values[high]}")
            continue
        at = next(index for index, line in enumerate(lines) if line.parameter == other)
        lines[at], values[other] = _sent(row, None, values[fixed], "defaulted", f"the usual value gives way to {fixed}")
    return refusals


def _absent(
    route: Route, parameter: Parameter, asked: Scalar | None, mode: FitMode
) -> tuple[ReceiptLine, None] | str | None:
    """What becomes of a parameter that a route has no control for: nothing to say when nobody wrote it."""
    if asked is None:
        return None
    why = route.lacks.get(parameter.name)
    reason = f"this route has no {parameter.name}" + (f": {why}" if why else "")
    return (ReceiptLine(parameter.name, asked, None, None, "dropped", reason), None) if mode == "nearest" else reason


def _line(
    parameter: Parameter, row: Capability, asked: Scalar | None, mode: FitMode, derived: int | None
) -> tuple[ReceiptLine, Scalar | None] | str | None:
    """One parameter on one route: a receipt line with the canonical value, a refusal, or None for nothing to say."""
    name = parameter.name
    if asked is None:
        if row.required:
            return f"this route needs {name}: {describe(row)}"
        return _defaulted(parameter, row, derived)
    if derived is not None and derived != asked:
        return _sent(
            row, asked, derived, "moved", f"the nearest size this route makes to the one asked for; {row.note}"
        )
    if not allows(row, asked):
        refusal = f"{name} {asked!r} is not possible here: {describe(row)}"
        if mode == "exact":
            return refusal
        moved = nearest(row, asked)
        if moved is None:
            return _dropped(parameter, row, asked, refusal)
        return _sent(row, asked, moved, "moved", refusal)
    return _sent(row, asked, asked, None, row.note)


def _dropped(
    parameter: Parameter, row: Capability, asked: Scalar, reason: str
) -> tuple[ReceiptLine, Scalar | None] | str:
    """A value without a nearest one: the usual value goes in its place; what the route must be told is a refusal."""
    if row.required:
        return reason
    usual = _defaulted(parameter, row, None)
    if usual is None:
        return ReceiptLine(row.parameter, asked, None, None, "dropped", reason), None
    line, value = usual
    return replace(line, asked=asked, outcome="dropped", reason=reason), value


def _defaulted(parameter: Parameter, row: Capability, derived: int | None) -> tuple[ReceiptLine, Scalar] | None:
    if derived is not None:
        return _sent(row, None, derived, "defaulted", "from the picture's own shape")
    default = row.default if row.default is not None else parameter.default
    if default is None:
        return None
    if allows(row, default):
        return _sent(row, None, default, "defaulted", row.note)
    moved = nearest(row, default)
    if moved is None:
        return None
    return _sent(row, None, moved, "defaulted", f"the nearest to the usual {default!r} that this route takes")


def _sent(
    row: Capability, asked: Scalar | None, value: Scalar, outcome: Outcome | None, reason: str
) -> tuple[ReceiptLine, Scalar]:
    sent = encode(row, value) if row.wire is not None else None
    if outcome is None:
        outcome = "passed"
        if row.wire is not None and (type(sent), sent) != (type(value), value):
            outcome = "converted"
        elif row.wire not in {None, row.parameter}:
            outcome = "renamed"
    return ReceiptLine(row.parameter, asked, sent, row.wire, outcome, reason), value


def allows(row: Capability, value: Scalar) -> bool:
    """Whether the route takes this canonical value as it is."""
    if row.allowed:
        return value in row.allowed
    if row.spelling:
        return value in row.spelling
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    return (row.minimum is None or value >= row.minimum) and (row.maximum is None or value <= row.maximum)


def nearest(row: Capability, value: Scalar) -> Scalar | None:
    """The allowed value nearest to this one, or None where nearness means nothing (words, seeds)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or row.parameter == "seed":
        return None
    if row.allowed:
        numbers = [allowed for allowed in row.allowed if isinstance(allowed, int | float)]
        return min(numbers, key=lambda allowed: (abs(allowed - value), allowed)) if numbers else None
    low = row.minimum if row.minimum is not None else value
    high = row.maximum if row.maximum is not None else value
    clamped = min(max(value, low), high)
    return int(clamped) if BY_NAME[row.parameter].kind == "integer" else clamped


def encode(row: Capability, value: Scalar) -> Json:
    """The canonical value as the vendor spells it."""
    if value in row.spelling:
        return row.spelling[value]
    if row.wire_type == "string":
        return str(value)
    if row.wire_type == "number":
        return float(value)
    if row.wire_type == "yes_no":
        return "yes" if value else "no"
    return value


def decode(row: Capability, sent: Json) -> Scalar | None:
    """What a vendor's value means in canonical terms: the inverse of `encode`."""
    for value, spelled in row.spelling.items():
        if spelled == sent:
            return value
    if row.wire_type == "yes_no":
        return sent == "yes"
    if row.wire_type == "string" and isinstance(sent, str):
        return TEXT_READERS[BY_NAME[row.parameter].kind](sent)
    return sent if isinstance(sent, str | int | float | bool) else None


def describe(row: Capability) -> str:
    """What the route takes for this parameter, as a short phrase."""
    if row.allowed:
        phrase = "only " + " or ".join(str(value) for value in row.allowed)
    elif row.spelling:
        phrase = "one of " + ", ".join(str(value) for value in row.spelling)
    elif row.minimum is not None and row.maximum is not None:
        phrase = f"{row.minimum:g} to {row.maximum:g}"
    elif row.maximum is not None:
        phrase = f"at most {row.maximum:g}"
    elif row.minimum is not None:
        phrase = f"at least {row.minimum:g}"
    else:
        phrase = "any text" if BY_NAME[row.parameter].kind == "text" else "any value"
    return phrase


def picture(route: Route, values: Mapping[str, Scalar]) -> Picture:
    """What the fitted values ask of the input picture on this route."""
    row = route.capability("resize")
    crops = row is not None and row.by == "gateway" and values.get("resize") == "crop_16_9"
    sized = route.size is not None and "width" in values and "height" in values
    size = (int(values["width"]), int(values["height"])) if sized else None
    return Picture(WIDE if crops else None, size)


def picture_line(
    route: Route, values: Mapping[str, Scalar], *, given: ImageGiven, form: ImageForm, image_size: Size
) -> ReceiptLine:
    """What becomes of the picture on this route: how it was given, how it goes there, what vidgate makes of it first.

    `asked` and `sent` are forms: a picture is no value to be shown in a receipt.
    """
    wanted = picture(route, values)
    done = []
    if wanted.crop is not None:
        done.append(f"cropped to {wanted.crop[0]}:{wanted.crop[1]}")
    if wanted.size not in {None, image_size}:
        done.append(f"brought to {wanted.size[0]}x{wanted.size[1]}")
    if done or SAME_FORM[given] != form:
        outcome: Outcome = "converted"
    else:
        outcome = "passed" if route.image_name == IMAGE else "renamed"
    copy = "as a link to vidgate's own clean copy" if form == "url" else "as a clean copy"
    return ReceiptLine(IMAGE, given, form, route.image_name, outcome, ", ".join([*done, copy]))


def _size(route: Route, written: Mapping[str, Scalar], mode: FitMode, image_size: Size) -> Size | str | None:
    """The width and height to ask for; a refusal; or None when the route takes no size."""
    rule = route.size
    if rule is None:
        return None
    if "width" not in written or "height" not in written:
        shape = WIDE if written.get("resize") == "crop_16_9" else image_size
        return _within(route, rule, shape)
    asked = (int(written["width"]), int(written["height"]))
    possible = asked[0] <= rule.width_max and asked[1] <= rule.height_max
    if possible and asked[0] % rule.multiple == 0 and asked[1] % rule.multiple == 0:
        return asked
    if mode == "nearest":
        return _within(route, rule, asked, largest=max(asked))
    limit = f"at most {rule.width_max}x{rule.height_max}, in multiples of {rule.multiple}"
    return f"size {asked[0]}x{asked[1]} is not possible here: {limit}"


def _within(route: Route, rule: SizeRule, shape: Size, largest: int | None = None) -> Size:
    """The largest size of this shape inside the rule's box, each side rounded to a multiple; no larger than asked."""
    width, height = shape
    scale = min(rule.width_max / width, rule.height_max / height)
    if largest is not None:
        scale = min(scale, largest / max(width, height))
    return (
        _side(route, "width", width * scale, rule.width_max, rule.multiple),
        _side(route, "height", height * scale, rule.height_max, rule.multiple),
    )


def _side(route: Route, name: str, length: float, longest: int, multiple: int) -> int:
    """The multiple nearest to a length that the route takes: a very flat shape gets its short side lengthened."""
    row = route.capability(name)
    shortest = BY_NAME[name].minimum if row is None or row.minimum is None else row.minimum
    low = math.ceil((shortest or 1) / multiple) * multiple
    high = longest // multiple * multiple
    return min(max(math.floor(length / multiple + 0.5) * multiple, low), high)
