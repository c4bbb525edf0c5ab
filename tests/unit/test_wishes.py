"""A request's own cost limit: exact from the wire to the hold."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.wishes import RoutingWish


@given(st.integers(1, 10_000_000_000))
def test_a_limit_is_exact_from_the_wire_to_the_row_and_back(micros: int) -> None:
    """As a JSON number and as a string, through storage too: not a micro-USD is lost."""
    number = json.loads(json.dumps(micros / 1_000_000))
    for written in (number, f"{micros // 1_000_000}.{micros % 1_000_000:06d}"):
        wish = RoutingWish.model_validate({"max_cost_usd": written})
        assert wish.max_cost_micros() == micros
        stored = json.loads(json.dumps(wish.model_dump(mode="json", exclude_defaults=True)))
        assert not isinstance(stored["max_cost_usd"], float)
        assert RoutingWish.model_validate(stored).max_cost_micros() == micros


@pytest.mark.parametrize(
    "written", [True, 0, -1, 1e-7, 0.1234567, "0.0000001", "much", "", [1], float("nan"), float("inf"), 10_001, 1e300]
)
def test_a_limit_that_is_no_amount_is_refused(written: object) -> None:
    """A boolean, a fraction of a micro-USD and whatever is not a number above 0 and up to 10,000."""
    with pytest.raises(ValidationError):
        RoutingWish.model_validate({"max_cost_usd": written})


@pytest.mark.parametrize("written", [10_001, "10000.01", 10**30, 1e300])
def test_a_limit_that_is_too_large_is_told_the_limit_that_there_is(written: object) -> None:
    """The bound of a wish, and not that of any amount of money."""
    with pytest.raises(ValidationError, match="the limit must lie between 0 and 10000 dollars"):
        RoutingWish.model_validate({"max_cost_usd": written})
