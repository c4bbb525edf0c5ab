"""The schemas of request bodies, made from the vocabulary and the routes of a deployment. Pure.

They are as lenient as the reader (gateway/normalise.py): a number may come as its digits, a choice in any spelling, and
null as what was left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gateway.normalise import FALSE_WORDS, TRUE_WORDS
from gateway.wishes import RoutingWish
from policies.fit import describe
from providers.capability import Route
from providers.vocabulary import IMAGE_ALIASES, TEXT_LENGTH_MAX, Media, Parameter, parameters_for

Json = dict[str, Any]
REQUESTS_MAX = 100
BLANKS = r"[ \t\r\n]*"
PLAIN = r"^[^\x00-\x1f]*$"
DIGITS = rf"^{BLANKS}[+-]?[0-9]+{BLANKS}$"
DECIMAL = rf"^{BLANKS}[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?{BLANKS}$"
SCHEMAS: Mapping[Media, str] = {"video": "VideoRequest", "image": "ImageRequest"}


def request_schemas(routes: Iterable[Route]) -> dict[str, Json]:
    """The schema of each kind of request, and those that they refer to."""
    known = list(routes)
    routing = RoutingWish.model_json_schema(ref_template="#/components/schemas/{model}")
    wishes = routing.pop("$defs")
    return {
        **{name: _request(media, name, known) for media, name in SCHEMAS.items()},
        **{name.replace("Request", "Batch"): _batch(name) for name in SCHEMAS.values()},
        "Routing": routing,
        "WeightsWish": wishes["WeightsWish"],
    }


def _request(media: Media, schema: str, routes: Iterable[Route]) -> Json:
    here = [route for route in routes if route.media == media]
    ways = ("image", *IMAGE_ALIASES)
    properties: dict[str, Any] = {
        "image": {
            "type": ["string", "null"],
            "description": f"The picture: an https link, a data URI or base64. Also as {' or '.join(IMAGE_ALIASES)}; "
            "in multipart bodies a file.",
        },
        "fit": {
            "enum": ["exact", "nearest", None],
            "default": "exact",
            "description": "May a route move what it cannot do?",
        },
        "routing": {"anyOf": [{"$ref": "#/components/schemas/Routing"}, {"type": "null"}]},
        "metadata": {
            "type": ["object", "null"],
            "description": "The caller's own tags: statements and usage can be grouped by them, jobs listed by them.",
            "propertyNames": {"maxLength": 40, "pattern": PLAIN},
            "additionalProperties": {"type": "string", "maxLength": 200, "pattern": PLAIN},
            "maxProperties": 16,
        },
    }
    for parameter in parameters_for(media):
        properties[parameter.name] = _parameter(parameter, here)
    for alias, meant in _aliases(media).items():
        also = " or ".join(one.name for one in meant)
        refs = [{"$ref": f"#/components/schemas/{schema}/properties/{one.name}"} for one in meant]
        known = properties.get(alias)
        described = {"description": f"{known['description']} " if known else ""}
        described["description"] += f"Another name of {also}."
        either = [known, *refs] if known is not None else refs
        properties[alias] = {"anyOf": either, **described}
    for alias in IMAGE_ALIASES:
        properties[alias] = {"type": ["string", "null"], "description": "Another name of image."}
    return {
        "type": "object",
        "additionalProperties": False,
        "anyOf": [{"required": [way]} for way in ways],
        "properties": properties,
    }


def _batch(schema: str) -> Json:
    """Many requests in one body. What is no request is answered in its place, so anything may stand there."""
    one = {"anyOf": [{"$ref": f"#/components/schemas/{schema}"}, {"description": "Answered with a problem."}]}
    requests = {"type": "array", "minItems": 1, "maxItems": REQUESTS_MAX, "items": one}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["requests"],
        "properties": {"requests": requests},
    }


def _aliases(media: Media) -> dict[str, list[Parameter]]:
    """Every other name with the parameters that it may mean, in the order of the vocabulary."""
    found: dict[str, list[Parameter]] = {}
    for parameter in parameters_for(media):
        for alias in parameter.aliases:
            found.setdefault(alias, []).append(parameter)
    return found


def _parameter(parameter: Parameter, routes: Iterable[Route]) -> Json:
    """One parameter with its canonical range, and what each route takes of it."""
    rows = {route.name: route.capability(parameter.name) for route in routes}
    takes = {name: describe(row) for name, row in rows.items() if row is not None}
    schema = _KINDS[parameter.kind](parameter) | {"description": parameter.summary, "x-routes": takes}
    return schema | ({"default": parameter.default} if parameter.default is not None else {})


def _numeric(parameter: Parameter) -> Json:
    kind, spelled = ("integer", DIGITS) if parameter.kind == "integer" else ("number", DECIMAL)
    bounds = {"minimum": parameter.minimum, "maximum": parameter.maximum}
    written = {name: bound for name, bound in bounds.items() if bound is not None}
    return {"type": [kind, "string", "null"], "pattern": spelled, **written}


def _text(_parameter: Parameter) -> Json:
    return {"type": ["string", "null"], "maxLength": TEXT_LENGTH_MAX}


def _boolean(_parameter: Parameter) -> Json:
    words = sorted(TRUE_WORDS | FALSE_WORDS)
    return {"anyOf": [{"type": "boolean"}, {"enum": [0, 1, None]}, _words(words)]}


def _choice(parameter: Parameter) -> Json:
    """The canonical words first, as a reader wants them; then every other way to write them."""
    words = [*parameter.choices, *parameter.spellings]
    others = [value for word, value in (("true", True), ("false", False), ("1", 1), ("0", 0)) if word in words]
    forms: list[Json] = [{"enum": [*parameter.choices]}, _words(words), {"enum": [*others, None]}]
    return {"anyOf": forms}


def _words(words: Iterable[str]) -> Json:
    """Text that is one of these words, however its letters are cased and its parts joined."""
    spelled = "|".join("".join(map(_letter, word)) for word in words)
    return {"type": "string", "pattern": f"^{BLANKS}({spelled}){BLANKS}$"}


def _letter(character: str) -> str:
    if character in "_ -":
        return "[_ -]"
    both = character.lower() + character.upper()
    return f"[{both}]" if both[0] != both[1] else re.escape(character)


_KINDS: Mapping[str, Callable[[Parameter], Json]] = {
    "integer": _numeric,
    "number": _numeric,
    "text": _text,
    "boolean": _boolean,
    "choice": _choice,
}
