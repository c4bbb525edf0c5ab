"""`GET /openapi.json`: OpenAPI 3.1, made from the vocabulary, the capability tables and the tree of problems."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway import problems
from gateway.jobs import AttemptState, JobStatus
from gateway.scopes import NEEDED
from gateway.service import Service
from gateway.wishes import RoutingWish
from policies.fit import describe
from providers.capability import Route
from providers.vocabulary import IMAGE_ALIASES, Media, Parameter, parameters_for

JSON_TYPES = {"integer": "integer", "number": "number", "text": "string", "choice": "string", "boolean": "boolean"}
JOB = {"$ref": "#/components/schemas/Job"}
METRICS = {"description": "As text for Prometheus, or as OpenMetrics to who accepts it."}
FILE = {
    "200": {"description": "The file."},
    "206": {"description": "A part of it."},
    "304": {"description": "The client has it already."},
}


async def show(_request: Request, service: Service) -> Response:
    """The description of this deployment's API."""
    return JSONResponse(document(service.parts.fleet.routes.values()))


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The whole OpenAPI document for a set of routes."""
    known = list(routes)
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "vidgate",
            "version": "1",
            "summary": "One endpoint for generative video, over many vendors.",
        },
        "security": [{"bearer": []}, {"apiKey": []}],
        "paths": {path: _with_scope(path, item) for path, item in _paths().items()},
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
            "schemas": {
                "VideoRequest": _request_schema("video", known),
                "ImageRequest": _request_schema("image", known),
                "Routing": RoutingWish.model_json_schema(ref_template="#/components/schemas/{model}") | {"$defs": {}},
                "WeightsWish": RoutingWish.model_json_schema()["$defs"]["WeightsWish"],
                "Job": _job_schema(),
                "Problem": _problem_schema(),
            },
        },
    }


def _request_schema(media: Media, routes: Iterable[Route]) -> dict[str, Any]:
    here = [route for route in routes if route.media == media]
    properties: dict[str, Any] = {
        "image": {
            "type": "string",
            "description": f"The picture: an https link, a data URI or base64. Also as {' or '.join(IMAGE_ALIASES)}; "
            "in multipart bodies a file.",
        },
        "fit": {"enum": ["exact", "nearest"], "default": "exact", "description": "May a route move what it cannot do?"},
        "routing": {"$ref": "#/components/schemas/Routing"},
        "metadata": {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 16},
    }
    for parameter in parameters_for(media):
        properties[parameter.name] = _parameter_schema(parameter, here)
    for parameter in parameters_for(media):
        for alias in parameter.aliases:
            meant = f"Another name of {parameter.name}."
            known = properties.get(alias)
            both = f"{known['description']} {meant}" if known else meant
            properties[alias] = {"description": both}
    for alias in IMAGE_ALIASES:
        properties[alias] = {"type": "string", "description": "Another name of image."}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _parameter_schema(parameter: Parameter, routes: Iterable[Route]) -> dict[str, Any]:
    """One parameter with its canonical range, and what each route takes of it."""
    rows = {route.name: route.capability(parameter.name) for route in routes}
    takes = {name: describe(row) for name, row in rows.items() if row is not None}
    schema: dict[str, Any] = {"type": JSON_TYPES[parameter.kind], "description": parameter.summary, "x-routes": takes}
    bounds: Mapping[str, Any] = {
        "minimum": parameter.minimum,
        "maximum": parameter.maximum,
        "enum": list(parameter.choices) or None,
        "default": parameter.default,
    }
    return schema | {name: value for name, value in bounds.items() if value is not None}


def _job_schema() -> dict[str, Any]:
    text_or_null, object_or_null = {"type": ["string", "null"]}, {"type": ["object", "null"]}
    properties: dict[str, Any] = {
        "id": {"type": "string"},
        "media": {"enum": ["video", "image"]},
        "status": {"enum": [status.value for status in JobStatus]},
        "created_at": {"type": "string", "format": "date-time"},
        "started_at": text_or_null,
        "finished_at": text_or_null,
        "deadline_at": {"type": "string", "format": "date-time"},
        "request": {"type": "object"},
        "input": {"type": "object"},
        "route": text_or_null,
        "progress": {"type": "object"},
        "plan": {"type": "object", "description": "The ranked routes with their reasons, and the refused ones."},
        "replans": {"type": "array", "items": {"type": "object"}},
        "receipt": {"type": "array", "items": _receipt_schema()},
        "attempts": {"type": "array", "items": _attempt_schema()},
        "bill": {"type": "object", "description": "What is held or was captured, in micro-USD."},
        "result": object_or_null,
        "error": {"oneOf": [{"$ref": "#/components/schemas/Problem"}, {"type": "null"}]},
        "cancel_requested_at": text_or_null,
        "trace_id": text_or_null,
        "links": {"type": "object"},
    }
    return {"type": "object", "required": list(properties), "properties": properties}


def _receipt_schema() -> dict[str, Any]:
    outcomes = ["passed", "renamed", "converted", "moved", "dropped", "defaulted"]
    properties: dict[str, Any] = {
        "parameter": {"type": "string"},
        "asked": {"description": "What the caller wrote; null when nothing."},
        "sent": {"description": "What the vendor was sent; null when nothing."},
        "vendor_name": {"type": ["string", "null"]},
        "outcome": {"enum": outcomes},
        "reason": {"type": "string"},
    }
    return {"type": "object", "required": list(properties), "properties": properties}


def _attempt_schema() -> dict[str, Any]:
    properties: dict[str, Any] = {
        "id": {"type": "string"},
        "number": {"type": "integer"},
        "route": {"type": "string"},
        "state": {"enum": [state.value for state in AttemptState]},
        "submits": {"type": "integer"},
        "events": {"type": "array", "items": {"type": "object"}},
        "doubt": {
            "type": ["object", "null"],
            "description": "Of an attempt in doubt: `since` and `until` when, what was looked at, and what is next.",
        },
        "failure": {"type": ["object", "null"]},
    }
    shown_costs = {"cost_micros": {"type": ["integer", "null"], "description": "Only where the team is shown costs."}}
    return {"type": "object", "required": list(properties), "properties": properties | shown_costs}


def _problem_schema() -> dict[str, Any]:
    slugs = sorted({kind.slug for kind in _tree(problems.Problem)})
    return {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"enum": [problems.TYPE_BASE + slug for slug in slugs]},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "instance": {"type": "string"},
        },
    }


def _tree(kind: type[problems.Problem]) -> list[type[problems.Problem]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _tree(child))]


def _paths() -> dict[str, Any]:
    return {
        "/generate/video": {"post": _generate("VideoRequest", "Make a video from a picture.")},
        "/generate/image": {"post": _generate("ImageRequest", "Make pictures from a picture.")},
        "/generate/video/quote": {"post": _quote("VideoRequest")},
        "/generate/image/quote": {"post": _quote("ImageRequest")},
        "/jobs": {"get": _operation("The team's jobs, newest first.", {"200": _json({"type": "object"})})},
        "/jobs/{job_id}": _at_job("get", "One job; Prefer: wait=N waits for its end.", {"200": _json(JOB)}),
        "/jobs/{job_id}/content": _at_job(
            "get",
            "The finished file; Range requests work.",
            FILE,
        ),
        "/jobs/{job_id}/events": _at_job(
            "get", "The job's story as server-sent events; Last-Event-ID resumes it.", {"200": _event_stream()}
        ),
        "/jobs/{job_id}/cancel": _at_job("post", "Ask for the job to be stopped.", {"202": _json(JOB)}),
        "/routes": {"get": _operation("Every route with its capabilities and how it stands.", {"200": _json({})})},
        "/usage": {"get": _operation("The team's use, by any mix of groups.", {"200": _report()})},
        "/billing/statement": {"get": _operation("The team's bill for a month.", {"200": _report()})},
        "/budgets": {"get": _operation("Budgets with what is spent and held.", {"200": _json({"type": "object"})})},
        "/webhooks/deliveries": {
            "get": _operation("What was told to the team, and how its receivers answered.", {"200": _json({})})
        },
        "/inputs/{name}": _signed("get", ["name"], "An input picture by its signed link, for vendors.", FILE),
        "/callbacks/{attempt_id}/{token}": _signed(
            "post",
            ["attempt_id", "token"],
            "A vendor says that an attempt is done.",
            {"204": {"description": "Heard."}},
        ),
        "/healthz": {"get": _operation("The process answers.", {"200": _json({})}) | {"security": []}},
        "/readyz": {
            "get": _operation("New work can be taken.", {"200": _json({}), "503": _json({})}) | {"security": []}
        },
        "/metrics": {
            "get": _operation("Metrics for Prometheus; with a token where one is configured.", {"200": METRICS})
            | {"security": []}
        },
        "/openapi.json": {"get": _operation("This document.", {"200": _json({})}) | {"security": []}},
    }


def _with_scope(path: str, item: dict[str, Any]) -> dict[str, Any]:
    """A path whose operations say which scope of a key they ask for."""
    if path not in NEEDED:
        return item
    asked = {"security": [{"bearer": [NEEDED[path]]}, {"apiKey": [NEEDED[path]]}]}
    return {name: one if name == "parameters" else {**one, **asked} for name, one in item.items()}


def _generate(schema: str, summary: str) -> dict[str, Any]:
    responses = {"200": _json(JOB, "It ended within the wait."), "202": _json(JOB, "Admitted; see Location.")}
    headers = [
        {"name": "Prefer", "in": "header", "schema": {"type": "string"}, "description": "wait=N or respond-async"},
        {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 255}},
        {"name": "traceparent", "in": "header", "schema": {"type": "string"}, "description": "the caller's own trace"},
    ]
    return _operation(summary, responses) | {"requestBody": _body(schema), "parameters": headers}


def _quote(schema: str) -> dict[str, Any]:
    summary = "Price, time and chances on every route; nothing is run or held."
    return _operation(summary, {"200": _json({"type": "object"})}) | {"requestBody": _body(schema)}


def _body(schema: str) -> dict[str, Any]:
    reference = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    return {"required": True, "content": {"application/json": reference, "multipart/form-data": reference}}


def _at_job(method: str, summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    parameter = {"name": "job_id", "in": "path", "required": True, "schema": {"type": "string"}}
    return {"parameters": [parameter], method: _operation(summary, responses)}


def _signed(method: str, names: Iterable[str], summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    """An address that carries its own permission and takes no key."""
    parameters = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    return {"parameters": parameters, method: _operation(summary, responses) | {"security": []}}


def _operation(summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    refused = {"description": "A problem (RFC 9457); docs/problems/ has a page for each type.", "content": problem}
    return {"summary": summary, "responses": {**responses, "default": refused}}


def _event_stream() -> dict[str, Any]:
    """Events by name, with ids to resume from; progress has none."""
    said = "created, started, accepted, retry, in_doubt, failed, delivered, … with ids; progress without; last: ended."
    return {"description": said, "content": {"text/event-stream": {}}}


def _report() -> dict[str, Any]:
    """A report in each of its forms."""
    described = _json({"type": "object"})
    forms: dict[str, Any] = {"text/csv": {}, "application/vnd.apache.parquet": {}}
    return {**described, "content": {**described["content"], **forms}}


def _json(schema: dict[str, Any], description: str = "As described.") -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
