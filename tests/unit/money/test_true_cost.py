"""What an attempt cost: the vendor's word before the balance, the balance before the book."""

from __future__ import annotations

import pytest

from gateway.money.amounts import AmountError
from gateway.money.true_cost import SOURCES, BalanceDelta, TrueCost, true_cost


def fell(by: int, *, alone: bool = True) -> BalanceDelta:
    """A balance that went from 10,000 down by this."""
    return BalanceDelta(10_000, 10_000 - by, alone)


@pytest.mark.parametrize(
    ("reported", "balance", "expected"),
    [
        (120, fell(110), TrueCost(120, "reported")),
        (0, fell(110), TrueCost(0, "reported")),
        (None, fell(110), TrueCost(110, "balance")),
        (None, fell(500), TrueCost(500, "balance")),
        (None, fell(501), TrueCost(100, "book")),
        (None, fell(110, alone=False), TrueCost(100, "book")),
        (None, fell(0), TrueCost(100, "book")),
        (None, fell(-300), TrueCost(100, "book")),
        (None, None, TrueCost(100, "book")),
    ],
)
def test_the_best_known_figure_is_taken(reported: int | None, balance: BalanceDelta | None, expected: TrueCost) -> None:
    """A balance counts only when it fell, by a believable amount, while nothing else could be charged."""
    assert true_cost(reported_micros=reported, balance=balance, book_micros=100) == expected
    assert expected.source in SOURCES


@pytest.mark.parametrize("amount", [-1, 10**16, 1.5])
def test_an_impossible_figure_of_our_own_is_refused(amount: int) -> None:
    """The book is ours: a figure there that is no amount is a fault."""
    with pytest.raises(AmountError):
        true_cost(reported_micros=None, balance=None, book_micros=amount)


@pytest.mark.parametrize("amount", [-1, 1.5, float("inf"), True, "90"])
def test_what_a_vendor_reports_and_is_no_amount_was_not_reported(amount: int) -> None:
    """A vendor's figure never raises: the next best one is taken."""
    assert true_cost(reported_micros=amount, balance=fell(110), book_micros=100) == TrueCost(110, "balance")


@pytest.mark.parametrize(
    ("reported", "measured", "expected"),
    [
        (500, None, TrueCost(500, "reported")),
        (501, None, TrueCost(100, "book", 401)),
        (501, 70, TrueCost(70, "measured", 431)),
        (501, 600, TrueCost(100, "book", 401)),
        (10**15, None, TrueCost(100, "book", 10**15 - 100)),
        (10**40, None, TrueCost(100, "book", 10**15 - 100)),
    ],
)
def test_a_reported_figure_beyond_belief_is_disputed(reported: int, measured: int | None, expected: TrueCost) -> None:
    """What is known otherwise is the cost; what the vendor says above it is kept apart, and always is an amount."""
    chosen = true_cost(
        reported_micros=reported, balance=None, book_micros=100, measured_micros=measured, most_micros=500
    )
    assert chosen == expected


def test_measured_seconds_go_before_the_estimate_and_after_every_word_of_a_vendor() -> None:
    """A GPU of our own is priced by what it took, where nobody charges for it."""

    def chosen(reported: int | None, balance: BalanceDelta | None) -> TrueCost:
        return true_cost(reported_micros=reported, balance=balance, book_micros=100, measured_micros=70)

    assert chosen(None, None) == TrueCost(70, "measured")
    assert chosen(None, fell(110)) == TrueCost(110, "balance")
    assert chosen(120, None) == TrueCost(120, "reported")


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (500, TrueCost(500, "measured")),
        (501, TrueCost(100, "book")),
        (-1, TrueCost(100, "book")),
        (10**40, TrueCost(100, "book")),
    ],
)
def test_a_worker_whose_clock_is_broken_bills_nobody_for_it(measured: int, expected: TrueCost) -> None:
    """Seconds beyond belief are no cost, and never raise: the book's figure stands."""
    chosen = true_cost(reported_micros=None, balance=None, book_micros=100, measured_micros=measured, most_micros=500)
    assert chosen == expected
