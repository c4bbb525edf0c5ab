"""Who sees which figures of money: one table of what is not everybody's, and the function that leaves it out. Pure.

A team sees what it pays: its prices, holds, budgets and bills. What a vendor charges, and so the operator's margin and
the credit on the operator's accounts, it sees only where its plan (`show_cost`) or `money.show_cost` says so. What
failures cost the operator no team sees. The command line reads the database and sees everything.

What goes out on its own keeps to the same: events, CloudEvents and `x-vidgate-cost-usd` carry the team's price alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any, Literal

SHOW_COST = "show_cost"


class Audience(IntEnum):
    """Who is looking; each sees what those before it see."""

    TEAM = 0
    INFORMED_TEAM = 1
    OPERATOR = 2


View = Literal["usage", "bill", "attempt", "plan", "ranked", "quote", "quote_time", "credit", "route", "route_price"]

_INFORMED, _OPERATOR = Audience.INFORMED_TEAM, Audience.OPERATOR

# The columns of each view that are not for every team, with the first audience that sees them.
RESTRICTED: Mapping[View, Mapping[str, Audience]] = {
    "usage": {"cost_micros": _INFORMED, "margin_micros": _INFORMED, "loss_micros": _OPERATOR},
    "bill": {"cost_micros": _INFORMED, "margin_micros": _INFORMED, "cost_source": _INFORMED},
    "attempt": {"cost_micros": _INFORMED, "cost_source": _INFORMED},
    # The score of a route is what it is expected to cost the operator, and the shadow's opinion has one too.
    "plan": {"shadow": _INFORMED},
    "ranked": {"expected_cost_micros": _INFORMED, "score": _INFORMED},
    "quote": {"price": _INFORMED},
    "quote_time": {"expected_cost_micros": _INFORMED},
    "credit": {
        "balance_micros": _INFORMED,
        "balance_at": _INFORMED,
        "in_flight_micros": _INFORMED,
        "burn_micros_per_hour": _INFORMED,
        "runway_h": _INFORMED,
    },
    "route": {"price_drift": _INFORMED},
    "route_price": {"cost_micros": _INFORMED, "worst_cost_micros": _INFORMED},
}


def audience_of(plan: Mapping[str, Any], usual: bool) -> Audience:
    """What a team with this plan sees over the API; `usual` is the word of the configuration."""
    shown = plan.get(SHOW_COST)
    return Audience.INFORMED_TEAM if (usual if shown is None else shown) else Audience.TEAM


def visible(view: View, row: Mapping[str, Any], audience: Audience) -> dict[str, Any]:
    """A row without the columns that this audience may not see."""
    restricted = RESTRICTED[view]
    return {name: value for name, value in row.items() if audience >= restricted.get(name, Audience.TEAM)}


def columns_for(view: View, columns: Sequence[str], audience: Audience) -> tuple[str, ...]:
    """Those of a table's columns that this audience may see, in their order."""
    return tuple(visible(view, dict.fromkeys(columns), audience))
