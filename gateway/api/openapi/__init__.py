"""`GET /openapi.json`: OpenAPI 3.1, made from the vocabulary, the capability tables and the tree of problems.

One file for each group of operations (data), `operation.py` for how one is written, `requests.py` and `schemas.py` for
what goes in and comes out, `examples.json` for what both look like, recorded from a running gateway
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.api.openapi import admin, generation, jobs, money, service
from gateway.api.openapi.operation import SCHEMES
from gateway.api.openapi.requests import request_schemas
from gateway.api.openapi.schemas import schemas
from gateway.api.query import Known, parameters_of
from gateway.service import Service
from providers.capability import Route

OPERATIONS = (*generation.OPERATIONS, *jobs.OPERATIONS, *money.OPERATIONS, *admin.OPERATIONS, *service.OPERATIONS)
TAGS = {
    "generate": "Asking for renders.",
    "jobs": "Looking at jobs, following and stopping them, fetching results.",
    "links": "Addresses that vidgate hands out, which carry their own permission.",
    "money": "Usage, statements and budgets.",
    "webhooks": "What was told to whom.",
    "admin": "Teams, keys, and what administrators did.",
    "service": "What can be had, and how the service stands.",
}


_QUERIES = {(one.method, one.path): parameters_of(one.parameters) for one in OPERATIONS}


def query_of(method: str, path: str) -> Known:
    """What an operation takes in its query, by name."""
    return _QUERIES.get(("get" if method == "HEAD" else method.lower(), path), {})


async def show(_request: Request, service: Service) -> Response:
    """The description of this deployment's API."""
    return JSONResponse(document(service.parts.fleet.routes.values()))


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The whole OpenAPI document for a set of routes."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "vidgate",
            "version": "1",
            "summary": "One endpoint for generative video, over many vendors.",
            "description": "Errors are RFC 9457 problems; each `type` has a page. Money is integer micro-USD.",
        },
        "tags": [{"name": name, "description": said} for name, said in TAGS.items()],
        "security": [{scheme: []} for scheme in SCHEMES],
        "paths": _paths(),
        "components": {
            "securitySchemes": dict(SCHEMES),
            "schemas": {**request_schemas(routes), **schemas(), **admin.schemas()},
        },
    }


def _paths() -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method] = one.to_json(_examples().get(one.id, {}))
    return paths


@cache
def _examples() -> dict[str, Any]:
    """Examples by operation: of its `request`, and of each status, by media type and name."""
    known: dict[str, Any] = json.loads((files(__package__) / "examples.json").read_text(encoding="utf-8"))
    return known
