"""The one edge where the vendor's replies become outcomes: by status and documented code, in one table per verb.

Wording is read only where the wire gives nothing else: HTTP 406 has four meanings and a content block has no code
(WIRE 1.6, traps 11 and 34). Those fragments are `FRAGMENTS`, and nowhere else. What matches nothing is in doubt.
"""

from __future__ import annotations

import re
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
    hint_s,
    looks_like_media,
    message_of,
    rendered_report,
    request_id,
    result_files,
    said,
)
from providers.transport import Reply

# Statuses whose meaning the message changes, with the words that do it, read in any case with _ and - as blanks;
# the first match wins.
# A content block is final, so its words are whole ones that ordinary failures do not use.
CONTENT_STATUSES = frozenset({400, 403, 406, 422, 500})
NOT_ACCEPTABLE = frozenset({406})
FRAGMENTS: tuple[tuple[str, frozenset[int], FailureKind], ...] = (
    (r"\brai\b|\bresponsible ai\b", CONTENT_STATUSES, FailureKind.MODERATED),
    (r"nsfw|\bnudity\b|\bnude\b|\bexplicit\b|\binappropriate\b", CONTENT_STATUSES, FailureKind.MODERATED),
    (r"\bmoderation\b|\bmoderated\b", CONTENT_STATUSES, FailureKind.MODERATED),
    (r"\b(content|usage|safety) polic(y|ies)\b", CONTENT_STATUSES, FailureKind.MODERATED),
    (r"\bsafety (guideline|filter|system|checker)", CONTENT_STATUSES, FailureKind.MODERATED),
    (r"\b(image|picture|prompt|input|content)\b.*\bsafety check\b", CONTENT_STATUSES, FailureKind.MODERATED),
    (r"\bcontent filter|\bblocked\b.*\bfilter|\bcontent (was |is )?blocked\b", CONTENT_STATUSES, FailureKind.MODERATED),
    (
        r"\b(sensitive|prohibited|unsafe|harmful) (content|material)\b|\bflagged as (unsafe|harmful)\b",
        CONTENT_STATUSES,
        FailureKind.MODERATED,
    ),
    (r"\binvalid content type\b", NOT_ACCEPTABLE, FailureKind.SERVER_ERROR),
    (r"\bcredits?\b|\bbalance\b|\bfunds\b|\bpayment\b", NOT_ACCEPTABLE, FailureKind.NO_CREDIT),
    (r"\bspend(ing)?\b|\bbudget\b", NOT_ACCEPTABLE, FailureKind.NO_CREDIT),
    (r"\b(must|should) be one of\b(?! our\b)|\binput should be\b", NOT_ACCEPTABLE, FailureKind.INVALID_REQUEST),
    (r"\ballowed values\b|\bnot permitted\b|\bnot a valid\b|\binvalid\b", NOT_ACCEPTABLE, FailureKind.INVALID_REQUEST),
)
_FRAGMENTS = tuple((re.compile(words), statuses, kind) for words, statuses, kind in FRAGMENTS)

# A submit that was answered so was not accepted and is not billed (AE errors, billed column). A 406 without known words
# is the route's fault: it has four meanings, and only words of money may close the whole account.
# 404, 405 and 410 say that the endpoint is not there for us: the route is out, not the account.
REFUSALS: Mapping[int, FailureKind] = {
    400: FailureKind.INVALID_REQUEST,
    401: FailureKind.UNAUTHORIZED,
    403: FailureKind.FORBIDDEN,
    404: FailureKind.MODEL_GONE,
    405: FailureKind.MODEL_GONE,
    406: FailureKind.SERVER_ERROR,
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
    lowered = message.lower().replace("_", " ").replace("-", " ")
    return next((kind for words, statuses, kind in _FRAGMENTS if status in statuses and words.search(lowered)), None)


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
    if looks_like_media(reply.body):
        return Finished((InlineFile(reply.body),), header_report(reply.headers))
    files = result_files(reply.object())
    if files:
        return Finished(files, rendered_report(reply))
    return InDoubt(f"HTTP {reply.status} without a result that can be read", status=reply.status, unrecognised=True)


def _not_accepted(reply: Reply, *, now: float) -> SubmitOutcome:
    detail = said(reply)
    if reply.status in AMBIGUOUS:
        return InDoubt(detail, status=reply.status)
    kind = REFUSALS.get(reply.status)
    if kind is None:
        return InDoubt(detail, status=reply.status, unrecognised=True)
    kind = kind_of_words(reply.status, detail) or _failed_kind(reply) or kind
    wait_s = hint_s(reply, now)
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
    words = message_of(body)
    kind = kind_of_words(422, words) or FailureKind.RENDER_FAILED
    return Failed(kind, words or "the vendor gave no reason", body_report(body))


def _unread(reply: Reply, *, now: float) -> InDoubt:
    known = reply.status in ASK_AGAIN
    wait_s = hint_s(reply, now)
    return InDoubt(said(reply), status=reply.status, retry_after_s=wait_s, unrecognised=not known)
