"""What an administrator does over HTTP: teams and keys, each act with its entry in the same transaction.

No act over HTTP ends the last administrator, who could not be let in again that way; a command may.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, select

from gateway.audit import Act, Actor, acted, note, seen
from gateway.ids import Ids
from gateway.keys import PERSON, NewKey, create_key, revoke_key, rotate_key_by
from gateway.money.budgets import Budget, UnknownTeamError, set_budget
from gateway.money.windows import WindowKind
from gateway.problems import LastAdministrator
from gateway.scopes import Scope, parse_scopes
from gateway.store.schema import keys, teams
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


def end_team(
    connection: Connection, team_id: str, by: Actor, at: float, *, people_of: Collection[str] = ()
) -> Deleted | StillBusy | None:
    """Delete a team, or say what is still under way; None when there is no such team.

    `people_of` names the teams whose people the configuration makes administrators. Raises LastAdministrator.
    """
    act = Act("team.delete", team_id, by, at)
    before, had = seen(connection, act), _administrators(connection, people_of, at)
    try:
        found = delete_team(connection, team_id, at)
    except UnknownTeamError:
        return None
    if isinstance(found, Deleted):
        _check_some_are_left(connection, had, people_of, at)
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


def end_key(connection: Connection, key_id: str, by: Actor, at: float, *, people_of: Collection[str] = ()) -> bool:
    """End a key for good; False when it is unknown or was ended before. Raises LastAdministrator."""
    had = _administrators(connection, people_of, at)
    done = acted(connection, Act("key.revoke", key_id, by, at), revoke_key, key_id, at)
    _check_some_are_left(connection, had, people_of, at)
    return done


_ADMINISTRATORS = (
    select(keys.c.id, keys.c.hash, keys.c.scopes, keys.c.expires_at, teams.c.name)
    .join(teams, teams.c.id == keys.c.team_id)
    .where(keys.c.revoked_at.is_(None), teams.c.deleted_at.is_(None), keys.c.scopes.contains(Scope.ADMIN.value))
    .order_by(keys.c.id)
    # Of two who end each other at the same moment the second waits, and sees what the first has done.
    .with_for_update(of=keys, key_share=True)
)


def _administrators(connection: Connection, people_of: Collection[str], at: float) -> set[str]:
    """The keys that administer now, and the people who have done so and still may; nobody ends one meanwhile."""
    return {
        row.id
        for row in connection.execute(_ADMINISTRATORS)
        if Scope.ADMIN in parse_scopes(row.scopes)
        and (row.expires_at is None or row.expires_at > at)
        and (not row.hash.startswith(PERSON) or row.name in people_of)
    }


def _check_some_are_left(connection: Connection, had: set[str], people_of: Collection[str], at: float) -> None:
    if had and not _administrators(connection, people_of, at):
        raise LastAdministrator(
            "nobody would be left to manage teams and keys over HTTP: make another key with the scope admin first"
        )
