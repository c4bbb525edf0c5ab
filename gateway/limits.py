"""How much a team or a key may ask for: requests, jobs at a time, money an hour. Only ever narrowed.

The configuration says what holds for every team and for every key; a team's plan may narrow its own under `limits`, and
a key its own by its grants. What nobody limits is not limited.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from gateway.money.amounts import AMOUNT_MAX_MICROS

LIMITS = "limits"
COUNT_MAX = 1_000_000
SPEND_MAX_MICROS = AMOUNT_MAX_MICROS - 1  # fifteen digits: what a number in a header may have
Count = Annotated[int, Field(strict=True, ge=1, le=COUNT_MAX)] | None


class Limits(BaseModel):
    """The limits of a team or of a key. None means no limit of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_minute: Count = Field(
        default=None, description="Requests that may be made at once, and again over every minute; none: no limit."
    )
    concurrent_jobs: Count = Field(
        default=None, description="Jobs that may be queued or running at a time; none: no limit."
    )
    spend_micros_per_hour: Annotated[int, Field(strict=True, ge=1, le=SPEND_MAX_MICROS)] | None = Field(
        default=None,
        description="Micro-USD that jobs of the last hour may hold and have spent together; none: no limit.",
    )

    def narrowed(self, other: Limits) -> Limits:
        """The tighter of the two, limit by limit."""
        return Limits(**{name: _least(getattr(self, name), getattr(other, name)) for name in Limits.model_fields})

    @classmethod
    def said_in(cls, plan: Mapping[str, Any]) -> Self:
        """What a team's plan says under `limits`."""
        return cls.model_validate(plan.get(LIMITS) or {})


def _least(one: int | None, other: int | None) -> int | None:
    return min((limit for limit in (one, other) if limit is not None), default=None)
