"""How money, times and sizes are written, and where errors go."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.cli.output import duration, print_json, show_command_error, show_configuration_error, size, state, usd
from gateway.config_errors import ConfigurationError, ConfigurationProblem


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "$0.00"),
        (165_900, "$0.1659"),
        (200_000, "$0.20"),
        (1_000_000, "$1.00"),
        (3_310, "$0.00331"),
        (-165_900, "-$0.1659"),
        (1, "$0.000001"),
        (10_000_000, "$10.00"),
        (123_456_789_000_000, "$123456789.00"),
        (None, "-"),
    ],
)
def test_money_is_written_exactly_with_at_least_cents(micros: int | None, text: str) -> None:
    """No digit is lost and no more are shown than there are."""
    assert usd(micros) == text


@given(st.integers(-(10**15), 10**15))
def test_no_amount_is_rounded(micros: int) -> None:
    """What is shown reads back as the same number of micro-USD."""
    assert Decimal(usd(micros).replace("$", "")) * 1_000_000 == micros


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (31.4, "31 s"),
        (119.4, "119 s"),
        (119.6, "2 min 00 s"),
        (3599.6, "60 min 00 s"),
    ],
)
def test_times_are_written_as_people_say_them(seconds: float | None, text: str) -> None:
    """Tenths when short, minutes when long, and never 60 seconds beside a minute."""
    assert duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(999, "999 bytes"), (1_000, "1.0 kB"), (2_340_000, "2.3 MB")])
def test_sizes_are_written_with_their_unit(count: int, text: str) -> None:
    """Decimal units, as vendors and browsers use."""
    assert size(count) == text


def test_a_state_is_words_and_an_unknown_one_is_shown_all_the_same() -> None:
    """Colour is an extra; the word is what counts."""
    assert state("in_doubt").plain == "in doubt"
    assert state("something_new").plain == "something new"


def test_json_goes_to_standard_output_whole_and_unwrapped(capsys: pytest.CaptureFixture[str]) -> None:
    """Long values and brackets that look like markup survive."""
    value = {"long": "x" * 500, "markup": "[bold]no[/]", "umlaut": "ü"}
    print_json(value)
    captured = capsys.readouterr()
    assert json.loads(captured.out) == value
    assert captured.err == ""


def test_an_error_goes_to_standard_error_with_what_mends_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output stays clean for results; text from elsewhere is not read as markup."""
    show_command_error(CommandError(ExitCode.USAGE, "no [picture]", "another [one]"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: no [picture]\n  try: another [one]\n"


def test_every_fault_of_a_configuration_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """With its line where there is one, and the count in front."""
    problems = [ConfigurationProblem(("a", "b"), "is wrong", 3), ConfigurationProblem(("c",), "is missing")]
    show_configuration_error(ConfigurationError("x.yaml", problems))
    assert capsys.readouterr().err.splitlines() == [
        "error: x.yaml cannot be used, 2 faults:",
        "  line 3: a.b: is wrong",
        "  c: is missing",
    ]
    show_configuration_error(ConfigurationError("x.yaml", problems[:1]))
    assert "1 fault:" in capsys.readouterr().err
