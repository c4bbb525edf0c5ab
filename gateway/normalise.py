"""Read a request's fields into canonical parameters: aliases, spellings, types and ranges, each from the vocabulary.

Pure. Every fault is a problem that names the field, what was wrong and what would do.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.problems import AliasConflict, InvalidParameter, UnknownField
from policies.fit import describe
from providers.capability import Route
from providers.vocabulary import IMAGE_ALIASES, TEXT_LENGTH_MAX, Media, Parameter, Scalar, parameters_for

TRUE_WORDS = frozenset({"true", "yes", "1", "on"})
FALSE_WORDS = frozenset({"false", "no", "0", "off"})
SHOWN_CHARACTERS = 80
WORD_LENGTH_MAX = 200
REQUEST_FIELDS = ("image", "fit", "routing", "metadata")


class _Unreadable(ValueError):
    """A value that does not fit its parameter; the text says what would."""


def read_parameters(fields: Mapping[str, Any], media: Media, routes: Sequence[Route]) -> dict[str, Scalar]:
    """Read the fields of a request, without those of `REQUEST_FIELDS`, into canonical names and values.

    A field whose value is null counts as not written, and so does a text of nothing but blanks: it asks for nothing,
    and clients send it for what they leave out. Raises UnknownField, AliasConflict or InvalidParameter.
    """
    parameters = parameters_for(media)
    names = _names(parameters)
    written: dict[str, Scalar] = {}
    said_by: dict[str, str] = {}
    errors: list[dict[str, Any]] = []
    for field, raw in fields.items():
        candidates = names.get(field)
        if candidates is None:
            raise _unknown(field, names)
        if raw is None:
            continue
        parameter = _meant(candidates, raw)
        try:
            value = _read(parameter, raw)
        except _Unreadable as error:
            errors.append(_error(field, parameter, raw, str(error), routes))
            continue
        if parameter.kind == "text" and not str(value).strip():
            continue
        if parameter.name in written and written[parameter.name] != value:
            raise AliasConflict(
                f"{said_by[parameter.name]!r} and {field!r} both mean {parameter.name} and differ: "
                f"{written[parameter.name]!r} and {value!r}; give one of them",
                parameter=parameter.name,
                fields=sorted([said_by[parameter.name], field]),
            )
        written[parameter.name] = value
        said_by[parameter.name] = field
    if errors:
        raise InvalidParameter("; ".join(error["detail"] for error in errors), errors=errors)
    _check_size(written)
    return written


def _names(parameters: Iterable[Parameter]) -> dict[str, list[Parameter]]:
    names: dict[str, list[Parameter]] = {}
    for parameter in parameters:
        for name in (parameter.name, *parameter.aliases):
            names.setdefault(name, []).append(parameter)
    return names


def _meant(candidates: Sequence[Parameter], raw: Any) -> Parameter:
    """`motion` means the motion bucket when it is a number and the camera move when it is a word."""
    if len(candidates) == 1:
        return candidates[0]
    numeric = isinstance(raw, int | float) or (isinstance(raw, str) and _is_number(raw))
    return next(candidate for candidate in candidates if (candidate.kind != "choice") == numeric)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read(parameter: Parameter, raw: Any) -> Scalar:
    readers = {"integer": _integer, "number": _number, "boolean": _boolean, "text": _text, "choice": _choice}
    value = readers[parameter.kind](parameter, raw)
    if isinstance(value, int | float) and not isinstance(value, bool):
        below = parameter.minimum is not None and value < parameter.minimum
        above = parameter.maximum is not None and value > parameter.maximum
        if below or above:
            raise _Unreadable(f"must be {_shown(parameter.minimum)} to {_shown(parameter.maximum)}")
    return value


def _shown(bound: float | None) -> str:
    """A bound in plain digits: a seed's is sixteen of them, which would be no help as 1e+15."""
    return "any" if bound is None else str(int(bound) if float(bound).is_integer() else bound)


def _digits(raw: str) -> str:
    """The text, when it is a number as the vendors write one: Python would also read `1_000` and other scripts' digits.

    Raises ValueError.
    """
    if "_" in raw or not raw.isascii():
        raise ValueError(raw[:SHOWN_CHARACTERS])
    return raw


def _integer(_parameter: Parameter, raw: Any) -> Scalar:
    if isinstance(raw, str):
        try:
            return int(_digits(raw))
        except ValueError:
            raise _Unreadable("must be a whole number") from None
    if isinstance(raw, float) and raw.is_integer():
        return int(raw)
    if isinstance(raw, bool) or not isinstance(raw, int):
        raise _Unreadable("must be a whole number")
    return raw


def _number(_parameter: Parameter, raw: Any) -> Scalar:
    try:
        number = _digits(raw) if isinstance(raw, str) else raw
        value = float(number) if isinstance(number, str | int | float) and not isinstance(number, bool) else math.nan
    except (ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise _Unreadable("must be a number")
    return int(value) if value.is_integer() else value


def _boolean(_parameter: Parameter, raw: Any) -> Scalar:
    word = str(raw).strip().lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise _Unreadable("must be true or false")


def _text(_parameter: Parameter, raw: Any) -> Scalar:
    if not isinstance(raw, str):
        raise _Unreadable("must be text")
    if len(raw) > TEXT_LENGTH_MAX:
        raise _Unreadable(f"must be at most {TEXT_LENGTH_MAX} characters")
    if not _is_unicode(raw):
        raise _Unreadable("must be Unicode text without halves of surrogate pairs")
    if any(character < " " and character not in "\t\n\r" for character in raw):
        raise _Unreadable("must not have control characters")
    return raw


def _is_unicode(text: str) -> bool:
    """Whether a text can be sent at all: JSON's escapes can spell halves of surrogate pairs, which UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _choice(parameter: Parameter, raw: Any) -> Scalar:
    word = str(raw)[:WORD_LENGTH_MAX].strip().lower().replace(" ", "_").replace("-", "_")
    word = parameter.spellings.get(word, word)
    if word not in parameter.choices:
        near = difflib.get_close_matches(word, parameter.choices, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise _Unreadable(f"must be one of {', '.join(parameter.choices)}{hint}")
    return word


def _check_size(written: Mapping[str, Scalar]) -> None:
    if ("width" in written) != ("height" in written):
        missing = "height" if "width" in written else "width"
        raise InvalidParameter(f"width and height go together; {missing} is missing", parameter=missing)
    if "width" in written and "resize" in written:
        raise AliasConflict("give either resize or width and height, not both", fields=["height", "resize", "width"])


def _unknown(field: str, names: Mapping[str, Any]) -> UnknownField:
    known = [*names, *REQUEST_FIELDS, *IMAGE_ALIASES]
    field = field[:SHOWN_CHARACTERS].encode(errors="backslashreplace").decode()
    near = difflib.get_close_matches(field, known, n=1, cutoff=0.0)
    return UnknownField(
        f"there is no field {field!r}; the nearest known one is {near[0]!r}", field=field, nearest=near[0]
    )


def _error(field: str, parameter: Parameter, raw: Any, message: str, routes: Sequence[Route]) -> dict[str, Any]:
    """One fault, with what each route would take for this parameter."""
    rows = {route.name: route.capability(parameter.name) for route in routes}
    return {
        "field": field,
        "parameter": parameter.name,
        "detail": f"{field} {message}, not {str(raw)[:SHOWN_CHARACTERS]!r}",
        "accepted": {name: describe(row) for name, row in rows.items() if row is not None},
    }
