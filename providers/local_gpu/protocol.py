"""What a worker says, as values and outcomes: by status and by the code in its error object, never by wording. Pure.

The protocol is vidgate's own (docs/local-gpu.md), so there is little to guess; what matches nothing is in doubt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
    Token,
)
from providers.pace import Measured, Pace, Shape
from providers.transport import Reply, retry_after_s

COUNT_MAX = 1_000_000
SECONDS_MAX = 1e9
PIXELS_MAX = 10**9
SHAPES_MAX = 64
TEXT_MAX = 300

# A submit that was answered so started nothing.
REFUSALS: Mapping[int, FailureKind] = {
    400: FailureKind.INVALID_REQUEST,
    401: FailureKind.UNAUTHORIZED,
    403: FailureKind.FORBIDDEN,
    404: FailureKind.MODEL_GONE,
    405: FailureKind.MODEL_GONE,
    413: FailureKind.INVALID_REQUEST,
    422: FailureKind.INVALID_REQUEST,
    429: FailureKind.RATE_LIMITED,
    500: FailureKind.SERVER_ERROR,
}
# 503 is a worker's own word only with one of these codes; without, it is a proxy's, and nobody knows.
NOT_SERVING = frozenset({"starting", "draining", "disk"})
# 409 `conflict` says that the id is taken: an earlier submit of this attempt arrived, and a lookup finds its render.
AMBIGUOUS = frozenset({409, 502, 503, 504})
# A read that was answered so says nothing about the render; asking again may.
ASK_AGAIN = frozenset({401, 403, 408, 409, 429, 500, 502, 503, 504})
UNKNOWN = "unknown_render"

WAITING = frozenset({"queued", "running"})
FAILURES: Mapping[str, FailureKind] = {
    "out_of_memory": FailureKind.RENDER_FAILED,
    "wedged": FailureKind.TIMEOUT,
    "invalid": FailureKind.INVALID_REQUEST,
    "fault": FailureKind.RENDER_FAILED,
    "worker_lost": FailureKind.LOST,
}


@dataclass(frozen=True, slots=True)
class Status:
    """One worker as it stands: what it has loaded, what waits and runs there, and what it has measured, by model."""

    models: frozenset[str]
    waiting: int
    waiting_max: int
    running: int
    replicas: int
    draining: bool
    paces: Mapping[str, Pace] = field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        """Whether the next render would be refused."""
        return self.running >= self.replicas and self.waiting >= self.waiting_max


@dataclass(frozen=True, slots=True)
class Ready:
    """A render that is done: where its file is under the worker's address, and how to tell that it came whole."""

    report: Report
    size_bytes: int | None
    sha256: str | None


def read_status(reply: Reply) -> Status | None:
    """A worker's status, or None when this is not one."""
    body = reply.object()
    models, replicas = body.get("models"), _count(body.get("replicas"))
    if reply.status != 200 or body.get("protocol") != 1 or not isinstance(models, list) or replicas is None:
        return None
    return Status(
        models=frozenset(model for model in models if isinstance(model, str)),
        waiting=_count(body.get("queue_depth")) or 0,
        waiting_max=_count(body.get("queue_max")) or 0,
        running=_count(body.get("running")) or 0,
        replicas=replicas,
        draining=body.get("draining") is True,
        paces=_paces(body),
    )


def submitted(reply: Reply, token: Token) -> SubmitOutcome:
    """What a worker's reply to a submit means; 200 says that it knew the id already, which is as good."""
    body = reply.object()
    if reply.status in {200, 202} and body.get("id") == token["id"]:
        return Accepted(token, eta_s=_seconds(body.get("eta_s")), report=_report(body))
    detail = said(reply)
    if reply.status == 503 and _code(body) in NOT_SERVING:
        return Refused(FailureKind.UNAVAILABLE, detail, retry_after_s=retry_after_s(reply), status=503)
    kind = REFUSALS.get(reply.status)
    if kind is None or (reply.status != 429 and not _code(body)):
        return InDoubt(detail, status=reply.status, unrecognised=reply.status not in AMBIGUOUS)
    return Refused(kind, detail, retry_after_s=retry_after_s(reply), status=reply.status)


