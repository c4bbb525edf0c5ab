"""Every `vidgate` command in the README and the docs is one that the command line takes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from gateway.cli.main import COMMANDS, program

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
# A line of an indented block, without its comment; one with a choice, an ellipsis or a pipe is a form and no command.
LINE = re.compile(r"^ {4,}(?:\$ )?((?:\.venv/bin/)?vidgate [^#`\n]*[^#`\s])[ ]*(?:#.*)?$", re.MULTILINE)
FORM = re.compile(r"[|\\<>&;…\[\]]|\.\.\.")


def commands() -> Iterator[object]:
    """The commands of every page."""
    for page in PAGES:
        for line in LINE.findall(page.read_text()):
            if not FORM.search(line):
                yield pytest.param(line.strip(), id=f"{page.stem}: {line.strip()}")


@pytest.mark.parametrize("line", list(commands()))
def test_a_documented_command_is_taken(line: str) -> None:
    """Read to its last word, and not run."""
    command: Any = typer.main.get_command(program(COMMANDS))
    assert isinstance(command, TyperGroup)
    words = shlex.split(line)[1:]
    while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
        name = words.pop(0)
        assert name in command.commands, f"there is no command {name!r}"
        command = command.commands[name]
    if not isinstance(command, TyperGroup) and not {"--help", "-h"} & set(words):
        command.make_context("vidgate", words)


def test_there_are_commands_to_look_at() -> None:
    """The README alone has some."""
    assert len(list(commands())) >= 15
