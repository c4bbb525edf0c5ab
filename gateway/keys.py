"""Teams and API keys. A key is 256 random bits shown once; only its SHA-256 is stored."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Text, bindparam, cast, insert, or_, select, update

from gateway.ids import Ids
from gateway.money.grants import Grants
from gateway.money.windows import INSTANT_MAX, YEAR_LAST
from gateway.scopes import USUAL, Scopes, parse_scopes, scopes_text
from gateway.store.prepared import Prepared
from gateway.store.schema import keys, teams
from gateway.store.schema_money import budgets
from gateway.wishes import grants_of

KEY_PREFIX = "vg_"
SHOWN_CHARACTERS = 10


class KeyGrantError(ValueError):
    """A key that may not be issued: the sentence names its team, its issuer or the limits it goes beyond."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking: a live key and the team that pays. `scopes` say what it is for, `grants` narrow how it does it."""

    key_id: str
    team_id: str
    team_name: str
    timezone: str
    plan: Mapping[str, Any]
    grants: Mapping[str, Any]
    scopes: Scopes


def new_secret() -> str:
    """A fresh key in the clear."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def hash_key(secret: str) -> str:
    """What is stored of a key. Plain SHA-256 is enough: the secret is 256 random bits, so there is nothing to guess."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key to be made for a team, which is made too when it does not exist. `issuer_id` is the key that issues it.

    `timezone` and `plan` are a new team's; None leaves the usual ones. A team that exists keeps its own.
    """

    team_name: str
    name: str
    at: float
    expires_at: float | None = None
    grants: Grants = field(default_factory=Grants)
    issuer_id: str | None = None
    timezone: str | None = None
    plan: Mapping[str, Any] | None = None
    scopes: Scopes = USUAL

    def __post_init__(self) -> None:
        # NaN is in no range; a database would keep it as no end at all.
        if self.expires_at is not None and not 0 <= self.expires_at <= INSTANT_MAX:
            raise KeyGrantError(f"a key ends before the year {YEAR_LAST + 1}, not at {self.expires_at}")


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key as it is listed: never its secret. Times are unix seconds."""

    id: str
    team_name: str
    name: str
    prefix: str
    grants: Mapping[str, Any]
    scopes: Scopes
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    old_until: float | None


def create_key(connection: Connection, ids: Ids, new: NewKey) -> tuple[str, str, str]:
    """Make a key and answer with its id, its team's id and the secret, which is shown only here.

    Raises KeyGrantError for a key that would grant more than its issuer has, or for a team that was deleted.
    """
    grants = _issuable(connection, new)
    team = connection.execute(select(teams.c.id, teams.c.deleted_at).where(teams.c.name == new.team_name)).one_or_none()
    if team is not None and team.deleted_at is not None:
        raise KeyGrantError(f"team {new.team_name} was deleted, and its name stays with its books: choose another")
    team_id = None if team is None else team.id
    if team_id is None:
        team_id = ids.new("team")
        values = {"id": team_id, "name": new.team_name, "plan": dict(new.plan or {}), "created_at": new.at}
        connection.execute(insert(teams).values(values | ({"timezone": new.timezone} if new.timezone else {})))
    key_id, secret = ids.new("key"), new_secret()
    connection.execute(
        insert(keys).values(
            id=key_id,
            team_id=team_id,
            name=new.name,
            prefix=secret[:SHOWN_CHARACTERS],
            hash=hash_key(secret),
            grants=grants,
            scopes=scopes_text(new.scopes),
            created_at=new.at,
            expires_at=new.expires_at,
        )
    )
    return key_id, team_id, secret


_LIMITED = select(budgets.c.id).where(
    budgets.c.key_id == bindparam("of_key"), budgets.c.retired_at.is_(None), budgets.c.limit_micros.is_not(None)
)


