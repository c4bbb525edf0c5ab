"""People, who come with the token of an identity provider: which team they act for, and the row that stands for each.

A person has no secret here. In `keys` a person has one row a team, so that jobs, budgets, reports and the log name
people as they name keys, and so that a person can be shut out at once: the row is revoked as a key is. Its place of a
hash holds no hash, and no secret that anybody could present leads to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Protocol

from sqlalchemy import Connection, select, update

from gateway.clock import Clock
from gateway.ids import Ids
from gateway.keys import PERSON, Caller, find_by_hash
from gateway.outbound import Outbound
from gateway.scopes import Scopes, scopes_text
from gateway.settings_edge import OidcRoleSection, OidcSection
from gateway.store.conflict import DIALECT_INSERTS
from gateway.store.schema import keys, teams

HASH_LENGTH = 64
PACKAGES = ("authlib", "joserfc")
NO_PACKAGES = "needs packages that are not installed: pip install 'vidgate[oidc]'"


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whom an identity provider vouches for until `ends_at`, with the team and the scopes of their roles."""

    issuer: str
    subject: str
    team_name: str
    scopes: Scopes
    ends_at: float | None = None

    @property
    def name(self) -> str:
        """The person as lists and the log of acts name them."""
        return f"person {self.subject} at {self.issuer}"


class IdentityProvider(Protocol):
    """Whoever vouches for people."""

    async def person_of(self, token: str) -> Person:
        """The person of a token. Raises Unauthorized, Forbidden for one without a role here, and Unavailable."""


def people_fault() -> str | None:
    """What keeps people from being let in, as the rest of a sentence about the setting; None when nothing does."""
    return None if all(find_spec(name) for name in PACKAGES) else NO_PACKAGES


def open_people(settings: OidcSection | None, outbound: Outbound, clock: Clock) -> IdentityProvider | None:
    """The identity provider of the settings, if any."""
    if settings is None:
        return None
    from gateway.oidc import Oidc  # noqa: PLC0415 - the packages are loaded only when used

    return Oidc(settings, outbound, clock)


def roles_in(claims: Mapping[str, Any], path: str) -> frozenset[str]:
    """The roles of a claim: a list of words, or words with blanks; dots lead into objects. Nothing else is a role."""
    value: Any = claims.get(path)
    if value is None:
        value = claims
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
    words = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
    return frozenset(word for word in words if isinstance(word, str))


def granted(roles: frozenset[str], table: Sequence[OidcRoleSection]) -> tuple[str, Scopes] | None:
    """The team and the scopes of these roles: the first row that fits names the team, all of that team add scopes."""
    fitting = [row for row in table if row.role in roles]
    if not fitting:
        return None
    team = fitting[0].team
    return team, frozenset(scope for row in fitting if row.team == team for scope in row.scopes)


def find_person(connection: Connection, person: Person, at: float) -> Caller | None:
    """The caller that a person is, when all is written down already; None asks for `admit_person`."""
    team_id = _team_id(connection, person.team_name)
    caller = None if team_id is None else find_by_hash(connection, _place(person, team_id), at)
    return caller if caller is not None and caller.scopes == person.scopes else None


def admit_person(connection: Connection, ids: Ids, person: Person, at: float) -> Caller | None:
    """The caller that a person is, with a row made or brought up to date; None: shut out, or the team is not there."""
    team_id = _team_id(connection, person.team_name)
    if team_id is None:
        return None
    place, text = _place(person, team_id), scopes_text(person.scopes)
    row = {
        "id": ids.new("key"), "team_id": team_id, "name": person.name[:120], "prefix": PERSON.rstrip(":"),
        "hash": place, "grants": {}, "scopes": text, "created_at": at,
    }  # fmt: skip
    connection.execute(DIALECT_INSERTS[connection.dialect.name](keys).values(row).on_conflict_do_nothing())
    connection.execute(update(keys).where(keys.c.hash == place, keys.c.revoked_at.is_(None)).values(scopes=text))
    return find_by_hash(connection, place, at)


def _team_id(connection: Connection, name: str) -> str | None:
    query = select(teams.c.id).where(teams.c.name == name, teams.c.deleted_at.is_(None))
    return connection.execute(query).scalar_one_or_none()


def _place(person: Person, team_id: str) -> str:
    """What stands in the person's row in place of a hash: of another form than any hash of a secret."""
    digest = hashlib.sha256("\n".join((person.issuer, person.subject, team_id)).encode()).hexdigest()
    return (PERSON + digest)[:HASH_LENGTH]
