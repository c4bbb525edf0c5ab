"""What an administrator does over HTTP: teams and keys, each act with its entry in the same transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from gateway.audit import Act, Actor, acted, note, seen
from gateway.ids import Ids
from gateway.keys import NewKey, create_key, revoke_key, rotate_key_by
from gateway.money.budgets import Budget, UnknownTeamError, set_budget
from gateway.money.windows import WindowKind
from gateway.store.schema import teams
from gateway.teams import Deleted, NewTeam, StillBusy, delete_team, make_team


def add_team(connection: Connection, ids: Ids, new: NewTeam, by: Actor, budget_micros: int | None) -> str | None:
    """Make a team, with this monthly budget where there is one; its id, or None when the name is taken."""
    team_id = make_team(connection, ids, new)
    if team_id is None:
        return None
    note(connection, Act("team.create", team_id, by, new.at))
    if budget_micros is not None:
        budget = Budget(ids.new("budget"), team_id, WindowKind.MONTH, limit_micros=budget_micros)
        acted(connection, Act("budget.set", budget.budget_id, by, new.at), set_budget, budget, new.at)
    return team_id


def end_team(connection: Connection, team_id: str, by: Actor, at: float) -> Deleted | StillBusy | None:
    """Delete a team, or say what is still under way; None when there is no such team."""
    act = Act("team.delete", team_id, by, at)
    before = seen(connection, act)
    try:
        found = delete_team(connection, team_id, at)
    except UnknownTeamError:
        return None
    if isinstance(found, Deleted):
        note(connection, act, before=before)
    return found


def page_of_teams(connection: Connection, before: str | None, limit: int) -> list[Any]:
    """The rows of teams, deleted ones too, the newest first; `before` is the last id of the page before."""
    query = select(teams).order_by(teams.c.id.desc()).limit(limit)
    return list(connection.execute(query if before is None else query.where(teams.c.id < before)))


def team_name_of(connection: Connection, team_id: str) -> str | None:
    """The name of a team that was not deleted."""
    query = select(teams.c.name).where(teams.c.id == team_id, teams.c.deleted_at.is_(None))
    return connection.execute(query).scalar_one_or_none()


def add_key(connection: Connection, ids: Ids, new: NewKey, by: Actor) -> tuple[str, str]:
    """Make a key on behalf of its issuer: its id and its secret. Raises KeyGrantError."""
    key_id, _, secret = create_key(connection, ids, new)
    note(connection, Act("key.create", key_id, by, new.at))
    return key_id, secret


def renew_key(
    connection: Connection, issuer_id: str, key_id: str, by: Actor, *, at: float, overlap_s: float
) -> str | None:
    """Give a key a new secret on behalf of another one. None: unknown or revoked. Raises KeyGrantError."""
    act = Act("key.rotate", key_id, by, at)
    return acted(connection, act, rotate_key_by, issuer_id, key_id, at, overlap_s=overlap_s)


def end_key(connection: Connection, key_id: str, by: Actor, at: float) -> bool:
    """End a key for good; False when it is unknown or was ended before."""
    return acted(connection, Act("key.revoke", key_id, by, at), revoke_key, key_id, at)
