"""The money of vidgate as plain dictionaries: what the ledger must agree with, written in the simplest way there is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from tests.stateful.money_support import TEAMS


@dataclass
class ModelHold:
    """A hold and what became of it; `billed` is the price less what corrections took back."""

    team: str
    key: str
    amount: int
    at: float
    expires_at: float
    state: str = "open"
    billed: int = 0


@dataclass
class ModelBudget:
    """A limit; the model counts nothing ahead, it adds up the holds whenever it is asked."""

    team: str
    key: str | None
    window: str
    limit: int | None
    soft: int | None


@dataclass
class Model:
    """Holds, budgets and the balance of every account."""

    holds: dict[str, ModelHold] = field(default_factory=dict)
    budgets: dict[str, ModelBudget] = field(default_factory=dict)
    balances: Counter[str] = field(default_factory=Counter)
    booked: set[str] = field(default_factory=set)
    suspended: dict[str, int] = field(default_factory=dict)

    def counted(self, budget: ModelBudget, now: float) -> tuple[int, int]:
        """Spent and held of a budget in its window of `now`."""
        label = window_label(budget.window, now, budget.team)
        inside = [
            hold
            for hold in self.holds.values()
            if hold.team == budget.team
            and budget.key in (None, hold.key)
            and window_label(budget.window, hold.at, budget.team) == label
        ]
        return sum(hold.billed for hold in inside), sum(hold.amount for hold in inside if hold.state == "open")

    def refusing(self, team: str, key: str, amount: int, now: float) -> tuple[str, int, int] | None:
        """The first budget that refuses this amount, with what it has spent and held; None when all allow it."""
        for budget_id, budget in sorted(self.budgets.items()):
            if budget.team != team or budget.key not in (None, key) or budget.limit is None:
                continue
            spent, held = self.counted(budget, now)
            if spent + held + amount > budget.limit:
                return budget_id, spent, held
        return None

    def transfer(self, debit: str, credit: str, amount: int) -> None:
        """Move an amount."""
        self.balances[debit] += amount
        self.balances[credit] -= amount

    def moved(self) -> dict[str, int]:
        """The accounts that are not at 0."""
        return {account: amount for account, amount in self.balances.items() if amount}


def window_label(window: str, at: float, team: str) -> tuple[int, ...]:
    """A name of the calendar window in which an instant lies; equal names are the same window."""
    local = datetime.fromtimestamp(at, ZoneInfo(TEAMS[team]))
    return {
        "day": (local.year, local.month, local.day),
        "week": local.isocalendar()[:2],
        "month": (local.year, local.month),
        "total": (),
    }[window]
