"""Budgets of teams and keys: who may spend how much in which calendar window, reserved by a conditional UPDATE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Float, String, and_, bindparam, column, insert, select, table, update

from gateway.money.budget_counts import Budget, Taken, counts_of, give_back, is_window, open_window, take
from gateway.money.windows import Window, WindowKind, window_at
from gateway.store.prepared import Prepared
from gateway.store.schema_money import budget_windows, budgets

__all__ = [
    "Budget",
    "BudgetRefusal",
    "BudgetState",
    "Reservation",
    "SoftLimit",
    "UnknownTeamError",
    "budget_states",
    "lock_team",
    "page_of_budget_states",
    "reserve",
    "retire_budget",
    "set_budget",
]

Scope = Literal["team", "key"]

_teams = table("teams", column("id", String), column("timezone", String), column("deleted_at", Float))


class UnknownTeamError(LookupError):
    """There is no such team, or no more."""


@dataclass(frozen=True, slots=True)
class BudgetRefusal:
    """The hold does not fit: the first budget that refused it. `resets_at` (unix seconds) is None for `total`."""

    scope: Scope
    window: WindowKind
    limit_micros: int
    spent_micros: int
    held_micros: int
    needed_micros: int
    resets_at: float | None


@dataclass(frozen=True, slots=True)
class SoftLimit:
    """A budget at or over its soft limit. `first` is True for the one hold that crossed it in this window."""

    scope: Scope
    window: WindowKind
    soft_micros: int
    spent_micros: int
    held_micros: int
    resets_at: float | None
    first: bool


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget in the window of an instant."""

    budget: Budget
    window: Window
    spent_micros: int
    held_micros: int

    @property
    def is_over_soft(self) -> bool:
        """Whether it stands at or over its soft limit: the figure behind a gauge."""
        soft_micros = self.budget.soft_micros
        return soft_micros is not None and self.spent_micros + self.held_micros >= soft_micros


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a hold reserved: the (budget_id, window start) pairs it counts in, and the soft limits it is over."""

    counted_in: tuple[tuple[str, float], ...]
    warnings: tuple[SoftLimit, ...]


def set_budget(connection: Connection, budget: Budget, at: float) -> str:
    """Make this the budget of its team or key for its window, in force at once; return its id.

    An active budget of the same scope and window keeps its id and its counts, and takes the new limits. A new one
    starts from what the scope has spent and held in the present window. Raises UnknownTeamError.
    """
    timezone = lock_team(connection, budget.team_id, exclusive=True)
    changed = connection.execute(
        update(budgets)
        .where(_same_scope(budget), budgets.c.window == budget.window, budgets.c.retired_at.is_(None))
        .values(limit_micros=budget.limit_micros, soft_micros=budget.soft_micros)
        .returning(budgets.c.id)
    ).scalar_one_or_none()
    if changed is not None:
        return str(changed)
    connection.execute(
        insert(budgets).values(
            id=budget.budget_id,
            team_id=budget.team_id,
            key_id=budget.key_id,
            window=budget.window,
            limit_micros=budget.limit_micros,
            soft_micros=budget.soft_micros,
            created_at=at,
        )
    )
    open_window(connection, budget, window_at(budget.window, at, timezone))
    return budget.budget_id


def retire_budget(connection: Connection, budget_id: str, at: float) -> bool:
    """End a budget; holds it counted go on to settle in it. False when there is no such active budget."""
    retire = update(budgets).where(budgets.c.id == budget_id, budgets.c.retired_at.is_(None)).values(retired_at=at)
    return connection.execute(retire).rowcount == 1


def budget_states(connection: Connection, team_id: str, at: float) -> list[BudgetState]:
    """Every active budget of a team and its keys in the window of `at`; a window not begun has nothing spent."""
    return _states(connection, team_id, _active(connection, team_id), at)


def page_of_budget_states(
    connection: Connection, team_id: str, at: float, *, before: str | None, limit: int
) -> list[BudgetState]:
    """So many of the same, the newest first; `before` is the last id of the page before."""
    query = _ACTIVE_BUDGETS.order_by(budgets.c.id.desc()).limit(limit)
    query = query if before is None else query.where(budgets.c.id < before)
    found = [_budget(row) for row in connection.execute(query, {"team_id": team_id})]
    return _states(connection, team_id, found, at)


def _states(connection: Connection, team_id: str, of: Sequence[Budget], at: float) -> list[BudgetState]:
    timezone = _timezone(connection, team_id)
    states = []
    for budget in of:
        window = window_at(budget.window, at, timezone)
        states.append(BudgetState(budget, window, *counts_of(connection, budget, window)))
    return states


def reserve(
    connection: Connection, *, team_id: str, key_id: str | None, amount_micros: int, at: float
) -> Reservation | BudgetRefusal:
    """Reserve an amount in every budget that applies, in all of them or in none. Raises UnknownTeamError."""
    timezone = lock_team(connection, team_id)
    counted: list[tuple[str, float]] = []
    taken_from: list[tuple[Budget, Window, Taken]] = []
    for budget in _active(connection, team_id):
        if budget.key_id is not None and budget.key_id != key_id:
            continue
        window = window_at(budget.window, at, timezone)
        taken = take(connection, budget, window, amount_micros)
        if taken is None:
            give_back(connection, counted, amount_micros)
            return _refusal(connection, budget, window, amount_micros)
        counted.append((budget.budget_id, window.starts_at))
        taken_from.append((budget, window, taken))
    # Only now: a hold that another budget refused is over no soft limit.
    warnings = [_warning(connection, *found, at) for found in taken_from]
    return Reservation(tuple(counted), tuple(warning for warning in warnings if warning is not None))


_ACTIVE_BUDGETS = select(
    budgets.c.id,
    budgets.c.team_id,
    budgets.c.window,
    budgets.c.limit_micros,
    budgets.c.soft_micros,
    budgets.c.key_id,
).where(budgets.c.team_id == bindparam("team_id"), budgets.c.retired_at.is_(None))
_ACTIVE = Prepared(_ACTIVE_BUDGETS.order_by(budgets.c.id))


def _refusal(connection: Connection, budget: Budget, window: Window, amount_micros: int) -> BudgetRefusal:
    columns = (budget_windows.c.spent_micros, budget_windows.c.held_micros, budgets.c.limit_micros)
    joined = budget_windows.join(budgets, budgets.c.id == budget_windows.c.budget_id)
    query = select(*columns).select_from(joined).where(*is_window(budget, window))
    row = connection.execute(query).one()
    return BudgetRefusal(
        scope=_scope(budget),
        window=budget.window,
        limit_micros=row.limit_micros,
        spent_micros=row.spent_micros,
        held_micros=row.held_micros,
        needed_micros=amount_micros,
        resets_at=window.ends_at,
    )


def _warning(connection: Connection, budget: Budget, window: Window, taken: Taken, at: float) -> SoftLimit | None:
    if budget.soft_micros is None or taken.spent_micros + taken.held_micros < budget.soft_micros:
        return None
    mark = update(budget_windows).where(*is_window(budget, window), budget_windows.c.warned_at.is_(None))
    first = taken.warned_at is None and connection.execute(mark.values(warned_at=at)).rowcount == 1
    return SoftLimit(
        scope=_scope(budget),
        window=budget.window,
        soft_micros=budget.soft_micros,
        spent_micros=taken.spent_micros,
        held_micros=taken.held_micros,
        resets_at=window.ends_at,
        first=first,
    )


def _active(connection: Connection, team_id: str) -> list[Budget]:
    return [_budget(row) for row in _ACTIVE.rows(connection, {"team_id": team_id})]


def _budget(row: Sequence[Any]) -> Budget:
    budget_id, of_team, window, limit_micros, soft_micros, key_id = row
    return Budget(budget_id, of_team, WindowKind(window), limit_micros, soft_micros, key_id)


def _timezone(connection: Connection, team_id: str) -> str:
    return _zone_of(connection, team_id, _UNLOCKED_TEAM)


# On PostgreSQL admissions share the team's row, and a change of its budgets or of its time zone has it alone; SQLite
# runs one writer at a time and leaves the clause out.
_TEAM = select(_teams.c.timezone).where(_teams.c.id == bindparam("team_id"))
_UNLOCKED_TEAM = Prepared(_TEAM)
_LIVE_TEAM = _TEAM.where(_teams.c.deleted_at.is_(None))
_SHARED_TEAM = Prepared(_LIVE_TEAM.with_for_update(read=True))
_WHOLE_TEAM = Prepared(_LIVE_TEAM.with_for_update())


def lock_team(connection: Connection, team_id: str, *, exclusive: bool = False) -> str:
    """Keep a team as it is until the end of the transaction; its time zone. Raises UnknownTeamError."""
    return _zone_of(connection, team_id, _WHOLE_TEAM if exclusive else _SHARED_TEAM)


def _zone_of(connection: Connection, team_id: str, statement: Prepared) -> str:
    row = statement.one(connection, {"team_id": team_id})
    if row is None:
        raise UnknownTeamError(team_id)
    return str(row[0])


def _scope(budget: Budget) -> Scope:
    return "team" if budget.key_id is None else "key"


def _same_scope(budget: Budget) -> Any:
    of_key = budgets.c.key_id.is_(None) if budget.key_id is None else budgets.c.key_id == budget.key_id
    return and_(budgets.c.team_id == budget.team_id, of_key)
