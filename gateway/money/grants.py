"""What a key may do: routes, providers, objectives, a cost a request, an end, and limits; never more than its issuer.

Pure.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gateway.limits import Limits
from gateway.money.amounts import AMOUNT_MAX_MICROS

Names = frozenset[Annotated[str, Field(min_length=1, max_length=80)]]


class Grants(Limits):
    """The limits of a key. None means no limit of its own; an empty set means nothing at all.

    `expires_at` is unix seconds; `max_cost_micros` bounds what one request may cost the team.
    """

    routes: Names | None = None
    providers: Names | None = None
    objectives: Names | None = None
    max_cost_micros: Annotated[int, Field(strict=True, ge=0, le=AMOUNT_MAX_MICROS)] | None = None
    expires_at: Annotated[float, Field(allow_inf_nan=False)] | None = None

    def objective_refusal(self, objective: str) -> str | None:
        """Why an objective may not be asked for; None when it may."""
        if self.objectives is not None and objective not in self.objectives:
            return f"this key may ask for {', '.join(sorted(self.objectives)) or 'no objective'}, not {objective}"
        return None

    def beyond(self, issuer: Grants) -> list[str]:
        """The names of the limits by which these grants go beyond their issuer's; empty when they may be issued."""
        sets = [
            name
            for name in ("routes", "providers", "objectives")
            if not _within(getattr(self, name), getattr(issuer, name))
        ]
        numbers = [
            name
            for name in ("max_cost_micros", "expires_at", *Limits.model_fields)
            if not _at_most(getattr(self, name), getattr(issuer, name))
        ]
        return sets + numbers


def _within(mine: frozenset[str] | None, issuers: frozenset[str] | None) -> bool:
    return issuers is None or (mine is not None and mine <= issuers)


def _at_most(mine: float | None, issuers: float | None) -> bool:
    return issuers is None or (mine is not None and mine <= issuers)
