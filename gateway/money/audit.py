"""The ledger looks at itself: balances of every account, and every rule that the rows together must keep."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, case, func, or_, select, union_all

from gateway.store.schema_money import (
    budget_windows,
    entries,
    hold_budgets,
    holds,
    period_closes,
    settlements,
)


def trial_balance(connection: Connection, through_period: str | None = None) -> dict[str, int]:
    """The balance of every account in micro-USD, debits less credits; they always sum to 0.

    With `through_period` (`YYYY-MM`) only entries up to the end of that accounting month count.
    """
    rows = connection.execute(_BALANCES, {"through": through_period or _END_OF_TIME})
    return {account: int(micros) for account, micros in rows}


_END_OF_TIME = "9999-12"
_COUNTED = entries.c.period <= bindparam("through")
_SIDES = union_all(
    select(entries.c.debit.label("account"), entries.c.amount_micros.label("micros")).where(_COUNTED),
    select(entries.c.credit, -entries.c.amount_micros).where(_COUNTED),
).subquery()
_BALANCES = select(_SIDES.c.account, func.sum(_SIDES.c.micros)).group_by(_SIDES.c.account).order_by(_SIDES.c.account)


class LedgerSums(NamedTuple):
    """What the whole ledger comes to, in micro-USD. `imbalance_micros` is always 0.

    Each entry balances by its shape. What can differ is what was booked for captures from what was settled: the teams'
    side from the prices, the providers' from the costs.
    """

    imbalance_micros: int
    loss_micros: int
    suspense_micros: int


def ledger_sums(connection: Connection) -> LedgerSums:
    """Add the ledger up, with one scan of the entries and one of the settlements."""
    loss, suspense, booked_price, booked_cost = connection.execute(_BOOKED).one()
    settled_price, settled_cost = connection.execute(_CAPTURES_SETTLED).one()
    imbalance = abs(int(booked_price) - int(settled_price)) + abs(int(booked_cost) - int(settled_cost))
    return LedgerSums(imbalance, int(loss), int(suspense))


def _sum(*cases: tuple[ColumnElement[bool], ColumnElement[int]]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case(*cases, else_=0)), 0)


def _balance(account: str) -> ColumnElement[int]:
    amount = entries.c.amount_micros
    return _sum((entries.c.debit == account, amount), (entries.c.credit == account, -amount))


_IS_CAPTURE = entries.c.kind == "capture"
_BOOKED = select(
    _balance("loss"),
    _balance("suspense"),
    _sum((and_(_IS_CAPTURE, entries.c.debit.like("team:%")), entries.c.amount_micros)),
    _sum((and_(_IS_CAPTURE, entries.c.credit.like("provider:%")), entries.c.amount_micros)),
)
_CAPTURES_SETTLED = select(
    func.coalesce(func.sum(settlements.c.price_micros), 0), func.coalesce(func.sum(settlements.c.cost_micros), 0)
)


def check(connection: Connection) -> list[str]:
    """Every rule that is broken, as a sentence with the rows it is about; an empty list is a sound ledger."""
    return [
        *_holds_without_their_settlement(connection),
        *_captures_not_explained(connection),
        *_windows_that_drifted(connection),
        *_attempts_charged_twice(connection),
        *_closed_months_that_changed(connection),
    ]


def _holds_without_their_settlement(connection: Connection) -> Iterator[str]:
    query = (
        select(holds.c.id, holds.c.state, settlements.c.kind)
        .select_from(holds.outerjoin(settlements, settlements.c.hold_id == holds.c.id))
        .where(
            or_(
                and_(holds.c.state == "open", settlements.c.kind.is_not(None)),
                and_(holds.c.state != "open", func.coalesce(settlements.c.kind, "") != holds.c.state),
            )
        )
    )
    for row in connection.execute(query):
        yield f"hold {row.id} is {row.state} but its settlement is {row.kind}"


def _captures_not_explained(connection: Connection) -> Iterator[str]:
    """A captured hold's entries add up to its price on the team's side and its cost on the provider's."""
    team = case((entries.c.debit.like("team:%"), entries.c.amount_micros), else_=0)
    provider = case((entries.c.credit.like("provider:%"), entries.c.amount_micros), else_=0)
    booked = (
        select(entries.c.hold_id, func.sum(team).label("price"), func.sum(provider).label("cost"))
        .where(entries.c.kind == "capture")
        .group_by(entries.c.hold_id)
        .subquery()
    )
    price, cost = func.coalesce(booked.c.price, 0), func.coalesce(booked.c.cost, 0)
    excess = settlements.c.price_micros - holds.c.amount_micros
    query = (
        select(settlements.c.hold_id, settlements.c.price_micros, settlements.c.cost_micros, price, cost)
        .select_from(
            settlements.join(holds, holds.c.id == settlements.c.hold_id).outerjoin(
                booked, booked.c.hold_id == settlements.c.hold_id
            )
        )
        .where(
            or_(
                price != settlements.c.price_micros,
                cost != settlements.c.cost_micros,
                settlements.c.excess_micros != case((excess > 0, excess), else_=0),
            )
        )
    )
    for hold_id, settled_price, settled_cost, booked_price, booked_cost in connection.execute(query):
        yield (
            f"hold {hold_id} settled at price {settled_price} and cost {settled_cost}, "
            f"but its entries say {booked_price} and {booked_cost}, or its excess is wrong"
        )


