"""Asking for renders: the operations under `/generate`."""

from __future__ import annotations

from gateway import problems
from gateway.api.openapi.operation import Json, Operation, Reply, example_at, json_of, parameter
from gateway.media.kinds import MEDIA_TYPES

TEXT: Json = {"type": "string"}


def key_schema(length_max: int) -> Json:
    """An idempotency key: visible ASCII, bare or as a quoted string (RFC 8941)."""
    bare = rf"[!#-~][!-~]{{0,{length_max - 1}}}"
    quoted = rf'"([!#-\[\]-~]|\\["\\]){{1,{length_max}}}"'
    return {"type": "string", "pattern": f"^({bare}|{quoted})$"}


PREFER = parameter(
    "header",
    "Prefer",
    TEXT,
    "`wait=N` holds the line for the end of the job for N seconds, `respond-async` does not (RFC 7240).",
)
IDEMPOTENCY_KEY = parameter(
    "header",
    "Idempotency-Key",
    key_schema(255),
    "One key, one job: the same request under it is answered the same for 24 hours. Bare or as a quoted string.",
)
BATCH_KEY = parameter(
    "header",
    "Idempotency-Key",
    key_schema(250),
    "The request number `i`, counted from 0, has the key `<key>.i`: a batch can be sent again, or one of it alone.",
)
TRACEPARENT = parameter("header", "traceparent", TEXT, "The caller's own trace (W3C Trace Context).")

# Of every reply about one job.
JOB_HEADERS: dict[str, Json] = {
    "x-vidgate-job-id": {"required": True, "schema": TEXT, "description": "The job's id."},
    "x-vidgate-attempts": {"required": True, "schema": {"type": "integer"}, "description": "Tries so far."},
    "x-vidgate-route": {"schema": TEXT, "description": "The route, once one was chosen."},
    "x-vidgate-cost-usd": {"schema": TEXT, "description": "What the team pays, once that is known."},
    "Preference-Applied": {"schema": TEXT, "description": "Which preference was honoured."},
    "Vary": {"schema": TEXT, "description": "The request headers that the reply depends on."},
}
# What a job that failed is told as to who takes no JSON.
FAILURES = (
    problems.RequestRefused,
    problems.JobCanceled,
    problems.NoRouteLeft,
    problems.DeadlinePassed,
    problems.OutcomeUnknown,
)
BINARY: Json = {"schema": {"type": "string", "format": "binary"}}
# The page of the documentation has a file of the two usual kinds (gateway/api/documentation).
EXAMPLE_FILES = {"video/mp4": "/docs/example.mp4", "image/png": "/docs/example.png"}
FILES = {
    kind: BINARY | (example_at(EXAMPLE_FILES[kind]) if kind in EXAMPLE_FILES else {}) for kind in MEDIA_TYPES.values()
}
JOB_OR_FILE = {**json_of("Job"), **FILES}
ACCEPT = parameter("header", "Accept", TEXT, "`video/mp4`, or another type that the result can have: its bytes.")
BYTES = "With `Accept: video/mp4` a finished job is its file; one that has not ended is JSON all the same."
REPLAYED: dict[str, Json] = {
    "Idempotent-Replayed": {"schema": {"const": "true"}, "description": "Answered before, under the same key."}
}
ADMITTED_HEADERS: dict[str, Json] = {
    **JOB_HEADERS,
    **REPLAYED,
    "Location": {
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
        "description": "The job's address.",
    },
    "x-vidgate-budget-warning": {"schema": TEXT, "description": "Soft limits that are reached."},
}
_ID = {"job_id": "$response.body#/id"}
JOB_LINKS: dict[str, Json] = {
    "job": {"operationId": "getJob", "parameters": _ID, "description": "The job as it stands."},
    "content": {"operationId": "getContent", "parameters": _ID, "description": "Its file, once it has succeeded."},
    "events": {"operationId": "followJob", "parameters": _ID, "description": "Its story."},
    "cancel": {"operationId": "cancelJob", "parameters": _ID, "description": "Stop it."},
}
REFUSALS = (
    problems.UnknownField,
    problems.InvalidParameter,
    problems.AliasConflict,
    problems.InvalidImage,
    problems.NoEligibleRoute,
)
# A form has each member as a part of text, or the picture as a file.
FORM = "image may be a file just as well: -F image=@photo.jpg"
FORM_FIELDS = {"image": "https://images.example.com/photo.jpg", "seed": "7"}
UNREADABLE = (problems.BadJson, problems.RequestTimeout, problems.ContentTooLarge, problems.UnsupportedMediaType)


def _body(schema: str) -> Json:
    reference = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    form = {**reference, "examples": {"usual": {"summary": FORM, "value": FORM_FIELDS}}}
    return {"required": True, "content": {"application/json": reference, "multipart/form-data": form}}


def _generate(media: str, schema: str, summary: str) -> Operation:
    return Operation(
        "post",
        f"/generate/{media}",
        f"generate{media.title()}",
        "generate",
        summary,
        {
            200: Reply("It ended within the wait.", JOB_OR_FILE, JOB_HEADERS, JOB_LINKS),
            202: Reply("Admitted; see Location.", json_of("Job"), ADMITTED_HEADERS, JOB_LINKS),
        },
        (
            *UNREADABLE,
            problems.BudgetExceeded,
            problems.Forbidden,
            problems.RequestInProgress,
            *REFUSALS,
            problems.IdempotencyMismatch,
            problems.NotAcceptable,
            problems.Gone,
            *FAILURES,
        ),
        (PREFER, ACCEPT, IDEMPOTENCY_KEY, TRACEPARENT),
        _body(schema),
        f"Money is held before anything is sent, and captured only for a result. {BYTES}",
    )


def _quote(media: str, schema: str) -> Operation:
    return Operation(
        "post",
        f"/generate/{media}/quote",
        f"quote{media.title()}",
        "generate",
        "Price, time and chances on every route; nothing is run or held.",
        {200: Reply("Every route with its rank, or why it has none.", json_of("Quote"))},
        (*UNREADABLE, problems.Forbidden, *REFUSALS),
        body=_body(schema),
    )


def _batch(media: str, schema: str) -> Operation:
    return Operation(
        "post",
        f"/generate/{media}/batch",
        f"generate{media.title()}Batch",
        "generate",
        "Up to 100 requests at once, with one answer each.",
        {207: Reply("The answers, in the order of the requests.", json_of("Batch"))},
        (*UNREADABLE, problems.UnknownField, problems.InvalidParameter),
        (BATCH_KEY, TRACEPARENT),
        {"required": True, "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}},
        "Each request is admitted on its own and answered as if it had been sent alone: one that is refused spoils no "
        "other. Each counts as a request against the limits.",
    )


OPERATIONS = (
    _generate("video", "VideoRequest", "Make a video from a picture."),
    _generate("image", "ImageRequest", "Make pictures from a picture."),
    _batch("video", "VideoBatch"),
    _batch("image", "ImageBatch"),
    _quote("video", "VideoRequest"),
    _quote("image", "ImageRequest"),
)
