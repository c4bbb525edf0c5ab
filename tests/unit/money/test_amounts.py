"""Amounts of money: whole micro-USD or nothing."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.money.amounts import (
    AMOUNT_MAX_MICROS,
    AmountError,
    ceil_micros,
    micros_from_usd,
    nearest_micros,
    require_micros,
    usd_text,
)


@pytest.mark.parametrize("value", [-1, AMOUNT_MAX_MICROS + 1, 1.0, 1.5, float("nan"), float("inf"), True, "1", None])
def test_what_is_no_amount_is_refused(value: object) -> None:
    """Negative, huge, fractional, not a number and other types never become money."""
    with pytest.raises(AmountError, match="amount_micros"):
        require_micros(value)


@pytest.mark.parametrize(
    "text",
    [
        "-0.01",
        "NaN",
        "Infinity",
        "-Infinity",
        "",
        "one",
        "1e12",
        "1e999999999",
        "1,5",
        Decimal("sNaN"),
        0.1,
        True,
        None,
    ],
)
def test_dollars_that_are_no_amount_are_refused(text: object) -> None:
    """The way in from dollars takes exact, finite, sensible decimals only."""
    with pytest.raises(AmountError):
        micros_from_usd(text)  # type: ignore[arg-type]


def test_a_fraction_of_a_micro_is_refused_not_rounded() -> None:
    """An amount somebody wrote is taken exactly or not at all."""
    assert micros_from_usd("0.000001") == 1
    for text in ("0.0000005", "1." + "0" * 40 + "1", "1e-999999999"):
        with pytest.raises(AmountError, match="fraction"):
            micros_from_usd(text)


def test_prices_round_up_and_reports_round_to_the_nearest() -> None:
    """A price never loses a fraction; a vendor's long figure goes to the nearest micro."""
    assert ceil_micros(Decimal("0.0000001")) == 1
    assert ceil_micros(Decimal("0.000001")) == 1
    assert nearest_micros(Decimal("0.0000014")) == 1
    assert nearest_micros(Decimal("0.0000016")) == 2


@given(st.integers(0, AMOUNT_MAX_MICROS))
def test_shown_dollars_read_back_as_the_same_amount(micros: int) -> None:
    """What is shown is exact."""
    assert micros_from_usd(usd_text(micros)) == micros


def test_negative_dollars_show_their_sign_once() -> None:
    """A refund reads as one."""
    assert usd_text(-1_500_000) == "-1.50"
    assert usd_text(-1) == "-0.000001"
