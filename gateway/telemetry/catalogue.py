"""Every metric as data: name, kind, labels, buckets and what it means. docs/metrics.md is written from this table.

Money is counted in micro-USD, whole numbers that a float holds exactly, so that a sum over replicas is the ledger's own
figure. Labels are bounded: their values come from the configuration, from the team table and from enumerations, never
from a request (see metrics.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
# Where a figure comes from: counted by this process, or read from the store, where every replica tells the same.
Origin = Literal["process", "store"]
# What stands for the series of a gauge that has too many: their sum, or the least of them.
Fold = Literal["sum", "min"]

# Renders take from a second to a quarter of an hour.
JOB_BUCKETS_S = (0.5, 1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 300, 450, 600, 900)
CALL_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
# A synchronous vendor renders while its submit is waited for.
VENDOR_BUCKETS_S = (*CALL_BUCKETS_S, 300, 600, 900)
SHORT_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family. `buckets` belong to histograms; counters end in `_total` when they are told."""

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    origin: Origin = "process"
    fold: Fold = "sum"


METRICS: tuple[Metric, ...] = (
    # Jobs
    Metric("vidgate_jobs_admitted", "counter", "Jobs taken in.", ("team", "media")),
    Metric("vidgate_jobs_ended", "counter", "Jobs that ended, by how and why.", ("team", "route", "status", "reason")),
    Metric("vidgate_jobs_driven", "gauge", "Jobs that this process drives now, by what they wait for.", ("stage",)),
    Metric(
        "vidgate_job_duration_seconds",
        "histogram",
        "From admission to the end of a job: for `succeeded` the time to the finished video.",
        ("route", "status"),
        JOB_BUCKETS_S,
    ),
    Metric("vidgate_job_queue_seconds", "histogram", "From admission to the first attempt.", ("media",), JOB_BUCKETS_S),
    Metric(
        "vidgate_job_render_seconds",
        "histogram",
        "From the submit that was accepted until the vendor was seen to be done: the time in which it is polled.",
        ("route",),
        JOB_BUCKETS_S,
    ),
    Metric(
        "vidgate_job_overhead_seconds",
        "histogram",
        "The part of a delivered job's time in which no vendor was at work on it: queue, retries, fetch, verification.",
        ("route",),
        JOB_BUCKETS_S,
    ),
    # Attempts and vendor calls
    Metric("vidgate_attempts", "counter", "Attempts that ended, by how.", ("provider", "route", "outcome")),
    Metric(
        "vidgate_vendor_call_seconds",
        "histogram",
        "Calls to vendors: submit, check, lookup, cancel and balance, by what they came to.",
        ("provider", "route", "call", "outcome"),
        VENDOR_BUCKETS_S,
    ),
    Metric("vidgate_retries", "counter", "Submits that were repeated on the same route.", ("route",)),
    Metric("vidgate_failovers", "counter", "Attempts on a route after one that had failed.", ("route",)),
    Metric(
        "vidgate_retry_budget_exhausted",
        "counter",
        "Repeats refused because the provider's budget was spent.",
        ("provider",),
    ),
    Metric("vidgate_outcomes_in_doubt", "counter", "Submits whose outcome nobody knew.", ("route",)),
    Metric("vidgate_outcomes_unrecognised", "counter", "Replies that match nothing documented.", ("route",)),
    # Providers and routes as the router sees them
    Metric("vidgate_breaker_state", "gauge", "1 for the state in which a route's breaker is.", ("route", "state")),
    Metric("vidgate_route_success_ratio", "gauge", "Learned odds that an attempt delivers.", ("route",)),
    Metric("vidgate_route_latency_seconds", "gauge", "Learned time to the finished video.", ("route", "quantile")),
    Metric("vidgate_route_in_flight", "gauge", "Attempts of this process under way on a route.", ("route",)),
    # Machines of our own, as they said themselves lately. Every replica asks them: take the max.
    Metric("vidgate_machines_slots", "gauge", "Renders that a route's own machines make at a time.", ("route",)),
    Metric("vidgate_machines_running", "gauge", "Renders at work on a route's own machines.", ("route",)),
    Metric("vidgate_machines_waiting", "gauge", "Renders that wait at a route's own machines.", ("route",)),
    Metric(
        "vidgate_machines_step_seconds",
        "gauge",
        "Seconds of a step there, of the render that was measured last; a larger one takes longer.",
        ("route",),
    ),
    Metric(
        "vidgate_provider_balance_micro_usd",
        "gauge",
        "Credit left, as the vendor last said.",
        ("provider",),
        origin="store",
    ),
    Metric(
        "vidgate_provider_runway_seconds",
        "gauge",
        "How long the credit lasts at the burn rate of the last day; 0 without any, absent while nothing is spent.",
        ("provider",),
        origin="store",
        fold="min",
    ),
    Metric(
        "vidgate_provider_burn_micro_usd_per_hour",
        "gauge",
        "What the provider charged an hour over the last day.",
        ("provider",),
        origin="store",
    ),
    Metric(
        "vidgate_price_drift_ratio",
        "gauge",
        "Reported costs of the last week over the price book's, from five of them on; looked at once an hour.",
        ("route",),
        origin="store",
    ),
    # Money
    Metric("vidgate_spend_micro_usd", "counter", "What teams were billed.", ("team", "route")),
    Metric(
        "vidgate_cost_micro_usd", "counter", "What delivered jobs cost at vendors.", ("provider", "route", "source")
    ),
    Metric("vidgate_captures", "counter", "Holds that were captured.", ("team",)),
    Metric("vidgate_holds_open", "gauge", "Holds that are open.", ("team",), origin="store"),
    Metric("vidgate_holds_open_micro_usd", "gauge", "Money in open holds.", ("team",), origin="store"),
    Metric(
        "vidgate_budget_limit_micro_usd",
        "gauge",
        "Hard limit of a budget; the tightest one where a scope has several keys.",
        ("team", "scope", "window"),
        origin="store",
        fold="min",
    ),
    Metric(
        "vidgate_budget_remaining_micro_usd",
        "gauge",
        "What is left of a budget in the present window after spend and holds; of several keys the smallest.",
        ("team", "scope", "window"),
        origin="store",
        fold="min",
    ),
    Metric("vidgate_refusals", "counter", "Requests that were answered with a problem.", ("problem",)),
    Metric(
        "vidgate_ledger_imbalance_micro_usd",
        "gauge",
        "What the ledger's entries are off by, among themselves and from what was settled: always 0.",
        origin="store",
    ),
    Metric("vidgate_ledger_losses_micro_usd", "gauge", "The operator's losses so far.", origin="store"),
    Metric("vidgate_ledger_suspense_micro_usd", "gauge", "Possible charges that nobody has cleared.", origin="store"),
    # What must not age
    Metric("vidgate_attempts_in_doubt", "gauge", "Attempts whose outcome is unknown now.", ("route",), origin="store"),
    Metric(
        "vidgate_attempts_in_doubt_oldest_seconds", "gauge", "Age of the oldest of them; 0 without any.", origin="store"
    ),
    Metric("vidgate_jobs_active", "gauge", "Jobs that have not ended, of all replicas.", ("status",), origin="store"),
    Metric("vidgate_jobs_parked", "gauge", "Jobs that broke their drivers and wait for an operator.", origin="store"),
    Metric(
        "vidgate_jobs_unowned_oldest_seconds",
        "gauge",
        "How long the longest overdue job has been without a process that drives it; 0 without any.",
        origin="store",
    ),
    Metric("vidgate_stale_lease_writes", "counter", "Writes refused because another process had taken the job over."),
    Metric("vidgate_outbox_pending", "gauge", "Deliveries of events not made yet.", origin="store"),
    Metric(
        "vidgate_outbox_oldest_seconds",
        "gauge",
        "How long the oldest delivery that is due has been waiting, disabled endpoints aside; 0 without any.",
        origin="store",
    ),
    # The process
    Metric(
        "vidgate_http_request_duration_seconds",
        "histogram",
        "Requests by path template and status.",
        ("method", "path", "status"),
        CALL_BUCKETS_S,
    ),
    Metric(
        "vidgate_requests_shed",
        "counter",
        "Requests refused because there was too much to do: `work`, `reads` or `streams` under way, "
        "`bodies` in memory, `pictures` being opened, or `lag` of the event loop.",
        ("limit",),
    ),
    Metric("vidgate_requests_under_way", "gauge", "Requests being answered, as they count for shedding.", ("kind",)),
    Metric("vidgate_request_body_bytes", "gauge", "Bytes of request bodies in memory."),
    Metric(
        "vidgate_connections_cut",
        "counter",
        "Connections ended because of their client: `head_timeout`, `head_size`, `malformed`, `unwanted_body`, "
        "`send_timeout`, or `connections` when too many were open.",
        ("reason",),
    ),
    Metric(
        "vidgate_media_workers_ended",
        "counter",
        "Processes that a picture or a clip has ended: `too_costly` in memory or time, or `broken`.",
        ("kind",),
    ),
    Metric("vidgate_event_loop_lag_seconds", "histogram", "How late the event loop wakes.", (), SHORT_BUCKETS_S),
    Metric(
        "vidgate_store_seconds",
        "histogram",
        "Transactions, the wait for them included.",
        ("operation",),
        SHORT_BUCKETS_S,
    ),
    Metric("vidgate_store_errors", "counter", "Transactions that the database could not carry out.", ("operation",)),
    Metric(
        "vidgate_artifacts_errors",
        "counter",
        "Calls that the store of pictures and videos could not carry out, after the retries of its client.",
        ("operation",),
    ),
    Metric(
        "vidgate_store_figures_age_seconds",
        "gauge",
        "Age of the figures of the store as this process tells them: the `ledger` and the rest (`indexed`).",
        ("kind",),
    ),
    Metric(
        "vidgate_trace_spans",
        "counter",
        "Spans for the collector: exported, failed (it did not take them) or dropped (the queue was full).",
        ("outcome",),
    ),
    Metric(
        "vidgate_bus_seconds",
        "histogram",
        "Commands to Redis; one that fails is timed too.",
        ("command",),
        SHORT_BUCKETS_S,
    ),
    Metric("vidgate_bus_errors", "counter", "Commands that Redis did not carry out.", ("command",)),
    Metric("vidgate_bus_connected", "gauge", "1 while the bus between replicas answers, or is not needed."),
    Metric("vidgate_build_info", "gauge", "1, with the version that runs.", ("version",)),
)
BY_NAME = {metric.name: metric for metric in METRICS}
