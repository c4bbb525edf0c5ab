"""How a job is shown to its team. Pure: rows in, JSON out; times as RFC 3339, money as integer micro-USD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.audience import Audience, visible
from gateway.doubts import doubt_of
from gateway.jobs import AttemptState, JobStatus
from gateway.store.jobs import Attempt, Job
from gateway.telemetry.trace_context import trace_id_in

MICROS = 1_000_000
EVENT_TIMES = frozenset({"at", "last_at", "until", "again_at", "sure_from"})
DOUBT_NEXT = (
    "Asked again within a minute, as far as the vendor can tell; a result that comes is delivered and billed as ever. "
    "At `until` it is asked once more; if nobody can tell even then, the job expires and costs the team nothing."
)


def rfc3339(at: float | None) -> str | None:
    """A unix time as RFC 3339 in UTC with milliseconds."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def job_json(
    job: Job, attempts: Sequence[Attempt], audience: Audience, progress: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A job with everything that its audience may know: request, plan, receipt, attempts, bill and result."""
    return {
        "id": job.id,
        "media": job.media,
        "status": job.status,
        "created_at": rfc3339(job.created_at),
        "started_at": rfc3339(job.started_at),
        "finished_at": rfc3339(job.finished_at),
        "deadline_at": rfc3339(job.deadline_at),
        "request": {
            "written": job.request["written"],
            "parameters": job.parameters,
            "fit": job.request["fit"],
            "routing": job.request["routing"],
            "metadata": job.request["metadata"],
        },
        "input": job.input,
        "route": job.route,
        "progress": dict(progress or {"stage": job.status, "fraction": None, "eta_s": None}),
        "plan": plan_json(job.plan, audience),
        "replans": [plan_json(plan, audience) for plan in job.replans],
        "receipt": job.receipt,
        "attempts": [visible("attempt", _attempt(attempt), audience) for attempt in attempts],
        "bill": visible("bill", job.bill or _held(job), audience),
        "result": _result(job),
        "error": job.error,
        "cancel_requested_at": rfc3339(job.cancel_requested_at),
        "trace_id": trace_id_in(job.trace),
        "links": {
            "self": f"/jobs/{job.id}",
            "content": f"/jobs/{job.id}/content" if job.status is JobStatus.SUCCEEDED else None,
            "cancel": f"/jobs/{job.id}/cancel" if job.finished_at is None else None,
        },
    }


def reply_headers(job: Job, attempts: int) -> dict[str, str]:
    """The facts about a job that every reply about it carries; the cost is what the team pays."""
    headers = {"x-vidgate-job-id": job.id, "x-vidgate-attempts": str(attempts)}
    if job.route is not None:
        headers["x-vidgate-route"] = job.route
    if job.bill is not None:
        headers["x-vidgate-cost-usd"] = usd(job.bill["price_micros"])
    return headers


def usd(micros: int) -> str:
    """Micro-USD as a decimal number of dollars, exactly."""
    sign, whole = ("-" if micros < 0 else ""), abs(micros)
    return f"{sign}{whole // MICROS}.{whole % MICROS:06d}"


def plan_json(plan: Mapping[str, Any], audience: Audience) -> dict[str, Any]:
    """A plan as it is shown to this audience."""
    ranked = [visible("ranked", quote, audience) for quote in plan["ranked"]]
    return visible("plan", {**plan, "decided_at": rfc3339(plan["decided_at"]), "ranked": ranked}, audience)


def _held(job: Job) -> dict[str, Any]:
    return {
        "status": "held",
        "held_micros": job.held_micros,
        "price_micros": None,
        "cost_micros": None,
        "margin_micros": None,
        "cost_source": None,
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    """An attempt as its team may see it: no token, no wire body, no vendor's request id."""
    failed = attempt.state is AttemptState.FAILED
    return {
        "id": attempt.id,
        "number": attempt.number,
        "route": attempt.route,
        "state": attempt.state,
        "prepared_at": rfc3339(attempt.prepared_at),
        "accepted_at": rfc3339(attempt.accepted_at),
        "finished_at": rfc3339(attempt.finished_at),
        "submits": attempt.submits,
        "events": [event_json(event) for event in attempt.events],
        "doubt": _doubt(attempt),
        "failure": {"kind": attempt.failure_kind, "detail": attempt.failure_detail} if failed else None,
        "cost_micros": attempt.cost_micros,
        "cost_source": attempt.cost_source,
        "seed": attempt.seed,
    }


def event_json(event: Mapping[str, Any]) -> dict[str, Any]:
    """A line of an attempt's story as it is shown."""
    return {name: rfc3339(value) if name in EVENT_TIMES else value for name, value in event.items()}


def _doubt(attempt: Attempt) -> dict[str, Any] | None:
    """What is published of an attempt in doubt: since when, until when, what was looked at and what comes next."""
    doubt = doubt_of(attempt)
    if doubt is None:
        return None
    return {
        "since": rfc3339(doubt.since),
        "until": rfc3339(doubt.until),
        "why": doubt.why,
        "looks": doubt.looks,
        "looked_at": rfc3339(doubt.looked_at),
        "found": doubt.found,
        "next": DOUBT_NEXT,
    }


def _result(job: Job) -> dict[str, Any] | None:
    if job.result is None:
        return None
    files = [
        {**file, "url": f"/jobs/{job.id}/content" if index == 0 else f"/jobs/{job.id}/content?file={index}"}
        for index, file in enumerate(job.result["files"])
    ]
    return {**job.result, "files": files}
