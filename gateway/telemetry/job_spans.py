"""The spans of jobs and attempts, made from their rows when they end. Pure.

An attempt is what the GenAI conventions call an inference: one operation on one model, its repeats included.
"""

from __future__ import annotations

from gateway.jobs import JobStatus
from gateway.store.jobs import Attempt, Job
from gateway.telemetry.trace_context import Trace, trace_id_in
from gateway.telemetry.tracing import Attribute, Span, named

# The conventions' word for media out of media; what comes out is said by `gen_ai.output.type`.
OPERATION = "generate_content"


def facts_of(job: Job) -> dict[str, str]:
    """What a line of the log says of a job where none is at hand."""
    trace_id = trace_id_in(job.trace)
    return {"job": job.id, "team": job.team_id} | ({"trace_id": trace_id} if trace_id is not None else {})


def job_span(job: Job, reason: str) -> Span | None:
    """A job from its admission to its end, under the request that it came with; None for one without a trace."""
    root = Trace.parse(job.trace)
    if root is None or job.finished_at is None:
        return None
    bill = job.bill or {}
    attributes = named({"job": job.id, "team": job.team_id}) | {
        "vidgate.job.status": job.status.value,
        "vidgate.job.price_micros": int(bill.get("price_micros", 0)),
        "gen_ai.output.type": job.media,
    }
    if job.route is not None:
        attributes["vidgate.route"] = job.route
    failed = reason if job.status is not JobStatus.SUCCEEDED else None
    own = root.at_row(job.id)
    return Span("job", "internal", own, root.span_id, job.created_at, job.finished_at, attributes, failed)


def attempt_span(job: Job, attempt: Attempt, model: str) -> Span | None:
    """An attempt from its intent to its end, under its job, with each line of its story as an event."""
    root = Trace.parse(job.trace)
    if root is None or attempt.finished_at is None:
        return None
    facts = {"job": job.id, "team": job.team_id, "route": attempt.route, "attempt": attempt.id}
    told: dict[str, Attribute | None] = {
        "vidgate.attempt.number": attempt.number,
        "vidgate.attempt.submits": attempt.submits,
        "vidgate.attempt.cost_micros": attempt.cost_micros,
        "gen_ai.operation.name": OPERATION,
        "gen_ai.provider.name": attempt.account,
        "gen_ai.output.type": job.media,
        "gen_ai.request.model": model,
        "gen_ai.request.seed": attempt.seed,
        "gen_ai.response.id": attempt.vendor_request_id,
        "gen_ai.response.model": attempt.model,
    }
    return Span(
        f"{OPERATION} {model}",
        "client",
        root.at_row(attempt.id),
        root.at_row(job.id).span_id,
        attempt.prepared_at,
        attempt.finished_at,
        named(facts) | {name: value for name, value in told.items() if value is not None},
        attempt.failure_kind,
        tuple((float(event["at"]), str(event["what"])) for event in attempt.events),
    )


def claim_span(job: Job, own: Trace, at: float) -> Span:
    """The moment at which a process took a job up."""
    attributes = named({"job": job.id, "team": job.team_id}) | {
        "vidgate.job.fence": job.fence,
        "vidgate.job.crashes": job.crashes,
    }
    return Span("claim", "internal", own, own.at_row(job.id).span_id, at, at, attributes)
