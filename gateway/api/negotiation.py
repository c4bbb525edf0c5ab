"""Which of the forms that can be had a caller wants most, as `Accept` says (RFC 9110 12.5.1). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_QUALITY = re.compile(r"^(0(\.[0-9]{0,3})?|1(\.0{0,3})?)$")
_KIND = re.compile(r"^[^/\s]+/[^/\s]+$")
RANGES_MAX = 50


def acceptable(header: str, offers: Sequence[str]) -> list[str]:
    """The offers that a caller takes, what it likes best first; among equals in the order of the offers.

    Without a header, or with one that says nothing, everything is taken.
    """
    ranges = list(_ranges(header))
    if not ranges:
        return list(offers)
    quality = {offer: _quality(offer, ranges) for offer in offers}
    return sorted((offer for offer in offers if quality[offer] > 0), key=lambda offer: -quality[offer])


def _ranges(header: str) -> Iterable[tuple[str, float]]:
    """Each media range with its weight; what cannot be read is passed over."""
    for part in header.split(",")[:RANGES_MAX]:
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if not _KIND.match(kind):
            continue
        weights = [value.partition("=")[2].strip() for value in parameters if value.partition("=")[0].strip() == "q"]
        if not weights:
            yield kind, 1.0
        elif _QUALITY.match(weights[0]):
            yield kind, float(weights[0])


def _quality(offer: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The weight of the most exact range that the offer is in; 0 for none."""
    group = offer.partition("/")[0]
    for wanted in (offer, f"{group}/*", "*/*"):
        weights = [weight for kind, weight in ranges if kind == wanted]
        if weights:
            return max(weights)
    return 0.0
