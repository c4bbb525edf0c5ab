"""What a server says, as outcomes: by status and by the job's own status, never by wording. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from providers.contract import (
    Accepted,
    CheckOutcome,
    Failed,
    FailureKind,
    InDoubt,
    Json,
    Pending,
    Refused,
    Report,
    SubmitOutcome,
)
from providers.transport import Reply, retry_after_s

TEXT_MAX = 300
ID_MAX = 200
SECONDS_MAX = 1e9
REFUSALS: Mapping[int, FailureKind] = {
    400: FailureKind.INVALID_REQUEST,
    401: FailureKind.UNAUTHORIZED,
    402: FailureKind.NO_CREDIT,
    403: FailureKind.FORBIDDEN,
    404: FailureKind.MODEL_GONE,
    405: FailureKind.MODEL_GONE,
    413: FailureKind.INVALID_REQUEST,
    422: FailureKind.INVALID_REQUEST,
    429: FailureKind.RATE_LIMITED,
    500: FailureKind.SERVER_ERROR,
    501: FailureKind.MODEL_GONE,
    503: FailureKind.UNAVAILABLE,
}
AMBIGUOUS = frozenset({500, 502, 503, 504})
# Even in the server's own words these may come after it took the job: where that is billed, nobody knows.
BILLED_PERHAPS = frozenset({500, 503})
ASK_AGAIN = frozenset({401, 403, 408, 429, 500, 502, 503, 504})
WAITING = frozenset({"queued", "in_progress"})
# OpenAI's own codes of a refused content; the others do not moderate.
MODERATED = frozenset({"moderation_blocked", "content_policy_violation"})


def submitted(reply: Reply, *, may_bill: bool) -> SubmitOutcome:
    """What a reply to a create means; `may_bill` says that a submit without a verdict may be billed."""
    body = reply.object()
    name = read_id(body.get("id"))
    if 200 <= reply.status < 300 and name is not None:
        return Accepted({"id": name}, report=Report(request_id=name))
    kind = REFUSALS.get(reply.status)
    if kind is None or not _is_worded(body) or (may_bill and reply.status in BILLED_PERHAPS):
        return InDoubt(said(reply), status=reply.status, unrecognised=reply.status not in AMBIGUOUS)
    kind = FailureKind.MODERATED if _code(body) in MODERATED else kind
    return Refused(kind, said(reply), retry_after_s=retry_after_s(reply), status=reply.status)


def checked(reply: Reply, name: str) -> CheckOutcome | None:
    """What a reply about a job means; None when it is done and its file is to be fetched."""
    body = reply.object()
    if reply.status == 404 and _is_worded(body):
        return Failed(FailureKind.LOST, "the server knows no such job: it was restarted, or the job was deleted")
    status = body.get("status")
    if reply.status != 200 or body.get("id") != name or not isinstance(status, str):
        known = reply.status in ASK_AGAIN
        return InDoubt(said(reply), status=reply.status, retry_after_s=retry_after_s(reply), unrecognised=not known)
    if status == "completed":
        return None
    if status in WAITING:
        percent = _number(body.get("progress"))
        return Pending(progress=min(1.0, percent / 100) if percent is not None else None)
    if status == "failed":
        kind = FailureKind.MODERATED if _code(body) in MODERATED else FailureKind.RENDER_FAILED
        return Failed(kind, said(reply), report_of(body))
    if status in {"cancelled", "canceled", "deleted", "expired"}:
        return Failed(FailureKind.LOST, f"the job is {status} at the server", report_of(body))
    return InDoubt(f"a job in a status of no meaning: {status[:40]}", status=200, unrecognised=True)


def report_of(body: Mapping[str, Json]) -> Report:
    """What a job's record tells. Its model is not believed: a server repeats what was asked there, or a default."""
    return Report(request_id=read_id(body.get("id")), inference_s=_number(body.get("inference_time_s")))


def read_id(value: Json) -> str | None:
    """A job's id as it can stand in an address, or None."""
    usable = isinstance(value, str) and 0 < len(value) <= ID_MAX and value.isascii()
    return value if usable and isinstance(value, str) and value.replace("-", "").replace("_", "").isalnum() else None


def said(reply: Reply) -> str:
    """What went wrong, in the server's own words: OpenAI's `error`, or FastAPI's `detail`."""
    body = reply.object()
    error = body.get("error")
    words = error.get("message") if isinstance(error, dict) else error if isinstance(error, str) else body.get("detail")
    text = words if isinstance(words, str) else ""
    return f"HTTP {reply.status}: {text[:TEXT_MAX]}" if text else f"HTTP {reply.status}"


def _is_worded(body: Mapping[str, Json]) -> bool:
    """Whether it is the server itself that speaks, and not a proxy before it."""
    return "error" in body or "detail" in body


def _code(body: Mapping[str, Json]) -> str:
    error = body.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else ""


def _number(value: Json) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= SECONDS_MAX else None
