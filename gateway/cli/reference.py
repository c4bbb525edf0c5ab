"""Every setting as a row, read from the settings' own model: for `config reference` and docs/configuration.md."""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from providers.contract import ProviderPlugin

TYPES: Mapping[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Decimal: "number",
    Path: "path",
    SecretStr: "secret",
}
MARKER = "This part is what `vidgate config reference` prints."
TABLE_HEAD = ("| setting | type | default | what it is for |", "|---|---|---|---|")
BOUNDS: Mapping[str, str] = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}"}


@dataclass(frozen=True, slots=True)
class Row:
    """One setting as people read about it."""

    path: str
    kind: str
    bounds: str
    default: str
    about: str


def rows_of(model: type[BaseModel], prefix: str = "") -> Iterator[Row]:
    """A row for every setting under a model, in the order in which they are written."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from rows_of(field.annotation, f"{path}.")
        else:
            yield Row(path, _kind(field.annotation), _bounds(field), _default(field), field.description or "")


def markdown(rows: Iterable[Row]) -> str:
    """Rows as Markdown tables, one a section."""
    lines: list[str] = []
    section = ""
    for row in rows:
        head = row.path.partition(".")[0]
        if head != section:
            section = head
            lines += ["", f"### {section}", "", *TABLE_HEAD]
        lines.append(_line(row))
    return "\n".join(lines).strip() + "\n"


def provider_markdown(plugins: Iterable[ProviderPlugin]) -> str:
    """What each provider's section may hold: the words of its model, and a table of its keys."""
    lines: list[str] = []
    for plugin in plugins:
        rows = rows_of(plugin.settings, f"providers.{plugin.name}.")
        about = inspect.cleandoc(plugin.settings.__doc__ or "")
        lines += ["", f"### providers.{plugin.name}", "", about, "", *TABLE_HEAD, *map(_line, rows)]
    return "\n".join(lines).strip() + "\n"


def renewed(document: str, reference: str) -> str:
    """A document with the reference in place of all that follows its `MARKER` line."""
    return document.partition(MARKER)[0] + MARKER + "\n\n" + reference


def _line(row: Row) -> str:
    kind = f"{row.kind}, {row.bounds}" if row.bounds else row.kind
    about = row.about.replace("|", "\\|")
    return f"| `{row.path}` | {kind} | {row.default} | {about} |"


def _kind(annotation: Any) -> str:
    if annotation in TYPES:
        return TYPES[annotation]
    parts = [part for part in get_args(annotation) if part is not types.NoneType]
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if get_origin(annotation) is tuple:
        return f"list of {_kind(parts[0])}"
    if len(parts) == 1:
        return _kind(parts[0])
    return "section"


def _bounds(field: FieldInfo) -> str:
    found = []
    for metadata in field.metadata:
        for name, words in BOUNDS.items():
            if getattr(metadata, name, None) is not None:
                found.append(words.format(f"{getattr(metadata, name):.15g}"))
    return ", ".join(found)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value in ((), {}) or dataclasses.is_dataclass(value):
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
