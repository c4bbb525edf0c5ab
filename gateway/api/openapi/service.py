"""The service itself: its routes, its health, its metrics and its description."""

from __future__ import annotations

from gateway import problems
from gateway.api.openapi.generation import FILES, TEXT
from gateway.api.openapi.operation import Operation, Reply, example_at, json_of, parameter

OPERATIONS = (
    Operation(
        "get",
        "/routes",
        "listRoutes",
        "service",
        "Every route with its capabilities and how it stands.",
        {200: Reply("The routes.", json_of("Routes"))},
    ),
    Operation(
        "get",
        "/healthz",
        "getHealth",
        "service",
        "The process answers.",
        {200: Reply("It does.", json_of("Health"))},
    ),
    Operation(
        "get",
        "/readyz",
        "getReadiness",
        "service",
        "New work can be taken.",
        {200: Reply("It can.", json_of("Readiness")), 503: Reply("It cannot.", json_of("Readiness"))},
    ),
    Operation(
        "get",
        "/metrics",
        "getMetrics",
        "service",
        "Metrics for Prometheus; with a token where one is configured.",
        {
            200: Reply(
                "As text for Prometheus, or as OpenMetrics to who accepts it.",
                {"text/plain": {"schema": TEXT}, "application/openmetrics-text": {"schema": TEXT}},
            )
        },
        (problems.Unauthorized,),
    ),
    Operation(
        "get",
        "/openapi.json",
        "getDescription",
        "service",
        "This document.",
        {
            200: Reply(
                "OpenAPI 3.1.",
                {"application/json": {"schema": {"type": "object"}, **example_at("/openapi.json")}},
            )
        },
    ),
    Operation(
        "get",
        "/docs",
        "getDocumentation",
        "service",
        "This document as a page.",
        {
            200: Reply(
                "A page that needs nothing from any other origin.",
                {"text/html": {"schema": TEXT, **example_at("/docs")}},
                {
                    "Content-Security-Policy": {
                        "required": True,
                        "schema": TEXT,
                        "description": "Nothing from elsewhere.",
                    }
                },
            )
        },
    ),
    Operation(
        "get",
        "/docs/{asset}",
        "getDocumentationAsset",
        "service",
        "A file of that page.",
        {
            200: Reply(
                "The file.",
                {
                    "text/javascript": {"schema": TEXT, **example_at("/docs/start.js")},
                    "text/css": {"schema": TEXT, **example_at("/docs/swagger-ui.css")},
                    **{kind: FILES[kind] for kind in ("video/mp4", "image/png")},
                },
            ),
            304: Reply("The client has it already."),
        },
        (problems.NotFound,),
        (
            parameter("path", "asset", {"type": "string", "minLength": 1}, "Its name.", required=True),
            parameter("header", "If-None-Match", TEXT, "ETags of what the client has."),
        ),
    ),
)
