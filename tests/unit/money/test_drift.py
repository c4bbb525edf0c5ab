"""Price drift: reported costs against the book, and a book proposed from them."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection

from gateway.money.amounts import AmountError
from gateway.money.drift import PriceObservation, observe_price, price_drift, suggest_prices
from gateway.money.prices import PriceBook
from tests.unit.money.builders import NOON

BOOK = """
currency: USD
routes:
  vendor/model:
    - effective_from: 2026-01-01
      terms:
        - {per: call, usd: "0.10", confidence: average, source: page}
        - {per: frame, usd: "0.01", confidence: assumed, source: guess, included: 4}
  preview/camera:
    - {effective_from: 2026-01-01, free: true}
"""


def observe(connection: Connection, reported: list[int], *, route: str = "vendor/model", book: int = 200_000) -> None:
    """One observation for each reported cost."""
    for number, micros in enumerate(reported):
        seen = PriceObservation(f"{route}-{number}", route, NOON + number, micros, book, {"num_frames": 14})
        assert observe_price(connection, seen)
        assert not observe_price(connection, seen)


def test_drift_is_reported_over_book(connection: Connection) -> None:
    """Within the threshold nobody is woken, beyond it the route is named."""
    observe(connection, [200_000, 230_000])
    observe(connection, [150_000], route="vendor/cheaper")
    observe(connection, [5], route="preview/camera", book=0)
    drifts = {drift.route: drift for drift in price_drift(connection, NOON)}
    assert (drifts["vendor/model"].ratio, drifts["vendor/model"].is_beyond) == (1.075, False)
    assert drifts["vendor/model"].highest_ratio == 1.15
    assert (drifts["vendor/cheaper"].ratio, drifts["vendor/cheaper"].is_beyond) == (0.75, True)
    assert (drifts["preview/camera"].ratio, drifts["preview/camera"].is_beyond) == (None, True)


def test_only_what_is_recent_counts(connection: Connection) -> None:
    """An old price says nothing about today's."""
    observe(connection, [200_000, 400_000])
    (drift,) = price_drift(connection, NOON + 1)
    assert (drift.observations, drift.ratio) == (1, 2.0)


def test_a_suggestion_is_a_price_book_that_fits_the_observations(connection: Connection) -> None:
    """The proposed figures load as a book, meet the mean, and hold the dearest render seen."""
    book = PriceBook.load(BOOK)
    observe(connection, [240_000] * 9 + [360_000])
    text = suggest_prices(connection, book, since=NOON, at=NOON + 86_400)
    proposed = PriceBook.load(text).price("vendor/model", {"num_frames": 14}, NOON + 86_400)
    assert proposed is not None
    assert proposed.cost_micros == 252_000
    assert proposed.worst_micros > 360_000
    assert proposed.confidence == "measured"
    assert "10 reported costs from 2026-10-01 to 2026-10-02" in text


def test_too_few_observations_suggest_nothing(connection: Connection) -> None:
    """Nine renders are an anecdote; free routes and unknown routes are left alone."""
    observe(connection, [240_000] * 9)
    observe(connection, [240_000] * 20, route="vendor/unknown")
    observe(connection, [1] * 20, route="preview/camera", book=1)
    assert suggest_prices(connection, PriceBook.load(BOOK), since=NOON, at=NOON + 60) == ""


def test_an_impossible_cost_is_not_observed() -> None:
    """What a vendor reports is checked before it counts."""
    with pytest.raises(AmountError):
        PriceObservation("a", "vendor/model", NOON, -1, 1, {})
    with pytest.raises(AmountError):
        PriceObservation("a", "vendor/model", NOON, 1, 10**16, {})
