"""Idempotency keys: one key of one team means one outcome for 24 hours.

    claim    Fresh        the key is this request's; go on, in the same transaction
             Replay       the request was answered before: answer the same, byte for byte
             Mismatch     the key belongs to another request (422)
             InProgress   the key was given up just now: try again (409, Retry-After)
    peek     the same answers without claiming
    restate  another answer than the one that this transaction's own claim came with

Only a decision is kept: an accepted job and a refused budget. A request that fails is rolled back with its claim.

A team's keys are its own: two teams may use the same one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update

from gateway.store.conflict import DIALECT_INSERTS
from gateway.store.prepared import Prepared
from gateway.store.schema_money import idempotency

LIFETIME_S = 24 * 3600.0
KEY_LENGTH_MAX = 255
_BARE = re.compile(r"[\x21-\x7e]{1,255}")
_QUOTED = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')


class InvalidKeyError(ValueError):
    """Not an Idempotency-Key: the sentence says what is wrong."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """The key is claimed for this request."""


@dataclass(frozen=True, slots=True)
class Replay:
    """The answer to the first request."""

    status: int
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The key was used with another request."""


@dataclass(frozen=True, slots=True)
class InProgress:
    """The row of the first request vanished while it was looked for."""


Claim = Fresh | Replay | Mismatch | InProgress


def parse_key(header: str) -> str:
    """The key in an `Idempotency-Key` header, quoted (an RFC 8941 string) or bare. Raises InvalidKeyError."""
    value = header.strip()
    quoted = _QUOTED.fullmatch(value)
    key = re.sub(r"\\(.)", r"\1", quoted.group(1)) if quoted else value
    if not _BARE.fullmatch(key) or (value.startswith('"') and not quoted):
        raise InvalidKeyError(f"Idempotency-Key must be 1 to {KEY_LENGTH_MAX} visible ASCII characters")
    return key


def fingerprint(method: str, path: str, body: Any) -> str:
    """A request's SHA-256 over method, path and canonical JSON body: key order and blanks make no difference."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(f"{method.upper()}\n{path}\n{canonical}".encode()).hexdigest()


def peek(connection: Connection, team_id: str, key: str, fingerprint: str, at: float) -> Claim:
    """What a claim would answer, without claiming: `Fresh` when the key is free or past its 24 hours."""
    row = _find(connection, team_id, key)
    if row is None or row.created_at <= at - LIFETIME_S:
        return Fresh()
    return _answered(row, fingerprint)


def claim(connection: Connection, team_id: str, key: str, fingerprint: str, at: float, answer: Replay) -> Claim:
    """Claim a key for a request, or say what became of the one that has it. A key older than 24 hours is new.

    The answer is kept at once: the caller knows what it will be, and restates it in this transaction when it is not.
    """
    values = {
        "team_id": team_id,
        "key": key,
        "fingerprint": fingerprint,
        "created_at": at,
        "status": answer.status,
        "body": answer.body,
        "headers": _headers(dict(answer.headers)),
        "expired_before": at - LIFETIME_S,
    }
    if _claim_statement(connection.dialect.name).changed(connection, values) == 1:
        return Fresh()
    row = _find(connection, team_id, key)
    if row is None:
        return InProgress()
    return _answered(row, fingerprint)


def _answered(row: Any, fingerprint: str) -> Claim:
    if row.fingerprint != fingerprint:
        return Mismatch()
    return Replay(row.status, bytes(row.body), json.loads(row.headers))


def restate(connection: Connection, team_id: str, key: str, answer: Replay) -> None:
    """Give the key that this transaction has just claimed another answer than the one it claimed it with."""
    values = {"new_status": answer.status, "new_body": answer.body, "new_headers": _headers(dict(answer.headers))}
    _RESTATE.changed(connection, {"of_team": team_id, "of_key": key, **values})


def prune(connection: Connection, at: float) -> int:
    """Delete keys past their lifetime; return how many."""
    return int(connection.execute(delete(idempotency).where(idempotency.c.created_at <= at - LIFETIME_S)).rowcount)


_headers = json.JSONEncoder(sort_keys=True).encode

_OF_KEY = (idempotency.c.team_id == bindparam("of_team"), idempotency.c.key == bindparam("of_key"))
_FIND = select(
    idempotency.c.fingerprint,
    idempotency.c.created_at,
    idempotency.c.status,
    idempotency.c.body,
    idempotency.c.headers,
).where(*_OF_KEY)
_ANSWER: dict[str, Any] = {
    "status": bindparam("new_status"),
    "body": bindparam("new_body"),
    "headers": bindparam("new_headers"),
}
_RESTATE = Prepared(update(idempotency).where(*_OF_KEY).values(_ANSWER))


def _find(connection: Connection, team_id: str, key: str) -> Any | None:
    return connection.execute(_FIND, {"of_team": team_id, "of_key": key}).one_or_none()


@lru_cache
def _claim_statement(dialect: str) -> Prepared:
    """One statement that inserts the claim or takes over an expired one, and touches nothing else."""
    insert = DIALECT_INSERTS[dialect](idempotency)
    taken_over = {name: insert.excluded[name] for name in ("fingerprint", "created_at", "status", "body", "headers")}
    statement = insert.on_conflict_do_update(
        index_elements=["team_id", "key"],
        set_=taken_over,
        where=idempotency.c.created_at <= bindparam("expired_before"),
    )
    return Prepared(statement)
