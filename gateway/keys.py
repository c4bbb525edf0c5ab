"""Teams and API keys. A key is 256 random bits shown once; only its SHA-256 is stored."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from gateway.ids import Ids
from gateway.store.schema import keys, teams

KEY_PREFIX = "vg_"
SHOWN_CHARACTERS = 10


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking: a live key and the team that pays. `grants` narrow what the key may do."""

    key_id: str
    team_id: str
    team_name: str
    timezone: str
    plan: Mapping[str, Any]
    grants: Mapping[str, Any]


def new_secret() -> str:
    """A fresh key in the clear."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def hash_key(secret: str) -> str:
    """What is stored of a key. Plain SHA-256 is enough: the secret is 256 random bits, so there is nothing to guess."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key to be made for a team, which is made too when it does not exist."""

    team_name: str
    name: str
    at: float
    expires_at: float | None = None


def create_key(connection: Connection, ids: Ids, new: NewKey) -> tuple[str, str, str]:
    """Make a key and answer with its id, its team's id and the secret, which is shown only here."""
    team_id = connection.execute(select(teams.c.id).where(teams.c.name == new.team_name)).scalar_one_or_none()
    if team_id is None:
        team_id = ids.new("team")
        connection.execute(insert(teams).values(id=team_id, name=new.team_name, plan={}, created_at=new.at))
    key_id, secret = ids.new("key"), new_secret()
    connection.execute(
        insert(keys).values(
            id=key_id,
            team_id=team_id,
            name=new.name,
            prefix=secret[:SHOWN_CHARACTERS],
            hash=hash_key(secret),
            grants={},
            created_at=new.at,
            expires_at=new.expires_at,
        )
    )
    return key_id, team_id, secret


def find_caller(connection: Connection, secret: str, at: float) -> Caller | None:
    """The caller that a secret belongs to; None when it is unknown, expired or revoked."""
    query = (
        select(keys.c.id, keys.c.team_id, keys.c.grants, keys.c.expires_at, keys.c.revoked_at, teams)
        .join(teams, teams.c.id == keys.c.team_id)
        .where(keys.c.hash == hash_key(secret))
    )
    row = connection.execute(query).one_or_none()
    if row is None or row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= at):
        return None
    return Caller(row[0], row.team_id, row.name, row.timezone, row.plan, row.grants)
