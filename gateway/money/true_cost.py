"""What an attempt really cost: the vendor's own figure, else what left the balance, else the price book (for a GPU of
our own at the seconds that were measured). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from gateway.money.amounts import AMOUNT_MAX_MICROS, require_micros

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
    """A cost in micro-USD and where the figure is from.

    `disputed_micros` is what a vendor reported above it and nobody believes.
    """

    amount_micros: int
    source: Source
    disputed_micros: int = 0


@dataclass(frozen=True, slots=True)
class BalanceDelta:
    """The balance before an attempt and after it. `alone` says that nothing else on the account could be charged."""

    before_micros: int
    after_micros: int
    alone: bool


def true_cost(
    *,
    reported_micros: int | None,
    balance: BalanceDelta | None,
    book_micros: int,
    measured_micros: int | None = None,
    most_micros: int = AMOUNT_MAX_MICROS,
) -> TrueCost:
    """Choose the best known figure. A balance counts only when it fell, alone, by a believable amount.

    What a vendor reports beyond `most_micros` is disputed, whatever its size; what is no amount was not reported. What
    a worker of our own measured beyond it is a broken clock: nobody is owed it, and the book's figure stands.
    """
    reported = reported_micros if _is_amount(reported_micros) else None
    if reported is not None and reported <= most_micros:
        return TrueCost(reported, "reported")
    measured = measured_micros if _is_amount(measured_micros) and (measured_micros or 0) <= most_micros else None
    known = _unreported(balance, require_micros(book_micros, "book_micros"), measured)
    if reported is None:
        return known
    return replace(known, disputed_micros=max(0, min(reported, AMOUNT_MAX_MICROS) - known.amount_micros))


def _is_amount(reported: object) -> bool:
    return isinstance(reported, int) and not isinstance(reported, bool) and reported >= 0


def _unreported(balance: BalanceDelta | None, book_micros: int, measured_micros: int | None) -> TrueCost:
    if balance is not None and balance.alone:
        fell_micros = balance.before_micros - balance.after_micros
        if 0 < fell_micros <= BALANCE_TRUST_FACTOR * book_micros:
            return TrueCost(fell_micros, "balance")
    if measured_micros is not None:
        return TrueCost(require_micros(measured_micros, "measured_micros"), "measured")
    return TrueCost(book_micros, "book")
