"""What an attempt really cost: the vendor's own figure, else what left the balance, else the price book (for a GPU of
our own at the seconds that were measured). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from gateway.money.amounts import require_micros

Source = Literal["reported", "balance", "measured", "book"]
SOURCES: Mapping[Source, str] = {
    "reported": "the vendor said so in its reply",
    "balance": "the account's balance fell by this while nothing else was under way on it",
    "measured": "the price book's figure for the GPU seconds that the render really took",
    "book": "the price book's figure for the parameters that were sent",
}
# A balance that fell by more than this many times the book's figure is explained by something else.
BALANCE_TRUST_FACTOR = 5


@dataclass(frozen=True, slots=True)
class TrueCost:
    """A cost in micro-USD and where the figure is from."""

    amount_micros: int
    source: Source


@dataclass(frozen=True, slots=True)
class BalanceDelta:
    """The balance before an attempt and after it. `alone` says that nothing else on the account could be charged."""

    before_micros: int
    after_micros: int
    alone: bool


def true_cost(
    *, reported_micros: int | None, balance: BalanceDelta | None, book_micros: int, measured_micros: int | None = None
) -> TrueCost:
    """Choose the best known figure. A balance counts only when it fell, alone, by a believable amount."""
    require_micros(book_micros, "book_micros")
    if reported_micros is not None:
        return TrueCost(require_micros(reported_micros, "reported_micros"), "reported")
    if balance is not None and balance.alone:
        fell_micros = balance.before_micros - balance.after_micros
        if 0 < fell_micros <= BALANCE_TRUST_FACTOR * book_micros:
            return TrueCost(fell_micros, "balance")
    if measured_micros is not None:
        return TrueCost(require_micros(measured_micros, "measured_micros"), "measured")
    return TrueCost(book_micros, "book")
