"""Teams and API keys. A key is 256 random bits shown once; only its SHA-256 is stored."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Text, bindparam, cast, insert, or_, select, update

from gateway.ids import Ids
from gateway.money.grants import Grants
from gateway.money.windows import INSTANT_MAX, YEAR_LAST
from gateway.scopes import USUAL, Scope, Scopes, parse_scopes, scopes_text
from gateway.store.prepared import Prepared
from gateway.store.schema import keys, teams
from gateway.store.schema_money import budgets
from gateway.teams import NewTeam, make_team
from gateway.wishes import ROUTING, grants_of

KEY_PREFIX = "vg_"
# In place of a hash, with the hash of who it is: no secret has such a hash, so none can be presented for a person.
PERSON = "person:"
SHOWN_CHARACTERS = 10


class KeyGrantError(ValueError):
    """A key that may not be issued: the sentence names its team, its issuer or the limits it goes beyond."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking: a live key and the team that pays. `scopes` say what it is for, `grants` narrow how it does it.

    `person` names the person that the key stands for, if any, and `ends_at` is when what they showed ends. `credential`
    is the hash that led here.
    """

    key_id: str
    team_id: str
    team_name: str
    timezone: str
    plan: Mapping[str, Any]
    grants: Mapping[str, Any]
    scopes: Scopes
    person: str | None = None
    ends_at: float | None = None
    credential: str = field(default="", compare=False, repr=False)

    def of_person(self, person: str | None, ends_at: float | None) -> Caller:
        """The same where a person asks, whom the key stands for; None leaves it a key."""
        return self if person is None else replace(self, person=person, ends_at=ends_at)


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
    team_id: str
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
    made = make_team(connection, ids, NewTeam(new.team_name, new.at, new.timezone, new.plan))
    team = connection.execute(select(teams.c.id, teams.c.deleted_at).where(teams.c.name == new.team_name)).one()
    if team.deleted_at is not None:
        raise KeyGrantError(f"team {new.team_name} was deleted, and its name stays with its books: choose another")
    team_id = made or team.id
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
    issuer = _issuer(connection, new.issuer_id, new.team_name, new.at)
    _check_within(issuer, wanted, new.scopes)
    # What the issuer is kept to beside its grants (routes under `routing`), the new key is kept to as well.
    return {**({ROUTING: issuer.grants[ROUTING]} if ROUTING in issuer.grants else {}), **stored}


_OWNED = select(keys, teams.c.name.label("team_name")).join(teams, teams.c.id == keys.c.team_id)


def _issuer(connection: Connection, issuer_id: str, team_name: str, at: float) -> Any:
    """The row of a key that may issue keys of this team. Raises KeyGrantError."""
    issuer = connection.execute(_OWNED.where(keys.c.id == issuer_id)).one_or_none()
    if issuer is None or not _is_live(issuer, at):
        raise KeyGrantError(f"the issuer {issuer_id} is unknown, expired or revoked")
    if issuer.team_name != team_name and Scope.ADMIN not in parse_scopes(issuer.scopes):
        raise KeyGrantError(f"the issuer {issuer_id} belongs to another team")
    if connection.execute(_LIMITED, {"of_key": issuer_id}).first() is not None:
        # Its limit is counted by key: a key beside it would spend a second time what it may spend once.
        raise KeyGrantError(f"the issuer {issuer_id} has a budget of its own, which another key would go beyond")
    return issuer


def _check_within(issuer: Any, wanted: Grants, scopes: Scopes) -> None:
    beyond = wanted.beyond(grants_of(issuer.grants).model_copy(update={"expires_at": issuer.expires_at}))
    beyond += [f"the scope {scope}" for scope in sorted(scopes - parse_scopes(issuer.scopes))]
    if beyond:
        raise KeyGrantError(f"a key never grants more than its issuer: {', '.join(beyond)} would go beyond")


def rotate_key(connection: Connection, key_id: str, at: float, overlap_s: float) -> str | None:
    """Give a key a new secret and answer with it; the old one works until the overlap ends.

    None: it is unknown or revoked, or stands for a person, who has no secret. A secret that was still in its own
    overlap ends at once: two at a time are enough.
    """
    row = connection.execute(select(keys.c.hash).where(keys.c.id == key_id, keys.c.revoked_at.is_(None))).one_or_none()
    if row is None or row.hash.startswith(PERSON):
        return None
    secret = new_secret()
    old = (
        {"old_hash": row.hash, "old_until": at + overlap_s} if overlap_s > 0 else {"old_hash": None, "old_until": None}
    )
    changes = {"hash": hash_key(secret), "prefix": secret[:SHOWN_CHARACTERS], **old}
    connection.execute(update(keys).where(keys.c.id == key_id).values(changes))
    return secret


def rotate_key_by(connection: Connection, issuer_id: str, key_id: str, at: float, *, overlap_s: float) -> str | None:
    """The same on behalf of another key, which learns the new secret: so it must have all that the key grants.

    Raises KeyGrantError.
    """
    row = connection.execute(_OWNED.where(keys.c.id == key_id)).one_or_none()
    if row is not None and key_id != issuer_id:
        issuer = _issuer(connection, issuer_id, row.team_name, at)
        grants = grants_of(row.grants).model_copy(update={"expires_at": row.expires_at})
        _check_within(issuer, grants, parse_scopes(row.scopes))
        if issuer.grants.get(ROUTING, row.grants.get(ROUTING)) != row.grants.get(ROUTING):
            raise KeyGrantError("a key never grants more than its issuer: its routing would go beyond")
    return rotate_key(connection, key_id, at, overlap_s)


def revoke_key(connection: Connection, key_id: str, at: float) -> bool:
    """End a key with all its secrets, for good; False when it is unknown or was ended before."""
    live = update(keys).where(keys.c.id == key_id, keys.c.revoked_at.is_(None))
    return connection.execute(live.values(revoked_at=at, old_hash=None, old_until=None)).rowcount == 1


def list_keys(connection: Connection, team_name: str | None = None) -> list[KeyRow]:
    """Every key, or a team's, by team and age."""
    query = _OWNED if team_name is None else _OWNED.where(teams.c.name == team_name)
    return [_row(row) for row in connection.execute(query.order_by(teams.c.name, keys.c.created_at))]


