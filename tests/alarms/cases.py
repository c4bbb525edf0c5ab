"""Each alarm at its edge: series with which it goes off, and series a step short of it, in promtool's notation.

`0x4 1x9` is five zeros and ten ones, one a minute. `since` is the minute from which the expression holds; an alarm goes
off as long after it as it says itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Case:
    """When an alarm goes off, with which labels, and what is not enough for it."""

    fires: Mapping[str, str]
    quiet: Mapping[str, str]
    since: int = 5
    labels: Mapping[str, str] = field(default_factory=dict)


def _burn(delivered: int, in_time: int, expired: int = 0) -> dict[str, str]:
    """So many videos a minute, how many of them within the objective, and jobs that ended without any."""
    name = "vidgate_job_duration_seconds"
    return {
        f'{name}_bucket{{route="v/one",status="succeeded",le="180.0"}}': f"0+{in_time}x600",
        f'{name}_count{{route="v/one",status="succeeded"}}': f"0+{delivered}x600",
        f'{name}_bucket{{route="v/one",status="failed",le="180.0"}}': "0+0x600",
        f'{name}_count{{route="v/one",status="failed"}}': "0+500x600",
        'vidgate_jobs_ended_total{status="failed",reason="request-refused"}': "0+500x600",
        'vidgate_jobs_ended_total{status="expired",reason="deadline-passed"}': f"0+{expired}x600",
    }


def _ended(succeeded: int, failed: int, expired: int, refused: int = 0) -> dict[str, str]:
    """Ends a minute."""
    name = 'vidgate_jobs_ended_total{team="t",route="v/one"'
    return {
        f'{name},status="succeeded",reason="delivered"}}': f"0+{succeeded}x200",
        f'{name},status="failed",reason="no-route-left"}}': f"0+{failed}x200",
        f'{name},status="failed",reason="request-refused"}}': f"0+{refused}x200",
        f'{name},status="expired",reason="outcome-unknown"}}': f"0+{expired}x200",
    }


def _lag(below: int) -> dict[str, str]:
    """A thousand wakes a minute, so many of them less than a quarter of a second late."""
    name = "vidgate_event_loop_lag_seconds_bucket"
    return {
        f'{name}{{le="0.1"}}': "0+900x200",
        f'{name}{{le="0.25"}}': f"0+{below}x200",
        f'{name}{{le="0.5"}}': "0+1000x200",
        f'{name}{{le="+Inf"}}': "0+1000x200",
    }


def _queue(depth: str) -> dict[str, str]:
    """A worker that lets ten renders wait, and so many do; another has no queue at all."""
    return {
        'vidgate_gpu_queue_depth{instance="w"}': depth,
        'vidgate_gpu_queue_max{instance="w"}': "10x300",
        'vidgate_gpu_queue_depth{instance="none"}': "0x300",
        'vidgate_gpu_queue_max{instance="none"}': "0x300",
    }


def _machine_ends(lost: str) -> dict[str, str]:
    """Renders that were lost on machines of our own, seen by one of two replicas; a vendor loses many more."""
    name = "vidgate_attempts_total{"
    return {
        f'{name}instance="a",provider="o",route="o/one",outcome="lost"}}': lost,
        f'{name}instance="b",provider="o",route="o/one",outcome="lost"}}': "0x300",
        f'{name}instance="a",provider="o",route="o/one",outcome="invalid_request"}}': "0+9x300",
        f'{name}instance="a",provider="v",route="v/one",outcome="timeout"}}': "0+9x300",
        'vidgate_machines_slots{instance="a",route="o/one"}': "1x300",
    }


_BUDGET = '{team="t",scope="key",window="month"}'
CASES: Mapping[str, Case] = {
    "VidgateDown": Case(
        {'vidgate_build_info{instance="a"}': "1x4 stale", 'vidgate_build_info{instance="b"}': "1x4 stale"},
        {'vidgate_build_info{instance="a"}': "1x4 stale", 'vidgate_build_info{instance="b"}': "1x200"},
    ),
    "VidgateRouteDown": Case(
        {
            'vidgate_breaker_state{instance="a",route="v/one",state="closed"}': "0x200",
            'vidgate_breaker_state{instance="b",route="v/one",state="closed"}': "1x4 0x200",
            'vidgate_breaker_state{instance="b",route="v/one",state="open"}': "0x4 1 0 1 0 1 0 1 0x200",
        },
        {
            'vidgate_breaker_state{instance="a",route="v/one",state="closed"}': "1x200",
            'vidgate_breaker_state{instance="b",route="v/one",state="closed"}': "0x200",
            'vidgate_breaker_state{instance="b",route="v/one",state="open"}': "1x200",
        },
        labels={"route": "v/one"},
    ),
    "VidgateCreditRunwayShort": Case(
        {'vidgate_provider_runway_seconds{provider="v"}': "43201x4 43199x200"},
        {'vidgate_provider_runway_seconds{provider="v"}': "43200x200"},
        labels={"provider": "v"},
    ),
    "VidgateDoubtAgeing": Case(
        {"vidgate_attempts_in_doubt_oldest_seconds": "0x4 3601x200"},
        {"vidgate_attempts_in_doubt_oldest_seconds": "3600x200"},
    ),
    "VidgateBudgetNearlySpent": Case(
        {
            f"vidgate_budget_remaining_micro_usd{_BUDGET}": "100x4 99x200",
            f"vidgate_budget_limit_micro_usd{_BUDGET}": "1000x300",
        },
        {
            f"vidgate_budget_remaining_micro_usd{_BUDGET}": "100x200",
            f"vidgate_budget_limit_micro_usd{_BUDGET}": "1000x200",
            'vidgate_budget_remaining_micro_usd{team="none",scope="team",window="day"}': "0x200",
            'vidgate_budget_limit_micro_usd{team="none",scope="team",window="day"}': "0x200",
        },
        labels={"team": "t", "scope": "key", "window": "month"},
    ),
    "VidgateLedgerImbalance": Case(
        {"vidgate_ledger_imbalance_micro_usd": "0x4 1x200"}, {"vidgate_ledger_imbalance_micro_usd": "0x200"}
    ),
    "VidgateSuspenseOpen": Case(
        {"vidgate_ledger_suspense_micro_usd": "0x4 1x1500"}, {"vidgate_ledger_suspense_micro_usd": "0x200"}
    ),
    "VidgateOutboxStuck": Case(
        {"vidgate_outbox_oldest_seconds": "0x4 901x200"}, {"vidgate_outbox_oldest_seconds": "900x200"}
    ),
    "VidgateJobsUnowned": Case(
        {"vidgate_jobs_unowned_oldest_seconds": "0x4 61x200"}, {"vidgate_jobs_unowned_oldest_seconds": "60x200"}
    ),
    "VidgateJobsParked": Case({"vidgate_jobs_parked": "0x4 1x200"}, {"vidgate_jobs_parked": "0x200"}),
    "VidgateJobsFailing": Case(_ended(89, 5, 6), _ended(91, 4, 5, refused=50), since=1),
    "VidgateLatencyObjectiveBurning": Case(_burn(100, 27), _burn(100, 29), since=1),
    "VidgateLatencyObjectiveSlowBurn": Case(_burn(100, 69), _burn(100, 71), since=1),
    "VidgateRetryBudgetExhausted": Case(
        {'vidgate_retry_budget_exhausted_total{provider="v"}': "0x4 1+1x200"},
        {'vidgate_retry_budget_exhausted_total{provider="v"}': "7x200"},
        labels={"provider": "v"},
    ),
    "VidgatePriceDrift": Case(
        {'vidgate_price_drift_ratio{route="v/one"}': "1x4 0.89x200"},
        {
            'vidgate_price_drift_ratio{route="v/one"}': "1.09x200",
            'vidgate_price_drift_ratio{route="v/two"}': "0.91x200",
        },
        labels={"route": "v/one"},
    ),
    "VidgateUnrecognisedReplies": Case(
        {'vidgate_outcomes_unrecognised_total{route="v/one"}': "0x60 6x100"},
        {'vidgate_outcomes_unrecognised_total{route="v/one"}': "0x60 5x100"},
        since=61,
        labels={"route": "v/one"},
    ),
    "VidgateStoreFailing": Case(
        {'vidgate_store_errors_total{operation="read"}': "0x4 1+1x200"},
        {'vidgate_store_errors_total{operation="read"}': "7x200"},
    ),
    "VidgateArtifactsFailing": Case(
        {'vidgate_artifacts_errors_total{operation="write"}': "0x4 1+1x200"},
        {'vidgate_artifacts_errors_total{operation="write"}': "7x200"},
    ),
    "VidgateFiguresStale": Case(
        {
            'vidgate_store_figures_age_seconds{instance="a",kind="ledger"}': "600x4 601x200",
            'vidgate_store_figures_age_seconds{instance="b",kind="ledger"}': "0x300",
        },
        {'vidgate_store_figures_age_seconds{instance="a",kind="ledger"}': "600x200"},
        labels={"kind": "ledger"},
    ),
    "VidgateBusDisconnected": Case(
        {'vidgate_bus_connected{instance="a"}': "1x300", 'vidgate_bus_connected{instance="b"}': "1x4 0x200"},
        {'vidgate_bus_connected{instance="a"}': "1x200", 'vidgate_bus_connected{instance="b"}': "1x200"},
    ),
    "VidgateEventLoopSlow": Case(_lag(980), _lag(995), since=1),
    "VidgateLoadShed": Case(
        {'vidgate_requests_shed_total{limit="work"}': "0x4 60+60x200"},
        {'vidgate_requests_shed_total{limit="work"}': "0+5x200"},
        labels={"limit": "work"},
    ),
    # One replica does not reach the worker, then none does. A model that no worker ever had is no alarm beside others.
    "VidgateGpuSilent": Case(
        {
            'vidgate_machines_slots{instance="a",route="o/one"}': "0x200",
            'vidgate_machines_slots{instance="b",route="o/one"}': "2x4 0x200",
            'vidgate_machines_slots{instance="b",route="o/two"}': "1x300",
        },
        {
            'vidgate_machines_slots{instance="a",route="o/one"}': "0x200",
            'vidgate_machines_slots{instance="b",route="o/one"}': "1x200",
            'vidgate_machines_slots{instance="a",route="o/never"}': "0x200",
        },
        labels={"route": "o/one"},
    ),
    "VidgateGpuQueueFull": Case(_queue("0x4 10x200"), _queue("8x200"), since=9, labels={"instance": "w"}),
    "VidgateGpuRendersFailing": Case(
        _machine_ends("0x4 1 2 6x200"),
        _machine_ends("0x4 1 5x200"),
        since=7,
        labels={"route": "o/one", "outcome": "lost"},
    ),
}

# Jobs that end without a video count as late ones, also where there are no others; a refused request does not.
_NO_VIDEO = {'vidgate_jobs_ended_total{status="expired",reason="deadline-passed"}': "0+9x600"}
_REFUSED = {'vidgate_jobs_ended_total{status="failed",reason="request-refused"}': "0+9x600"}
FURTHER_CASES: tuple[tuple[str, Case], ...] = (
    ("VidgateJobsFailing", Case(_NO_VIDEO, _REFUSED, since=1)),
    ("VidgateLatencyObjectiveBurning", Case(_burn(60, 27, expired=40), _burn(60, 29, expired=40), since=1)),
    ("VidgateLatencyObjectiveBurning", Case(_NO_VIDEO, _REFUSED, since=1)),
    ("VidgateLatencyObjectiveSlowBurn", Case(_burn(80, 69, expired=20), _burn(80, 71, expired=20), since=1)),
    ("VidgateLatencyObjectiveSlowBurn", Case(_NO_VIDEO, _REFUSED, since=1)),
    # No worker ever answered since this was installed, and no route has another one.
    (
        "VidgateGpuSilent",
        Case(
            {'vidgate_machines_slots{route="o/one"}': "_x4 0x200"},
            {'vidgate_machines_slots{route="o/one"}': "0x200", 'vidgate_machines_slots{route="o/two"}': "1x200"},
            since=4,
            labels={"route": "o/one"},
        ),
    ),
)
