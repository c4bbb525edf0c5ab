"""What is counted and traced of the engine's moves, in one place: each method is one fact, told by who saw it.

Straight-line: nothing here decides, waits or fails.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from gateway.clock import stopwatch_s
from gateway.overdue import Overdue
from gateway.problems import Problem
from gateway.store.jobs import Attempt, Job
from gateway.telemetry.job_spans import attempt_span, claim_span, job_span
from gateway.telemetry.metrics import NONE, Metrics
from gateway.telemetry.trace_context import Trace, trace_id_in
from gateway.telemetry.tracing import Span, TraceContext, Tracing, named
from policies.retry import NextRoute
from providers.contract import Accepted, Failed, Finished, InDoubt, NoEvidence, NotFound, Pending, Refused

OUTCOMES = {
    Accepted: "accepted",
    Finished: "finished",
    Refused: "refused",
    InDoubt: "in_doubt",
    Pending: "pending",
    Failed: "failed",
    NotFound: "not_found",
    NoEvidence: "no_evidence",
}


def outcome_word(outcome: object) -> str:
    """What a call to a vendor came to, in a word."""
    return OUTCOMES.get(type(outcome), "answered") if outcome is not None else NONE


def failure_of(outcome: object) -> str | None:
    """The kind of failure that a vendor's answer is, None for any other."""
    match outcome:
        case Refused() | Failed():
            return str(outcome.kind)
        case InDoubt():
            return "in_doubt"
    return None


# Who asks these asks them for ever: they are timed and not traced.
UNTRACED = frozenset({"/healthz", "/readyz", "/metrics"})


@dataclass(slots=True)
class Answering:
    """A request that is being answered: its status once there is one, and that of a fault of ours until then.

    `standing` is its place: its span, in the trace of its caller or in one of its own.
    """

    standing: TraceContext
    parent_id: str | None
    began_at: float
    status: int = 500
    error: str | None = None

    @property
    def trace(self) -> Trace:
        """The request's span as it is decided by now."""
        assert self.standing.trace is not None
        return self.standing.trace


