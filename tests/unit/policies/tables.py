"""Strategies for capability tables and requests: the built-in routes, invented routes, and what callers write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import strategies as st

from providers.capability import Capability, Route, SizeRule, WireType
from providers.local_gpu.catalogue import CATALOGUE as LOCAL
from providers.modelslab.catalogue import CATALOGUE as MODELSLAB
from providers.openai_videos.catalogue import CATALOGUE as VIDEOS
from providers.preview.catalogue import CATALOGUE as PREVIEW
from providers.segmind.catalogue import CATALOGUE as SEGMIND
from providers.vocabulary import BY_NAME, Media, Parameter, Scalar, parameters_for

BUILTIN: tuple[Route, ...] = (*SEGMIND, *MODELSLAB, *PREVIEW, *LOCAL, *VIDEOS)
SIZES = st.tuples(st.integers(64, 4096), st.integers(64, 4096))
WIRE_TYPES: Mapping[str, tuple[WireType, ...]] = {
    "integer": ("as_is", "integer", "string"),
    "number": ("as_is", "number", "string"),
    "boolean": ("as_is", "boolean", "yes_no", "string"),
    "text": ("as_is",),
    "choice": ("as_is",),
}


def values_of(parameter: Parameter) -> st.SearchStrategy[Scalar]:
    """Canonical values that a caller can have written for a parameter."""
    low, high = parameter.minimum, parameter.maximum
    by_kind: dict[str, st.SearchStrategy[Scalar]] = {
        "integer": st.integers(int(low or 0), int(high or 0)),
        "number": st.floats(low or 0, high or 0).map(lambda value: int(value) if value.is_integer() else value),
        "boolean": st.booleans(),
        "text": st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20).filter(str.strip),
        "choice": st.sampled_from(parameter.choices or ("",)),
    }
    return by_kind[parameter.kind]


@st.composite
def written_for(draw: st.DrawFn, media: Media) -> dict[str, Scalar]:
    """What a caller wrote, as `read_parameters` hands it on: width and height together, and not beside resize."""
    parameters = [parameter for parameter in parameters_for(media) if parameter.name not in {"width", "height"}]
    optional = {parameter.name: values_of(parameter) for parameter in parameters}
    written = draw(st.fixed_dictionaries({}, optional=optional))
    if media == "video" and "resize" not in written and draw(st.booleans()):
        size = draw(st.one_of(SIZES, st.tuples(st.integers(8, 64), st.integers(8, 64)).map(_eights)))
        written |= {"width": size[0], "height": size[1]}
    return written


def _eights(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] * 8, size[1] * 8


@st.composite
def rows(draw: st.DrawFn, parameter: Parameter) -> Capability:
    """A row of an invented table: narrowed, respelled, retyped, renamed, or done without a field."""
    by = draw(st.sampled_from(["vendor", "vendor", "model", "gateway"]))
    named = draw(st.sampled_from([parameter.name, f"x_{parameter.name}"])) if by == "vendor" else None
    allowed: tuple[Scalar, ...] = ()
    spelling: dict[Scalar, Scalar] = {}
    low = high = None
    shape = draw(st.sampled_from(["any", "allowed", "bounds", "spelling"]))
    if shape == "allowed":
        allowed = tuple(draw(st.lists(values_of(parameter), min_size=1, max_size=4, unique=True)))
    elif shape == "bounds" and parameter.kind in {"integer", "number"}:
        low, high = sorted([draw(values_of(parameter)), draw(values_of(parameter))], key=float)
    elif shape == "spelling" and parameter.kind == "choice":
        chosen = draw(st.lists(st.sampled_from(parameter.choices), min_size=1, unique=True))
        spelling = {value: f"The {value}" for value in chosen}
    return Capability(
        parameter.name,
        named,
        minimum=None if low is None else float(low),
        maximum=None if high is None else float(high),
        allowed=allowed,
        spelling=spelling,
        wire_type=draw(st.sampled_from(WIRE_TYPES[parameter.kind])),
        by=by,
        required=parameter.default is None and draw(st.integers(0, 9)) == 0,
    )


@st.composite
def invented_routes(draw: st.DrawFn) -> Route:
    """A route nobody has yet, with a table that the vocabulary permits."""
    media = draw(st.sampled_from(["video", "image"]))
    rule = st.builds(SizeRule, st.just(1024), st.just(512), st.sampled_from([1, 2, 8, 16]))
    size = draw(st.none() | rule) if media == "video" else None
    table = []
    for parameter in parameters_for(media):
        if parameter.name in {"width", "height"}:
            row = Capability(parameter.name, parameter.name) if size is not None else None
        else:
            row = draw(st.none() | rows(parameter))
        table += [row] if row is not None else []
    return Route(
        name="made/up",
        provider="made",
        media=media,
        model="up",
        capabilities=tuple(table),
        image_forms=("url",),
        mode="async",
        latency_nominal_s=1.0,
        resumable=True,
        ambiguous_billing="free",
        summary="made up",
        size=size,
        image_name=draw(st.sampled_from(["image", "init_image"])),
    )


ROUTES = st.one_of(st.sampled_from(BUILTIN), invented_routes())


@st.composite
def orders(draw: st.DrawFn) -> tuple[Route, dict[str, Scalar], tuple[int, int]]:
    """A route, what a caller wrote, and the size of the picture."""
    route = draw(ROUTES)
    return route, draw(written_for(route.media)), draw(SIZES)


def taken_by(row: Capability) -> st.SearchStrategy[Scalar]:
    """Values that a row takes."""
    parameter = BY_NAME[row.parameter]
    if row.allowed or row.spelling:
        return st.sampled_from(row.allowed or tuple(row.spelling))
    if row.minimum is None and row.maximum is None:
        return values_of(parameter)
    low = parameter.minimum if row.minimum is None else row.minimum
    high = parameter.maximum if row.maximum is None else row.maximum
    return values_of(replace(parameter, minimum=low, maximum=high))


@st.composite
def fitting_orders(draw: st.DrawFn) -> tuple[Route, dict[str, Scalar], tuple[int, int]]:
    """An order that the route's table allows: made from its rows."""
    route = draw(ROUTES)
    own = {row.parameter: taken_by(row) for row in route.capabilities if row.parameter not in {"width", "height"}}
    needed = {row.parameter for row in route.capabilities if row.required}
    mandatory = {name: values for name, values in own.items() if name in needed}
    optional = {name: values for name, values in own.items() if name not in needed}
    written = draw(st.fixed_dictionaries(mandatory, optional=optional))
    if route.size is not None and "resize" not in written and draw(st.booleans()):
        for name, longest in (("width", route.size.width_max), ("height", route.size.height_max)):
            written[name] = draw(st.integers(64 // route.size.multiple, longest // route.size.multiple))
            written[name] *= route.size.multiple
    return route, written, draw(SIZES)


def naive_takes(row: Capability | None, value: Scalar) -> bool:
    """Whether a row takes a value, written a second time and as simply as can be."""
    if row is None:
        return False
    if row.allowed:
        return any(value == allowed for allowed in row.allowed)
    if row.spelling:
        return any(value == spelled for spelled in row.spelling)
    if BY_NAME[row.parameter].kind not in {"integer", "number"}:
        return True
    too_small = row.minimum is not None and float(value) < row.minimum
    too_large = row.maximum is not None and float(value) > row.maximum
    return not too_small and not too_large
