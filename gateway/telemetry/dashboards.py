"""The Grafana dashboards as data: rows of panels over the metrics of the catalogue.

Written into the chart by `python -m gateway.telemetry.files`; a test holds every expression against the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH = 24
HEIGHT = 8
SOURCE = {"type": "prometheus", "uid": "${source}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart. `queries` are (expression, legend); `unit` is Grafana's name of a unit."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    text: str = ""


def _rate(name: str, by: str, where: str = "") -> str:
    return f"sum by ({by}) (rate({name}{where}[$__rate_interval]))"


def _quantile(share: float, name: str, by: str, where: str = "") -> str:
    return f"histogram_quantile({share}, {_rate(f'{name}_bucket', f'le, {by}', where)})"


def _usd(expression: str) -> str:
    return f"({expression}) / 1000000"


LEFT_OF_BUDGET = (
    "max by (team, scope, window) (vidgate_budget_remaining_micro_usd)"
    " / max by (team, scope, window) (vidgate_budget_limit_micro_usd > 0)"
)
DELIVERED = '{status="succeeded"}'
MONEY: tuple[Panel, ...] = (
    Panel(
        "Billed to teams in the range",
        ((_usd("sum by (team) (increase(vidgate_spend_micro_usd_total[$__range]))"), "{{team}}"),),
        "currencyUSD",
        "bargauge",
    ),
    Panel(
        "Spend an hour by route",
        ((_usd("sum by (route) (rate(vidgate_spend_micro_usd_total[$__rate_interval])) * 3600"), "{{route}}"),),
        "currencyUSD",
    ),
    Panel(
        "Vendors' cost an hour",
        ((_usd("sum by (provider) (rate(vidgate_cost_micro_usd_total[$__rate_interval])) * 3600"), "{{provider}}"),),
        "currencyUSD",
    ),
    Panel(
        "Margin an hour",
        (
            (
                _usd(
                    "sum(rate(vidgate_spend_micro_usd_total[$__rate_interval])) * 3600"
                    " - sum(rate(vidgate_cost_micro_usd_total[$__rate_interval])) * 3600"
                ),
                "margin",
            ),
        ),
        "currencyUSD",
    ),
    Panel(
        "Budget left",
        (
            (
                LEFT_OF_BUDGET,
                "{{team}} {{scope}} {{window}}",
            ),
        ),
        "percentunit",
        "bargauge",
    ),
    Panel("Money in open holds", ((_usd("max by (team) (vidgate_holds_open_micro_usd)"), "{{team}}"),), "currencyUSD"),
    Panel(
        "Holds",
        (
            ("max by (team) (vidgate_holds_open)", "open {{team}}"),
            ("sum by (team) (rate(vidgate_captures_total[$__rate_interval])) * 3600", "captured an hour {{team}}"),
        ),
    ),
    Panel(
        "Losses and suspense",
        (
            (_usd("max(vidgate_ledger_losses_micro_usd)"), "losses"),
            (_usd("max(vidgate_ledger_suspense_micro_usd)"), "suspense"),
        ),
        "currencyUSD",
    ),
    Panel(
        "Ledger imbalance",
        (("max(abs(vidgate_ledger_imbalance_micro_usd))", "micro-USD"),),
        kind="stat",
        text="Always 0.",
    ),
    Panel("Price drift", (("max by (route) (vidgate_price_drift_ratio)", "{{route}}"),), "percentunit"),
)
ROUTING: tuple[Panel, ...] = (
    Panel("Attempts by route", ((_rate("vidgate_attempts_total", "route"), "{{route}}"),), "ops"),
    Panel(
        "Learned time, median", (('max by (route) (vidgate_route_latency_seconds{quantile="0.5"})', "{{route}}"),), "s"
    ),
    Panel(
        "Learned time, 95 %", (('max by (route) (vidgate_route_latency_seconds{quantile="0.95"})', "{{route}}"),), "s"
    ),
    Panel("Learned odds of success", (("min by (route) (vidgate_route_success_ratio)", "{{route}}"),), "percentunit"),
    Panel(
        "Breakers not closed",
        (('sum by (route, state) (vidgate_breaker_state{state!="closed"})', "{{route}} {{state}}"),),
        text="Replicas that have it so.",
    ),
    Panel("Failovers", ((_rate("vidgate_failovers_total", "route"), "to {{route}}"),), "ops"),
    Panel("Retries", ((_rate("vidgate_retries_total", "route"), "{{route}}"),), "ops"),
    Panel("In flight", (("sum by (route) (vidgate_route_in_flight)", "{{route}}"),)),
)
JOBS: tuple[Panel, ...] = (
    Panel(
        "Admitted and ended",
        (
            (_rate("vidgate_jobs_admitted_total", "media"), "admitted {{media}}"),
            (_rate("vidgate_jobs_ended_total", "status"), "{{status}}"),
        ),
        "ops",
    ),
    Panel("Active jobs", (("max by (status) (vidgate_jobs_active)", "{{status}}"),)),
    Panel("Driven by each replica", (("sum by (instance, stage) (vidgate_jobs_driven)", "{{instance}} {{stage}}"),)),
    Panel(
        "Time to video",
        (
            (_quantile(0.5, "vidgate_job_duration_seconds", "status", DELIVERED), "median"),
            (_quantile(0.95, "vidgate_job_duration_seconds", "status", DELIVERED), "95 %"),
        ),
        "s",
    ),
    Panel(
        "Queue, render and overhead, 95 %",
        (
            (_quantile(0.95, "vidgate_job_queue_seconds", "media"), "queue {{media}}"),
            (_quantile(0.95, "vidgate_job_render_seconds", "route"), "render {{route}}"),
            (_quantile(0.95, "vidgate_job_overhead_seconds", "route"), "overhead {{route}}"),
        ),
        "s",
    ),
    Panel(
        "Why jobs end without a result",
        ((_rate("vidgate_jobs_ended_total", "reason", '{status!="succeeded"}'), "{{reason}}"),),
        "ops",
    ),
    Panel("Submits that nobody answered", ((_rate("vidgate_outcomes_in_doubt_total", "route"), "{{route}}"),), "ops"),
    Panel("In doubt", (("max by (route) (vidgate_attempts_in_doubt)", "{{route}}"),)),
    Panel("Oldest doubt", (("max(vidgate_attempts_in_doubt_oldest_seconds)", "age"),), "s"),
    Panel("Parked", (("max(vidgate_jobs_parked)", "jobs"),)),
    Panel("Overdue without a process", (("max(vidgate_jobs_unowned_oldest_seconds)", "age"),), "s"),
    Panel(
        "Outbox",
        (("max(vidgate_outbox_pending)", "pending"), ("max(vidgate_outbox_oldest_seconds)", "oldest, seconds")),
    ),
)
VENDORS: tuple[Panel, ...] = (
    Panel("Credit", ((_usd("max by (provider) (vidgate_provider_balance_micro_usd)"), "{{provider}}"),), "currencyUSD"),
    Panel("Runway", (("max by (provider) (vidgate_provider_runway_seconds)", "{{provider}}"),), "s"),
    Panel(
        "Burn an hour",
        ((_usd("max by (provider) (vidgate_provider_burn_micro_usd_per_hour)"), "{{provider}}"),),
        "currencyUSD",
    ),
    Panel(
        "Calls",
        ((_rate("vidgate_vendor_call_seconds_count", "provider, call, outcome"), "{{provider}} {{call}} {{outcome}}"),),
        "ops",
    ),
    Panel(
        "Calls, 95 %",
        ((_quantile(0.95, "vidgate_vendor_call_seconds", "provider, call"), "{{provider}} {{call}}"),),
        "s",
    ),
    Panel(
        "Outcomes of attempts",
        ((_rate("vidgate_attempts_total", "provider, outcome"), "{{provider}} {{outcome}}"),),
        "ops",
    ),
    Panel("Replies that match nothing", ((_rate("vidgate_outcomes_unrecognised_total", "route"), "{{route}}"),), "ops"),
    Panel("Retry budget spent", ((_rate("vidgate_retry_budget_exhausted_total", "provider"), "{{provider}}"),), "ops"),
)
SERVICE: tuple[Panel, ...] = (
    Panel(
        "Requests",
        ((_rate("vidgate_http_request_duration_seconds_count", "path, status"), "{{path}} {{status}}"),),
        "reqps",
    ),
    Panel("Requests, 99 %", ((_quantile(0.99, "vidgate_http_request_duration_seconds", "path"), "{{path}}"),), "s"),
    Panel("Problems", ((_rate("vidgate_refusals_total", "problem"), "{{problem}}"),), "ops"),
    Panel("Requests shed", ((_rate("vidgate_requests_shed_total", "limit"), "{{limit}}"),), "ops"),
    Panel("Requests under way", (("sum by (kind) (vidgate_requests_under_way)", "{{kind}}"),)),
    Panel("Bodies in memory", (("sum by (instance) (vidgate_request_body_bytes)", "{{instance}}"),), "bytes"),
    Panel("Decoders ended by a file", ((_rate("vidgate_media_workers_ended_total", "kind"), "{{kind}}"),), "ops"),
    Panel("Connections cut off", ((_rate("vidgate_connections_cut_total", "reason"), "{{reason}}"),), "ops"),
    Panel(
        "Event loop lag, 99 %", ((_quantile(0.99, "vidgate_event_loop_lag_seconds", "instance"), "{{instance}}"),), "s"
    ),
    Panel("Store, 99 %", ((_quantile(0.99, "vidgate_store_seconds", "operation"), "{{operation}}"),), "s"),
    Panel("Store errors", ((_rate("vidgate_store_errors_total", "operation"), "{{operation}}"),), "ops"),
    Panel(
        "Errors of the store of files",
        ((_rate("vidgate_artifacts_errors_total", "operation"), "{{operation}}"),),
        "ops",
    ),
    Panel("Age of the store's figures", (("max by (kind) (vidgate_store_figures_age_seconds)", "{{kind}}"),), "s"),
    Panel("Redis, 99 %", ((_quantile(0.99, "vidgate_bus_seconds", "command"), "{{command}}"),), "s"),
    Panel("Redis errors", ((_rate("vidgate_bus_errors_total", "command"), "{{command}}"),), "ops"),
    Panel("Stale writes refused", ((_rate("vidgate_stale_lease_writes_total", "instance"), "{{instance}}"),), "ops"),
    Panel("Versions", (("sum by (version) (vidgate_build_info)", "{{version}}"),)),
    Panel("Bus", (("min by (instance) (vidgate_bus_connected)", "{{instance}}"),)),
    Panel("Spans", ((_rate("vidgate_trace_spans_total", "outcome"), "{{outcome}}"),), "ops"),
    Panel("Memory", (("sum by (instance) (process_resident_memory_bytes)", "{{instance}}"),), "bytes"),
    Panel("CPU", ((_rate("process_cpu_seconds_total", "instance"), "{{instance}}"),), "percentunit"),
)
OURS = "max by (route) (vidgate_machines_slots)"
# The first four are the gateway's own; the others are told by the workers, which the chart has scraped as well.
GPU: tuple[Panel, ...] = (
    Panel(
        "Renders on our own machines",
        (
            ("max by (route) (vidgate_machines_slots)", "{{route}} at a time"),
            ("max by (route) (vidgate_machines_running)", "{{route}} at work"),
            ("max by (route) (vidgate_machines_waiting)", "{{route}} waiting"),
        ),
    ),
    Panel("Seconds a step, as routing knows", (("max by (route) (vidgate_machines_step_seconds)", "{{route}}"),), "s"),
    Panel(
        "Cost an hour on our own machines",
        ((_usd(f"{_rate('vidgate_cost_micro_usd_total', 'route')} * 3600 and on (route) {OURS}"), "{{route}}"),),
        "currencyUSD",
    ),
    Panel(
        "Attempts on our own machines",
        ((f"{_rate('vidgate_attempts_total', 'route, outcome')} and on (route) {OURS}", "{{route}} {{outcome}}"),),
        "ops",
    ),
    Panel(
        "Queue of each worker",
        (
            ("sum by (instance) (vidgate_gpu_queue_depth)", "{{instance}} waiting"),
            ("sum by (instance) (vidgate_gpu_queue_max)", "{{instance}} at most"),
        ),
    ),
    Panel(
        "Cards at work",
        ((_rate("vidgate_gpu_busy_seconds_total", "instance"), "{{instance}}"),),
        "percentunit",
        text="The share of the time in which a worker renders; above 1 for several cards behind one address.",
    ),
    Panel("Seconds a render, 50 %", ((_quantile(0.5, "vidgate_gpu_render_seconds", "model"), "{{model}}"),), "s"),
    Panel("Seconds a render, 95 %", ((_quantile(0.95, "vidgate_gpu_render_seconds", "model"), "{{model}}"),), "s"),
    Panel("Seconds a step, 50 %", ((_quantile(0.5, "vidgate_gpu_step_seconds", "model"), "{{model}}"),), "s"),
    Panel("Renders", ((_rate("vidgate_gpu_renders_total", "model, state"), "{{model}} {{state}}"),), "ops"),
    Panel("Most memory of a render", (("max by (instance) (vidgate_gpu_memory_peak_bytes)", "{{instance}}"),), "bytes"),
    Panel("At work now", (("sum by (instance) (vidgate_gpu_running)", "{{instance}}"),)),
)
DASHBOARDS: Mapping[str, Sequence[Panel]] = {
    "money": MONEY,
    "routing": ROUTING,
    "jobs": JOBS,
    "vendors": VENDORS,
    "service": SERVICE,
    "gpu": GPU,
}


def dashboard(name: str) -> dict[str, Any]:
    """One dashboard in Grafana's own form."""
    return {
        "uid": f"vidgate-{name}",
        "title": f"vidgate: {name}",
        "tags": ["vidgate"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
        },
        "panels": [_panel(number, panel) for number, panel in enumerate(DASHBOARDS[name])],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    across = WIDTH // 2
    return {
        "id": number + 1,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "gridPos": {"x": number % 2 * across, "y": number // 2 * HEIGHT, "w": across, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}} if panel.kind != "timeseries" else {},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
            for place, (expression, legend) in enumerate(panel.queries)
        ],
    }
