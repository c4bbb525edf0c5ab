"""The hostile files, opened in the gateway's own workers, and what each costs: `python -m tests.corpus`.

python -m tests.corpus            open every file, print the table
python -m tests.corpus --make     write the files and their page anew
python -m tests.corpus --quick --json FILE
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import structlog
from rich.console import Console
from rich.table import Table

from tests.corpus.cases import CASES, FOLDER, PAGE, builders, page, read
from tests.corpus.measured import Row, measure


def make() -> None:
    """Write every file and the page."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    for name, build in builders().items():
        (FOLDER / name).write_bytes(build())
    PAGE.write_text(page(), encoding="utf-8")


def show(rows: list[Row], grown_mib: float) -> Table:
    """The table for people."""
    table = Table(title=f"{len(rows)} hostile files; this process grew by {grown_mib:.1f} MiB over all of them")
    figures = ("MiB", "cpu s", "wall s")
    for column in ("file", "bytes", "picture", *figures, "delivered", *figures):
        table.add_column(column, justify="right" if column in {"bytes", *figures} else "left")
    for row in rows:
        costs = (
            (
                cost.verdict + (" †" if cost.ended else ""),
                f"{cost.memory_mib:.1f}",
                f"{cost.cpu_s:.2f}",
                f"{cost.wall_s:.2f}",
            )
            for cost in (row.taken_in, row.delivered)
        )
        table.add_row(row.name, f"{row.size_bytes:,}", *(text for cost in costs for text in cost))
    table.caption = f"† the worker ended over it; the dearest: {dearest(rows)}"
    return table


def dearest(rows: list[Row]) -> str:
    """The highest of each figure over all files."""
    costs = [cost for row in rows for cost in (row.taken_in, row.delivered)]
    memory_mib, cpu_s, wall_s = (
        max(getattr(cost, name) for cost in costs) for name in ("memory_mib", "cpu_s", "wall_s")
    )
    return f"{memory_mib:.1f} MiB, {cpu_s:.2f} s of a processor, {wall_s:.2f} s on the wall"


def main() -> None:
    """Read the command line and do it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--make", action="store_true", help="write the files and their page anew")
    parser.add_argument(
        "--quick", action="store_true", help="a loop ends after two seconds of a processor, not after five"
    )
    parser.add_argument("--json", type=Path, help="write the figures into this file")
    given = parser.parse_args()
    if given.make:
        make()
        return
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())  # the table says what the log would
    rows, grown_mib = measure({name: read(name) for name in CASES}, quick=given.quick)
    if given.json is not None:
        given.json.write_text(json.dumps({"rows": [asdict(row) for row in rows], "grown_mib": grown_mib}))
    else:
        Console(width=160).print(show(rows, grown_mib))


if __name__ == "__main__":
    main()
