"""`/admin/...`: teams, keys and the log of what administrators did, for keys and people with the scope `admin`.

An administrator manages every team. What a key hands out, and so the secrets it may learn, is never more than it has
itself (gateway/keys.py). Every act is in the log with who did it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, field_validator
from starlette.requests import Request
from starlette.responses import Response

from gateway import administration, audit
from gateway.api.auth import actor_of, caller_of
from gateway.api.bodies import Body, read_model
from gateway.api.pages import ID, listed, page_of, whole
from gateway.api.shown import rfc3339
from gateway.keys import KeyGrantError, KeyRow, NewKey, page_of_keys
from gateway.money.grants import Grants
from gateway.problems import (
    BadRequest,
    Conflict,
    Forbidden,
    InvalidParameter,
    NotFound,
)
from gateway.scopes import USUAL, Scope, Scopes
from gateway.service import Service
from gateway.teams import NewTeam, StillBusy, TermsError, plan_of, zone_of

DAY_S = 86_400.0
OVERLAP_MAX_S = 90 * DAY_S
SECRET_HEADERS = {"cache-control": "no-store"}

Name = Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[^\x00-\x1f\x7f]+$")]


class TeamBody(Body):
    """A team to be made; without terms it has the usual ones."""

    name: Name
    timezone: str | None = Field(None, max_length=64)
    plan: dict[str, Any] | None = None


class KeyBody(Body):
    """A key to be made for a team. What is not said is not limited, beyond what limits the issuer."""

    team_id: str
    name: Name = "default"
    scopes: Scopes = USUAL
    expires_at: AwareDatetime | None = None
    limits: Grants = Grants()

    @field_validator("limits")
    @classmethod
    def _end_stands_beside(cls, limits: Grants) -> Grants:
        if limits.expires_at is not None:
            raise ValueError("expires_at stands beside limits, as an RFC 3339 time")
        return limits


class RotateBody(Body):
    """For how many seconds the old secret works too."""

    overlap_s: float = Field(DAY_S, ge=0, le=OVERLAP_MAX_S, strict=True)


async def list_teams(request: Request, service: Service) -> Response:
    """Every team, the newest first."""
    await caller_of(request, service)
    page = page_of(request)
    rows = await service.parts.store.read(administration.page_of_teams, page.after_id, page.limit + 1)
    return listed(request, "teams", whole([_team(row) for row in rows], page.limit))


async def create_team(request: Request, service: Service) -> Response:
    """Make a team; it starts with the budget `money.default_budget_micros`, when that is set."""
    caller = await caller_of(request, service)
    body = await read_model(request, TeamBody)
    parts, now = service.parts, service.parts.clock.now()
    try:
        zone = None if body.timezone is None else zone_of(body.timezone)
        plan = None if body.plan is None else plan_of(body.plan)
        new, budget_micros = NewTeam(body.name, now, zone, plan), parts.settings.money.default_budget_micros
        team_id = await parts.store.write(administration.add_team, parts.ids, new, actor_of(caller), budget_micros)
    except TermsError as error:
        raise InvalidParameter(str(error)) from None
    if team_id is None:
        raise Conflict(f"the name {body.name!r} is taken; that of a deleted team stays with its books")
    return _json({"id": team_id, "name": body.name}, 201)


async def delete_team(request: Request, service: Service) -> Response:
    """Delete a team for good; refused while it has money under way."""
    caller = await caller_of(request, service)
    team_id, now = _id(request, "team_id"), service.parts.clock.now()
    by, people_of = actor_of(caller), _teams_of_administrators(service)
    found = await service.parts.store.write(administration.end_team, team_id, by, now, people_of=people_of)
    if found is None:
        raise NotFound(f"there is no team {team_id}")
    if isinstance(found, StillBusy):
        said = f"the team has {found.open_holds} open holds and {found.active_jobs} running jobs: cancel them or wait"
        raise Conflict(said, **asdict(found))
    return _json({"id": team_id, "ended": asdict(found)})


async def list_keys(request: Request, service: Service) -> Response:
    """The keys of every team or of `team_id`, the newest first; no secret is among them."""
    await caller_of(request, service)
    page = page_of(request)
    team_id = _given(request, "team_id")
    rows = await service.parts.store.read(page_of_keys, page.after_id, page.limit + 1, team_id=team_id)
    return listed(request, "keys", whole([_key(row) for row in rows], page.limit))


async def create_key(request: Request, service: Service) -> Response:
    """Make a key of a team and show it, once."""
    caller = await caller_of(request, service)
    body = await read_model(request, KeyBody)
    parts, now = service.parts, service.parts.clock.now()
    name = await parts.store.read(administration.team_name_of, body.team_id) if ID.fullmatch(body.team_id) else None
    if name is None:
        raise InvalidParameter(f"there is no team {body.team_id!r}", parameter="team_id")
    new = _new_key(body, name, now, caller.key_id)
    try:
        key_id, secret = await parts.store.write(administration.add_key, parts.ids, new, actor_of(caller))
    except KeyGrantError as error:
        raise Forbidden(str(error)) from None
    return _json({"id": key_id, "team_id": body.team_id, "key": secret}, 201, SECRET_HEADERS)


def _new_key(body: KeyBody, team_name: str, now: float, issuer_id: str) -> NewKey:
    expires_at = None if body.expires_at is None else body.expires_at.timestamp()
    if expires_at is not None and expires_at <= now:
        raise InvalidParameter("expires_at: the key would have ended already", parameter="expires_at")
    try:
        return NewKey(team_name, body.name, now, expires_at, body.limits, issuer_id, scopes=body.scopes)
    except KeyGrantError as error:
        raise InvalidParameter(f"expires_at: {error}", parameter="expires_at") from None


async def rotate_key(request: Request, service: Service) -> Response:
    """Give a key a new secret and show it, once; the old one works for `overlap_s` more."""
    caller = await caller_of(request, service)
    key_id, now = _id(request, "key_id"), service.parts.clock.now()
    body = await read_model(request, RotateBody)
    by, write = actor_of(caller), service.parts.store.write
    try:
        secret = await write(administration.renew_key, caller.key_id, key_id, by, at=now, overlap_s=body.overlap_s)
    except KeyGrantError as error:
        raise Forbidden(str(error)) from None
    if secret is None:
        raise NotFound(f"there is no live key {key_id}")
    return _json({"id": key_id, "key": secret, "old_works_for_s": body.overlap_s}, 200, SECRET_HEADERS)


async def revoke_key(request: Request, service: Service) -> Response:
    """End a key at once and for good, on every replica; its jobs run to their end."""
    caller = await caller_of(request, service)
    key_id, now = _id(request, "key_id"), service.parts.clock.now()
    by, people_of = actor_of(caller), _teams_of_administrators(service)
    if not await service.parts.store.write(administration.end_key, key_id, by, now, people_of=people_of):
        raise NotFound(f"there is no live key {key_id}")
    return _json({"id": key_id, "revoked_at": rfc3339(now)})


async def list_audit(request: Request, service: Service) -> Response:
    """What administrators did, the latest first; `act` and `target` narrow it."""
    await caller_of(request, service)
    page = page_of(request)
    act, target = _given(request, "act"), _given(request, "target")
    found = await service.parts.store.read(
        audit.entries, before=page.after_id, act=act, target=target, count_max=page.limit + 1
    )
    return listed(request, "entries", whole([{**asdict(one), "at": rfc3339(one.at)} for one in found], page.limit))


def _teams_of_administrators(service: Service) -> frozenset[str]:
    """The teams whose people the configuration makes administrators."""
    oidc = service.parts.settings.security.oidc
    return frozenset(row.team for row in (oidc.roles if oidc else ()) if Scope.ADMIN in row.scopes)


def _given(request: Request, name: str) -> str | None:
    """An id of the query. Raises BadRequest for what can be none."""
    value = request.query_params.get(name)
    if value is not None and not ID.fullmatch(value):
        raise BadRequest(f"{name} is not an id")
    return value


def _id(request: Request, name: str) -> str:
    """An id of the path. Raises NotFound for what can be none."""
    value: str = request.path_params[name]
    if not ID.fullmatch(value):
        raise NotFound("there is nothing at this address")
    return value


def _team(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "timezone": row.timezone,
        "plan": row.plan,
        "created_at": rfc3339(row.created_at),
        "deleted_at": rfc3339(row.deleted_at),
    }


def _key(row: KeyRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "team_id": row.team_id,
        "name": row.name,
        "begins_with": row.prefix,
        "scopes": sorted(scope.value for scope in row.scopes),
        "limits": {name: limit for name, limit in row.grants.items() if limit is not None},
        "created_at": rfc3339(row.created_at),
        "expires_at": rfc3339(row.expires_at),
        "revoked_at": rfc3339(row.revoked_at),
        "old_secret_until": rfc3339(row.old_until),
    }


def _json(shown: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(shown), status, headers, "application/json")
