"""The one edge where the vendor's replies become outcomes: by status and documented code, in one table per verb.

Wording is read only where the wire gives nothing else: HTTP 406 has four meanings and a content block has no code
(WIRE 1.6, traps 11 and 34). Those fragments are `FRAGMENTS`, and nowhere else. What matches nothing is in doubt.
"""

from __future__ import annotations

from collections.abc import Mapping

from providers.contract import (
    Accepted,
    CheckOutcome,
    Failed,
    FailureKind,
    Finished,
    InDoubt,
    InlineFile,
    Pending,
    Refused,
    SubmitOutcome,
    Token,
)
from providers.segmind.reading import (
    body_report,
    header_report,
    looks_like_media,
    printable,
    request_id,
    result_files,
    retry_after_s,
    said,
)
from providers.transport import Reply

# Statuses whose meaning the message changes, with lower-case pieces of that message; the first match wins.
CONTENT_STATUSES = frozenset({400, 403, 406, 422, 500})
NOT_ACCEPTABLE = frozenset({406})
FRAGMENTS: tuple[tuple[str, frozenset[int], FailureKind], ...] = (
    ("nsfw", CONTENT_STATUSES, FailureKind.MODERATED),
    ("moderation", CONTENT_STATUSES, FailureKind.MODERATED),
    ("moderated", CONTENT_STATUSES, FailureKind.MODERATED),
    ("content policy", CONTENT_STATUSES, FailureKind.MODERATED),
    ("content filter", CONTENT_STATUSES, FailureKind.MODERATED),
    ("content blocked", CONTENT_STATUSES, FailureKind.MODERATED),
    ("sensitive content", CONTENT_STATUSES, FailureKind.MODERATED),
    ("inappropriate", CONTENT_STATUSES, FailureKind.MODERATED),
    ("prohibited content", CONTENT_STATUSES, FailureKind.MODERATED),
    ("responsible ai", CONTENT_STATUSES, FailureKind.MODERATED),
    ("rai block", CONTENT_STATUSES, FailureKind.MODERATED),
    ("rai polic", CONTENT_STATUSES, FailureKind.MODERATED),
    ("safety filter", CONTENT_STATUSES, FailureKind.MODERATED),
    ("safety check", CONTENT_STATUSES, FailureKind.MODERATED),
    ("safety polic", CONTENT_STATUSES, FailureKind.MODERATED),
    ("safety system", CONTENT_STATUSES, FailureKind.MODERATED),
    ("flagged as", CONTENT_STATUSES, FailureKind.MODERATED),
    ("invalid content type", NOT_ACCEPTABLE, FailureKind.SERVER_ERROR),
    ("insufficient credits", NOT_ACCEPTABLE, FailureKind.NO_CREDIT),
    ("spend limit", NOT_ACCEPTABLE, FailureKind.NO_CREDIT),
    ("spend cap", NOT_ACCEPTABLE, FailureKind.NO_CREDIT),
    ("spending limit", NOT_ACCEPTABLE, FailureKind.NO_CREDIT),
    ("must be one of", NOT_ACCEPTABLE, FailureKind.INVALID_REQUEST),
    ("allowed values", NOT_ACCEPTABLE, FailureKind.INVALID_REQUEST),
    ("invalid value", NOT_ACCEPTABLE, FailureKind.INVALID_REQUEST),
    ("not a valid", NOT_ACCEPTABLE, FailureKind.INVALID_REQUEST),
)

# A submit that was answered so was not accepted and is not billed (AE errors, billed column). The pages S0, S1 and S2
# give "not enough credits" as the meaning of 406, so that is what it means unless a fragment says otherwise.
# 404, 405 and 410 say that the endpoint is not there for us: the route is out, not the account.
REFUSALS: Mapping[int, FailureKind] = {
    400: FailureKind.INVALID_REQUEST,
    401: FailureKind.UNAUTHORIZED,
    403: FailureKind.FORBIDDEN,
    404: FailureKind.MODEL_GONE,
    405: FailureKind.MODEL_GONE,
    406: FailureKind.NO_CREDIT,
    410: FailureKind.MODEL_GONE,
    422: FailureKind.INVALID_REQUEST,
    429: FailureKind.RATE_LIMITED,
    500: FailureKind.SERVER_ERROR,
}
# The request may have been passed on before the gateway gave up (S1, S2).
AMBIGUOUS = frozenset({502, 504})
# A read that was answered so says nothing about the job; asking again may.
ASK_AGAIN = frozenset({401, 403, 408, 429, 500, 502, 503, 504})