def _issuable(connection: Connection, new: NewKey) -> dict[str, Any]:
    """The grants of the new key as they are stored, once its issuer is known to have them."""
    wanted = new.grants.model_copy(update={"expires_at": new.expires_at})
    stored = wanted.model_dump(mode="json", exclude_none=True, exclude={"expires_at"})
    if new.issuer_id is None:
        return stored
    query = select(keys.c.grants, keys.c.scopes, keys.c.expires_at, keys.c.revoked_at, teams.c.name).join(
        teams, teams.c.id == keys.c.team_id
    )
    issuer = connection.execute(query.where(keys.c.id == new.issuer_id)).one_or_none()
    if issuer is None or not _is_live(issuer, new.at):
        raise KeyGrantError(f"the issuer {new.issuer_id} is unknown, expired or revoked")
    if issuer.name != new.team_name:
        raise KeyGrantError(f"the issuer {new.issuer_id} belongs to another team")
    if connection.execute(_LIMITED, {"of_key": new.issuer_id}).first() is not None:
        # Its limit is counted by key: a key beside it would spend a second time what it may spend once.
        raise KeyGrantError(f"the issuer {new.issuer_id} has a budget of its own, which another key would go beyond")
    beyond = wanted.beyond(grants_of(issuer.grants).model_copy(update={"expires_at": issuer.expires_at}))
    beyond += [f"the scope {scope}" for scope in sorted(new.scopes - parse_scopes(issuer.scopes))]
    if beyond:
        raise KeyGrantError(f"a key never grants more than its issuer: {', '.join(beyond)} would go beyond")
    # What the issuer is kept to beside its grants (routes under `routing`), the new key is kept to as well.
    return {**({"routing": issuer.grants["routing"]} if "routing" in issuer.grants else {}), **stored}


def rotate_key(connection: Connection, key_id: str, at: float, overlap_s: float) -> str | None:
    """Give a key a new secret and answer with it; the old one works until the overlap ends. None: unknown or revoked.

    A secret that was still in its own overlap ends at once: two at a time are enough.
    """
    row = connection.execute(select(keys.c.hash).where(keys.c.id == key_id, keys.c.revoked_at.is_(None))).one_or_none()
    if row is None:
        return None
    secret = new_secret()
    old = (
        {"old_hash": row.hash, "old_until": at + overlap_s} if overlap_s > 0 else {"old_hash": None, "old_until": None}
    )
    changes = {"hash": hash_key(secret), "prefix": secret[:SHOWN_CHARACTERS], **old}
    connection.execute(update(keys).where(keys.c.id == key_id).values(changes))
    return secret


def revoke_key(connection: Connection, key_id: str, at: float) -> bool:
    """End a key with all its secrets, for good; False when it is unknown or was ended before."""
    live = update(keys).where(keys.c.id == key_id, keys.c.revoked_at.is_(None))
    return connection.execute(live.values(revoked_at=at, old_hash=None, old_until=None)).rowcount == 1


def list_keys(connection: Connection, team_name: str | None = None) -> list[KeyRow]:
    """Every key, or a team's, by team and age."""
    columns = [keys.c.id, teams.c.name.label("team_name"), keys.c.name, keys.c.prefix, keys.c.grants]
    columns += [keys.c.scopes, keys.c.created_at, keys.c.expires_at, keys.c.revoked_at, keys.c.old_until]
    query = select(*columns).join(teams, teams.c.id == keys.c.team_id)
    if team_name is not None:
        query = query.where(teams.c.name == team_name)
    rows = connection.execute(query.order_by(teams.c.name, keys.c.created_at)).mappings()
    return [KeyRow(**{**row, "scopes": parse_scopes(row["scopes"])}) for row in rows]


# Asked for every request. A secret is looked up by its hash alone, so that how long it takes tells nothing of any key.
_FOUND = Prepared(
    select(
        keys.c.id,
        keys.c.team_id,
        teams.c.name,
        teams.c.timezone,
        cast(teams.c.plan, Text),
        cast(keys.c.grants, Text),
        keys.c.scopes,
        keys.c.hash,
        keys.c.old_until,
        keys.c.expires_at,
    )
    .join(teams, teams.c.id == keys.c.team_id)
    .where(
        or_(keys.c.hash == bindparam("hashed"), keys.c.old_hash == bindparam("hashed")),
        keys.c.revoked_at.is_(None),
        teams.c.deleted_at.is_(None),
    )
)


def find_caller(connection: Connection, secret: str, at: float) -> Caller | None:
    """The caller that a secret belongs to; None when it is unknown, expired, rotated out or revoked."""
    hashed = hash_key(secret)
    row = _FOUND.one(connection, {"hashed": hashed})
    if row is None:
        return None
    key_id, team_id, name, timezone, plan, grants, scopes, current, old_until, expires_at = row
    if expires_at is not None and expires_at <= at:
        return None
    if current != hashed and (old_until or 0.0) <= at:
        return None
    return Caller(key_id, team_id, name, timezone, json.loads(plan), json.loads(grants), parse_scopes(scopes))


def _is_live(row: Any, at: float) -> bool:
    return row.revoked_at is None and (row.expires_at is None or row.expires_at > at)
