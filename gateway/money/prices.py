"""The price book: what every route costs, as data with effective dates. A route without a price does not start."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from gateway.money.amounts import AMOUNT_MAX_MICROS, ceil_micros
from gateway.money.formula import Confidence, Formula, Line
from providers.vocabulary import Scalar

DATE_LENGTH = len("2026-08-01")


class PriceBookError(ValueError):
    """The price book cannot be read: the text says where and why."""


def _instant(value: object) -> float:
    """A date or an aware date and time, as unix seconds."""
    if isinstance(value, str):
        value = date.fromisoformat(value) if len(value) == DATE_LENGTH else datetime.fromisoformat(value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("a date with a time needs a zone, such as 2026-08-01T00:00:00Z")
        return value.timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    raise ValueError("write a date such as 2026-08-01, which begins at midnight UTC")


class DatedFormula(Formula):
    """A formula and the instant from which it holds, until the next one of the same route."""

    effective_from: Annotated[float, BeforeValidator(_instant)]


class _Book(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    currency: Annotated[str, Field(pattern="^USD$")]
    routes: Mapping[str, tuple[DatedFormula, ...]]


@dataclass(frozen=True, slots=True)
class Price:
    """What a request is expected to cost on a route and the most it is held for, in micro-USD, with every line.

    `source` names the book's entry; `confidence` is that of its least sure figure.
    """

    cost_micros: int
    worst_micros: int
    source: str
    confidence: Confidence
    breakdown: tuple[Line, ...]


class PriceBook:
    """Prices by route and date. Use `load`."""

    def __init__(self, routes: Mapping[str, tuple[DatedFormula, ...]]) -> None:
        self._routes = {name: tuple(sorted(dated, key=_effective_from)) for name, dated in routes.items()}
        for name, dated in self._routes.items():
            if not dated:
                raise PriceBookError(f"{name}: a route in the price book needs at least one price")
            if len({formula.effective_from for formula in dated}) < len(dated):
                raise PriceBookError(f"{name}: two prices begin at the same instant")

    @classmethod
    def load(cls, *sources: Path | str) -> Self:
        """Read a price book from files (Path) and YAML texts (str); a later one replaces a route of an earlier one.

        Raises PriceBookError.
        """
        routes: dict[str, tuple[DatedFormula, ...]] = {}
        for source in sources:
            routes.update(_read(source).routes)
        return cls(routes)

    @classmethod
    def seeded(cls, *sources: Path | str) -> Self:
        """The published figures that vidgate comes with, and on top of them the operator's own."""
        return cls.load(files(__package__).joinpath("prices.yaml").read_text(encoding="utf-8"), *sources)

    def price(self, route: str, parameters: Mapping[str, Scalar], at: float) -> Price | None:
        """The price of a request by the figures in force at `at` (unix seconds).

        None when the book has none in force for the route, when a parameter that the formula counts is missing, or
        when it comes to more than money can be: such a route is not used.
        """
        formula = self._in_force(route, at)
        lines = formula.lines(parameters) if formula else None
        if formula is None or lines is None:
            return None
        cost_micros = sum(line.amount_micros for line in lines)
        worst_micros = ceil_micros(cost_micros * formula.worst_factor / 1_000_000)
        if worst_micros > AMOUNT_MAX_MICROS:
            return None
        begins = datetime.fromtimestamp(formula.effective_from, UTC).date().isoformat()
        return Price(cost_micros, worst_micros, f"{route}@{begins}", formula.confidence(), lines)

    def paced(self, route: str, parameters: Mapping[str, Scalar], at: float, gpu_s: float | None) -> Price | None:
        """The price of a request, where it counts GPU seconds by the pace that our machines measure now.

        It never comes to more than the book's own worst case, which every hold covers: machines that grow slower must
        not make a job that was admitted too dear for its hold. What a render really took is billed in full anyway.
        """
        book = self.price(route, parameters, at)
        paced = self.price(route, {**parameters, "gpu_seconds": gpu_s}, at) if gpu_s is not None else None
        if book is None or paced is None:
            return book
        above = paced.cost_micros - book.worst_micros
        if above > 0:
            lines = (*paced.breakdown, Line("above the worst case of the book", "", "", -above))
            paced = replace(paced, cost_micros=book.worst_micros, breakdown=lines)
        return replace(paced, worst_micros=max(paced.worst_micros, book.worst_micros))

    def measured_micros(
        self, route: str, parameters: Mapping[str, Scalar], at: float, gpu_s: float | None
    ) -> int | None:
        """What a render cost that took so many GPU seconds, micro-USD; None where GPU seconds are not what counts."""
        formula = self._in_force(route, at)
        if formula is None or gpu_s is None or all(term.per != "gpu_second" for term in formula.terms):
            return None
        price = self.price(route, {**parameters, "gpu_seconds": gpu_s}, at)
        return None if price is None else price.cost_micros

    def missing(self, routes: Iterable[str], at: float) -> list[str]:
        """Those of the routes that have no price in force at `at`: they must not start."""
        return [route for route in routes if self._in_force(route, at) is None]

    def formula(self, route: str, at: float) -> DatedFormula | None:
        """The figures in force for a route, or None."""
        return self._in_force(route, at)

    def _in_force(self, route: str, at: float) -> DatedFormula | None:
        dated = self._routes.get(route, ())
        number = bisect_right(dated, at, key=_effective_from)
        return dated[number - 1] if number else None


def _effective_from(formula: DatedFormula) -> float:
    return formula.effective_from


def _read(source: Path | str) -> _Book:
    name = str(source) if isinstance(source, Path) else "price book"
    try:
        text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
        data: Any = yaml.safe_load(text)
        return _Book.model_validate(data)
    except (OSError, yaml.YAMLError) as error:
        raise PriceBookError(f"{name}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PriceBookError(f"{name}: {where}: {first['msg']}") from error
