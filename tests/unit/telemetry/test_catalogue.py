"""Metrics are data: well named, documented, bounded, and what is written from them is up to date."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.exposition import choose_encoder

from gateway.telemetry import files
from gateway.telemetry.alerts import ALERTS
from gateway.telemetry.catalogue import BY_NAME, METRICS, Metric
from gateway.telemetry.dashboards import DASHBOARDS, dashboard
from gateway.telemetry.metrics import OTHER, SERIES_MAX, Metrics
from providers.local_gpu.worker.metrics import Figures
from tests.unit.tidy import ROOT

MENTION = re.compile(r"\bvidgate_[a-z_]+")
# What a GPU worker tells of itself, for Prometheus to scrape beside the gateway.
WORKERS = {
    family.name + suffix
    for family in Figures().registry.collect()
    for suffix in {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
}
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}


def test_every_written_file_is_up_to_date() -> None:
    """`python -m gateway.telemetry.files` would change nothing."""
    stale = [str(path) for path, text in files.written().items() if (ROOT / path).read_text(encoding="utf-8") != text]
    assert stale == [], "run: python -m gateway.telemetry.files"


def test_no_dashboard_is_left_over() -> None:
    """The chart has the dashboards of the catalogue and no others."""
    there = {path.stem for path in (ROOT / files.CHART_FILES / "dashboards").iterdir()}
    assert there == set(DASHBOARDS)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_named_as_the_field_names_them(metric: Metric) -> None:
    """One prefix, a unit where there is one, no `_total` of its own (the library adds it), words for a meaning."""
    assert re.fullmatch(r"vidgate(_[a-z]+)+", metric.name)
    assert not metric.name.endswith("_total")
    assert (metric.kind == "histogram") == bool(metric.buckets)
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert metric.kind != "histogram" or metric.name.endswith(("_seconds", "_bytes"))
    assert metric.text[0].isupper() or metric.text[0].isdigit()
    assert metric.text.endswith(".")


def test_no_label_could_hold_what_a_client_writes() -> None:
    """The labels there are: ids of teams, configured names and enumerations."""
    known = {
        *("team", "route", "provider", "media", "status", "reason", "outcome", "call", "source", "state", "quantile"),
        *("kind", "scope", "window", "problem", "stage", "method", "path", "operation", "command", "version", "limit"),
    }
    assert {label for metric in METRICS for label in metric.labels} <= known


def test_every_metric_of_the_code_is_in_the_catalogue() -> None:
    """A name that is counted anywhere is one of the table's; one that nobody counts is not in it."""
    told = {
        name
        for path in (ROOT / "gateway").rglob("*.py")
        if path.name not in {"catalogue.py", "alerts.py", "dashboards.py"}
        for name in MENTION.findall(path.read_text())
    }
    assert told == set(BY_NAME)


def names_in(expression: str) -> Iterator[str]:
    """The metrics of an expression without what Prometheus adds to their names."""
    for name in MENTION.findall(expression):
        if name in WORKERS:
            continue
        base = next(
            (metric.name for metric in METRICS for suffix in SUFFIXES[metric.kind] if name == metric.name + suffix),
            None,
        )
        assert base is not None, f"{name} is no series of the catalogue"
        yield base


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_speaks_of_metrics_that_there_are(alert: object) -> None:
    """Each series of its expression exists, and so does its runbook page."""
    names = {*names_in(alert.expression), *WORKERS.intersection(MENTION.findall(alert.expression))}  # type: ignore[attr-defined]
    assert names
    page = ROOT / "docs" / "runbooks" / f"{alert.slug}.md"  # type: ignore[attr-defined]
    assert page.is_file(), f"write {page.relative_to(ROOT)}"
    text = page.read_text(encoding="utf-8")
    for heading in ("## What it means", "## What to look at", "## What to do"):
        assert heading in text


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_speaks_of_metrics_and_labels_that_there_are(name: str) -> None:
    """Each series exists, and a legend names labels that the expression keeps."""
    for panel in DASHBOARDS[name]:
        for expression, legend in panel.queries:
            list(names_in(expression))
            for label in re.findall(r"{{(\w+)}}", legend):
                assert re.search(rf"\b{label}\b", expression), (panel.title, label)
    ids = [panel["id"] for panel in dashboard(name)["panels"]]
    assert len(ids) == len(set(ids)) > 0


