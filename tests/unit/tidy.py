"""The project's own files as syntax trees, and the small questions that the tidy tests ask of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE_FOLDERS = ("gateway", "policies", "providers")
# What a reader is asked to read: the product, its tests, what measures it and what shows it.
ALL_FOLDERS = (*SOURCE_FOLDERS, "tests", "bench", "examples")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, eq=False)
class File:
    """A Python file of the project. `name` is its path from the root."""

    name: str
    text: str
    tree: ast.Module

    @property
    def lines(self) -> list[str]:
        """The lines of the file."""
        return self.text.splitlines()

    def at(self, node: ast.AST) -> str:
        """Where a node stands, for people."""
        return f"{self.name}:{getattr(node, 'lineno', 1)}"

    def line(self, node: ast.AST) -> str:
        """The text of the line on which a node begins."""
        return self.lines[getattr(node, "lineno", 1) - 1]

    def functions(self) -> Iterator[Function]:
        """Every function and method, however deep."""
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))

    def calls(self) -> Iterator[tuple[str, ast.Call]]:
        """Every call with the dotted name of what is called."""
        return ((dotted(node.func), node) for node in ast.walk(self.tree) if isinstance(node, ast.Call))

    def imports(self) -> Iterator[tuple[str, ast.AST]]:
        """Every imported module, and every name imported from one, dotted."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, node) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.at(node)}: a relative import"
                yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)

    def is_under(self, *places: str) -> bool:
        """Whether the file lies in one of these folders or is one of these files."""
        return any(self.name == place or self.name.startswith(place.rstrip("/") + "/") for place in places)


def dotted(node: ast.AST) -> str:
    """`a.b.c` for such an expression; the last parts for one that begins otherwise; empty for what has no name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def code_lines(file: File) -> int:
    """Lines that hold code: blank lines, comments and docstrings are not counted."""
    prose: set[int] = set()
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Module | ast.ClassDef | Function) and ast.get_docstring(node) is not None:
            first = node.body[0]
            prose.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    numbered = enumerate(file.lines, 1)
    return sum(bool(line.strip()) and not line.strip().startswith("#") and n not in prose for n, line in numbered)


def parameters(function: Function, *, is_method: bool) -> list[ast.arg]:
    """The parameters that a caller gives: without self or cls, star arguments counted once each."""
    spec = function.args
    named = [*spec.posonlyargs, *spec.args]
    return [*named[is_method:], *spec.kwonlyargs, *filter(None, (spec.vararg, spec.kwarg))]


@cache
def methods(file: File) -> frozenset[Function]:
    """The functions that take self or cls."""
    classes = (node for node in ast.walk(file.tree) if isinstance(node, ast.ClassDef))
    found = (item for each in classes for item in each.body if isinstance(item, Function))
    return frozenset(item for item in found if "staticmethod" not in map(dotted, item.decorator_list))


def public(file: File) -> Iterator[ast.ClassDef | Function]:
    """Every class, function and method that can be called by its name from outside its file."""
    todo: list[ast.Module | ast.ClassDef] = [file.tree]
    while todo:
        for node in todo.pop().body:
            if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
                yield node
                if isinstance(node, ast.ClassDef):
                    todo.append(node)


@cache
def files(*folders: str) -> tuple[File, ...]:
    """Every Python file under these folders of the project."""
    paths = sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    texts = ((str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")) for path in paths)
    return tuple(File(name, text, ast.parse(text)) for name, text in texts)
