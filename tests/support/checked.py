"""A transport into the application that holds every reply against the application's own OpenAPI document."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
from jsonschema import Draft202012Validator
from starlette.applications import Starlette

from gateway.api import openapi

PROBLEM = "application/problem+json"


class CheckedTransport(httpx.ASGITransport):
    """Calls the application and refuses replies that its description does not allow."""

    def __init__(self, app: Starlette) -> None:
        super().__init__(app, raise_app_exceptions=False)
        self._app = app
        self._document: dict[str, Any] | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        await response.aread()
        if self._document is None:
            self._document = openapi.document(self._app.state.service.parts.fleet.routes.values())
        check_reply(self._document, request, response)
        return response


def check_reply(document: dict[str, Any], request: httpx.Request, response: httpx.Response) -> None:
    """Assert that a reply is one that the document describes for this operation."""
    operation = operation_of(document, request.method, request.url.path)
    where = f"{request.method} {request.url.path} -> {response.status_code}"
    media_type = response.headers.get("content-type", "").partition(";")[0]
    if response.status_code >= 400 and media_type == PROBLEM:
        schema: dict[str, Any] = {"$ref": "#/components/schemas/Problem"}
        if operation is not None and response.status_code != 405:
            assert str(response.status_code) in operation["responses"], f"{where}: this status is not described"
        assert response.json()["status"] == response.status_code, where
    else:
        assert operation is not None, f"{where}: not described"
        assert str(response.status_code) in operation["responses"], f"{where}: this status is not described"
        content = operation["responses"][str(response.status_code)].get("content", {})
        assert not content or media_type in content or not response.content, f"{where}: {media_type} is not described"
        schema = content.get(media_type, {}).get("schema", {})
    if schema and media_type.endswith("json") and request.method != "HEAD":
        errors = [error.message for error in _validator(document, schema).iter_errors(json.loads(response.content))]
        assert errors == [], f"{where}: {errors}"


def operation_of(document: dict[str, Any], method: str, path: str) -> dict[str, Any] | None:
    """The operation that describes a request; a HEAD is described by its GET."""
    verb = {"head": "get"}.get(method.lower(), method.lower())
    for template, item in document["paths"].items():
        if re.fullmatch(re.sub(r"\{[^}]+\}", "[^/]+", template), path):
            return item.get(verb)
    return None


def _validator(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({"components": document["components"], **schema})
