"""A team's plan: what it pays for what the vendor charges. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from gateway.money.amounts import MICROS_PER_USD, ceil_micros, decimal_usd, micros_from_usd, require_micros

PERCENT_MAX = Decimal(10_000)


def _usd(value: object) -> Decimal:
    if not isinstance(value, str | int | Decimal):
        raise ValueError('write dollars as a quoted decimal, such as "0.02"')
    return Decimal(micros_from_usd(value)) / MICROS_PER_USD


def _percent(value: object) -> Decimal:
    if not isinstance(value, str | int | Decimal):
        raise ValueError('write a percentage as a whole number or a quoted decimal, such as "12.5"')
    percent = decimal_usd(value, "percent")
    if percent > PERCENT_MAX:
        raise ValueError(f"percent must be at most {PERCENT_MAX}")
    return percent


# Kept as decimal dollars, as written, so that a plan that is stored and read again is the same plan.
Usd = Annotated[Decimal, BeforeValidator(_usd)]
Percent = Annotated[Decimal, BeforeValidator(_percent)]


class TeamPlan(BaseModel):
    """How a team's price comes from a cost: `percent` on top, a `flat` fee a job, or a price `list` by route.

    `show_cost` says whether the team sees what the vendor charged; None leaves it to the configuration.
    A list names routes (`provider/slug`), providers (`provider`) or `*`; what it does not name pays cost plus percent.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["percent", "flat", "list"] = "percent"
    percent: Percent = Decimal(0)
    flat_usd: Usd = Decimal(0)
    prices_usd: Mapping[str, Usd] = Field(default_factory=dict)
    show_cost: bool | None = Field(default=None, strict=True)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.kind != "flat" and self.flat_usd:
            raise ValueError("flat_usd belongs to kind: flat")
        if self.kind == "flat" and self.percent:
            raise ValueError("percent does not belong to kind: flat")
        if (self.kind == "list") != bool(self.prices_usd):
            raise ValueError("prices_usd and kind: list belong together")
        return self

    def price_micros(self, cost_micros: int, route: str) -> int:
        """The team's price in micro-USD for a delivered job that cost this, rounded up to a micro-USD."""
        require_micros(cost_micros, "cost_micros")
        if self.kind == "flat":
            return cost_micros + ceil_micros(self.flat_usd)
        for name in (route, route.partition("/")[0], "*"):
            if name in self.prices_usd:
                return ceil_micros(self.prices_usd[name])
        return ceil_micros(Decimal(cost_micros) * (100 + self.percent) / 100 / MICROS_PER_USD)


def team_plan(terms: Mapping[str, Any], usual_percent: Decimal) -> TeamPlan:
    """The plan of these terms; one that says nothing of a price pays the usual percentage."""
    priced = terms.keys() - {"show_cost"}
    return TeamPlan.model_validate(terms if priced else {"percent": usual_percent, **terms})
