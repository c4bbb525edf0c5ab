"""The configuration file as plain values: YAML, `${NAME}` from the environment, and the line of everything.

`${NAME}` must be set and not empty, `${NAME:-default}` need not be, and `$$` is a dollar sign. A value that was filled
in stays text until its setting's type reads it, so that a secret made of digits does not become a number. One that
comes out empty counts as not written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from gateway.config_errors import ConfigurationError, ConfigurationProblem, KeyPath

REFERENCE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\}|(?P<broken>\{))")
MERGE_KEY = "tag:yaml.org,2002:merge"
VALUES_MAX = 20_000  # aliases can make millions out of a few lines
NO_SUCH_VALUE = (ValueError, KeyError, IndexError, AttributeError, TypeError, OverflowError)


class _NotWritten:
    """The value of a reference that came out empty."""


NOT_WRITTEN = _NotWritten()


@dataclass(frozen=True, slots=True)
class Document:
    """A file's values, the line of each path of keys, and the faults found while reading."""

    values: dict[str, Any]
    lines: Mapping[KeyPath, int]
    problems: tuple[ConfigurationProblem, ...]

    def line(self, path: KeyPath) -> int | None:
        """The line of a path, or of the nearest part of it that was written."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return None


def read_document(
    text: str, source: str, environment: Mapping[str, str], is_secret: Callable[[KeyPath], bool] = lambda path: False
) -> Document:
    """Read a YAML text whose top is a mapping. Raises ConfigurationError when it cannot be read at all.

    `is_secret` says of which settings no default is to be written into the file.
    """
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        reader = _Reader(loader, environment, is_secret)
        values = reader.value(root, ()) if root else {}
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        detail = f"is not YAML: {error.problem or error.context or 'it cannot be read'}"
        raise ConfigurationError(source, [ConfigurationProblem((), detail, line)]) from error
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:  # such as the escape "\\UFFFFFFFF"
        raise ConfigurationError(source, [ConfigurationProblem((), f"is not YAML: {error}")]) from error
    if values is not None and not isinstance(values, dict):
        raise ConfigurationError(source, [ConfigurationProblem((), "must hold `section: ...` lines at its top", 1)])
    return Document(values or {}, reader.lines, tuple(reader.problems))


@dataclass(slots=True)
class _Reader:
    """Turns YAML nodes into values, remembering lines and faults. Nodes and not objects, for only nodes know lines."""

    loader: yaml.SafeLoader
    environment: Mapping[str, str]
    is_secret: Callable[[KeyPath], bool]
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[ConfigurationProblem] = field(default_factory=list)
    _open: set[int] = field(default_factory=set)
    _values: int = 0

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self._values += 1
        if self._values > VALUES_MAX:
            raise yaml.constructor.ConstructorError(problem="too many values", problem_mark=node.start_mark)
        if id(node) in self._open:
            raise yaml.constructor.ConstructorError(problem="an alias contains itself", problem_mark=node.start_mark)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return self._sequence(node, path)
            return self._scalar(node, path)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        self._refuse_duplicates(node, path)
        self.loader.flatten_mapping(node)
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            value = self.value(value_node, (*path, key))
            if value is not NOT_WRITTEN:
                values[key] = value
        return values

    def _refuse_duplicates(self, node: yaml.MappingNode, path: KeyPath) -> None:
        """YAML readers let the last of two equal keys win in silence; here that is a fault."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                mark = key_node.start_mark
                raise yaml.constructor.ConstructorError(problem="a key must be a word", problem_mark=mark)
            if key_node.tag != MERGE_KEY and key_node.value in seen:
                line = key_node.start_mark.line + 1
                self.problems.append(ConfigurationProblem((*path, str(key_node.value)), "is written twice", line))
            seen.add(str(key_node.value))

    def _sequence(self, node: yaml.SequenceNode, path: KeyPath) -> list[Any]:
        values = []
        for index, item in enumerate(node.value):
            self.lines[(*path, index)] = item.start_mark.line + 1
            value = self.value(item, (*path, index))
            if value is not NOT_WRITTEN:
                values.append(value)
        return values

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        if "$" not in node.value:
            try:
                return self.loader.construct_object(node)
            except NO_SUCH_VALUE as error:  # such as the date 2026-02-31, or !!bool maybe
                detail = f"is no {node.tag.rpartition(':')[2]}: {error}"
                raise yaml.constructor.ConstructorError(problem=detail, problem_mark=node.start_mark) from error
        filled = REFERENCE.sub(lambda match: self._fill(match, path, node.start_mark.line + 1), node.value)
        return filled or NOT_WRITTEN

    def _fill(self, match: re.Match[str], path: KeyPath, line: int) -> str:
        if match["dollar"]:
            return "$"
        if match["broken"]:
            detail = "`${` begins a reference: write ${NAME}, ${NAME:-default}, or $${ for the characters themselves"
            self.problems.append(ConfigurationProblem(path, detail, line))
            return "?"
        value = self.environment.get(match["name"]) or match["default"]
        if value is None:
            state = "empty" if match["name"] in self.environment else "not set"
            mend = "set it" if self.is_secret(path) else f"set it, or write ${{{match['name']}:-default}}"
            detail = f"the environment variable {match['name']} is {state}; {mend}"
            self.problems.append(ConfigurationProblem(path, detail, line))
            return "?"
        return value