def page_of_keys(connection: Connection, before: str | None, limit: int, *, team_id: str | None = None) -> list[KeyRow]:
    """Keys of all teams or of one, the newest first; `before` is the last id of the page before."""
    query = _OWNED.order_by(keys.c.id.desc()).limit(limit)
    query = query if before is None else query.where(keys.c.id < before)
    query = query if team_id is None else query.where(keys.c.team_id == team_id)
    return [_row(row) for row in connection.execute(query)]


def _row(row: Any) -> KeyRow:
    return KeyRow(
        id=row.id,
        team_id=row.team_id,
        team_name=row.team_name,
        name=row.name,
        prefix=row.prefix,
        grants=row.grants,
        scopes=parse_scopes(row.scopes),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        old_until=row.old_until,
    )


# Asked for every request. A secret is looked up by its hash alone, so that how long it takes tells nothing of any key.
_CALLERS = (
    select(
        keys.c.id,
        keys.c.team_id,
        teams.c.name,
        teams.c.timezone,
        cast(teams.c.plan, Text),
        cast(keys.c.grants, Text),
        keys.c.scopes,
        keys.c.hash,
        keys.c.old_hash,
        keys.c.old_until,
        keys.c.expires_at,
    )
    .join(teams, teams.c.id == keys.c.team_id)
    .where(keys.c.revoked_at.is_(None), teams.c.deleted_at.is_(None))
)
_FOUND = Prepared(_CALLERS.where(or_(keys.c.hash == bindparam("hashed"), keys.c.old_hash == bindparam("hashed"))))


def find_caller(connection: Connection, secret: str, at: float) -> Caller | None:
    """The caller that a secret belongs to; None when it is unknown, expired, rotated out or revoked."""
    return find_by_hash(connection, hash_key(secret), at)


def find_by_hash(connection: Connection, hashed: str, at: float) -> Caller | None:
    """The caller whose secret has this hash, or the person who stands in place of one."""
    row = _FOUND.one(connection, {"hashed": hashed})
    return None if row is None else _caller(row, hashed, at)


def find_callers(connection: Connection, hashes: Sequence[str], at: float) -> dict[str, Caller]:
    """The same for many hashes at once; those that lead to nobody are left out."""
    query = _CALLERS.where(or_(keys.c.hash.in_(hashes), keys.c.old_hash.in_(hashes)))
    found = {}
    for row in connection.execute(query):
        for hashed in {row.hash, row.old_hash}.intersection(hashes):
            if (caller := _caller(row, hashed, at)) is not None:
                found[hashed] = caller
    return found


def _caller(row: Any, hashed: str, at: float) -> Caller | None:
    key_id, team_id, name, timezone, plan, grants, scopes, current, _, old_until, expires_at = row
    if expires_at is not None and expires_at <= at:
        return None
    if current != hashed and (old_until or 0.0) <= at:
        return None
    known = parse_scopes(scopes)
    return Caller(key_id, team_id, name, timezone, json.loads(plan), json.loads(grants), known, credential=hashed)


def _is_live(row: Any, at: float) -> bool:
    return row.revoked_at is None and (row.expires_at is None or row.expires_at > at)
