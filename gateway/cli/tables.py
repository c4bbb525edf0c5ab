"""Rows in every form that a command can print them in: a table for people, JSON, CSV or Parquet for machines."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.text import Text

from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.cli.options import AsJson
from gateway.cli.output import note_console, print_json, result_console, table, usd
from gateway.money.exports import Cell, ExportError, to_csv, to_parquet

MONEY = "_micros"


@dataclasses.dataclass(frozen=True)
class Form:
    """The form of the output; a table when nothing is said."""

    as_json: AsJson = False
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV on standard output, for spreadsheets.")] = False
    parquet: Annotated[
        Optional[Path],  # noqa: UP045 - read at run time
        typer.Option("--parquet", metavar="FILE", help="Write a Parquet file."),
    ] = None


def show_rows(
    form: Form, rows: Sequence[Mapping[str, Cell]], *, title: str, columns: Sequence[str], shown: Any = None
) -> None:
    """Print rows; `shown` is what JSON says when it is more than the rows. Money columns end in `_micros`."""
    if form.parquet is not None:
        try:
            form.parquet.write_bytes(to_parquet(rows, columns))
        except ExportError as error:
            raise CommandError(ExitCode.USAGE, str(error)) from error
        note_console().print(f"{len(rows)} rows in [bold]{form.parquet}[/]")
    elif form.as_json:
        print_json(list(map(dict, rows)) if shown is None else shown)
    elif form.as_csv:
        sys.stdout.write(to_csv(rows, columns))
    else:
        _show_table(rows, title, columns)


def _show_table(rows: Sequence[Mapping[str, Cell]], title: str, columns: Sequence[str]) -> None:
    numbers = {name for name in columns if any(isinstance(row.get(name), int | float) for row in rows)}
    made = table(*(f">{_heading(name)}" if name in numbers else _heading(name) for name in columns), title=title)
    for row in rows:
        made.add_row(*(Text(_cell(name, row.get(name))) for name in columns))
    result_console().print(made)
    if not rows:
        result_console().print("nothing", style="dim")


def _heading(name: str) -> str:
    return name.removesuffix(MONEY).replace("_", " ")


def _cell(name: str, value: Cell) -> str:
    if name.endswith(MONEY) and (value is None or isinstance(value, int)):
        return usd(value)
    if isinstance(value, float):
        return f"{value:.2f}"
    return "-" if value is None or value == "" else str(value)
