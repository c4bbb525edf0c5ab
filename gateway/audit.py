"""What administrators did: who, what, to what, when, and what it changed. Written in the transaction of the act.

An entry is never changed or deleted: triggers refuse it. Which columns of a row are told is a list of what may be seen,
so that no secret comes in by a new column.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar
from urllib.parse import urlsplit

from sqlalchemy import Connection, Table, insert, select

from gateway.ids import id_at
from gateway.store.schema import jobs, keys, teams
from gateway.store.schema_audit import audit
from gateway.store.schema_events import webhooks
from gateway.store.schema_money import budgets

P = ParamSpec("P")
T = TypeVar("T")

# What is told of the target of an act, by the first word of the act's name.
TOLD: Mapping[str, tuple[Table, tuple[str, ...]]] = {
    "team": (teams, ("name", "timezone", "plan", "deleted_at")),
    "key": (
        keys,
        ("team_id", "name", "prefix", "scopes", "grants", "expires_at", "revoked_at", "old_until"),
    ),
    "budget": (budgets, ("team_id", "key_id", "window", "limit_micros", "soft_micros", "retired_at")),
    "webhook": (webhooks, ("team_id", "kind", "url", "events", "disabled_at", "old_secret_until")),
    "job": (jobs, ("status", "crashes", "parked_at")),
}
_numbers = count()


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, and by which way: a key or a person over HTTP, a user of the machine with a command."""

    who: str
    via: Literal["http", "command"]


@dataclass(frozen=True, slots=True)
class Act:
    """One act by its name, such as `key.revoke`, and the id of what it is done to. `at` is unix seconds."""

    name: str
    target: str
    by: Actor
    at: float


@dataclass(frozen=True, slots=True)
class Entry:
    """An act as it was written down."""

    id: str
    at: float
    who: str
    via: str
    act: str
    target: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]


def acted(
    connection: Connection,
    act: Act,
    fn: Callable[Concatenate[Connection, P], T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run an act and write it down with what it changed. An empty answer (None, False, 0): nothing was done."""
    before = seen(connection, act)
    done = fn(connection, *args, **kwargs)
    if done:
        note(connection, act, before=before)
    return done


def note(
    connection: Connection,
    act: Act,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Write down an act that was done just now; without `after` its target is looked at. Equal figures are left out."""
    old, new = before or {}, seen(connection, act) if after is None else after
    row = {
        "id": _new_id(act.at),
        "at": act.at,
        "who": act.by.who,
        "via": act.by.via,
        "act": act.name,
        "target": act.target,
        "before": _text({name: value for name, value in old.items() if new.get(name) != value}),
        "after": _text({name: value for name, value in new.items() if name not in old or old[name] != value}),
    }
    connection.execute(insert(audit).values(row))


def seen(connection: Connection, act: Act) -> dict[str, Any]:
    """What may be told of the target of an act as it stands; nothing of one that is not there, or is no row."""
    noun = act.name.partition(".")[0]
    if noun not in TOLD:
        return {}
    table, names = TOLD[noun]
    columns = [table.c[name] for name in names]
    row = connection.execute(select(*columns).where(table.c.id == act.target)).mappings().one_or_none()
    if row is None:
        return {}
    return {name: _address(value) if name == "url" else value for name, value in row.items() if value is not None}


def entries(
    connection: Connection,
    *,
    before: str | None = None,
    act: str | None = None,
    target: str | None = None,
    count_max: int = 100,
) -> list[Entry]:
    """What was written down, the latest first; `before` is the last id of the page before."""
    query = select(audit).order_by(audit.c.id.desc()).limit(count_max)
    for column, value in ((audit.c.act, act), (audit.c.target, target)):
        query = query if value is None else query.where(column == value)
    query = query if before is None else query.where(audit.c.id < before)
    rows = connection.execute(query).mappings()
    return [Entry(**{**row, "before": json.loads(row["before"]), "after": json.loads(row["after"])}) for row in rows]


def _new_id(at: float) -> str:
    """An id that sorts by time, and those of one process and moment in the order of their acts."""
    kind, _, rest = id_at("audit", at).partition("_")
    return f"{kind}_{rest[:12]}{next(_numbers) % 0x10000:04x}{rest[16:]}"


def _address(url: str) -> str:
    """A webhook's address without what may be a secret in it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{parts.path}" + ("?..." if parts.query else "")


def _text(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, sort_keys=True, default=str)
