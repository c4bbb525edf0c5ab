"""What administrators do over HTTP: teams, keys and the log of it. Every operation asks for the scope `admin`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from gateway import problems
from gateway.api.admin import KeyBody, RotateBody, TeamBody
from gateway.api.openapi.generation import TEXT
from gateway.api.openapi.operation import BEFORE, NEXT, PAGING, Json, Operation, Reply, json_of, parameter
from gateway.api.openapi.schemas import FOLLOWING, INTEGER, NUMBER, OBJECT, TEXTS, TIME, listed, nullable, record

PAGE = (*PAGING, BEFORE)
KEY_ID = parameter("path", "key_id", {"type": "string", "minLength": 1}, "The key's id.", required=True)
TEAM_ID = parameter("path", "team_id", {"type": "string", "minLength": 1}, "The team's id.", required=True)
BODY_PROBLEMS = (
    problems.RequestTimeout,
    problems.ContentTooLarge,
    problems.UnsupportedMediaType,
    problems.UnknownField,
    problems.InvalidParameter,
)
ONCE = "The secret is shown only here."


def _body(kind: type[BaseModel], *, required: bool = True) -> Json:
    schema: dict[str, Any] = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return {"required": required, "content": {"application/json": {"schema": schema}}}


OPERATIONS = (
    Operation(
        "get", "/admin/teams", "listTeams", "admin", "Every team, the newest first.",
        {200: Reply("A page.", json_of("Teams"), NEXT)}, parameters=PAGE,
    ),
    Operation(
        "post", "/admin/teams", "createTeam", "admin", "Make a team.",
        {201: Reply("It is made.", json_of("NewTeam"))}, (*BODY_PROBLEMS, problems.Conflict), body=_body(TeamBody),
    ),
    Operation(
        "delete", "/admin/teams/{team_id}", "deleteTeam", "admin",
        "Delete a team for good; its books and its name stay.",
        {200: Reply("It is deleted, with what ended with it.", json_of("EndedTeam"))},
        (problems.NotFound, problems.Conflict, problems.LastAdministrator), (TEAM_ID,),
    ),
    Operation(
        "get", "/admin/keys", "listKeys", "admin", "The keys of every team or of one, the newest first.",
        {200: Reply("A page.", json_of("Keys"), NEXT)},
        parameters=(*PAGE, parameter("query", "team_id", TEXT, "Only this team's.")),
    ),
    Operation(
        "post", "/admin/keys", "createKey", "admin", "Make a key of a team, within what the caller's own grants.",
        {201: Reply(ONCE, json_of("NewKey"))}, (*BODY_PROBLEMS, problems.Forbidden), body=_body(KeyBody),
    ),
    Operation(
        "post", "/admin/keys/{key_id}/rotate", "rotateKey", "admin",
        "Give a key a new secret; the old one works for a while.",
        {200: Reply(ONCE, json_of("RotatedKey"))},
        (*BODY_PROBLEMS, problems.Forbidden, problems.NotFound), (KEY_ID,), _body(RotateBody, required=False),
    ),
    Operation(
        "post", "/admin/keys/{key_id}/revoke", "revokeKey", "admin", "End a key at once and for good.",
        {200: Reply("It is revoked, on every replica.", json_of("RevokedKey"))},
        (problems.NotFound, problems.LastAdministrator), (KEY_ID,),
    ),
    Operation(
        "get", "/admin/audit", "listAudit", "admin", "What administrators did, the latest first.",
        {200: Reply("A page.", json_of("AuditEntries"), NEXT)},
        parameters=(
            *PAGE,
            parameter("query", "act", TEXT, "Only this act, such as `key.revoke`."),
            parameter("query", "target", TEXT, "Only what was done to this."),
        ),
    ),
)  # fmt: skip

TEAM = record(
    {
        "id": TEXT, "name": TEXT, "timezone": TEXT, "plan": OBJECT, "created_at": TIME,
        "deleted_at": nullable(TIME),
    }
)  # fmt: skip
KEY = record(
    {
        "id": TEXT, "team_id": TEXT, "name": TEXT, "begins_with": TEXT, "scopes": TEXTS, "limits": OBJECT,
        "created_at": TIME, "expires_at": nullable(TIME), "revoked_at": nullable(TIME),
        "old_secret_until": nullable(TIME),
    }
)  # fmt: skip
ENTRY = record(
    {
        "id": TEXT, "at": TIME, "who": TEXT, "via": {"enum": ["http", "command"]}, "act": TEXT, "target": TEXT,
        "before": OBJECT, "after": OBJECT,
    }
)  # fmt: skip


def schemas() -> dict[str, Json]:
    """The schemas of these replies by name."""
    ended = record({"keys": INTEGER, "budgets": INTEGER, "webhooks": INTEGER})
    return {
        "Scope": {"enum": ["generate", "read", "billing", "admin"]},
        "Teams": record({"teams": listed(TEAM), **FOLLOWING}),
        "NewTeam": record({"id": TEXT, "name": TEXT}),
        "EndedTeam": record({"id": TEXT, "ended": ended}),
        "Keys": record({"keys": listed(KEY), **FOLLOWING}),
        "NewKey": record({"id": TEXT, "team_id": TEXT, "key": TEXT}),
        "RotatedKey": record({"id": TEXT, "key": TEXT, "old_works_for_s": NUMBER}),
        "RevokedKey": record({"id": TEXT, "revoked_at": TIME}),
        "AuditEntries": record({"entries": listed(ENTRY), **FOLLOWING}),
    }
