"""What the reports over many jobs share: charts in the file that an option names, and money in cents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.cli.output import MICROS, note_console


def _page_file(file: Path | None) -> Path | None:
    """Refuse another ending before anything is computed."""
    if file is not None and file.suffix.lower() not in {".html", ".htm"}:
        raise typer.BadParameter(f"charts are written as .html, not {file.suffix or 'without an ending'}")
    return file


PlotFile = Annotated[
    Optional[Path],  # noqa: UP045 - read at run time
    typer.Option(
        "--plot",
        metavar="FILE.html",
        callback=_page_file,
        help="Write charts to this file: one HTML page that needs nothing else.",
    ),
]


def dollars(micros: int | None) -> str:
    """A sum over many jobs, to the cent."""
    return "-" if micros is None else f"{'-' if micros < 0 else ''}${abs(micros) / MICROS:,.2f}"


def write_plot(file: Path, html: str) -> None:
    """Write a page of charts. Raises CommandError when it cannot be written."""
    try:
        file.write_text(html, encoding="utf-8")
    except OSError as error:
        raise CommandError(ExitCode.USAGE, f"{file} cannot be written: {error.strerror}") from error
    note_console().print(f"charts in [bold]{file}[/]")
