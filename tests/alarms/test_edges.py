"""Each alarm at its edge, evaluated by Prometheus' own tool over the chart's own rule file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.telemetry import files
from gateway.telemetry.alerts import ALERTS, RUNBOOKS, Alert
from tests.alarms.cases import CASES, FURTHER_CASES, Case
from tests.support.prometheus import check_rules
from tests.unit.tidy import ROOT

RULES = ROOT / files.CHART_FILES / "alerts.yaml"
MINUTES = {"m": 1, "h": 60}


def holds_min(alert: Alert) -> int:
    """For how many minutes an alarm's expression has to hold."""
    return int(alert.holds_for[:-1]) * MINUTES[alert.holds_for[-1]]


def series(given: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"series": name, "values": values} for name, values in given.items()]


def never(alert: Alert, minute: int) -> dict[str, Any]:
    """That an alarm has not even been pending up to a minute."""
    expression = f'count(last_over_time(ALERTS{{alertname="{alert.name}"}}[2d])) or vector(0)'
    return {"expr": expression, "eval_time": f"{minute}m", "exp_samples": [{"labels": "{}", "value": 0}]}


def rule_tests(alert: Alert, case: Case) -> list[dict[str, Any]]:
    """That it does not go off a minute early nor a step short, and how it reads when it does."""
    text = re.sub(r"{{ \$labels\.(\w+) }}", lambda match: case.labels[match[1]], alert.text)
    told = {
        "exp_labels": {**case.labels, "severity": alert.severity},
        "exp_annotations": {"summary": text, "runbook_url": RUNBOOKS + alert.slug},
    }
    at = case.since + holds_min(alert)
    times = [(at - 1, []), (at, [told]), (at + 4, [told])]
    fires = {
        "name": f"{alert.name} goes off",
        "interval": "1m",
        "input_series": series(case.fires),
        "alert_rule_test": [
            {"eval_time": f"{minute}m", "alertname": alert.name, "exp_alerts": alerts} for minute, alerts in times
        ],
        "promql_expr_test": [never(alert, case.since - 1)] if case.since > 1 else [],
    }
    quiet = {
        "name": f"{alert.name} stays quiet",
        "interval": "1m",
        "input_series": series(case.quiet),
        "promql_expr_test": [never(alert, case.since + 30)],
    }
    return [fires, quiet]


def test_every_alarm_has_an_edge() -> None:
    """The table has every alarm and no other."""
    assert set(CASES) == {alert.name for alert in ALERTS}


def test_alarms_go_off_at_their_edge_and_not_before(tmp_path: Path) -> None:
    """Every threshold, every time for which it has to hold, every label and every text, in one run of promtool."""
    alerts = {alert.name: alert for alert in ALERTS}
    cases = (*CASES.items(), *FURTHER_CASES)
    tests = [test for name, case in cases for test in rule_tests(alerts[name], case)]
    assert check_rules(tmp_path, RULES, tests) == ""


@pytest.mark.parametrize("change", [("> 3600", "> 3601"), ("> 3600", ">= 3600"), ("for: 5m", "for: 6m")])
def test_an_alarm_that_is_off_by_one_would_be_seen(tmp_path: Path, change: tuple[str, str]) -> None:
    """The table can fail: another threshold, another comparison, another time."""
    alert = next(alert for alert in ALERTS if alert.name == "VidgateDoubtAgeing")
    text = RULES.read_text(encoding="utf-8")
    head, _, rest = text.partition(f"alert: {alert.name}")
    assert change[0] in rest
    (tmp_path / "rules.yaml").write_text(f"{head}alert: {alert.name}{rest.replace(*change, 1)}", encoding="utf-8")
    assert "FAILED" in check_rules(tmp_path, tmp_path / "rules.yaml", rule_tests(alert, CASES[alert.name]))
