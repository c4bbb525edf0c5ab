"""Team plans: what a team pays for what a render cost."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.money.amounts import AmountError
from gateway.money.margin import TeamPlan, team_plan


def plan(**data: Any) -> TeamPlan:
    """A plan as it is read from JSON."""
    return TeamPlan.model_validate(data)


@pytest.mark.parametrize(
    ("data", "price"),
    [
        ({}, 165_900),
        ({"percent": 20}, 199_080),
        ({"percent": "12.5"}, 186_638),
        ({"kind": "flat", "flat_usd": "0.02"}, 185_900),
        ({"kind": "list", "prices_usd": {"vendor/model": "0.25"}}, 250_000),
        ({"kind": "list", "prices_usd": {"vendor": "0.30", "*": "1"}}, 300_000),
        ({"kind": "list", "prices_usd": {"*": "0.10"}}, 100_000),
        ({"kind": "list", "prices_usd": {"other/model": "0.25"}, "percent": 10}, 182_490),
    ],
)
def test_each_kind_of_plan_has_its_price(data: dict[str, Any], price: int) -> None:
    """Percent rounds up to a micro, flat adds, a list names its price and falls back to percent."""
    assert plan(**data).price_micros(165_900, "vendor/model") == price


@given(st.integers(0, 10**12), st.integers(0, 1000))
def test_a_percentage_is_never_short(cost: int, percent: int) -> None:
    """The price covers cost and margin, by less than one micro too much."""
    price = plan(percent=percent).price_micros(cost, "vendor/model")
    assert cost * (100 + percent) <= price * 100 < cost * (100 + percent) + 100


@pytest.mark.parametrize(
    "data",
    [
        {"percent": -1},
        {"percent": 1.5},
        {"percent": "NaN"},
        {"percent": 10_001},
        {"kind": "flat", "flat_usd": 0.02},
        {"kind": "flat", "flat_usd": "0.0000001"},
        {"kind": "flat", "flat_usd": "-1"},
        {"kind": "flat", "percent": 3},
        {"flat_usd": "1"},
        {"kind": "list"},
        {"prices_usd": {"a/b": "1"}},
        {"kind": "gift"},
        {"discount": 3},
        {"show_cost": "yes"},
    ],
)
def test_an_impossible_plan_is_refused(data: dict[str, Any]) -> None:
    """Floats, signs, contradictions and unknown fields do not make a plan."""
    with pytest.raises(ValidationError):
        plan(**data)


@pytest.mark.parametrize("data", [{"percent": "12.5"}, {"kind": "list", "prices_usd": {"a/b": "0.25"}}])
def test_a_stored_plan_reads_back_as_the_same_plan(data: dict[str, Any]) -> None:
    """Writing a plan down and reading it again changes no price."""
    assert TeamPlan.model_validate_json(plan(**data).model_dump_json()) == plan(**data)


@pytest.mark.parametrize(
    ("terms", "price"),
    [({}, 110), ({"show_cost": True}, 110), ({"percent": "5", "show_cost": True}, 105), ({"kind": "percent"}, 100)],
)
def test_a_plan_without_a_price_pays_the_usual_percentage(terms: dict[str, Any], price: int) -> None:
    """What a plan says about showing costs is no price."""
    assert team_plan(terms, Decimal(10)).price_micros(100, "a/b") == price


def test_an_impossible_cost_has_no_price() -> None:
    """Costs are amounts."""
    with pytest.raises(AmountError):
        plan().price_micros(-1, "vendor/model")