def is_unknown(reply: Reply) -> bool:
    """Whether the worker says that it knows no such render: it restarted and lost it, or never had it."""
    return reply.status == 404 and _code(reply.object()) == UNKNOWN


def checked(reply: Reply, name: str) -> CheckOutcome | Ready:
    """What a worker's reply about a render means."""
    body = reply.object()
    if is_unknown(reply):
        return Failed(FailureKind.LOST, "the worker knows no such render: it was restarted and lost it")
    if reply.status != 200 or body.get("id") != name:
        known = reply.status in ASK_AGAIN
        return InDoubt(said(reply), status=reply.status, retry_after_s=retry_after_s(reply), unrecognised=not known)
    state = body.get("state")
    if isinstance(state, str) and state in WAITING:
        return Pending(_seconds(body.get("eta_s")), _share(body.get("progress")))
    if state == "succeeded":
        output = body.get("output")
        file = output if isinstance(output, dict) else {}
        digest = file.get("sha256")
        size_bytes = _count(file.get("size_bytes"), 10**12)
        return Ready(_report(body), size_bytes, digest if isinstance(digest, str) else None)
    if state == "failed":
        kind = FAILURES.get(_code(body), FailureKind.RENDER_FAILED)
        return Failed(kind, said(reply), _report(body))
    if state == "canceled":
        return Failed(FailureKind.RENDER_FAILED, "the render was canceled at the worker", _report(body))
    return InDoubt(f"a render in a state of no meaning: {str(state)[:40]}", status=200, unrecognised=True)


def said(reply: Reply) -> str:
    """What went wrong, in the worker's own words."""
    error = reply.object().get("error")
    parts = [error.get("code"), error.get("message")] if isinstance(error, dict) else []
    words = ": ".join(part for part in parts if isinstance(part, str) and part)
    return f"HTTP {reply.status}: {words[:TEXT_MAX]}" if words else f"HTTP {reply.status}"


def _report(body: Mapping[str, Json]) -> Report:
    name, model, seed = body.get("id"), body.get("model"), body.get("seed")
    return Report(
        request_id=name if isinstance(name, str) else None,
        seed=seed if isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**63 else None,
        model=model if isinstance(model, str) else None,
        inference_s=_seconds(body.get("gpu_s")),
        queue_s=_seconds(body.get("queued_s")),
    )


def _code(body: Mapping[str, Json]) -> str:
    error = body.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else ""


def _paces(body: Mapping[str, Json]) -> Mapping[str, Pace]:
    """What was measured by shape; of a worker that tells no shapes, what it tells of any."""
    told, fixed = body.get("pace"), _by_model(body.get("seconds_fixed"))
    paces: dict[str, Pace] = {
        name: (Measured(step_s, fixed.get(name, 0.0)),)
        for name, step_s in _by_model(body.get("seconds_per_step")).items()
    }
    for name, rows in told.items() if isinstance(told, dict) else ():
        read = [_measured(row) for row in rows[:SHAPES_MAX]] if isinstance(rows, list) else []
        if measured := tuple(one for one in read if one is not None):
            paces[name] = measured
    return paces


def _measured(row: Json) -> Measured | None:
    if not isinstance(row, dict):
        return None
    frames, pixels, passes = (_count(row.get(name), PIXELS_MAX) for name in ("frames", "pixels", "passes"))
    step_s, fixed_s = _seconds(row.get("seconds_per_step")), _seconds(row.get("seconds_fixed"))
    if not frames or not pixels or not passes or step_s is None or fixed_s is None:
        return None
    return Measured(step_s, fixed_s, Shape(frames, pixels, passes))


def _by_model(value: Json) -> Mapping[str, float]:
    named = value.items() if isinstance(value, dict) else ()
    return {name: seconds for name, given in named if (seconds := _seconds(given)) is not None}


def _count(value: Json, most: int = COUNT_MAX) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most else None


def _seconds(value: Json) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= SECONDS_MAX else None  # which NaN is not


def _share(value: Json) -> float | None:
    number = _seconds(value)
    return number if number is not None and number <= 1 else None
