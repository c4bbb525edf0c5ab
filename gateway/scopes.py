"""What a key may be used for: four scopes, and which of them each address asks for. Pure.

A key's scopes are stored as OAuth writes them, words with blanks between; a word that is not known here grants nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum


class Scope(StrEnum):
    """One thing that a key may be used for."""

    GENERATE = "generate"
    READ = "read"
    BILLING = "billing"
    ADMIN = "admin"


Scopes = frozenset[Scope]

# What a key has when nothing is said: everything but the administration.
USUAL: Scopes = frozenset({Scope.GENERATE, Scope.READ, Scope.BILLING})

# The scope that each address asks for, by its template. A test compares this with the table of routes.
NEEDED: Mapping[str, Scope] = {
    "/generate/video": Scope.GENERATE,
    "/generate/image": Scope.GENERATE,
    "/generate/video/batch": Scope.GENERATE,
    "/generate/image/batch": Scope.GENERATE,
    "/generate/video/quote": Scope.GENERATE,
    "/generate/image/quote": Scope.GENERATE,
    "/jobs": Scope.READ,
    "/jobs/{job_id}": Scope.READ,
    "/jobs/{job_id}/content": Scope.READ,
    "/jobs/{job_id}/events": Scope.READ,
    "/jobs/{job_id}/cancel": Scope.GENERATE,
    "/jobs/{job_id}/link": Scope.READ,
    "/routes": Scope.READ,
    "/usage": Scope.BILLING,
    "/billing/statement": Scope.BILLING,
    "/budgets": Scope.BILLING,
    "/webhooks/deliveries": Scope.READ,
    "/admin/teams": Scope.ADMIN,
    "/admin/teams/{team_id}": Scope.ADMIN,
    "/admin/keys": Scope.ADMIN,
    "/admin/keys/{key_id}/rotate": Scope.ADMIN,
    "/admin/keys/{key_id}/revoke": Scope.ADMIN,
    "/admin/audit": Scope.ADMIN,
}

# Addresses that ask for no team's key: they tell nothing of a team, or carry their own permission; what
# `/metrics` tells of teams is behind a token of its own (telemetry.metrics_token).
KEYLESS = frozenset(
    {
        "/inputs/{name}",
        "/results/{job_id}/{number}",
        "/callbacks/{attempt_id}/{token}",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/docs/{asset}",
    }
)


def parse_scopes(text: str) -> Scopes:
    """The scopes that a stored text grants."""
    words = text.split()
    return frozenset(scope for scope in Scope if scope.value in words)


def scopes_text(scopes: Iterable[Scope]) -> str:
    """Scopes as they are stored and shown."""
    return " ".join(sorted(set(scopes)))
