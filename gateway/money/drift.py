"""Price drift: what vendors report against what the book says, and new figures proposed from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import yaml
from sqlalchemy import Connection, func, select

from gateway.money.amounts import require_micros
from gateway.money.formula import Formula
from gateway.money.prices import PriceBook
from gateway.store.conflict import insert_new
from gateway.store.schema_money import price_observations
from providers.vocabulary import Scalar

THRESHOLD = 0.1
SUGGESTION_OBSERVATIONS_MIN = 10
WORST_MARGIN = Decimal("1.1")  # a dearer render than the dearest one seen so far has to fit into the hold too


@dataclass(frozen=True, slots=True)
class PriceObservation:
    """What one attempt was reported to cost and what the book had said, in micro-USD, for these parameters."""

    attempt_id: str
    route: str
    at: float
    reported_micros: int
    book_micros: int
    parameters: Mapping[str, Scalar]

    def __post_init__(self) -> None:
        require_micros(self.reported_micros, "reported_micros")
        require_micros(self.book_micros, "book_micros")


@dataclass(frozen=True, slots=True)
class PriceDrift:
    """How far a route's reported costs are from the book. `ratio` is reported over book, None for a book of 0."""

    route: str
    observations: int
    reported_micros: int
    book_micros: int
    highest_ratio: float | None
    ratio: float | None
    is_beyond: bool


def observe_price(connection: Connection, observation: PriceObservation) -> bool:
    """Write down a reported cost; False when this attempt's was written before."""
    values = {
        "attempt_id": observation.attempt_id,
        "route": observation.route,
        "at": observation.at,
        "reported_micros": observation.reported_micros,
        "book_micros": observation.book_micros,
        "parameters": json.dumps(dict(observation.parameters), sort_keys=True),
    }
    return insert_new(connection, price_observations, values)


def price_drift(connection: Connection, since: float, threshold: float = THRESHOLD) -> list[PriceDrift]:
    """The drift of every route with reported costs since then; `is_beyond` when off by more than the threshold."""
    reported, book = price_observations.c.reported_micros, price_observations.c.book_micros
    query = (
        select(
            price_observations.c.route,
            func.count().label("observations"),
            func.sum(reported).label("reported_micros"),
            func.sum(book).label("book_micros"),
            func.max(reported * 1.0 / func.nullif(book, 0)).label("highest_ratio"),
        )
        .where(price_observations.c.at >= since)
        .group_by(price_observations.c.route)
        .order_by(price_observations.c.route)
    )
    return [_drift(row, threshold) for row in connection.execute(query)]


def suggest_prices(connection: Connection, book: PriceBook, *, since: float, at: float) -> str:
    """New entries for the price book as YAML, for routes with enough reported costs; an empty text when there are none.

    Every figure of the entry in force is scaled by the observed ratio; the worst case is the dearest render seen.
    """
    routes: dict[str, list[dict[str, Any]]] = {}
    for drift in price_drift(connection, since):
        formula = book.formula(drift.route, at)
        if formula is None or formula.free or not drift.ratio or drift.observations < SUGGESTION_OBSERVATIONS_MIN:
            continue
        routes[drift.route] = [_entry(formula, drift, since, at)]
    if not routes:
        return ""
    text: str = yaml.safe_dump({"currency": "USD", "routes": routes}, sort_keys=False, allow_unicode=True, width=120)
    return text


def _drift(row: Any, threshold: float) -> PriceDrift:
    reported_micros, book_micros = int(row.reported_micros), int(row.book_micros)
    ratio = reported_micros / book_micros if book_micros else None
    is_beyond = reported_micros > 0 if ratio is None else abs(ratio - 1) > threshold
    highest_ratio = None if row.highest_ratio is None else float(row.highest_ratio)
    return PriceDrift(
        row.route, row.observations, reported_micros, book_micros, highest_ratio, ratio, is_beyond=is_beyond
    )


def _entry(formula: Formula, drift: PriceDrift, since: float, at: float) -> dict[str, Any]:
    ratio = Decimal(drift.reported_micros) / Decimal(drift.book_micros)
    first, last = (datetime.fromtimestamp(instant, UTC).date().isoformat() for instant in (since, at))
    data = formula.model_dump(mode="json", exclude_defaults=True, exclude={"effective_from", "worst_factor"})
    for term, shown in zip(formula.terms, data["terms"], strict=True):
        shown["usd"] = f"{(term.usd * ratio).quantize(Decimal('0.00000001')).normalize():f}"
        shown["confidence"] = "measured"
        shown["source"] = f"{drift.observations} reported costs from {first} to {last}"
    worst = max(Decimal(1), Decimal(str(drift.highest_ratio or 1)) / ratio * WORST_MARGIN)
    return {"effective_from": last, "worst_factor": f"{worst.quantize(Decimal('0.01')):f}", **data}
