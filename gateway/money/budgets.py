"""Budgets of teams and keys: who may spend how much in which calendar window, reserved by a conditional UPDATE.

A hold counts in the windows of the instant at which it was made, also when it is settled after their end. Rows are
always touched in the order of the budgets' ids, so that two transactions never wait for each other in a ring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import (
    Connection,
    String,
    and_,
    bindparam,
    case,
    column,
    func,
    insert,
    literal,
    select,
    table,
    update,
)

from gateway.money.amounts import require_micros
from gateway.money.windows import Window, WindowKind, window_at
from gateway.store.conflict import insert_new
from gateway.store.schema_money import budget_windows, budgets, entries, hold_budgets, holds

Scope = Literal["team", "key"]

_teams = table("teams", column("id", String), column("timezone", String))


class UnknownTeamError(LookupError):
    """There is no such team."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit on one team (`key_id` None) or one of its keys. `limit_micros` refuses, `soft_micros` warns."""

    budget_id: str
    team_id: str
    window: WindowKind
    limit_micros: int | None = None
    soft_micros: int | None = None
    key_id: str | None = None

    def __post_init__(self) -> None:
        if self.limit_micros is None and self.soft_micros is None:
            raise ValueError("a budget needs limit_micros, soft_micros or both")
        for name in ("limit_micros", "soft_micros"):
            if getattr(self, name) is not None:
                require_micros(getattr(self, name), name)


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
    timezone = _lock_team(connection, budget.team_id, exclusive=True)
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
    _open_window(connection, budget, window_at(budget.window, at, timezone))
    return budget.budget_id


def retire_budget(connection: Connection, budget_id: str, at: float) -> bool:
    """End a budget; holds it counted go on to settle in it. False when there is no such active budget."""
    retire = update(budgets).where(budgets.c.id == budget_id, budgets.c.retired_at.is_(None)).values(retired_at=at)
    return connection.execute(retire).rowcount == 1


def budget_states(connection: Connection, team_id: str, at: float) -> list[BudgetState]:
    """Every active budget of a team and its keys in the window of `at`; a window not begun has nothing spent."""
    timezone = _timezone(connection, team_id)
    states = []
    for budget in _active(connection, team_id):
        window = window_at(budget.window, at, timezone)
        parameters = {"of_budget": budget.budget_id, "of_start": window.starts_at}
        row = connection.execute(_COUNTS, parameters).one_or_none()
        states.append(BudgetState(budget, window, *(row or (0, 0))))
    return states


def reserve(
    connection: Connection, *, team_id: str, key_id: str | None, amount_micros: int, at: float
) -> Reservation | BudgetRefusal:
    """Reserve an amount in every budget that applies, in all of them or in none. Raises UnknownTeamError."""
    timezone = _lock_team(connection, team_id)
    counted: list[tuple[str, float]] = []
    warnings: list[SoftLimit] = []
    for budget in _active(connection, team_id):
        if budget.key_id is not None and budget.key_id != key_id:
            continue
        window = window_at(budget.window, at, timezone)
        taken = _take(connection, budget, window, amount_micros)
        if taken is None:
            give_back(connection, counted, amount_micros)
            return _refusal(connection, budget, window, amount_micros)
        counted.append((budget.budget_id, window.starts_at))
        warning = _warning(connection, budget, window, taken, at)
        if warning is not None:
            warnings.append(warning)
    return Reservation(tuple(counted), tuple(warnings))


def count_hold(connection: Connection, hold_id: str, counted_in: Sequence[tuple[str, float]]) -> None:
    """Write down in which windows a hold counts."""
    if counted_in:
        rows = [{"hold_id": hold_id, "budget_id": budget, "starts_at": start} for budget, start in counted_in]
        connection.execute(insert(hold_budgets), rows)


def give_back(connection: Connection, counted_in: Sequence[tuple[str, float]], amount_micros: int) -> None:
    """Undo a reservation that came to nothing, inside the transaction that made it."""
    _move(connection, counted_in, held=-amount_micros, spent=0)


def settle(connection: Connection, hold_id: str, amount_micros: int, price_micros: int) -> None:
    """Turn a hold's reservation into `price_micros` of spend, in every window where it counts."""
    _move(connection, windows_of(connection, hold_id), held=-amount_micros, spent=price_micros)


def correct(connection: Connection, hold_id: str, change_micros: int) -> None:
    """Change what a settled hold has spent, in every window where it counts."""
    _move(connection, windows_of(connection, hold_id), held=0, spent=change_micros)


def windows_of(connection: Connection, hold_id: str) -> list[tuple[str, float]]:
    """The (budget_id, window start) pairs in which a hold counts, in the order in which they are locked."""
    query = (
        select(hold_budgets.c.budget_id, hold_budgets.c.starts_at)
        .where(hold_budgets.c.hold_id == hold_id)
        .order_by(hold_budgets.c.budget_id, hold_budgets.c.starts_at)
    )
    return [(row.budget_id, row.starts_at) for row in connection.execute(query)]


_COUNTS = select(budget_windows.c.spent_micros, budget_windows.c.held_micros).where(
    budget_windows.c.budget_id == bindparam("of_budget"), budget_windows.c.starts_at == bindparam("of_start")
)

_MOVE = (
    update(budget_windows)
    .where(
        budget_windows.c.budget_id == bindparam("of_budget"),
        budget_windows.c.starts_at == bindparam("of_start"),
    )
    .values(
        held_micros=budget_windows.c.held_micros + bindparam("held"),
        spent_micros=budget_windows.c.spent_micros + bindparam("spent"),
    )
)

