"""Deleting a team: nothing new can be asked for in its name, and nothing of its past is lost.

Its row, jobs, holds, entries and statements stay for ever, and its name stays taken: in the books one name is one team.
Its keys end, its budgets are retired, its webhooks are removed with what was still to be sent to them. A team with
money under way is not deleted. Whoever admits a job shares the team's row and a deletion has it alone, so that neither
can slip past the other.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select, update

from gateway.jobs import ACTIVE
from gateway.money.budgets import lock_team
from gateway.store.schema import jobs, keys, teams
from gateway.store.schema_events import webhook_deliveries, webhooks
from gateway.store.schema_money import budgets, holds


@dataclass(frozen=True, slots=True)
class Deleted:
    """The team is deleted; how many keys, budgets and webhooks ended with it."""

    keys: int
    budgets: int
    webhooks: int


@dataclass(frozen=True, slots=True)
class StillBusy:
    """The team has money under way and is not deleted."""

    open_holds: int
    held_micros: int
    active_jobs: int


def delete_team(connection: Connection, team_id: str, at: float) -> Deleted | StillBusy:
    """Delete a team, or say what is still under way. Raises UnknownTeamError, also for one that was deleted before."""
    lock_team(connection, team_id, exclusive=True)
    busy = _under_way(connection, team_id)
    if busy.open_holds or busy.active_jobs:
        return busy
    live_key = (keys.c.team_id == team_id, keys.c.revoked_at.is_(None))
    ended = update(keys).where(*live_key).values(revoked_at=at, old_hash=None, old_until=None)
    active_budget = (budgets.c.team_id == team_id, budgets.c.retired_at.is_(None))
    retired = update(budgets).where(*active_budget).values(retired_at=at)
    own = select(webhooks.c.id).where(webhooks.c.team_id == team_id)
    connection.execute(delete(webhook_deliveries).where(webhook_deliveries.c.webhook_id.in_(own)))
    removed = delete(webhooks).where(webhooks.c.team_id == team_id)
    counts = [connection.execute(statement).rowcount for statement in (ended, retired, removed)]
    connection.execute(update(teams).where(teams.c.id == team_id).values(deleted_at=at))
    return Deleted(*counts)


def _under_way(connection: Connection, team_id: str) -> StillBusy:
    held = select(func.count(), func.coalesce(func.sum(holds.c.amount_micros), 0)).where(
        holds.c.team_id == team_id, holds.c.state == "open"
    )
    running = select(func.count()).select_from(jobs).where(jobs.c.team_id == team_id, jobs.c.status.in_(ACTIVE))
    open_holds, held_micros = connection.execute(held).one()
    return StillBusy(open_holds, int(held_micros), connection.execute(running).scalar_one())
