"""How a fault in the configuration is said: where it is, what is wrong and what mends it."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError

KeyPath = tuple[str | int, ...]
UNKNOWN_KEY = frozenset({"extra_forbidden", "unexpected_keyword_argument"})
KEYS_LISTED_MAX = 12


def place(path: KeyPath) -> str:
    """A path of keys as people write it, such as `jobs.lease_s`."""
    return ".".join(str(part) for part in path)


@dataclass(frozen=True, slots=True)
class ConfigurationProblem:
    """One fault. `path` is the path of keys in the file; `line` counts from 1 and is None when nobody knows it."""

    path: KeyPath
    detail: str
    line: int | None = None

    def text(self, source: str) -> str:
        """The fault on one line, as compilers write it."""
        where = source if self.line is None else f"{source}:{self.line}"
        return ": ".join(part for part in (where, place(self.path), self.detail) if part)


@dataclass(frozen=True, slots=True)
class ConfigurationWarning:
    """Something that works less well than it may seem, and what would mend it."""

    path: KeyPath
    detail: str


class ConfigurationError(Exception):
    """A configuration that may not be started, with every fault that was found."""

    def __init__(self, source: str, problems: Sequence[ConfigurationProblem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join(problem.text(source) for problem in self.problems))


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one, or all of them when they are few."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    if not names:
        return "there are none"
    shown = ", ".join(names[:KEYS_LISTED_MAX]) + (", ..." if len(names) > KEYS_LISTED_MAX else "")
    return f"known are: {shown}"


def problems_of(error: ValidationError, model: type[BaseModel], prefix: KeyPath = ()) -> list[ConfigurationProblem]:
    """The faults that a model found, in the words of this file; no value is repeated, for it may be a secret."""
    return [
        ConfigurationProblem(prefix + fault["loc"], _sentence(fault["type"], fault["msg"], model, fault["loc"]))
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def _sentence(kind: str, message: str, model: type[BaseModel], path: KeyPath) -> str:
    if kind in UNKNOWN_KEY:
        return f"unknown key; {nearest(str(path[-1]), _keys(model, path[:-1]))}"
    if kind == "missing":
        about = _description(model, path)
        return f"is required ({about})" if about else "is required"
    text = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    text = text.replace("Input should be", "must be", 1).replace("should have", "must have", 1)
    return text[:1].lower() + text[1:]


def _keys(model: Any, path: KeyPath) -> Sequence[str]:
    """The keys that a section may have; none where the section is not a model."""
    if dataclasses.is_dataclass(model):
        return [field.name for field in dataclasses.fields(model)]
    if not _is_model(model):
        return []
    if not path:
        return list(model.model_fields)
    field = model.model_fields.get(str(path[0]))
    return _keys(field.annotation, path[1:]) if field else []


def is_secret(model: Any, path: KeyPath) -> bool:
    """Whether a setting of a model is a secret, which is never written into a file."""
    kinds = (model, *get_args(model))
    if not path:
        return SecretStr in kinds
    if isinstance(path[0], int):
        return any(is_secret(kind, path[1:]) for kind in kinds[1:])
    fields = [kind.model_fields.get(path[0]) for kind in kinds if _is_model(kind)]
    return any(is_secret(field.annotation, path[1:]) for field in fields if field is not None)


def _is_model(model: Any) -> bool:
    return isinstance(model, type) and issubclass(model, BaseModel)


def _description(model: type[BaseModel], path: KeyPath) -> str:
    field = model.model_fields.get(str(path[0])) if path else None
    if field is None:
        return ""
    if len(path) > 1 and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
        return _description(field.annotation, path[1:])
    return (field.description or "").rstrip(".")
