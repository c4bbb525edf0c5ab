"""Gauges that are read from the store when somebody asks: holds, budgets, doubt, leases, the outbox, the ledger.

Two read transactions: one over indexes, quick however long the history is, and one that scans the whole ledger. Every
replica tells the same, so that dashboards take the maximum of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import ColumnElement, Connection, Table, and_, func, literal_column, or_, select

from gateway.jobs import AttemptState
from gateway.money.accounts import provider_state
from gateway.money.audit import ledger_sums
from gateway.money.budgets import budget_states
from gateway.store.schema import attempts, jobs
from gateway.store.schema_events import webhook_deliveries, webhooks
from gateway.store.schema_money import budgets, holds

Series = Mapping[tuple[str, ...], float]
HOUR_S = 3600.0


def _is_one_of(column: ColumnElement[str], *values: str) -> ColumnElement[bool]:
    """The condition of a partial index in its own words: with parameters in it a planner may scan the history."""
    return column.in_([literal_column(f"'{value}'") for value in values])


_IS_OPEN = holds.c.state == literal_column("'open'")
_IS_ACTIVE = _is_one_of(jobs.c.status, "queued", "running")
_IS_IN_DOUBT = and_(
    _is_one_of(attempts.c.state, "prepared", "accepted", "in_doubt"), attempts.c.state == AttemptState.IN_DOUBT
)
_IS_PENDING = webhook_deliveries.c.state == literal_column("'pending'")


def read_figures(connection: Connection, providers: tuple[str, ...], at: float) -> dict[str, Series]:
    """Every metric of the catalogue that an index tells, by its name and its labels' values."""
    return {
        **_holds(connection),
        **_budgets(connection, at),
        **_doubts(connection, at),
        **_jobs(connection, at),
        **_outbox(connection, at),
        **_accounts(connection, providers, at),
    }


def read_ledger(connection: Connection, _providers: tuple[str, ...], _at: float) -> dict[str, Series]:
    """The metrics for which every entry and every settlement is read."""
    sums = ledger_sums(connection)
    return {
        "vidgate_ledger_imbalance_micro_usd": {(): sums.imbalance_micros},
        "vidgate_ledger_losses_micro_usd": {(): sums.loss_micros},
        "vidgate_ledger_suspense_micro_usd": {(): sums.suspense_micros},
    }


def _holds(connection: Connection) -> dict[str, Series]:
    # Not the bare column: SQLite would walk all holds there ever were, for the sake of an index in its order.
    team_id = func.coalesce(holds.c.team_id, literal_column("''"))
    sums = func.count(), func.coalesce(func.sum(holds.c.amount_micros), 0)
    query = select(team_id, *sums).where(_IS_OPEN).group_by(team_id)
    rows = connection.execute(query).all()
    return {
        "vidgate_holds_open": {(team,): count for team, count, _ in rows},
        "vidgate_holds_open_micro_usd": {(team,): int(amount) for team, _, amount in rows},
    }


def _budgets(connection: Connection, at: float) -> dict[str, Series]:
    limits: dict[tuple[str, ...], float] = {}
    left: dict[tuple[str, ...], float] = {}
    active = select(budgets.c.team_id).where(budgets.c.retired_at.is_(None)).distinct()
    for team in connection.execute(active).scalars().all():
        for state in budget_states(connection, team, at):
            limit = state.budget.limit_micros
            if limit is None:
                continue
            labels = (team, "team" if state.budget.key_id is None else "key", state.budget.window.value)
            remaining = limit - state.spent_micros - state.held_micros
            if remaining < left.get(labels, float("inf")):
                limits[labels], left[labels] = limit, remaining
    # The tightest first: where there are more than a gauge has series, those with most left are told as one.
    order = sorted(left, key=lambda labels: left[labels] / limits[labels] if limits[labels] else 1.0)
    return {
        "vidgate_budget_limit_micro_usd": {labels: limits[labels] for labels in order},
        "vidgate_budget_remaining_micro_usd": {labels: left[labels] for labels in order},
    }


def _doubts(connection: Connection, at: float) -> dict[str, Series]:
    since = func.min(func.coalesce(attempts.c.sent_at, attempts.c.prepared_at))
    query = select(attempts.c.route, func.count(), since).where(_IS_IN_DOUBT).group_by(attempts.c.route)
    rows = connection.execute(query).all()
    oldest = max((at - first for _, _, first in rows), default=0.0)
    return {
        "vidgate_attempts_in_doubt": {(route,): count for route, count, _ in rows},
        "vidgate_attempts_in_doubt_oldest_seconds": {(): max(0.0, oldest)},
    }


def _jobs(connection: Connection, at: float) -> dict[str, Series]:
    counts = connection.execute(select(jobs.c.status, func.count()).where(_IS_ACTIVE).group_by(jobs.c.status)).all()
    held_back = select(func.count()).where(_IS_ACTIVE, jobs.c.parked_at.is_not(None))
    parked = connection.execute(held_back).scalar_one()
    unowned = or_(jobs.c.lease_until.is_(None), jobs.c.lease_until < at)
    overdue_since = func.coalesce(jobs.c.lease_until, jobs.c.due_at)
    first = _oldest(
        connection, jobs, overdue_since, and_(_IS_ACTIVE, unowned, jobs.c.parked_at.is_(None), jobs.c.due_at <= at)
    )
    return {
        "vidgate_jobs_active": {(status,): count for status, count in counts},
        "vidgate_jobs_parked": {(): parked},
        "vidgate_jobs_unowned_oldest_seconds": {(): max(0.0, at - first) if first is not None else 0.0},
    }


def _outbox(connection: Connection, at: float) -> dict[str, Series]:
    count = connection.execute(select(func.count()).select_from(webhook_deliveries).where(_IS_PENDING)).scalar_one()
    # What is due to an endpoint that was disabled waits by decision and not because something is stuck.
    disabled = select(webhooks.c.id).where(webhooks.c.disabled_at.is_not(None))
    due = and_(_IS_PENDING, webhook_deliveries.c.due_at <= at, webhook_deliveries.c.webhook_id.not_in(disabled))
    first = _oldest(connection, webhook_deliveries, webhook_deliveries.c.due_at, due)
    return {
        "vidgate_outbox_pending": {(): count},
        "vidgate_outbox_oldest_seconds": {(): max(0.0, at - first) if first is not None else 0.0},
    }


def _accounts(connection: Connection, providers: tuple[str, ...], at: float) -> dict[str, Series]:
    states = [provider_state(connection, name, at=at) for name in providers]
    return {
        "vidgate_provider_runway_seconds": {
            (one.provider,): 0.0 if one.is_empty else (one.runway_h or 0.0) * HOUR_S
            for one in states
            if one.is_empty or one.runway_h is not None
        },
        "vidgate_provider_balance_micro_usd": {
            (one.provider,): one.balance_micros for one in states if one.balance_micros is not None
        },
        "vidgate_provider_burn_micro_usd_per_hour": {(one.provider,): one.burn_micros_per_hour for one in states},
    }


def _oldest(
    connection: Connection, of: Table, moment: ColumnElement[float], where: ColumnElement[bool]
) -> float | None:
    return connection.execute(select(func.min(moment)).select_from(of).where(where)).scalar_one_or_none()
