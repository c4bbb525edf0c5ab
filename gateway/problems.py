"""Every error a caller can meet, as a tree, and the one way they are shown: RFC 9457 problem details.

Problem
├── BadRequest                 400
│   └── BadJson
├── Unauthorized               401
├── BudgetExceeded             402
├── Forbidden                  403
│   └── MissingScope
├── NotFound                   404
├── MethodNotAllowed           405
├── NotAcceptable              406
├── RequestTimeout             408
├── Conflict                   409
│   ├── RequestInProgress      409  an Idempotency-Key whose first request still runs
│   └── LastAdministrator      409  nobody would be left who could let anybody in again
├── Gone                       410
├── ContentTooLarge            413
├── UnsupportedMediaType       415
├── RangeNotSatisfiable        416
├── Unprocessable              422
│   ├── UnknownField
│   ├── InvalidParameter
│   ├── AliasConflict
│   ├── InvalidImage
│   ├── NoEligibleRoute
│   └── IdempotencyMismatch
├── QuotaExceeded              429
├── HeadersTooLarge            431
├── InternalError              500
├── Unavailable                503
│   └── TemporaryReducedCapacity
└── JobProblem                      why a job ended without a result; stands in the job's `error`
    ├── RequestRefused         422  the vendor refused the request itself, or moderated it
    ├── JobCanceled            409
    ├── NoRouteLeft            502  every route was tried or is out
    ├── DeadlinePassed         504  nothing could be started in time
    └── OutcomeUnknown         504  nobody could tell what became of it before the published deadline

A problem is raised where the fault is found and rendered at one place, `problem_response`. Each `type` has a page under
docs/problems/, which a test compares with this tree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from starlette.responses import JSONResponse

TYPE_BASE = "https://vidgate.dev/problems/"
MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An error with the sentence that mends it. `extensions` are members beside the standard ones (RFC 9457 3.2)."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Something went wrong inside vidgate"

    def __init__(self, detail: str, *, headers: Mapping[str, str] | None = None, **extensions: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = dict(headers or {})
        self.extensions = extensions

    def body(self, instance: str | None = None) -> dict[str, Any]:
        """The problem as the JSON object that is sent."""
        body: dict[str, Any] = {
            "type": TYPE_BASE + self.slug,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        if instance:
            body["instance"] = instance
        return body | self.extensions


class BadRequest(Problem):
    """The request could not be read."""

    status, slug, title = 400, "bad-request", "The request could not be read"


class BadJson(BadRequest):
    """The body is not a JSON object."""

    slug, title = "bad-json", "The body is not a JSON object"


class Unauthorized(Problem):
    """No key, or a key that is unknown, expired or revoked."""

    status, slug, title = 401, "unauthorized", "A valid key is needed"


class BudgetExceeded(Problem):
    """The team's or the key's budget does not cover the hold."""

    status, slug, title = 402, "budget-exceeded", "The budget does not cover this request"


class Forbidden(Problem):
    """The key is good but may not do this."""

    status, slug, title = 403, "forbidden", "This key may not do that"


class MissingScope(Forbidden):
    """The key is good and is not for this: it lacks the scope that the address asks for."""

    slug, title = "missing-scope", "This key lacks a scope"


class NotFound(Problem):
    """No such thing, or not yours: the two are not told apart."""

    status, slug, title = 404, "not-found", "Not found"


class MethodNotAllowed(Problem):
    """The path exists and does not take this method."""

    status, slug, title = 405, "method-not-allowed", "This path does not take that method"


class NotAcceptable(Problem):
    """None of the media types asked for can be given."""

    status, slug, title = 406, "not-acceptable", "No acceptable representation"


class RequestTimeout(Problem):
    """The request did not come whole within its time."""

    status, slug, title = 408, "request-timeout", "The request came too slowly"


class Conflict(Problem):
    """The request does not fit the state that the thing is in."""

    status, slug, title = 409, "conflict", "That does not fit the present state"


class RequestInProgress(Conflict):
    """The first request with this Idempotency-Key has not been answered yet."""

    slug, title = "request-in-progress", "The first request with this key is still running"


class LastAdministrator(Conflict):
    """The act would leave nobody who can manage teams and keys over HTTP."""

    slug, title = "last-administrator", "This is the last administrator"


class Gone(Problem):
    """It was here and is not any more."""

    status, slug, title = 410, "gone", "No longer available"


class ContentTooLarge(Problem):
    """The body is over the limit."""

    status, slug, title = 413, "content-too-large", "The body is too large"


class UnsupportedMediaType(Problem):
    """The body is in a format that this endpoint does not take."""

    status, slug, title = 415, "unsupported-media-type", "This kind of body is not taken"


class RangeNotSatisfiable(Problem):
    """The range lies outside the content."""

    status, slug, title = 416, "range-not-satisfiable", "The range lies outside the content"


class Unprocessable(Problem):
    """The request was read and asks for something that cannot be."""

    status, slug, title = 422, "unprocessable", "The request cannot be carried out"


class UnknownField(Unprocessable):
    """A field that no route knows; the nearest known one is named."""

    slug, title = "unknown-field", "Unknown field"


class InvalidParameter(Unprocessable):
    """A value of the wrong type, or outside what any route takes."""

    slug, title = "invalid-parameter", "A parameter has an impossible value"


class AliasConflict(Unprocessable):
    """One parameter was given twice, by two names, with different values."""

    slug, title = "alias-conflict", "One parameter was given twice"


class InvalidImage(Unprocessable):
    """The picture is missing, unreadable, of an unknown kind or too large."""

    slug, title = "invalid-image", "The picture cannot be used"


class NoEligibleRoute(Unprocessable):
    """No route can honour the request as written."""

    slug, title = "no-eligible-route", "No route can honour this request"


class IdempotencyMismatch(Unprocessable):
    """The Idempotency-Key was used before with another request."""

    slug, title = "idempotency-mismatch", "This Idempotency-Key belongs to another request"


class QuotaExceeded(Problem):
    """A limit of the key or the team is reached; `violated-policies` names it as `RateLimit-Policy` does."""

    status, slug, title = 429, "quota-exceeded", "A limit of this key or its team is reached"


class HeadersTooLarge(Problem):
    """The address and headers are more than any client needs."""

    status, slug, title = 431, "headers-too-large", "The headers of the request are too large"


class InternalError(Problem):
    """A fault of vidgate itself; nothing was charged for it."""


class Unavailable(Problem):
    """For the moment this cannot be served."""

    status, slug, title = 503, "unavailable", "Not available right now"


class TemporaryReducedCapacity(Unavailable):
    """There is too much to do at this moment; the request was refused before anything was done for it."""

    slug, title = "temporary-reduced-capacity", "Too busy at this moment"


class JobProblem(Problem):
    """Why a job ended without a result; nothing is charged to the team for it."""

    status, slug, title = 502, "job-failed", "The job ended without a result"


class RequestRefused(JobProblem):
    """The vendor found fault with the request itself; asking another vendor would not mend it."""

    status, slug, title = 422, "request-refused", "The request itself was refused"


class JobCanceled(JobProblem):
    """The caller stopped it before a vendor had accepted it."""

    status, slug, title = 409, "job-canceled", "The job was canceled"


class NoRouteLeft(JobProblem):
    """Every route that could honour the request has failed or is out."""

    slug, title = "no-route-left", "No route is left to try"


class DeadlinePassed(JobProblem):
    """The time for the job ran out before a vendor had accepted it."""

    status, slug, title = 504, "deadline-passed", "The deadline has passed"


class OutcomeUnknown(JobProblem):
    """Nobody could tell what became of the render before the published deadline; the loss is the operator's."""

    status, slug, title = 504, "outcome-unknown", "The outcome stayed unknown"


def problem_response(problem: Problem, instance: str | None = None) -> JSONResponse:
    """Render a problem; the only place where vidgate does so."""
    return JSONResponse(
        problem.body(instance), status_code=problem.status, headers=problem.headers, media_type=MEDIA_TYPE
    )


def kept_response(body: Mapping[str, Any], headers: Mapping[str, str]) -> JSONResponse:
    """Render a problem that was written down: why a job ended without a result."""
    return JSONResponse(body, status_code=int(body["status"]), headers=headers, media_type=MEDIA_TYPE)
