"""The one edge where exceptions become replies; every one of them is a problem document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.deprecation import warned
from gateway.api.quota import announce
from gateway.holds import KeyEndedError
from gateway.media.artifacts import ArtifactsUnavailableError
from gateway.problems import (
    BadRequest,
    InternalError,
    MethodNotAllowed,
    NotFound,
    Problem,
    Unavailable,
    problem_response,
)
from gateway.store.database import CommitUnknownError, StoreError
from gateway.telemetry.trace_context import Trace
from gateway.telemetry.tracing import TraceContext

log = structlog.get_logger()

STORE_RETRY_AFTER_S = 5
# What every reply carries that says nothing else; those made without the edge too.
ALWAYS: Mapping[str, str] = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
BY_STATUS: Mapping[int, type[Problem]] = {404: NotFound, 405: MethodNotAllowed}


def completed(request: Request, response: Response) -> Response:
    """The reply with its span (`traceresponse`, as Trace Context drafts it), what is left, and whether it will go."""
    trace = _trace(request)
    if trace is not None:
        response.headers["traceresponse"] = str(trace)
    template: str = getattr(request.state, "template", "")
    return warned(request.method, template, announce(request, response))


def _shown(request: Request, problem: Problem) -> Response:
    return completed(request, problem_response(problem, request.url.path))


def _facts(request: Request, error: Exception) -> dict[str, str]:
    """What the log says of a request that failed: no path, which may carry its own permission."""
    trace = _trace(request)
    facts = {"method": request.method, "error": type(error).__name__}
    return facts | ({"trace_id": trace.trace_id} if trace is not None else {})


def raw_reply(problem: Problem) -> bytes:
    """A problem as the bytes of a whole reply, for a connection on which no request could be read; it is the last."""
    response = problem_response(problem)
    response.headers.update(ALWAYS)
    lines = [f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}".encode()]
    lines += [name + b": " + value for name, value in (*response.raw_headers, (b"connection", b"close"))]
    return b"\r\n".join(lines) + b"\r\n\r\n" + bytes(response.body)


def _trace(request: Request) -> Trace | None:
    standing: TraceContext | None = getattr(request.state, "standing", None)
    return standing.trace if standing is not None else None


async def on_problem(request: Request, error: Exception) -> Response:
    """A problem that was raised on purpose."""
    assert isinstance(error, Problem)
    return _shown(request, error)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """What the framework itself refuses: an unknown path, a wrong method."""
    assert isinstance(error, HTTPException)
    kind = BY_STATUS.get(error.status_code, BadRequest)
    detail = f"{request.method} {request.url.path}: {error.detail.lower()}"
    return _shown(request, kind(detail, headers=error.headers))


async def on_store_error(request: Request, error: Exception) -> Response:
    """The database is away."""
    return _shown(request, store_problem(request, error))


def store_problem(request: Request, error: Exception) -> Unavailable:
    """For a while nothing can be said, and after a lost commit not even whether it was made."""
    log.error("request.store_error", **_facts(request, error), detail=str(error))
    if isinstance(error, CommitUnknownError):
        detail = (
            "the database went away while this was being written, and nobody can tell whether it was: repeat it with "
            "the same Idempotency-Key, or look before you repeat it"
        )
    else:
        detail = "the database does not answer; nothing was written and nothing was charged"
    return Unavailable(detail, headers={"Retry-After": str(STORE_RETRY_AFTER_S)})


async def on_artifacts_error(request: Request, error: Exception) -> Response:
    """The store of pictures and videos is away."""
    return _shown(request, artifacts_problem(request, error))


def artifacts_problem(request: Request, error: Exception) -> Unavailable:
    """For a while no picture can be taken in and no file be given out."""
    log.error("request.artifacts_error", **_facts(request, error), detail=str(error))
    detail = "the store of pictures and videos does not answer; nothing was written and nothing was charged"
    return Unavailable(detail, headers={"Retry-After": str(STORE_RETRY_AFTER_S)})


async def on_fault(request: Request, error: Exception) -> Response:
    """A fault of ours; a reply that is cut off with its key is none, and nothing more can be sent of it."""
    if isinstance(error, KeyEndedError):
        log.info("reply.cut", **_facts(request, error))
        return Response()
    return _shown(request, fault_problem(request, error))


def fault_problem(request: Request, error: Exception) -> InternalError:
    """A fault of ours: told without its insides, logged with them."""
    log.error("request.fault", **_facts(request, error))
    return InternalError("a fault of vidgate's own; nothing was charged for it")


# What each kind of error becomes; a fault of ours is none of them (`on_fault`).
HANDLERS: Mapping[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    Problem: on_problem,
    HTTPException: on_http_exception,
    StoreError: on_store_error,
    ArtifactsUnavailableError: on_artifacts_error,
}
