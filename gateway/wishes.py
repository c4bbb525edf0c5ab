"""What a request, its key, its team and the configuration say about routing, and how the four are merged. Pure.

The nearest word wins: request over key over team over configuration. What may be used is only ever narrowed: a route
must be allowed by all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from gateway.limits import LIMITS
from gateway.money.amounts import decimal_usd, micros_from_usd
from gateway.money.grants import Grants
from policies.ranking import names
from policies.values import Objective

ROUTING = "routing"
USD_MAX = 10_000
Names = tuple[str, ...]


def _usd(value: object) -> Decimal:
    """Dollars exactly as they were written: the shortest text of a JSON number is what its caller wrote."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError("write dollars as a number or a decimal string, such as 0.25")
    usd = decimal_usd(repr(value) if isinstance(value, float) else value, "the limit", USD_MAX)
    micros_from_usd(usd, "the limit")
    return usd


Usd = Annotated[
    Decimal,
    BeforeValidator(_usd),
    Field(gt=0, le=USD_MAX),
    WithJsonSchema(
        {"type": ["number", "string"], "exclusiveMinimum": 0, "maximum": USD_MAX, "pattern": "^[0-9]+(\\.[0-9]+)?$"}
    ),
]


class _Wish(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WeightsWish(_Wish):
    """How much cost, time and the odds of failure count for the `balanced` objective."""

    cost: float = Field(1.0, ge=0, le=1000, strict=True)
    time: float = Field(1.0, ge=0, le=1000, strict=True)
    failure: float = Field(1.0, ge=0, le=1000, strict=True)


class RoutingWish(_Wish):
    """What a request may say about routing. Routes are named `provider/slug`, whole providers by `provider`."""

    objective: Objective | None = Field(
        None, description="What to optimise; the team's usual objective when not given."
    )
    weights: WeightsWish | None = Field(None, description="Weights of the `balanced` objective.")
    max_cost_usd: Usd | None = Field(None, description="Never cost the team more than this.")
    deadline_s: float | None = Field(
        None, ge=1, le=86_400, strict=True, description="Seconds within which the result is wanted."
    )
    pin: str | None = Field(None, max_length=80, description="The one route or provider to use.")
    order: Names = Field((), max_length=20, description="Routes to try first, in this order.")
    only: Names = Field((), max_length=20, description="Use only these.")
    ignore: Names = Field((), max_length=20, description="Use none of these.")

    def max_cost_micros(self) -> int | None:
        """The cost limit in micro-USD."""
        return None if self.max_cost_usd is None else micros_from_usd(self.max_cost_usd)


class UsualWish(_Wish):
    """What a team's plan or a key's grants may say under `routing`: its usual wishes, and what it is kept to."""

    objective: Objective | None = None
    weights: WeightsWish | None = None
    deadline_s: float | None = Field(None, ge=1, le=86_400)
    only: Names = ()
    ignore: Names = ()


class Bound(_Wish):
    """One narrowing of the routes that may be used, and whose it is. `only` None means no limit, empty nothing."""

    by: str
    only: Names | None = None
    ignore: Names = ()

    def refusal(self, route: str) -> str | None:
        """Why a route may not be used, as a sentence; None when it may."""
        out = self.only is not None and not any(names(route, one) for one in self.only)
        return f"{self.by} does not allow it" if out or any(names(route, one) for one in self.ignore) else None


class Standing(_Wish):
    """What holds for a caller whatever the request says: usual wishes, nearest first already, and all bounds."""

    objective: Objective | None = None
    weights: WeightsWish | None = None
    deadline_s: float | None = None
    max_cost_micros: int | None = None
    bounds: tuple[Bound, ...] = ()

    def refusals(self, route: str) -> list[str]:
        """Every reason why the caller may not use a route."""
        return [reason for bound in self.bounds if (reason := bound.refusal(route)) is not None]


def plain_plan(plan: Mapping[str, Any]) -> dict[str, Any]:
    """A team's plan, or a key's grants, without what they say about routing, and a plan without its limits."""
    return {name: value for name, value in plan.items() if name not in {ROUTING, LIMITS}}


def grants_of(granted: Mapping[str, Any]) -> Grants:
    """A key's limits, without its wishes about routing."""
    return Grants.model_validate(plain_plan(granted))


def standing_of(plan: Mapping[str, Any], granted: Mapping[str, Any]) -> Standing:
    """Merge what a team's plan and a key's grants say; the key's wishes go before the team's, the bounds add up."""
    team = UsualWish.model_validate(plan.get(ROUTING) or {})
    key = UsualWish.model_validate(granted.get(ROUTING) or {})
    grants = grants_of(granted)
    bounds = (
        Bound(by="the team's plan", only=team.only or None, ignore=team.ignore),
        Bound(by="this key", only=key.only or None, ignore=key.ignore),
        Bound(by="this key", only=None if grants.routes is None else tuple(sorted(grants.routes))),
        Bound(by="this key", only=None if grants.providers is None else tuple(sorted(grants.providers))),
    )
    return Standing(
        objective=key.objective or team.objective,
        weights=key.weights or team.weights,
        deadline_s=key.deadline_s or team.deadline_s,
        max_cost_micros=grants.max_cost_micros,
        bounds=tuple(bound for bound in bounds if bound.only is not None or bound.ignore),
    )


def limit_micros(wish: RoutingWish, standing: Standing) -> int | None:
    """The most that the request may cost the team: the lower of its own limit and its key's."""
    limits = [limit for limit in (wish.max_cost_micros(), standing.max_cost_micros) if limit is not None]
    return min(limits, default=None)
