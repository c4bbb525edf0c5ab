"""Jobs and their files: the operations under `/jobs`, and the addresses that carry their own permission."""

from __future__ import annotations

from gateway import problems
from gateway.api.jobs import CHOICES
from gateway.api.openapi.generation import (
    ACCEPT,
    BINARY,
    BYTES,
    FAILURES,
    FILES,
    JOB_HEADERS,
    JOB_LINKS,
    JOB_OR_FILE,
    PREFER,
    TEXT,
)
from gateway.api.openapi.operation import BEFORE, NEXT, PAGING, Json, Operation, Reply, json_of, parameter
from gateway.api.result_links import LinkBody

JOB_ID = parameter("path", "job_id", {"type": "string", "minLength": 1}, "The job's id.", required=True)
FILE_HEADERS: dict[str, Json] = {
    "ETag": {"required": True, "schema": TEXT, "description": "The SHA-256 of the file, quoted."},
    "Accept-Ranges": {"required": True, "schema": {"const": "bytes"}, "description": "Parts can be asked for."},
    "Content-Disposition": {"schema": TEXT, "description": "A name for the file."},
}
LOCATION: dict[str, Json] = {"Location": {"required": True, "schema": TEXT, "description": "The link."}}
LINK_LINKS: dict[str, Json] = {
    "content": {"operationId": "getContent", "parameters": {"job_id": "$request.path.job_id"}},
}
# With `Range: bytes=4-7` of a video, and `bytes=1-3` of a picture: parts of /docs/example.mp4 and /docs/example.png.
PART_EXAMPLES = {"video/mp4": ("bytes=4-7", "ftyp"), "image/png": ("bytes=1-3", "PNG")}
PARTS = {
    kind: BINARY
    | (
        {"examples": {"usual": {"summary": f"Range: {PART_EXAMPLES[kind][0]}", "value": PART_EXAMPLES[kind][1]}}}
        if kind in PART_EXAMPLES
        else {}
    )
    for kind in FILES
}
FILE = {
    200: Reply("The file.", FILES, FILE_HEADERS),
    206: Reply(
        "A part of it.",
        PARTS,
        {**FILE_HEADERS, "Content-Range": {"required": True, "schema": TEXT, "description": "Which part."}},
    ),
    304: Reply("The client has it already.", headers={"ETag": FILE_HEADERS["ETag"]}),
}
CONDITIONS = (
    parameter("header", "Range", TEXT, "`bytes=first-last`: one part. Other forms give the whole file."),
    parameter("header", "If-Range", TEXT, "The ETag of the file that the part belongs to."),
    parameter("header", "If-None-Match", TEXT, "ETags of what the client has."),
)
SIGNED = (
    parameter("query", "expires", TEXT, "Unix seconds."),
    parameter("query", "signature", TEXT, "Over the address and the time."),
)
READING = (
    problems.BadJson,
    problems.RequestTimeout,
    problems.ContentTooLarge,
    problems.UnsupportedMediaType,
    problems.UnknownField,
    problems.InvalidParameter,
)
ISO = "A date or an RFC 3339 time; without a zone in UTC."
ID_SCHEMA: Json = {"type": "string", "pattern": "^[A-Za-z0-9_.:@/-]{1,120}$"}
TAGS: Json = {
    "type": "object",
    "maxProperties": 16,
    "propertyNames": {"minLength": 1, "maxLength": 40},
    "additionalProperties": {"type": "string"},
}
FILE_NUMBER = parameter(
    "query", "file", {"type": "integer", "minimum": 0, "default": 0}, "Which file of the result, counted from 0."
)
# The stream is text, and this is each event of it; a comment, which keeps the line open, has none of it.
EVENT = {
    "type": ["object", "string"],
    "properties": {"event": TEXT, "data": TEXT, "id": TEXT, "retry": {"type": "integer"}},
}
EVENTS = "created, started, accepted, retry, in_doubt, failed, delivered, … with ids; progress without; last: ended."

