"""Tables that fit: what a person copies out of one is whole, whatever the width of the terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gateway.cli.fitting import FittingTable
from gateway.cli.generate import show_routes
from gateway.cli.output import result_console, usd

IDS = st.integers(0, 2**128 - 1).map(lambda number: f"budget_{number:032x}")
AMOUNTS = st.integers(-(10**12), 10**12).map(usd)
WORDS = st.lists(st.sampled_from(["a", "render", "submitted", "and", "polled", "segmind/motionctrl-svd-sync"]))


def shown(table: FittingTable, width: int) -> list[str]:
    """The lines of a table on a terminal of this width."""
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(table)
    return out.getvalue().splitlines()


@given(st.lists(st.tuples(IDS, AMOUNTS, AMOUNTS, WORDS), min_size=1, max_size=4), st.integers(60, 200))
def test_no_amount_identifier_or_word_is_broken_and_no_line_is_too_wide(
    rows: list[tuple[str, str, str, list[str]]], width: int
) -> None:
    """In a table, and in the blocks that stand for one that would not fit."""
    table = FittingTable(["budget", ">spent so far", ">held", "why"], title="Budgets")
    for name, spent, held, words in rows:
        table.add_row(name, spent, held, " ".join(words))
    lines = shown(table, width)
    assert max(map(len, lines)) <= width
    pieces = [piece for line in lines for piece in line.split()]
    for name, spent, held, words in rows:
        assert {name, spent, held, *words} <= set(pieces)


def test_prose_wraps_before_anything_else_gives_way() -> None:
    """A long reason takes several lines; the amount beside it stays in its column."""
    table = FittingTable(["route", ">price", "why"])
    table.add_row("acme/svd", "$0.165900", "the cheapest route that is likely to be in time before the deadline")
    lines = shown(table, 60)
    assert len(lines) == 4
    assert "acme/svd  $0.165900  the cheapest route that is likely to" in lines[2]


def test_a_long_text_that_is_set_to_the_right_wraps_too() -> None:
    """A prompt stands in a column of numbers, and does not take the table apart."""
    table = FittingTable(["parameter", ">asked", "outcome"])
    table.add_row("num_frames", "14", "passed")
    table.add_row("prompt", "waves that roll in slowly under a low sun, filmed from a pier " * 4, "passed")
    lines = shown(table, 80)
    assert "parameter" in lines[0]
    assert len(lines) > 6


def test_a_table_that_cannot_fit_becomes_a_block_for_each_row() -> None:
    """Every value has its own line, beside its name."""
    table = FittingTable(["job", ">price", "team"])
    for number in range(2):
        table.add_row("job_" + "0" * 32, f"$0.16590{number}", "film")
    lines = [line.rstrip() for line in shown(table, 44)]
    assert lines == [
        "job    job_" + "0" * 32, "price  $0.165900", "team   film", "",
        "job    job_" + "0" * 32, "price  $0.165901", "team   film",
    ]  # fmt: skip


def test_the_sum_under_a_column_is_shown_in_both_layouts() -> None:
    """A table without its sum would not say whether the books add up."""
    table = FittingTable(["account", ">balance"])
    table.add_row("provider segmind " + "x" * 30, "$1.00")
    table.columns[0].footer, table.columns[1].footer = "sum", "$0.000001"
    for width in (80, 30):
        assert any("$0.000001" in line for line in shown(table, width))


def route(name: str) -> dict[str, Any]:
    """A route as a gateway lists it."""
    return {
        "name": name,
        "media": "video",
        "price": {"usual_micros": 165_900},
        "statistics": {"p50_s": 128.0, "p95_s": 31.0, "success_rate": 0.97, "breaker": "half_open"},
        "credit": {"balance_micros": 100_834_100, "runway_h": 607.8},
        "in_flight": 3,
        "summary": "Stable Video Diffusion with eight camera moves, submitted and polled (v2)",
    }


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_route_is_one_line_of_a_narrow_terminal(width: int, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Price, times and breaker stay; what there is no room for is named, with how to see it."""
    monkeypatch.setenv("COLUMNS", str(width))
    show_routes([route("segmind/motionctrl-svd-sync"), route("segmind/svd")])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    (svd,) = [line for line in lines if "segmind/svd" in line]
    for shown_value in ("$0.1659", "2 min 08 s", "half open"):
        assert shown_value in svd
    assert "no room for" in lines[-1]
    assert "summary" in lines[-1]
    assert len(lines) == 5


def test_every_column_of_the_routes_is_shown_where_there_is_room(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """On a wide terminal nothing is left out."""
    monkeypatch.setenv("COLUMNS", "200")
    show_routes([route("segmind/svd")])
    out = capsys.readouterr().out
    assert "no room for" not in out
    assert route("")["summary"] in out


def test_a_pipe_gets_a_line_for_each_row_and_obeys_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What reads lines reads whole rows; `watch` and others that set COLUMNS are obeyed."""
    monkeypatch.delenv("COLUMNS", raising=False)
    table = FittingTable(["budget", "why"])
    table.add_row("budget_1", "word " * 100)
    result_console().print(table)
    assert len(capsys.readouterr().out.splitlines()) == 3
    monkeypatch.setenv("COLUMNS", "80")
    result_console().print(table)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 3
    assert max(map(len, lines)) <= 80
