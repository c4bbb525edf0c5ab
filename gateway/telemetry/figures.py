"""Gauges that are read from the store when somebody asks: holds, budgets, doubt, leases, the outbox, the ledger.

One read transaction over indexes and sums; every replica tells the same, so that dashboards take the maximum of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import ColumnElement, Connection, Table, and_, func, or_, select

from gateway.jobs import ACTIVE, AttemptState
from gateway.money import ledger
from gateway.money.accounts import provider_state
from gateway.money.audit import imbalance_micros
from gateway.money.budgets import budget_states
from gateway.store.schema import attempts, jobs
from gateway.store.schema_events import webhook_deliveries, webhooks
from gateway.store.schema_money import budgets, holds

Series = Mapping[tuple[str, ...], float]
HOUR_S = 3600.0


def read_figures(connection: Connection, providers: tuple[str, ...], at: float) -> dict[str, Series]:
    """Every metric of the catalogue that comes from the store, by its name and its labels' values."""
    return {
        **_holds(connection),
        **_budgets(connection, at),
        **_ledger(connection),
        **_doubts(connection, at),
        **_jobs(connection, at),
        **_outbox(connection, at),
        **_accounts(connection, providers, at),
    }


def _holds(connection: Connection) -> dict[str, Series]:
    query = (
        select(holds.c.team_id, func.count(), func.coalesce(func.sum(holds.c.amount_micros), 0))
        .where(holds.c.state == "open")
        .group_by(holds.c.team_id)
    )
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
    return {"vidgate_budget_limit_micro_usd": limits, "vidgate_budget_remaining_micro_usd": left}


def _ledger(connection: Connection) -> dict[str, Series]:
    balances = ledger.trial_balance(connection)
    return {
        "vidgate_ledger_imbalance_micro_usd": {(): imbalance_micros(connection)},
        "vidgate_ledger_losses_micro_usd": {(): balances.get("loss", 0)},
        "vidgate_ledger_suspense_micro_usd": {(): balances.get("suspense", 0)},
    }


def _doubts(connection: Connection, at: float) -> dict[str, Series]:
    since = func.min(func.coalesce(attempts.c.sent_at, attempts.c.prepared_at))
    query = (
        select(attempts.c.route, func.count(), since)
        .where(attempts.c.state == AttemptState.IN_DOUBT)
        .group_by(attempts.c.route)
    )
    rows = connection.execute(query).all()
    oldest = max((at - first for _, _, first in rows), default=0.0)
    return {
        "vidgate_attempts_in_doubt": {(route,): count for route, count, _ in rows},
        "vidgate_attempts_in_doubt_oldest_seconds": {(): max(0.0, oldest)},
    }


def _jobs(connection: Connection, at: float) -> dict[str, Series]:
    active = jobs.c.status.in_(ACTIVE)
    counts = connection.execute(select(jobs.c.status, func.count()).where(active).group_by(jobs.c.status)).all()
    held_back = select(func.count()).where(active, jobs.c.parked_at.is_not(None))
    parked = connection.execute(held_back).scalar_one()
    unowned = or_(jobs.c.lease_until.is_(None), jobs.c.lease_until < at)
    overdue_since = func.coalesce(jobs.c.lease_until, jobs.c.due_at)
    first = _oldest(
        connection, jobs, overdue_since, and_(active, unowned, jobs.c.parked_at.is_(None), jobs.c.due_at <= at)
    )
    return {
        "vidgate_jobs_active": {(status,): count for status, count in counts},
        "vidgate_jobs_parked": {(): parked},
        "vidgate_jobs_unowned_oldest_seconds": {(): max(0.0, at - first) if first is not None else 0.0},
    }


def _outbox(connection: Connection, at: float) -> dict[str, Series]:
    pending = webhook_deliveries.c.state == "pending"
    count = connection.execute(select(func.count()).select_from(webhook_deliveries).where(pending)).scalar_one()
    # What is due to an endpoint that was disabled waits by decision and not because something is stuck.
    disabled = select(webhooks.c.id).where(webhooks.c.disabled_at.is_not(None))
    due = and_(pending, webhook_deliveries.c.due_at <= at, webhook_deliveries.c.webhook_id.not_in(disabled))
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