FILTERS = (
    parameter("query", "status", {"enum": list(CHOICES["status"])}, "Only jobs that stand so."),
    parameter("query", "media", {"enum": list(CHOICES["media"])}, "Only jobs of this kind."),
    parameter("query", "route", ID_SCHEMA, "Only jobs of this route."),
    parameter("query", "key", ID_SCHEMA, "Only jobs that were asked for with this key, by its id."),
    parameter("query", "created_after", TEXT, f"Only jobs from then on. {ISO}"),
    parameter("query", "created_before", TEXT, f"Only jobs from before then. {ISO}"),
    {
        **parameter("query", "metadata", TAGS, "Only jobs with these tags, as `metadata[project]=reel`."),
        "style": "deepObject",
        "explode": True,
    },
)

OPERATIONS = (
    Operation(
        "get",
        "/jobs",
        "listJobs",
        "jobs",
        "The team's jobs, newest first.",
        {200: Reply("A page.", json_of("Jobs"), NEXT)},
        parameters=(*PAGING, BEFORE, *FILTERS),
    ),
    Operation(
        "get",
        "/jobs/{job_id}",
        "getJob",
        "jobs",
        "One job; Prefer: wait=N waits for its end.",
        {
            200: Reply("The job, or its file where Accept likes that better.", JOB_OR_FILE, JOB_HEADERS, JOB_LINKS),
            206: FILE[206],
            304: FILE[304],
        },
        (*FAILURES, problems.NotFound, problems.NotAcceptable, problems.Gone, problems.RangeNotSatisfiable),
        (JOB_ID, PREFER, ACCEPT, *CONDITIONS),
        description=BYTES,
    ),
    Operation(
        "get",
        "/jobs/{job_id}/content",
        "getContent",
        "jobs",
        "The finished file; Range requests work.",
        FILE,
        (problems.NotFound, problems.Conflict, problems.Gone, problems.RangeNotSatisfiable),
        (JOB_ID, FILE_NUMBER, *CONDITIONS),
    ),
    Operation(
        "get",
        "/jobs/{job_id}/events",
        "followJob",
        "jobs",
        "The job's story as server-sent events; Last-Event-ID resumes it.",
        {200: Reply(EVENTS, {"text/event-stream": {"schema": EVENT}})},
        (problems.NotFound,),
        (JOB_ID, parameter("header", "Last-Event-ID", TEXT, "The last id that was read.")),
    ),
    Operation(
        "post",
        "/jobs/{job_id}/cancel",
        "cancelJob",
        "jobs",
        "Ask for the job to be stopped.",
        {202: Reply("Asked.", json_of("Job"), JOB_HEADERS, JOB_LINKS)},
        (problems.NotFound, problems.Conflict),
        (JOB_ID,),
        description="What a vendor has accepted and cannot stop runs to its end and is billed.",
    ),
    Operation(
        "post",
        "/jobs/{job_id}/link",
        "linkContent",
        "links",
        "A link to a finished file, for whoever has it.",
        {201: Reply("Made. Nothing can take it back before its time.", json_of("Link"), LOCATION, LINK_LINKS)},
        (*READING, problems.NotFound, problems.Conflict, problems.Gone),
        (JOB_ID,),
        {"content": {"application/json": {"schema": LinkBody.model_json_schema()}}},
    ),
    Operation(
        "get",
        "/results/{job_id}/{number}",
        "getResult",
        "links",
        "A finished file by its signed link.",
        FILE,
        (problems.NotFound, problems.Gone, problems.RangeNotSatisfiable),
        (
            JOB_ID,
            parameter("path", "number", TEXT, "Which file of the result, counted from 0.", required=True),
            *SIGNED,
            *CONDITIONS,
        ),
    ),
    Operation(
        "get",
        "/inputs/{name}",
        "getInput",
        "links",
        "An input picture by its signed link, for vendors.",
        FILE,
        (problems.NotFound, problems.Gone, problems.RangeNotSatisfiable),
        (
            parameter("path", "name", TEXT, "`<sha256>.<extension>`", required=True),
            *SIGNED,
            *CONDITIONS,
        ),
    ),
    Operation(
        "post",
        "/callbacks/{attempt_id}/{token}",
        "callBack",
        "links",
        "A vendor says that an attempt is done.",
        {204: Reply("Heard. The vendor is asked; its word alone changes nothing.")},
        (problems.NotFound,),
        (
            parameter("path", "attempt_id", TEXT, "The attempt.", required=True),
            parameter("path", "token", TEXT, "Its signature.", required=True),
        ),
    ),
)
