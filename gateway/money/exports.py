"""Tables of money as files: CSV that spreadsheets open safely, and Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.money.amounts import usd_text
from gateway.money.reports import Statement, StatementGroup, UsageRow

Cell = str | int | float | None
# A cell that begins so is a formula to a spreadsheet: team names and tags are other people's text.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


USAGE_COLUMNS = (
    "jobs_billed", "jobs_not_billed", "price_micros", "cost_micros", "margin_micros", "excess_micros", "loss_micros"
)  # fmt: skip
STATEMENT_COLUMNS = (
    "team", "period", "at", "kind", "job", "key", "route", "provider", "tags", "amount_micros", "amount_usd", "reason"
)  # fmt: skip
STATEMENT_SUMS = ("lines", "amount_micros", "amount_usd")


class ExportError(RuntimeError):
    """The file cannot be made here: the sentence says what to install."""


def usage_table(rows: Sequence[UsageRow]) -> list[dict[str, Cell]]:
    """A usage report as flat rows: the groups first, money in micro-USD."""
    return [
        {
            **row.group,
            "jobs_billed": row.jobs_billed,
            "jobs_not_billed": row.jobs_not_billed,
            "price_micros": row.price_micros,
            "cost_micros": row.cost_micros,
            "margin_micros": row.margin_micros,
            "excess_micros": row.excess_micros,
            "loss_micros": row.loss_micros,
        }
        for row in rows
    ]


def statement_table(statement: Statement) -> list[dict[str, Cell]]:
    """A statement as flat rows, one a line of the bill."""
    return [
        {
            "team": statement.team_id,
            "period": statement.period,
            "at": datetime.fromtimestamp(line.at, UTC).isoformat(timespec="seconds"),
            "kind": line.kind,
            "job": line.job_id,
            "key": line.key_id,
            "route": line.route,
            "provider": line.provider,
            "tags": ";".join(f"{name}={value}" for name, value in sorted(line.tags.items())),
            "amount_micros": line.amount_micros,
            "amount_usd": usd_text(line.amount_micros),
            "reason": line.reason,
        }
        for line in statement.lines
    ]


def statement_groups_table(groups: Sequence[StatementGroup]) -> list[dict[str, Cell]]:
    """A statement summed up, as flat rows: the groups first."""
    return [
        {
            **one.group,
            "lines": one.lines,
            "amount_micros": one.amount_micros,
            "amount_usd": usd_text(one.amount_micros),
        }
        for one in groups
    ]


def to_csv(table: Sequence[Mapping[str, Cell]], columns: Sequence[str] = ()) -> str:
    """Rows as CSV with a header; `columns` names them where there may be no rows. Text that looks like a formula is
    quoted with an apostrophe, amounts are not."""
    out = io.StringIO()
    names = list(columns or (table[0] if table else ()))
    writer = csv.DictWriter(out, names, lineterminator="\r\n")
    writer.writeheader()
    for row in table:
        writer.writerow({name: _safe(name, row.get(name)) for name in names})
    return out.getvalue()


def to_parquet(table: Sequence[Mapping[str, Cell]], columns: Sequence[str] = ()) -> bytes:
    """Rows as one Parquet file; `columns` names them where there may be no rows. Raises ExportError without pyarrow.

    A column is of whole numbers, of numbers or of text by its values; one of money is of whole numbers without any.
    """
    try:
        arrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        raise ExportError("Parquet needs pyarrow: install vidgate[parquet], or ask for CSV") from error
    sink = io.BytesIO()
    kinds = {int: arrow.int64(), float: arrow.float64(), str: arrow.string()}
    names = list(columns or (table[0] if table else ()))
    schema = arrow.schema([(name, kinds[_kind(name, table)]) for name in names])
    parquet.write_table(arrow.Table.from_pylist([dict(row) for row in table], schema=schema), sink)
    return sink.getvalue()


def _kind(name: str, table: Sequence[Mapping[str, Cell]]) -> type[int] | type[float] | type[str]:
    found = {type(row[name]) for row in table if row.get(name) is not None}
    if not found:
        return int if name.endswith("_micros") else str
    return str if str in found else float if float in found else int


def _safe(name: str, cell: Cell) -> Cell:
    if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS) and not name.endswith("_usd"):
        return f"'{cell}"
    return cell
