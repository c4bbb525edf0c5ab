"""Files of usage and statements: exact amounts, and text that no spreadsheet runs."""

from __future__ import annotations

import csv
import importlib.util
import io

import pytest
from sqlalchemy import Connection

from gateway.money import ledger
from gateway.money.exports import ExportError, statement_table, to_csv, to_parquet, usage_table
from gateway.money.reports import UsageQuery, statement, usage
from tests.unit.money.builders import NOON, billed

HAS_PYARROW = importlib.util.find_spec("pyarrow") is not None


def read(text: str) -> list[dict[str, str]]:
    """CSV as rows."""
    return list(csv.DictReader(io.StringIO(text)))


def test_a_statement_is_readable_as_csv(connection: Connection) -> None:
    """Amounts in micros and in dollars, times in UTC."""
    billed(connection, "h", price=165_900, cost=100, tags={"project": "red, green"})
    (row,) = read(to_csv(statement_table(statement(connection, "beta", "2026-10"))))
    assert (row["amount_micros"], row["amount_usd"]) == ("165900", "0.1659")
    assert (row["at"], row["tags"]) == ("2026-10-01T12:01:00+00:00", "project=red, green")


def test_a_usage_report_is_readable_as_csv(connection: Connection) -> None:
    """Groups first, then the counts."""
    billed(connection, "h", price=100, cost=80)
    rows = usage(connection, UsageQuery(NOON, NOON + 3600, group_by=("team", "route")))
    (row,) = read(to_csv(usage_table(rows)))
    assert list(row.values()) == ["beta", "vendor/model", "1", "0", "100", "80", "20", "0", "0"]


@pytest.mark.parametrize("evil", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_text_never_becomes_a_formula(evil: str) -> None:
    """What begins like a formula is shown as text."""
    assert read(to_csv([{"tag": evil, "amount_micros": -5, "amount_usd": "-0.000005"}])) == [
        {"tag": f"'{evil}", "amount_micros": "-5", "amount_usd": "-0.000005"}
    ]


def test_a_refund_stays_a_number(connection: Connection) -> None:
    """A negative amount is no formula."""
    billed(connection, "h", price=100, cost=80)
    ledger.correct(connection, ledger.Correction("c", "margin", "team:beta", 10, NOON, "goodwill", hold_id="h"))
    row = read(to_csv(statement_table(statement(connection, "beta", "2026-10"))))[0]
    assert (row["amount_micros"], row["amount_usd"]) == ("-10", "-0.00001")


def test_an_empty_table_has_its_header() -> None:
    """No rows, but a file that says what would be in it."""
    assert to_csv([], ["team", "price_micros"]) == "team,price_micros\r\n"


@pytest.mark.skipif(not HAS_PYARROW, reason="pyarrow is not installed: it is an optional part")
def test_parquet_holds_the_same_rows(connection: Connection) -> None:
    """A Parquet file reads back as the table."""
    from pyarrow import parquet  # type: ignore[import-not-found]

    billed(connection, "h", price=100, cost=80)
    table = usage_table(usage(connection, UsageQuery(NOON, NOON + 3600, group_by=("team",))))
    assert parquet.read_table(io.BytesIO(to_parquet(table))).to_pylist() == table


@pytest.mark.skipif(not HAS_PYARROW, reason="pyarrow is not installed: it is an optional part")
def test_a_parquet_file_of_nothing_has_the_columns_of_one_with_rows() -> None:
    """So that files of many months can be read as one table; money is whole numbers in each."""
    from pyarrow import parquet

    columns = ("team", "price_micros", "runway_h")
    empty, blank, full = (
        parquet.read_schema(io.BytesIO(to_parquet(rows, columns)))
        for rows in (
            [],
            [{"team": None, "price_micros": None}],
            [{"team": None, "price_micros": None, "runway_h": 1}, {"team": "a", "price_micros": 5, "runway_h": 0.5}],
        )
    )
    assert empty.names == blank.names == full.names == list(columns)
    assert [str(field.type) for field in full] == ["string", "int64", "double"]
    assert str(empty.field("price_micros").type) == str(blank.field("price_micros").type) == "int64"


@pytest.mark.skipif(HAS_PYARROW, reason="pyarrow is installed here")
def test_parquet_without_its_library_says_what_to_install() -> None:
    """The refusal is a sentence that helps."""
    with pytest.raises(ExportError, match="pyarrow"):
        to_parquet([{"a": 1}])