def _windows_that_drifted(connection: Connection) -> Iterator[str]:
    """A budget window's counts are exactly its open holds and its billed entries."""
    held = _per_window(
        select(
            hold_budgets.c.budget_id,
            hold_budgets.c.starts_at,
            func.sum(case((holds.c.state == "open", holds.c.amount_micros), else_=0)).label("micros"),
        ).join_from(hold_budgets, holds, holds.c.id == hold_budgets.c.hold_id)
    )
    billed = case((entries.c.debit.like("team:%"), entries.c.amount_micros), else_=0)
    returned = case((entries.c.credit.like("team:%"), entries.c.amount_micros), else_=0)
    spent = _per_window(
        select(
            hold_budgets.c.budget_id,
            hold_budgets.c.starts_at,
            func.sum(billed - returned).label("micros"),
        ).join_from(hold_budgets, entries, entries.c.hold_id == hold_budgets.c.hold_id)
    )
    query = select(
        budget_windows.c.budget_id,
        budget_windows.c.starts_at,
        budget_windows.c.held_micros,
        budget_windows.c.spent_micros,
        func.coalesce(held.c.micros, 0).label("held"),
        func.coalesce(spent.c.micros, 0).label("spent"),
    ).select_from(budget_windows.outerjoin(held, _same_window(held)).outerjoin(spent, _same_window(spent)))
    for row in connection.execute(query):
        if (row.held_micros, row.spent_micros) != (row.held, row.spent):
            yield (
                f"budget {row.budget_id} from {row.starts_at:.0f} counts held {row.held_micros} and spent "
                f"{row.spent_micros}, but its holds say {row.held} and {row.spent}"
            )


def _attempts_charged_twice(connection: Connection) -> Iterator[str]:
    """An attempt's vendor cost is billed to a team or lost, never both."""
    query = (
        select(entries.c.attempt_id)
        .where(entries.c.attempt_id.is_not(None), entries.c.kind.in_(("capture", "loss")))
        .group_by(entries.c.attempt_id)
        .having(func.count(entries.c.kind.distinct()) > 1)
    )
    for (attempt_id,) in connection.execute(query):
        yield f"attempt {attempt_id} was both captured and booked as a loss"


def _closed_months_that_changed(connection: Connection) -> Iterator[str]:
    for close in connection.execute(select(period_closes.c.period, period_closes.c.balances)):
        if trial_balance(connection, through_period=close.period) != json.loads(close.balances):
            yield f"accounting month {close.period} is closed, but its balances have changed since"


def _per_window(query: Select[Any]) -> Any:
    return query.group_by(hold_budgets.c.budget_id, hold_budgets.c.starts_at).subquery()


def _same_window(counts: Any) -> Any:
    return and_(
        counts.c.budget_id == budget_windows.c.budget_id,
        counts.c.starts_at == budget_windows.c.starts_at,
    )
