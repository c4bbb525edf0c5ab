"""What budgets have spent and hold in their windows: the rows that a reservation takes from and a settlement moves.

A hold counts in the windows of the instant at which it was made, also when it is settled after their end. Rows are
always touched in the order of the budgets' ids, so that two transactions never wait for each other in a ring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Connection, bindparam, case, func, insert, literal, select, update

from gateway.money.amounts import require_micros
from gateway.money.windows import Window, WindowKind
from gateway.store.conflict import insert_new
from gateway.store.prepared import Prepared
from gateway.store.schema_money import budget_windows, budgets, entries, hold_budgets, holds

NO_LIMIT_MICROS = 2**62  # above any sum of amounts: what a budget with a soft limit only compares with


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
        if self.limit_micros is not None:
            require_micros(self.limit_micros, "limit_micros")
        if self.soft_micros is not None:
            require_micros(self.soft_micros, "soft_micros")


class Taken(NamedTuple):
    """A window's counts after a reservation, and when its soft limit was first reached."""

    spent_micros: int
    held_micros: int
    warned_at: float | None


def counts_of(connection: Connection, budget: Budget, window: Window) -> tuple[int, int]:
    """Spent and held of a budget in a window; nothing in one that has not begun."""
    row = _COUNTS.one(connection, {"of_budget": budget.budget_id, "of_start": window.starts_at})
    return (row[0], row[1]) if row else (0, 0)


def take(connection: Connection, budget: Budget, window: Window, amount_micros: int) -> Taken | None:
    """The counts of the window after the reservation, or None when the limit refuses it."""
    parameters = {"of_budget": budget.budget_id, "of_start": window.starts_at, "amount": amount_micros}
    taken = _TAKE.one(connection, parameters)
    if taken is None:
        # Also when somebody else has begun it: that was seen only after their commit.
        open_window(connection, budget, window)
        taken = _TAKE.one(connection, parameters)
    return None if taken is None else Taken(*taken)


def open_window(connection: Connection, budget: Budget, window: Window) -> bool:
    """Begin a window with what was spent and held in it before; False when it is there already."""
    values = {"budget_id": budget.budget_id, "starts_at": window.starts_at, "ends_at": window.ends_at}
    if not insert_new(connection, budget_windows, values):
        return False
    inside = [holds.c.team_id == budget.team_id, holds.c.created_at >= window.starts_at]
    if budget.key_id is not None:
        inside.append(holds.c.key_id == budget.key_id)
    if window.ends_at is not None:
        inside.append(holds.c.created_at < window.ends_at)
    # Locked where the database locks rows: a hold that settles at this moment is counted either here or there.
    found = select(holds.c.id, holds.c.state, holds.c.amount_micros).where(*inside).order_by(holds.c.id)
    earlier = list(connection.execute(found.with_for_update()))
    if earlier:
        spent = connection.execute(select(_billed()).where(entries.c.hold_id.in_(select(holds.c.id).where(*inside))))
        held = sum(row.amount_micros for row in earlier if row.state == "open")
        pair = (budget.budget_id, window.starts_at)
        _move(connection, [pair], held=held, spent=int(spent.scalar_one()))
        for row in earlier:
            count_hold(connection, row.id, [pair])
    return True


def count_hold(connection: Connection, hold_id: str, counted_in: Sequence[tuple[str, float]]) -> None:
    """Write down in which windows a hold counts."""
    if counted_in:
        rows: dict[str, Any] = {"of_hold": hold_id}
        for number, (budget, start) in enumerate(counted_in):
            rows |= {f"budget_{number}": budget, f"start_{number}": start}
        _count(len(counted_in)).changed(connection, rows)


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
    return [(row[0], row[1]) for row in _WINDOWS_OF.rows(connection, {"of_hold": hold_id})]


def is_window(budget: Budget, window: Window) -> tuple[Any, ...]:
    """SQL that finds a budget's row of a window."""
    return (budget_windows.c.budget_id == budget.budget_id, budget_windows.c.starts_at == window.starts_at)


_COUNTS = Prepared(
    select(budget_windows.c.spent_micros, budget_windows.c.held_micros).where(
        budget_windows.c.budget_id == bindparam("of_budget"), budget_windows.c.starts_at == bindparam("of_start")
    )
)
_WINDOWS_OF = Prepared(
    select(hold_budgets.c.budget_id, hold_budgets.c.starts_at)
    .where(hold_budgets.c.hold_id == bindparam("of_hold"))
    .order_by(hold_budgets.c.budget_id, hold_budgets.c.starts_at)
)


@lru_cache
def _count(windows: int) -> Prepared:
    """One INSERT of a hold into so many windows."""
    hold: Any = bindparam("of_hold")
    numbers = range(windows)
    rows = [
        {"hold_id": hold, "budget_id": bindparam(f"budget_{n}"), "starts_at": bindparam(f"start_{n}")} for n in numbers
    ]
    return Prepared(insert(hold_budgets).values(rows))


_MOVE = Prepared(
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
_TAKE = Prepared(
    update(budget_windows)
    .where(
        budget_windows.c.budget_id == bindparam("of_budget"),
        budget_windows.c.starts_at == bindparam("of_start"),
        budget_windows.c.spent_micros + budget_windows.c.held_micros + bindparam("amount")
        <= select(func.coalesce(budgets.c.limit_micros, literal(NO_LIMIT_MICROS, BigInteger())))
        .where(budgets.c.id == bindparam("of_budget"))
        .scalar_subquery(),
    )
    .values(held_micros=budget_windows.c.held_micros + bindparam("amount"))
    .returning(budget_windows.c.spent_micros, budget_windows.c.held_micros, budget_windows.c.warned_at)
)


def _move(connection: Connection, windows: Sequence[tuple[str, float]], *, held: int, spent: int) -> None:
    rows = [{"of_budget": budget, "of_start": start, "held": held, "spent": spent} for budget, start in windows]
    if rows:
        _MOVE.each(connection, rows)


def _billed() -> Any:
    """SQL for the net amount that entries bill to a team."""
    billed = case((entries.c.debit.like("team:%"), entries.c.amount_micros), else_=0)
    returned = case((entries.c.credit.like("team:%"), entries.c.amount_micros), else_=0)
    return func.coalesce(func.sum(billed - returned), 0)