RUNNING = frozenset({"QUEUED", "PROCESSING"})
COMPLETED = "COMPLETED"
FAILED = "FAILED"


def kind_of_words(status: int, message: str) -> FailureKind | None:
    """The failure that a message names under this status, or None."""
    lowered = message.lower()
    return next((kind for piece, statuses, kind in FRAGMENTS if status in statuses and piece in lowered), None)


def submitted(reply: Reply, *, now: float) -> SubmitOutcome:
    """What a reply to a v2 submit means."""
    if not 200 <= reply.status < 300:
        return _not_accepted(reply, now=now)
    name = request_id(reply.object().get("request_id"))
    if name is None:
        return InDoubt(f"HTTP {reply.status} without a usable request id", status=reply.status, unrecognised=True)
    return Accepted(token_for(name), report=body_report(reply.object()))


def token_for(name: str) -> Token:
    """The token of an accepted request: its id is all that is needed, with the configured address."""
    return {"request_id": name}


def rendered(reply: Reply, *, now: float) -> SubmitOutcome:
    """What a reply to a v1 call means: the file itself, or JSON that holds it or links to it (WIRE 1.3)."""
    if not 200 <= reply.status < 300:
        return _not_accepted(reply, now=now)
    report = header_report(reply.headers)
    if looks_like_media(reply.body):
        return Finished((InlineFile(reply.body),), report)
    files = result_files(reply.object())
    if files:
        return Finished(files, report)
    return InDoubt(f"HTTP {reply.status} without a result that can be read", status=reply.status, unrecognised=True)


def _not_accepted(reply: Reply, *, now: float) -> SubmitOutcome:
    detail = said(reply)
    if reply.status in AMBIGUOUS:
        return InDoubt(detail, status=reply.status)
    kind = REFUSALS.get(reply.status)
    if kind is None:
        return InDoubt(detail, status=reply.status, unrecognised=True)
    kind = kind_of_words(reply.status, detail) or _failed_kind(reply) or kind
    wait_s = retry_after_s(reply.headers, now) if reply.status == 429 else None
    return Refused(kind, detail, retry_after_s=wait_s, status=reply.status)


def _failed_kind(reply: Reply) -> FailureKind | None:
    return FailureKind.RENDER_FAILED if reply.object().get("status") == FAILED else None


def progressed(reply: Reply, *, now: float) -> CheckOutcome | None:
    """What a reply to a status read means; None when the job is done and its result is to be read."""
    announced = reply.object().get("status")  # whatever the HTTP status (WIRE 1.10, terminal rule)
    if announced == FAILED:
        return _failed(reply)
    if reply.status == 404 and "error" in reply.object():
        return InDoubt(said(reply), status=404, gone=True)
    if 200 <= reply.status < 300 and announced == COMPLETED:
        return None
    if 200 <= reply.status < 300 and isinstance(announced, str) and announced in RUNNING:
        return Pending()
    return _unread(reply, now=now)


def delivered(reply: Reply, *, now: float) -> CheckOutcome:
    """What a reply to a result read means."""
    outcome = progressed(reply, now=now)
    if outcome is not None:
        return outcome
    files = result_files(reply.object())
    if files:
        return Finished(files, body_report(reply.object()))
    return InDoubt("completed, but the reply holds no result that can be read", status=reply.status, unrecognised=True)


def _failed(reply: Reply) -> Failed:
    body = reply.object()
    error = body.get("error")
    words = printable(error) if isinstance(error, str) else ""
    kind = kind_of_words(422, words) or FailureKind.RENDER_FAILED
    return Failed(kind, words or "the vendor gave no reason", body_report(body))


def _unread(reply: Reply, *, now: float) -> InDoubt:
    known = reply.status in ASK_AGAIN
    wait_s = retry_after_s(reply.headers, now) if reply.status == 429 else None
    return InDoubt(said(reply), status=reply.status, retry_after_s=wait_s, unrecognised=not known)
