"""What each ModelsLab reply means: the body's own word first, the HTTP status second, one table for each.

An error has no code of its own: inside an HTTP 200 the documented wording is all there is (WIRE 2.4, 2.5), which is why
fragments of it are matched here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from providers.contract import (
    Accepted,
    CheckOutcome,
    Failed,
    FailureKind,
    Finished,
    InDoubt,
    Pending,
    Refused,
    Report,
    SubmitOutcome,
    Token,
)
from providers.modelslab.replies import Body, read_body
from providers.transport import Reply


@dataclass(frozen=True, slots=True)
class Wording:
    """A documented fragment of a message, lower case; `about` says whether it judges the call or the job itself."""

    fragment: str
    kind: FailureKind
    about: Literal["call", "job"]


# WIRE U16: the form of a moderation refusal is not documented; words that a vendor would need to say it.
MODERATION = ("nsfw", "moderation", "content policy", "inappropriate content")

# WIRE 2.5 and the vendor's error page; the first match counts.
WORDINGS = (
    *(Wording(fragment, FailureKind.MODERATED, "job") for fragment in MODERATION),
    Wording("invalid api key", FailureKind.UNAUTHORIZED, "call"),
    Wording("key required", FailureKind.UNAUTHORIZED, "call"),
    Wording("key is required", FailureKind.UNAUTHORIZED, "call"),
    Wording("insufficient credits", FailureKind.NO_CREDIT, "call"),
    Wording("requires a premium subscription", FailureKind.FORBIDDEN, "call"),
    Wording("rate limit exceeded", FailureKind.RATE_LIMITED, "call"),
    # The model's name is vidgate's own, never the caller's: nothing the caller could mend.
    Wording("model not found", FailureKind.MODEL_GONE, "job"),
    Wording("unable to fetch image", FailureKind.INVALID_REQUEST, "job"),
    Wording("init_image is invalid", FailureKind.INVALID_REQUEST, "job"),
    Wording("processing failed", FailureKind.RENDER_FAILED, "job"),
    Wording("invalid api request", FailureKind.INVALID_REQUEST, "call"),
    Wording("is required", FailureKind.INVALID_REQUEST, "call"),
    Wording("must be", FailureKind.INVALID_REQUEST, "call"),
    Wording("internal server error", FailureKind.SERVER_ERROR, "call"),
    Wording("temporarily unavailable", FailureKind.UNAVAILABLE, "call"),
)

# An id that is unknown or forgotten: recorded as `failed` in a 200, documented as a 404 (WIRE 2.4).
NOT_FOUND = ("request not found", "video not found")

STATUSES: Mapping[int, FailureKind] = {
    400: FailureKind.INVALID_REQUEST,
    401: FailureKind.UNAUTHORIZED,
    402: FailureKind.NO_CREDIT,
    403: FailureKind.FORBIDDEN,
    404: FailureKind.MODEL_GONE,
    422: FailureKind.INVALID_REQUEST,
    429: FailureKind.RATE_LIMITED,
    500: FailureKind.SERVER_ERROR,
    503: FailureKind.UNAVAILABLE,
}

# A gateway's own answer: what happened behind it is not known (DESIGN 6).
AMBIGUOUS = (502, 504)


def submit_outcome(reply: Reply, secret: str, *, now: float | None = None) -> SubmitOutcome:
    """The meaning of a reply to a submit."""
    body = read_body(reply, secret, now)
    if body.state == "success" and body.files:
        return Finished(body.files, body.report)
    if body.state in {"success", "processing", "failed"} and body.id is not None:
        return Accepted(_token(body.id, body.report), body.eta_s, body.report)
    if body.state == "failed":
        kind, _ = _wording(body) or (FailureKind.RENDER_FAILED, "job")
        return Refused(kind, _detail(body, reply), status=reply.status)
    if body.state in {"success", "processing"}:
        return InDoubt(f"{body.state} without an id: {_detail(body, reply)}", reply.status, unrecognised=True)
    if reply.status in AMBIGUOUS:
        return InDoubt(_detail(body, reply), reply.status)
    return _refusal(body, reply)


def check_outcome(reply: Reply, secret: str, identity: str, *, now: float | None = None) -> CheckOutcome:
    """The meaning of a reply to a fetch of the job with this id."""
    body = read_body(reply, secret, now)
    if body.id not in {None, identity}:
        return InDoubt(f"asked for job {identity}, told of job {body.id}", reply.status, unrecognised=True)
    if body.state == "success" and body.files:
        return Finished(body.files, body.report)
    if body.state == "processing":
        return Pending(body.eta_s)
    if _is_unknown_id(body, reply):
        return InDoubt(_detail(body, reply), reply.status, gone=True)
    found = _wording(body)
    if body.state == "failed":
        return Failed(found[0] if found and found[1] == "job" else FailureKind.RENDER_FAILED, _detail(body, reply))
    if body.state == "error" and found and found[1] == "job":
        return Failed(found[0], _detail(body, reply))
    known = found is not None or reply.status in AMBIGUOUS or (reply.status in STATUSES and reply.status != 404)
    return InDoubt(_detail(body, reply), reply.status, body.retry_after_s, unrecognised=not known)


def _token(identity: str, report: Report) -> Token:
    """The id, and what only the submit may tell: a finished job's reply can come without its meta (WIRE 2.4)."""
    token: Token = {"id": identity}
    if report.model is not None:
        token["model"] = report.model
    if report.seed is not None:
        token["seed"] = report.seed
    return token


def recall(report: Report, token: Token) -> Report:
    """A report, completed with what the token remembers of the submit."""
    model, seed = token.get("model"), token.get("seed")
    if report.model is None and isinstance(model, str):
        report = replace(report, model=model)
    if report.seed is None and isinstance(seed, int):
        report = replace(report, seed=seed)
    return report


def _refusal(body: Body, reply: Reply) -> Refused | InDoubt:
    found = _wording(body)
    kind = found[0] if found else STATUSES.get(reply.status)
    if kind is None and body.state == "error" and body.id is None and not body.files:
        # WIRE 2.4: this is how the vendor refuses; only the reason is in words that nobody has documented.
        return Refused(
            FailureKind.SERVER_ERROR, f"unrecognised refusal: {_detail(body, reply)}", body.retry_after_s, reply.status
        )
    if kind is None:
        return InDoubt(_detail(body, reply), reply.status, unrecognised=True)
    return Refused(kind, _detail(body, reply), body.retry_after_s, reply.status)


def _wording(body: Body) -> tuple[FailureKind, Literal["call", "job"]] | None:
    if body.state not in {"error", "failed", ""}:
        return None
    text = body.message.lower()
    for wording in WORDINGS:
        if wording.fragment in text:
            return wording.kind, wording.about
    return (FailureKind.INVALID_REQUEST, "call") if body.invalid_fields else None


def _is_unknown_id(body: Body, reply: Reply) -> bool:
    """Only the vendor's own word counts: a 404 from a proxy is not that the job is gone."""
    if body.state not in {"failed", "error"}:
        return False
    return reply.status == 404 or any(fragment in body.message.lower() for fragment in NOT_FOUND)


def _detail(body: Body, reply: Reply) -> str:
    said = body.message or (f"status {body.state!r}" if body.state else "no readable body")
    return f"HTTP {reply.status}: {said}"
