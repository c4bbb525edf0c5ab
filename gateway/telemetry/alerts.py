"""The alarms as data: when each goes off, for how long it must hold, and what it means. One runbook page each.

Written into the chart by `python -m gateway.telemetry.files`. Figures from the store are the same on every replica, so
they are taken once with `max`; what replicas count is summed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from providers.contract import FailureKind

RUNBOOKS = "https://vidgate.dev/runbooks/"
# The latency objective: this share of the videos within this many seconds (a bucket of the histogram).
OBJECTIVE_SHARE = 0.95
OBJECTIVE_S = 180
RUNWAY_HOURS = 12


@dataclass(frozen=True, slots=True)
class Alert:
    """One alarm. `holds_for` is how long the expression must be true; `text` may use the labels of what it found."""

    name: str
    expression: str
    holds_for: str
    severity: Literal["critical", "warning"]
    text: str

    @property
    def slug(self) -> str:
        """The name of its runbook page: VidgateOutboxStuck is outbox-stuck."""
        words = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in self.name)
        return words.removeprefix("-vidgate-")


# What ended without a result; that the request itself was refused is no fault of the service.
LOST = 'vidgate_jobs_ended_total{status=~"failed|expired",reason!="request-refused"}'


def _burn(window: str) -> str:
    """How many times faster than it may the error budget of the latency objective is spent over a window.

    A video that never came is late, too. A series that is not there yet counts as 0; without any end there is no rate.
    """

    def rate(series: str) -> str:
        return f"(sum(rate({series}[{window}])) or vector(0))"

    delivered = 'vidgate_job_duration_seconds_%s{status="succeeded"%s}'
    in_time = rate(delivered % ("bucket", f',le="{OBJECTIVE_S}.0"'))
    wanted = f"({rate(delivered % ('count', ''))} + {rate(LOST)})"
    return f"(1 - {in_time} / {wanted}) / {round(1 - OBJECTIVE_SHARE, 4)}"


# A render of our own machines that hung, ended without memory or by a fault, or died with its worker.
MACHINE_TROUBLES = (FailureKind.TIMEOUT, FailureKind.RENDER_FAILED, FailureKind.LOST)
_NO_SLOT = "max by (route) (vidgate_machines_slots) == 0"
# A route whose model no worker was ever given is not silent: it counts only where it had slots within the day, or where
# nothing answers at all.
_SILENT = (
    f"({_NO_SLOT} and on (route) max by (route) (max_over_time(vidgate_machines_slots[1d])) > 0)"
    f" or ({_NO_SLOT} unless on () max(vidgate_machines_slots) > 0)"
)

ALERTS: tuple[Alert, ...] = (
    Alert("VidgateDown", "absent(vidgate_build_info)", "2m", "critical", "No replica of vidgate is scraped."),
    Alert(
        "VidgateRouteDown",
        # Not open: a breaker is half open between two probes that fail.
        'max by (route) (vidgate_breaker_state{state="closed"}) == 0',
        "5m",
        "warning",
        "Route {{ $labels.route }} fails and is not used, on every replica.",
    ),
    Alert(
        "VidgateCreditRunwayShort",
        f"max by (provider) (vidgate_provider_runway_seconds) < {RUNWAY_HOURS} * 3600",
        "10m",
        "critical",
        f"The credit at {{{{ $labels.provider }}}} lasts less than {RUNWAY_HOURS} hours at the present burn rate.",
    ),
    Alert(
        "VidgateDoubtAgeing",
        "max(vidgate_attempts_in_doubt_oldest_seconds) > 3600",
        "5m",
        "warning",
        "An attempt has been in doubt for more than an hour: nobody knows whether the vendor renders and bills it.",
    ),
    Alert(
        "VidgateBudgetNearlySpent",
        "max by (team, scope, window) (vidgate_budget_remaining_micro_usd)"
        " / max by (team, scope, window) (vidgate_budget_limit_micro_usd > 0) < 0.1",
        "5m",
        "warning",
        "The {{ $labels.scope }} budget of {{ $labels.team }} for the {{ $labels.window }} has less than 10 % left.",
    ),
    Alert(
        "VidgateLedgerImbalance",
        "max(abs(vidgate_ledger_imbalance_micro_usd)) > 0",
        "0m",
        "critical",
        "The ledger's entries do not add up to what was settled. This must never happen.",
    ),
    Alert(
        "VidgateSuspenseOpen",
        "max(vidgate_ledger_suspense_micro_usd) > 0",
        "24h",
        "warning",
        "Possible duplicate charges have stood in suspense for a day: reconcile with the vendor's list.",
    ),
    Alert(
        "VidgateOutboxStuck",
        "max(vidgate_outbox_oldest_seconds) > 900",
        "5m",
        "warning",
        "An event that is due has not been sent for more than 15 minutes.",
    ),
    Alert(
        "VidgateJobsUnowned",
        "max(vidgate_jobs_unowned_oldest_seconds) > 60",
        "2m",
        "critical",
        "A job that is due has had no process to drive it for more than a minute.",
    ),
    Alert(
        "VidgateJobsParked",
        "max(vidgate_jobs_parked) > 0",
        "1m",
        "critical",
        "A job broke every process that drove it and waits for an operator.",
    ),
    Alert(
        "VidgateJobsFailing",
        f"sum(rate({LOST}[15m])) / sum(rate(vidgate_jobs_ended_total[15m])) > 0.1",
        "10m",
        "critical",
        "More than a tenth of all jobs fail or expire.",
    ),
    Alert(
        "VidgateLatencyObjectiveBurning",
        f"{_burn('1h')} > 14.4 and {_burn('5m')} > 14.4",
        "2m",
        "critical",
        f"{OBJECTIVE_SHARE:.0%} of videos within {OBJECTIVE_S} s is the objective: late ones are 14 times too many.",
    ),
    Alert(
        "VidgateLatencyObjectiveSlowBurn",
        f"{_burn('6h')} > 6 and {_burn('30m')} > 6",
        "15m",
        "warning",
        f"{OBJECTIVE_SHARE:.0%} of videos within {OBJECTIVE_S} s is the objective: late ones are 6 times too many.",
    ),
    Alert(
        "VidgateRetryBudgetExhausted",
        "sum by (provider) (rate(vidgate_retry_budget_exhausted_total[10m])) > 0",
        "10m",
        "warning",
        "Repeats to {{ $labels.provider }} are refused: its share of extra calls is used up.",
    ),
    Alert(
        "VidgatePriceDrift",
        "max by (route) (abs(vidgate_price_drift_ratio - 1)) > 0.1",
        "1h",
        "warning",
        "{{ $labels.route }} costs otherwise than the price book says: see `vidgate prices suggest`.",
    ),
    Alert(
        "VidgateUnrecognisedReplies",
        "sum by (route) (increase(vidgate_outcomes_unrecognised_total[1h])) > 5",
        "0m",
        "warning",
        "{{ $labels.route }} answers what matches nothing documented: the vendor may have changed its API.",
    ),
    Alert(
        "VidgateStoreFailing",
        "sum(rate(vidgate_store_errors_total[5m])) > 0",
        "5m",
        "critical",
        "Transactions fail: the database is down or refuses.",
    ),
    Alert(
        "VidgateArtifactsFailing",
        "sum(rate(vidgate_artifacts_errors_total[5m])) > 0",
        "5m",
        "critical",
        "The store of pictures and videos does not take or give files: callers are told 503, and jobs wait for it.",
    ),
    Alert(
        "VidgateFiguresStale",
        "max by (kind) (vidgate_store_figures_age_seconds) > 600",
        "5m",
        "warning",
        "The {{ $labels.kind }} figures of the store are old: alarms on money and jobs judge what was, not what is.",
    ),
    Alert(
        "VidgateBusDisconnected",
        "min(vidgate_bus_connected) == 0",
        "5m",
        "warning",
        "A replica has no Redis: limits are per process and wake-ups slow; money is not touched.",
    ),
    Alert(
        "VidgateEventLoopSlow",
        "histogram_quantile(0.99, sum by (le) (rate(vidgate_event_loop_lag_seconds_bucket[10m]))) > 0.25",
        "10m",
        "warning",
        "The event loop wakes late: a replica has too much to do.",
    ),
    Alert(
        "VidgateLoadShed",
        "sum by (limit) (rate(vidgate_requests_shed_total[5m])) > 0.1",
        "5m",
        "warning",
        "Requests are refused with 503 because a replica has too much to do: the limit {{ $labels.limit }} is reached.",
    ),
    Alert(
        "VidgateGpuSilent",
        _SILENT,
        "10m",
        "warning",
        "No GPU worker answers for {{ $labels.route }}: its jobs go to vendors, or wait.",
    ),
    Alert(
        "VidgateGpuQueueFull",
        # A place that came free is taken again within seconds: the mean tells, not the moment of a scrape.
        "max by (instance) (avg_over_time(vidgate_gpu_queue_depth[5m]))"
        " > 0.8 * max by (instance) (vidgate_gpu_queue_max > 0)",
        "15m",
        "warning",
        "The queue of the GPU worker {{ $labels.instance }} stays full: the next jobs go to vendors, or wait.",
    ),
    Alert(
        "VidgateGpuRendersFailing",
        # A job that may go nowhere else is tried four times: one job alone is none.
        "sum by (route, outcome) (increase(vidgate_attempts_total{"
        f'outcome=~"{"|".join(MACHINE_TROUBLES)}"'
        "}[1h])) >= 6 and on (route) max by (route) (vidgate_machines_slots) >= 0",
        "0m",
        "warning",
        "Renders of {{ $labels.route }} on our own GPUs end as {{ $labels.outcome }}, six or more within an hour.",
    ),
)


def rule_groups() -> dict[str, Any]:
    """The alarms in the form of a Prometheus rule file."""
    return {
        "groups": [
            {
                "name": "vidgate",
                "rules": [
                    {
                        "alert": alert.name,
                        "expr": alert.expression,
                        "for": alert.holds_for,
                        "labels": {"severity": alert.severity},
                        "annotations": {"summary": alert.text, "runbook_url": RUNBOOKS + alert.slug},
                    }
                    for alert in ALERTS
                ],
            }
        ]
    }
