"""Teams: their terms, making one, and deleting one: nothing new in its name, and nothing of its past lost.

Its row, jobs, holds, entries and statements stay for ever, and its name stays taken: in the books one name is one team.
Its keys end, its budgets are retired, its webhooks are removed with what was still to be sent to them. A team with
money under way is not deleted. Whoever admits a job shares the team's row and a deletion has it alone, so that neither
can slip past the other.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import ValidationError
from sqlalchemy import Connection, delete, func, select, update

from gateway.ids import Ids
from gateway.jobs import ACTIVE
from gateway.limits import LIMITS, Limits
from gateway.money.budgets import lock_team
from gateway.money.margin import TeamPlan
from gateway.store.conflict import DIALECT_INSERTS
from gateway.store.schema import jobs, keys, teams
from gateway.store.schema_events import webhook_deliveries, webhooks
from gateway.store.schema_money import budgets, holds
from gateway.wishes import ROUTING, UsualWish, plain_plan

# Characters that are not seen, or that change how those beside them are seen (Unicode's general categories).
UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


class TermsError(ValueError):
    """A name, a time zone or a plan that is none: the sentence says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class NewTeam:
    """A team to be made. Without a time zone its days are UTC's, without a plan it pays the usual margin."""

    name: str
    at: float
    timezone: str | None = None
    plan: Mapping[str, Any] | None = None


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


def make_team(connection: Connection, ids: Ids, new: NewTeam) -> str | None:
    """Make a team and answer with its id; None when the name is taken, by a deleted team too.

    Raises TermsError for a name that cannot be told from another by looking at it; one that exists keeps it.
    """
    team_id = ids.new("team")
    values = {"id": team_id, "name": new.name, "plan": dict(new.plan or {}), "created_at": new.at}
    values |= {"timezone": new.timezone} if new.timezone else {}
    fresh = (
        DIALECT_INSERTS[connection.dialect.name](teams).values(values).on_conflict_do_nothing().returning(teams.c.id)
    )
    if connection.execute(fresh).first() is None:
        return None
    if not new.name.strip() or any(unicodedata.category(character) in UNSEEN for character in new.name):
        raise TermsError("a team's name is text that can be seen, without control or format characters")
    return team_id


def zone_of(text: str) -> str:
    """A time zone by its name. Raises TermsError."""
    try:
        return ZoneInfo(text).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise TermsError(f"{text!r} is no time zone") from None


def plan_of(given: object) -> dict[str, Any]:
    """A team's plan as it is stored; amounts stay decimal text as they were written. Raises TermsError."""
    if not isinstance(given, Mapping):
        raise TermsError("a plan is an object")
    try:
        plan = TeamPlan.model_validate(plain_plan(given)).model_dump(mode="json", exclude_unset=True)
        wishes = UsualWish.model_validate(given.get(ROUTING) or {}).model_dump(mode="json", exclude_unset=True)
        limits = Limits.said_in(given).model_dump(mode="json", exclude_unset=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["plan", *map(str, first["loc"])])
        raise TermsError(f"{where}: {first['msg']}") from error
    return {**plan, **({ROUTING: wishes} if wishes else {}), **({LIMITS: limits} if limits else {})}


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