def test_every_metric_is_on_a_dashboard_or_in_an_alert() -> None:
    """What nobody looks at is not worth counting."""
    shown = {
        base
        for panels in DASHBOARDS.values()
        for panel in panels
        for expression, _ in panel.queries
        for base in names_in(expression)
    }
    alarmed = {base for alert in ALERTS for base in names_in(alert.expression)}
    assert set(BY_NAME) - shown - alarmed == set()


def test_the_rule_file_is_one_that_prometheus_reads() -> None:
    """YAML with the fields of a rule file."""
    rules = yaml.safe_load((ROOT / files.CHART_FILES / "alerts.yaml").read_text())["groups"][0]["rules"]
    assert [rule["alert"] for rule in rules] == [alert.name for alert in ALERTS]
    assert all({"expr", "for", "labels", "annotations"} <= set(rule) for rule in rules)


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=60))
def test_any_label_value_can_be_told(words: list[str]) -> None:
    """Whatever a label holds, the exposition is well formed."""
    metrics = Metrics()
    for word in words:
        metrics.count("vidgate_refusals", problem=word)
    encode, _ = choose_encoder("application/openmetrics-text")
    assert b"# EOF" in encode(metrics.registry)


def test_ten_thousand_different_inputs_do_not_grow_a_metric() -> None:
    """Past its bound a family counts under `other`, and the sum stays right."""
    metrics = Metrics()
    for number in range(10_000):
        metrics.count("vidgate_refusals", problem=f"made up {number}")
    samples = [
        sample
        for family in metrics.registry.collect()
        if family.name == "vidgate_refusals"
        for sample in family.samples
        if sample.name.endswith("_total")
    ]
    assert len(samples) == SERIES_MAX + 1
    assert sum(sample.value for sample in samples) == 10_000
    assert {sample.labels["problem"] for sample in samples} >= {OTHER}


def told(metrics: Metrics, name: str) -> dict[str, float]:
    """A gauge's series by their first label."""
    families = (family for family in metrics.registry.collect() if family.name == name)
    return {next(iter(sample.labels.values()), ""): sample.value for family in families for sample in family.samples}


def test_a_gauge_of_too_many_teams_keeps_its_sum_and_its_least() -> None:
    """2,500 teams: the first as they are, the rest as `other`: money together, and what is left by the least of it."""
    metrics = Metrics()
    teams = [(f"team {number}", "team", "day") for number in range(2_500)]
    money, left = "vidgate_holds_open_micro_usd", "vidgate_budget_remaining_micro_usd"
    for _ in range(2):
        metrics.replace(money, {team[:1]: number + 1 for number, team in enumerate(teams)})
        metrics.replace(left, {team: abs(number - 2_200) - 7 for number, team in enumerate(teams)})
    assert len(told(metrics, money)) == len(told(metrics, left)) == SERIES_MAX + 1
    assert sum(told(metrics, money).values()) == 2_500 * 2_501 / 2
    assert told(metrics, money)["team 0"] == 1
    assert told(metrics, left)[OTHER] == -7


def test_a_figure_that_was_never_read_is_not_told() -> None:
    """0 would say that the books are sound; a gauge that the process sets itself is there at once."""
    metrics, name = Metrics(), "vidgate_ledger_imbalance_micro_usd"
    assert told(metrics, name) == {}
    assert told(metrics, "vidgate_bus_connected") == {"": 0.0}
    for value in (5.0, 0.0):
        metrics.replace(name, {(): value})
        assert told(metrics, name) == {"": value}


def test_a_name_or_label_that_is_not_in_the_catalogue_is_an_error() -> None:
    """Nothing is counted that the page does not tell of."""
    metrics = Metrics()
    with pytest.raises(KeyError):
        metrics.count("vidgate_surprises")
    with pytest.raises(KeyError):
        metrics.count("vidgate_refusals", team="team_1")
    with pytest.raises(KeyError):
        metrics.count("vidgate_refusals")