# The limit is read by the very statement that spends: nothing can come between the check and the act.
_TAKE = (
    update(budget_windows)
    .where(
        budget_windows.c.budget_id == bindparam("of_budget"),
        budget_windows.c.starts_at == bindparam("of_start"),
        budget_windows.c.spent_micros + budget_windows.c.held_micros + bindparam("amount")
        <= select(func.coalesce(budgets.c.limit_micros, literal(2**62)))
        .where(budgets.c.id == bindparam("of_budget"))
        .scalar_subquery(),
    )
    .values(held_micros=budget_windows.c.held_micros + bindparam("amount"))
    .returning(budget_windows.c.spent_micros, budget_windows.c.held_micros, budget_windows.c.warned_at)
)

_ACTIVE = (
    select(budgets)
    .where(budgets.c.team_id == bindparam("team_id"), budgets.c.retired_at.is_(None))
    .order_by(budgets.c.id)
)


def _move(connection: Connection, windows: Sequence[tuple[str, float]], *, held: int, spent: int) -> None:
    rows = [{"of_budget": budget, "of_start": start, "held": held, "spent": spent} for budget, start in windows]
    if rows:
        connection.execute(_MOVE, rows)


def _take(connection: Connection, budget: Budget, window: Window, amount_micros: int) -> Any | None:
    """The counts of the window after the reservation, or None when the limit refuses it."""
    parameters = {"of_budget": budget.budget_id, "of_start": window.starts_at, "amount": amount_micros}
    taken = connection.execute(_TAKE, parameters).one_or_none()
    if taken is None and _open_window(connection, budget, window):
        taken = connection.execute(_TAKE, parameters).one_or_none()
    return taken


def _open_window(connection: Connection, budget: Budget, window: Window) -> bool:
    """Begin a window with what was spent and held in it before; False when it is there already."""
    values = {"budget_id": budget.budget_id, "starts_at": window.starts_at, "ends_at": window.ends_at}
    if not insert_new(connection, budget_windows, values):
        return False
    inside = [holds.c.team_id == budget.team_id, holds.c.created_at >= window.starts_at]
    if budget.key_id is not None:
        inside.append(holds.c.key_id == budget.key_id)
    if window.ends_at is not None:
        inside.append(holds.c.created_at < window.ends_at)
    earlier = list(connection.execute(select(holds.c.id, holds.c.state, holds.c.amount_micros).where(*inside)))
    if earlier:
        spent = connection.execute(select(_billed()).where(entries.c.hold_id.in_(select(holds.c.id).where(*inside))))
        held = sum(row.amount_micros for row in earlier if row.state == "open")
        pair = (budget.budget_id, window.starts_at)
        _move(connection, [pair], held=held, spent=int(spent.scalar_one()))
        for row in earlier:
            count_hold(connection, row.id, [pair])
    return True


def _billed() -> Any:
    """SQL for the net amount that entries bill to a team."""
    billed = case((entries.c.debit.like("team:%"), entries.c.amount_micros), else_=0)
    returned = case((entries.c.credit.like("team:%"), entries.c.amount_micros), else_=0)
    return func.coalesce(func.sum(billed - returned), 0)


def _refusal(connection: Connection, budget: Budget, window: Window, amount_micros: int) -> BudgetRefusal:
    columns = (budget_windows.c.spent_micros, budget_windows.c.held_micros, budgets.c.limit_micros)
    joined = budget_windows.join(budgets, budgets.c.id == budget_windows.c.budget_id)
    query = select(*columns).select_from(joined).where(*_is_window(budget, window))
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


def _warning(connection: Connection, budget: Budget, window: Window, taken: Any, at: float) -> SoftLimit | None:
    if budget.soft_micros is None or taken.spent_micros + taken.held_micros < budget.soft_micros:
        return None
    mark = update(budget_windows).where(*_is_window(budget, window), budget_windows.c.warned_at.is_(None))
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
    return [
        Budget(
            budget_id=row.id,
            team_id=row.team_id,
            window=WindowKind(row.window),
            limit_micros=row.limit_micros,
            soft_micros=row.soft_micros,
            key_id=row.key_id,
        )
        for row in connection.execute(_ACTIVE, {"team_id": team_id})
    ]


def _timezone(connection: Connection, team_id: str) -> str:
    return _zone_of(connection, team_id, _UNLOCKED_TEAM)


# On PostgreSQL admissions share the team's row, and a change of its budgets or of its time zone has it alone; SQLite
# runs one writer at a time and leaves the clause out.
_UNLOCKED_TEAM = select(_teams.c.timezone).where(_teams.c.id == bindparam("team_id"))
_SHARED_TEAM = _UNLOCKED_TEAM.with_for_update(read=True)
_WHOLE_TEAM = _UNLOCKED_TEAM.with_for_update()


def _lock_team(connection: Connection, team_id: str, *, exclusive: bool = False) -> str:
    return _zone_of(connection, team_id, _WHOLE_TEAM if exclusive else _SHARED_TEAM)


def _zone_of(connection: Connection, team_id: str, statement: Any) -> str:
    zone = connection.execute(statement, {"team_id": team_id}).scalar_one_or_none()
    if zone is None:
        raise UnknownTeamError(team_id)
    return str(zone)


def _scope(budget: Budget) -> Scope:
    return "team" if budget.key_id is None else "key"


def _same_scope(budget: Budget) -> Any:
    of_key = budgets.c.key_id.is_(None) if budget.key_id is None else budgets.c.key_id == budget.key_id
    return and_(budgets.c.team_id == budget.team_id, of_key)


def _is_window(budget: Budget, window: Window) -> tuple[Any, ...]:
    return (budget_windows.c.budget_id == budget.budget_id, budget_windows.c.starts_at == window.starts_at)
