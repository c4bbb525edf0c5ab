"""The schemas of what the API answers with. They name what is always there; a newer gateway may say more. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway import problems
from gateway.jobs import AttemptState, JobStatus

Json = dict[str, Any]
TEXT, INTEGER, NUMBER, FLAG, OBJECT = ({"type": kind} for kind in ("string", "integer", "number", "boolean", "object"))
TIME = {"type": "string", "format": "date-time"}
SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
MICROS = {"type": "integer", "description": "Micro-USD."}
TEXTS = {"type": "array", "items": TEXT}


def nullable(schema: Json) -> Json:
    """The same or null."""
    return {**schema, "type": [schema["type"], "null"]}


def record(required: Mapping[str, Json], optional: Mapping[str, Json] | None = None, description: str = "") -> Json:
    """An object that has all of the first members, and may have the others."""
    shown = {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}
    return shown | ({"description": description} if description else {})


def listed(items: Json) -> Json:
    """An array of these."""
    return {"type": "array", "items": items}


def ref(name: str) -> Json:
    """A named schema."""
    return {"$ref": f"#/components/schemas/{name}"}


# Where the next page of a list begins; null at the last.
FOLLOWING = {"next_cursor": nullable(TEXT), "next_before": nullable(TEXT)}
PROGRESS = record(
    {
        "stage": TEXT,
        "fraction": {**nullable(NUMBER), "description": "How much is done, 0 to 1, where the vendor tells."},
        "eta_s": {**nullable(NUMBER), "description": "Seconds left, where the vendor tells."},
    },
    {
        "reason": {
            **TEXT,
            "description": "What it waits for, while `stage` is waiting, retrying or parked: a limit, a slot, …",
        },
        "until": {**nullable(TIME), "description": "When that is expected to be over, where anybody can tell."},
    },
)
RANKED = record(
    {
        "route": TEXT,
        "price_micros": MICROS,
        "p50_s": NUMBER,
        "p95_s": NUMBER,
        "probability_on_time": NUMBER,
        "probability_success": NUMBER,
        "reasons": TEXTS,
        "recheck_after_s": nullable(NUMBER),
        "timeout_s": nullable(NUMBER),
    },
    {"score": NUMBER, "expected_cost_micros": INTEGER},
)
REFUSED = record({"route": TEXT, "reasons": TEXTS})
PLAN_MEMBERS = {
    "decided_at": TIME,
    "objective": TEXT,
    "ranked": listed(RANKED),
    "refused": listed(REFUSED),
    "wait_s": nullable(NUMBER),
}
PLAN = record(PLAN_MEMBERS, {"shadow": nullable(OBJECT)}, "The ranked routes with their reasons, and the refused ones.")
RECEIPT = record(
    {
        "parameter": TEXT,
        "asked": {"description": "What the caller wrote; null when nothing."},
        "sent": {"description": "What the vendor was sent; null when nothing."},
        "vendor_name": nullable(TEXT),
        "outcome": {"enum": ["passed", "renamed", "converted", "moved", "dropped", "defaulted"]},
        "reason": TEXT,
    }
)
ATTEMPT = record(
    {
        "id": TEXT,
        "number": INTEGER,
        "route": TEXT,
        "state": {"enum": [state.value for state in AttemptState]},
        "prepared_at": TIME,
        "accepted_at": nullable(TIME),
        "finished_at": nullable(TIME),
        "submits": INTEGER,
        "events": listed(record({"at": TIME, "what": TEXT})),
        "doubt": {
            **nullable(OBJECT),
            "description": "Of an attempt in doubt: `since` and `until` when, what was looked at, and what is next.",
        },
        "failure": {**nullable(OBJECT), "description": "Of a failed one: its `kind` and `detail`."},
        "seed": nullable(INTEGER),
    },
    {
        "cost_micros": {**nullable(MICROS), "description": "Only where the team is shown costs."},
        "cost_source": nullable(TEXT),
    },
)
BILL = record(
    {"status": TEXT, "held_micros": MICROS, "price_micros": nullable(MICROS)},
    {"cost_micros": nullable(MICROS), "margin_micros": nullable(MICROS), "cost_source": nullable(TEXT)},
    "What is held or was captured.",
)
FILE = record(
    {
        "sha256": SHA256,
        "media_type": TEXT,
        "size_bytes": INTEGER,
        "url": {"type": "string", "format": "uri-reference"},
        "width": nullable(INTEGER),
        "height": nullable(INTEGER),
        "num_frames": nullable(INTEGER),
        "fps": nullable(NUMBER),
    },
    {
        "data": {
            **nullable(TEXT),
            "contentEncoding": "base64",
            "description": "With `output: inline`: the file itself; null where the files together have more than "
            "`server.inline_bytes_max` or one is no longer stored, `url` leads to it then.",
        }
    },
)
JOB = record(
    {
        "id": TEXT,
        "media": {"enum": ["video", "image"]},
        "status": {"enum": [status.value for status in JobStatus]},
        "created_at": TIME,
        "started_at": nullable(TIME),
        "finished_at": nullable(TIME),
        "deadline_at": TIME,
        "request": record(
            {"written": OBJECT, "parameters": OBJECT, "fit": TEXT, "routing": OBJECT, "metadata": OBJECT}
        ),
        "input": record({"sha256": SHA256, "media_type": TEXT, "width": INTEGER, "height": INTEGER}),
        "route": nullable(TEXT),
        "progress": PROGRESS,
        "plan": PLAN,
        "replans": listed(PLAN),
        "receipt": listed(RECEIPT),
        "attempts": listed(ATTEMPT),
        "bill": BILL,
        "result": {"anyOf": [record({"files": listed(FILE)}), {"type": "null"}]},
        "error": {"anyOf": [ref("Problem"), {"type": "null"}]},
        "cancel_requested_at": nullable(TIME),
        "trace_id": nullable(TEXT),
        "links": record({"self": TEXT, "content": nullable(TEXT), "cancel": nullable(TEXT)}),
    }
)
ADMITTED_ONE = record({"status": {"const": 202}, "job": ref("Job"), "replayed": FLAG})
REFUSED_ONE = record(
    {"status": {"type": "integer", "minimum": 400}, "problem": ref("Problem"), "replayed": FLAG},
    {"retry_after_s": {**INTEGER, "description": "Where the problem passes: after how many seconds to ask again."}},
)
CREDIT = record(
    {"state": {"enum": ["unknown", "low", "fine"]}},
    {
        "balance_micros": nullable(MICROS),
        "balance_at": nullable(TIME),
        "in_flight_micros": MICROS,
        "burn_micros_per_hour": nullable(NUMBER),
        "runway_h": nullable(NUMBER),
    },
)
QUOTE = record(
    {
        **PLAN_MEMBERS,
        "hold_micros": MICROS,
        "routes": {
            "type": "object",
            "additionalProperties": record(
                {
                    "eligible": FLAG,
                    "rank": nullable(INTEGER),
                    "reasons": TEXTS,
                    "refused": TEXTS,
                    "price_micros": nullable(MICROS),
                    "worst_micros": nullable(MICROS),
                    "time": OBJECT,
                    "credit": CREDIT,
                    "receipt": listed(RECEIPT),
                },
                {"price": nullable(OBJECT)},
            ),
        },
    },
    {"shadow": nullable(OBJECT)},
)
CAPABILITY = record(
    {
        "parameter": TEXT,
        "vendor_name": nullable(TEXT),
        "takes": TEXT,
        "by": TEXT,
        "required": FLAG,
        "affects_price": FLAG,
        "note": TEXT,
    }
)
ROUTE = record(
    {
        "name": TEXT,
        "provider": TEXT,
        "media": {"enum": ["video", "image"]},
        "model": TEXT,
        "summary": TEXT,
        "mode": TEXT,
        "preview": FLAG,
        "statistics": record(
            {
                "p50_s": nullable(NUMBER),
                "p95_s": nullable(NUMBER),
                "success_rate": NUMBER,
                "breaker": TEXT,
                "observations": NUMBER,
            }
        ),
        "in_flight": INTEGER,
        "image_form": nullable(TEXT),
        "capabilities": listed(CAPABILITY),
        "price": nullable(OBJECT),
        "credit": CREDIT,
    },
    {"price_drift": nullable(OBJECT)},
)
BUDGET = record(
    {
        "id": TEXT,
        "scope": {"enum": ["team", "key"]},
        "key_id": nullable(TEXT),
        "window": TEXT,
        "limit_micros": nullable(MICROS),
        "soft_micros": nullable(MICROS),
        "spent_micros": MICROS,
        "held_micros": MICROS,
        "over_soft": FLAG,
        "window_begins_at": nullable(TIME),
        "window_ends_at": nullable(TIME),
    }
)
DELIVERY = record(
    {
        "event_id": TEXT,
        "type": TEXT,
        "at": TIME,
        "webhook_id": TEXT,
        "url": TEXT,
        "state": {"enum": ["pending", "delivered", "failed"]},
        "next_try_at": nullable(TIME),
        "delivered_at": nullable(TIME),
        "tries": listed(
            record({"at": TIME, "took_s": nullable(NUMBER), "status": nullable(INTEGER), "fault": nullable(TEXT)})
        ),
    }
)
READINESS = record({"status": {"enum": ["ready", "degraded", "not_ready"]}, "checks": OBJECT})


def problem() -> Json:
    """Every problem type that there is."""
    slugs = sorted({kind.slug for kind in _tree(problems.Problem)})
    types = {"enum": [problems.TYPE_BASE + slug for slug in slugs]}
    return record({"type": types, "title": TEXT, "status": INTEGER, "detail": TEXT}, {"instance": TEXT})


def _tree(kind: type[problems.Problem]) -> list[type[problems.Problem]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _tree(child))]


def schemas() -> dict[str, Json]:
    """The schemas of replies by name."""
    return {
        "Job": JOB,
        "Jobs": record({"jobs": listed(ref("Job")), **FOLLOWING}),
        "Batch": record({"results": listed({"anyOf": [ADMITTED_ONE, REFUSED_ONE]})}),
        "Link": record({"url": {"type": "string", "format": "uri-reference"}, "file": INTEGER, "expires_at": TIME}),
        "Quote": QUOTE,
        "Routes": record({"routes": listed(ROUTE)}),
        "Usage": record({"since": TIME, "until": TIME, "rows": listed(OBJECT)}),
        "Statement": record(
            {"team": TEXT, "period": TEXT, "closed": FLAG, "total_micros": MICROS},
            {"lines": listed(OBJECT), "groups": listed(OBJECT)},
        ),
        "Budgets": record({"budgets": listed(BUDGET), **FOLLOWING}),
        "Deliveries": record({"deliveries": listed(DELIVERY), "next_cursor": nullable(TEXT)}),
        "Health": record({"status": {"const": "ok"}}),
        "Readiness": READINESS,
        "Problem": problem(),
    }