class Meter:
    """Counts the life of requests, jobs and attempts into the process's metrics, and tells their spans."""

    def __init__(self, metrics: Metrics, tracing: Tracing) -> None:
        self.metrics = metrics
        self.tracing = tracing

    @contextmanager
    def answering(self, method: str, path: str, traceparent: Sequence[str]) -> Iterator[Answering]:
        """Time and trace a request under its path's template; a problem that is raised tells its own status."""
        caller, began_s = Trace.of_caller(traceparent), stopwatch_s()
        parent_id = caller.span_id if caller is not None else None
        standing = TraceContext(self.tracing.enter(caller), is_wanted=caller is not None and caller.sampled)
        answering = Answering(standing, parent_id, self.tracing.now())
        try:
            with self.tracing.at(answering.standing):
                yield answering
        except Problem as problem:
            answering.status, answering.error = problem.status, problem.slug
            self.metrics.count("vidgate_refusals", problem=problem.slug)
            raise
        finally:
            took_s = stopwatch_s() - began_s
            labels = {"method": method, "path": path, "status": str(answering.status)}
            recorded = answering.trace.trace_id if self.tracing.records(answering.trace) else None
            self.metrics.observe("vidgate_http_request_duration_seconds", took_s, trace_id=recorded, **labels)
            if recorded is not None and path not in UNTRACED:
                self.tracing.tell(self._request_span(answering, method, path))

    def _request_span(self, answering: Answering, method: str, path: str) -> Span:
        """A request as HTTP's conventions have it: its path's template, never the path itself."""
        status = answering.status
        attributes = named(answering.standing.facts()) | {
            "http.request.method": method,
            "http.route": path,
            "http.response.status_code": status,
        }
        error = (answering.error or str(status)) if status >= 500 else None
        if answering.error is not None:
            attributes["vidgate.problem"] = answering.error
        ended_at = self.tracing.now()
        name, trace, began_at = f"{method} {path}", answering.trace, answering.began_at
        return Span(name, "server", trace, answering.parent_id, began_at, ended_at, attributes, error)

    def claimed(self, job: Job) -> None:
        """A job was taken up from the store, by whoever was first."""
        root = Trace.parse(job.trace)
        if root is not None and self.tracing.records(root):
            self.tracing.tell(claim_span(job, self.tracing.new_span(root), self.tracing.now()))

    def admitted(self, job: Job) -> None:
        """A job was taken in."""
        self.metrics.count("vidgate_jobs_admitted", team=job.team_id, media=job.media)

    def started(self, job: Job, attempt: Attempt) -> None:
        """An attempt begins; the first one ends the job's time in the queue, a later one follows one that failed."""
        if attempt.number == 1:
            self.metrics.observe("vidgate_job_queue_seconds", attempt.prepared_at - job.created_at, media=job.media)
        else:
            self.metrics.count("vidgate_failovers", route=attempt.route)

    def called(self, provider: str, route: str, call: str, outcome: object, took_s: float) -> None:
        """A call to a vendor came back, or was given up (outcome None)."""
        told = outcome_word(outcome)
        self.metrics.observe(
            "vidgate_vendor_call_seconds", took_s, provider=provider, route=route, call=call, outcome=told
        )

    def repeated(self, attempt: Attempt) -> None:
        """A submit is repeated on its route."""
        self.metrics.count("vidgate_retries", route=attempt.route)

    def decided(self, attempt: Attempt, decision: object) -> None:
        """What is done after an attempt that failed: perhaps no repeat, because the provider's share is used up."""
        if isinstance(decision, NextRoute) and decision.budget_spent:
            self.metrics.count("vidgate_retry_budget_exhausted", provider=attempt.account)

    def artifacts_failed(self, operation: str) -> None:
        """The store of pictures and videos did not carry out a call."""
        self.metrics.count("vidgate_artifacts_errors", operation=operation)

    def doubted(self, attempt: Attempt) -> None:
        """Nobody knows whether a submit was accepted."""
        self.metrics.count("vidgate_outcomes_in_doubt", route=attempt.route)

    def unrecognised(self, route: str) -> None:
        """A reply matches nothing documented."""
        self.metrics.count("vidgate_outcomes_unrecognised", route=route)

    def failed(self, job: Job, attempt: Attempt, kind: str) -> None:
        """An attempt ended without a result."""
        self._attempt_over(job, attempt)
        self.metrics.count("vidgate_attempts", provider=attempt.account, route=attempt.route, outcome=kind)

    def succeeded(self, job: Job, attempt: Attempt, rendered_at: float) -> None:
        """A job was delivered and billed; `rendered_at` is when the vendor was seen to be done."""
        assert job.finished_at is not None
        assert job.bill is not None
        self._attempt_over(job, attempt)
        trace_id = trace_id_in(job.trace)
        route, bill = attempt.route, job.bill
        self.metrics.count("vidgate_attempts", provider=attempt.account, route=route, outcome="succeeded")
        self.metrics.count("vidgate_captures", team=job.team_id)
        self.metrics.count(
            "vidgate_spend_micro_usd", bill["price_micros"], trace_id=trace_id, team=job.team_id, route=route
        )
        source = str(bill["cost_source"])
        self.metrics.count(
            "vidgate_cost_micro_usd", bill["cost_micros"], provider=attempt.account, route=route, source=source
        )
        rendering_s = rendered_at - (attempt.sent_at or attempt.prepared_at)
        self.metrics.observe("vidgate_job_render_seconds", max(0.0, rendering_s), route=route)
        overhead_s = max(0.0, job.finished_at - job.created_at - rendering_s)
        self.metrics.observe("vidgate_job_overhead_seconds", overhead_s, route=route)
        self._ended(job, "delivered")

    def ended(self, job: Job, reason: str) -> None:
        """A job ended without a result."""
        self._ended(job, reason)

    def overdue(self, over: Overdue) -> None:
        """What nobody drove was ended, with what was still open of it."""
        if over.job is not None and over.attempt is not None:
            self.failed(over.job, over.attempt, over.attempt.failure_kind or NONE)
        if over.job is not None:
            self._ended(over.job, over.job.error["type"].rpartition("/")[2] if over.job.error else NONE)

    def lease_lost(self) -> None:
        """A write was refused because another process drives the job now."""
        self.metrics.count("vidgate_stale_lease_writes")

    def _ended(self, job: Job, reason: str) -> None:
        route = job.route or NONE
        self.metrics.count("vidgate_jobs_ended", team=job.team_id, route=route, status=job.status.value, reason=reason)
        assert job.finished_at is not None
        self.metrics.observe(
            "vidgate_job_duration_seconds",
            job.finished_at - job.created_at,
            trace_id=trace_id_in(job.trace),
            route=route,
            status=job.status.value,
        )
        span = job_span(job, reason)
        if span is not None:
            self.tracing.tell(span)

    def _attempt_over(self, job: Job, attempt: Attempt) -> None:
        span = attempt_span(job, attempt, self.tracing.models.get(attempt.route, attempt.route))
        if span is not None:
            self.tracing.tell(span)
