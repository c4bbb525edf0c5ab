"""How the command line speaks: results on standard output, everything else on standard error, JSON on request."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.text import Text

from gateway.cli.exit_codes import CommandError
from gateway.cli.fitting import FittingTable
from gateway.config_errors import ConfigurationError, place

MICROS = 1_000_000
PIPE_WIDTH = 10_000
STATUS_STYLES: Mapping[str, str] = {
    "succeeded": "green",
    "captured": "green",
    "closed": "green",
    "accepted": "cyan",
    "running": "cyan",
    "queued": "cyan",
    "held": "cyan",
    "in_doubt": "yellow",
    "half_open": "yellow",
    "failed": "red",
    "expired": "red",
    "canceled": "yellow",
    "open": "red",
    "passed": "green",
    "renamed": "green",
    "converted": "cyan",
    "moved": "yellow",
    "dropped": "red",
    "defaulted": "dim",
}


def result_console() -> Console:
    """Where the result of a command goes: standard output. In a pipe no line is wrapped, unless COLUMNS is set."""
    unbounded = not sys.stdout.isatty() and not os.environ.get("COLUMNS")
    return Console(highlight=False, width=PIPE_WIDTH if unbounded else None)


def note_console() -> Console:
    """Where progress, hints and errors go: standard error, so that a pipe sees results alone."""
    return Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """A value as JSON on standard output, as a machine may read it."""
    result_console().print(json.dumps(value, indent=2, ensure_ascii=False), markup=False, soft_wrap=True)


def usd(micros: int | None) -> str:
    """Micro-USD as dollars, exactly, with at least two decimals."""
    if micros is None:
        return "-"
    amount = Decimal(micros) / MICROS
    decimals = max(2, -int(amount.normalize().as_tuple().exponent))
    return f"{'-' if amount < 0 else ''}${abs(amount):.{decimals}f}"


def duration(seconds: float | None) -> str:
    """A time as people say it: tenths under ten seconds, minutes from two minutes on."""
    if seconds is None:
        return "-"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    return f"{int(seconds + 0.5) // 60} min {int(seconds + 0.5) % 60:02d} s"


def size(size_bytes: int) -> str:
    """Bytes as people say them."""
    for unit, factor in (("MB", 1_000_000), ("kB", 1_000)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.1f} {unit}"
    return f"{size_bytes} bytes"


def state(word: str) -> Text:
    """A state in its colour."""
    return Text(word.replace("_", " "), style=STATUS_STYLES.get(word, ""))


def table(*columns: str, title: str = "", spare: Sequence[str] = ()) -> FittingTable:
    """An empty table in the one style of this command line; a column that begins with `>` is set to the right.

    Where there is no room for all columns, those in `spare` are left out, the first one first.
    """
    return FittingTable(columns, title=title, spare=spare)


def show_command_error(error: CommandError) -> None:
    """Say what happened and what mends it."""
    console = note_console()
    console.print(Text.assemble(("error: ", "bold red"), error.what))
    if error.mend:
        console.print(Text.assemble(("  try: ", "bold"), error.mend))


def show_configuration_error(error: ConfigurationError) -> None:
    """List every fault of a configuration, each with its line."""
    console = note_console()
    count = len(error.problems)
    console.print(
        Text.assemble(("error: ", "bold red"), f"{error.source} cannot be used, {count} fault{'s' * (count != 1)}:")
    )
    for problem in error.problems:
        line = "" if problem.line is None else f"line {problem.line}: "
        console.print(Text.assemble("  ", (line, "dim"), (place(problem.path), "bold"), f": {problem.detail}"))
