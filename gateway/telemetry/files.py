"""Writes what follows from the catalogue, the alarms and the dashboards: `python -m gateway.telemetry.files`.

The metrics page of the documentation, and the chart's rule file and dashboards. A test compares them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import yaml

from gateway.telemetry.alerts import rule_groups
from gateway.telemetry.catalogue import METRICS, Metric
from gateway.telemetry.dashboards import DASHBOARDS, dashboard

ROOT = Path(__file__).parents[2]
CHART_FILES = Path("helm/vidgate/files")
HEAD = """# Metrics

Written from the catalogue by `python -m gateway.telemetry.files`; a test compares the page with it.

`GET /metrics` serves them, as OpenMetrics with exemplars to whoever accepts that. With `telemetry.metrics_token` set
the scraper must send it as a bearer token. Each replica counts what it did itself (origin *process*: add replicas up
with `sum`); what is read from the store is the same on every replica (origin *store*: take the `max`). A replica is one
process with a registry of its own, and `vidgate serve` starts no workers beside it: a process that is not scraped
cannot hide a figure, and no two processes write one. A counter begins at 0 with its process, which `rate` and
`increase` know.

Money is in micro-USD, as in the ledger: 1000000 is one dollar, and sums are exact. Labels are bounded: `team` is a
team's id, `route` and `provider` come from the configuration, everything else from enumerations; no label holds a key,
a prompt, a link or any other word of a request. A family that would pass its bound counts the rest as `other`:
sums of amounts and counts, and the least of what is left of budgets and credit. A figure of the store that was never
read is absent; `vidgate_store_figures_age_seconds` says how old the others are.

| metric | kind | labels | origin | meaning |
|---|---|---|---|---|
"""


def written() -> Mapping[Path, str]:
    """Every file by its path from the root of the project."""
    rules = yaml.safe_dump(rule_groups(), sort_keys=False, width=200, allow_unicode=True)
    boards = {
        CHART_FILES / "dashboards" / f"{name}.json": json.dumps(dashboard(name), indent=1) + "\n" for name in DASHBOARDS
    }
    return {Path("docs/metrics.md"): metrics_page(), CHART_FILES / "alerts.yaml": rules, **boards}


def metrics_page() -> str:
    """The metrics page."""
    return HEAD + "".join(_row(metric) for metric in METRICS)


def _row(metric: Metric) -> str:
    name = metric.name + ("_total" if metric.kind == "counter" else "")
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "-"
    return f"| `{name}` | {metric.kind} | {labels} | {metric.origin} | {metric.text} |\n"


def main() -> None:
    """Write them all."""
    for path, text in written().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
