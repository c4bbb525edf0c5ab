"""Grants: what a key may do, and that no key grants more than its issuer has."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.limits import Limits
from gateway.money.grants import Grants
from gateway.wishes import Standing, standing_of

ROUTES = ("one/a", "one/b", "two/a")
names = st.one_of(st.none(), st.frozensets(st.sampled_from(ROUTES)))
providers = st.one_of(st.none(), st.frozensets(st.sampled_from(["one", "two"])))
objectives = st.one_of(st.none(), st.frozensets(st.sampled_from(["cheapest", "fastest"])))
numbers = st.one_of(st.none(), st.integers(0, 100))
counts = st.one_of(st.none(), st.integers(1, 100))
grants = st.builds(
    Grants,
    routes=names,
    providers=providers,
    objectives=objectives,
    max_cost_micros=numbers,
    concurrent_jobs=counts,
    requests_per_minute=counts,
    spend_micros_per_hour=counts,
    expires_at=st.one_of(st.none(), st.floats(0, 100)),
)


def standing(key: Grants) -> Standing:
    """What holds for a caller with this key."""
    return standing_of({}, key.model_dump(mode="json", exclude_none=True))


def may_use(key: Grants, route: str) -> bool:
    """Whether requests with this key may take a route."""
    return not standing(key).refusals(route)


def may_cost(key: Grants, cost_micros: int) -> bool:
    """Whether a request with this key may cost so much."""
    most_micros = standing(key).max_cost_micros
    return most_micros is None or cost_micros <= most_micros


@given(grants, grants)
def test_a_key_that_may_be_issued_allows_nothing_its_issuer_may_not(key: Grants, issuer: Grants) -> None:
    """Whatever the key allows, the issuer is allowed too."""
    if key.beyond(issuer):
        return
    for route in ROUTES:
        assert not may_use(key, route) or may_use(issuer, route)
    for objective in ("cheapest", "fastest", "balanced"):
        assert key.objective_refusal(objective) is not None or issuer.objective_refusal(objective) is None
    for cost in (0, 1, 50, 101):
        assert not may_cost(key, cost) or may_cost(issuer, cost)
    for limit in Limits.model_fields:
        mine, issuers = getattr(key, limit), getattr(issuer, limit)
        assert issuers is None or (mine is not None and mine <= issuers)
    assert issuer.expires_at is None or (key.expires_at is not None and key.expires_at <= issuer.expires_at)


@given(grants)
def test_an_unlimited_issuer_may_issue_anything_and_everybody_their_own(key: Grants) -> None:
    """No limits go beyond none, and nothing goes beyond itself."""
    assert key.beyond(Grants()) == []
    assert key.beyond(key) == []


@pytest.mark.parametrize(
    ("key", "issuer", "names"),
    [
        ({}, {"routes": ["one/a"]}, ["routes"]),
        ({"routes": ["one/a", "two/a"]}, {"routes": ["one/a"]}, ["routes"]),
        ({"max_cost_micros": 6}, {"max_cost_micros": 5}, ["max_cost_micros"]),
        ({}, {"max_cost_micros": 5, "expires_at": 9.0}, ["max_cost_micros", "expires_at"]),
        (
            {"concurrent_jobs": 3},
            {"concurrent_jobs": 2, "requests_per_minute": 9},
            ["requests_per_minute", "concurrent_jobs"],
        ),
    ],
)
def test_what_goes_beyond_is_named(key: dict[str, Any], issuer: dict[str, Any], names: list[str]) -> None:
    """No limit of one's own is more than any limit."""
    assert Grants.model_validate(key).beyond(Grants.model_validate(issuer)) == names


def test_refusals_are_sentences() -> None:
    """Whoever is refused learns what the key may not do."""
    key = Grants.model_validate({"routes": ["one/a"], "providers": ["one"], "objectives": []})
    assert set(standing(key).refusals("two/a")) == {"this key does not allow it"}
    assert key.objective_refusal("fastest") == "this key may ask for no objective, not fastest"


@pytest.mark.parametrize(
    "data", [{"route": ["a"]}, {"max_cost_micros": -1}, {"max_cost_micros": 1.5}, {"expires_at": float("nan")}]
)
def test_impossible_grants_are_refused(data: dict[str, Any]) -> None:
    """A mistyped grant is not a key without limits."""
    with pytest.raises(ValidationError):
        Grants.model_validate(data)


def test_grants_survive_being_stored_as_json() -> None:
    """What is kept with the key reads back the same."""
    key = Grants.model_validate({"routes": ["one/a"], "expires_at": 9.0})
    assert Grants.model_validate_json(key.model_dump_json()) == key
