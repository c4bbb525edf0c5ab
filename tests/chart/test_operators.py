"""What the chart asks of operators, and that everything in it points at something that is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.telemetry.alerts import ALERTS
from gateway.telemetry.dashboards import DASHBOARDS
from tests.chart.chart import SETS, at, merged, objects, of_kind, pod_specs, ray_templates, value_set
from tests.support.prometheus import CHECK_TIMEOUT_S, bounded, check_rules, programs

SELECTING = {"Service", "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor", "PodMonitor", "Deployment"}


def pods(values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The templates of every pod that the chart starts: metadata and spec."""
    for found in objects(values):
        if found["kind"] == "Pod":
            yield found
        elif found["kind"] in {"Deployment", "Job"}:
            yield found["spec"]["template"]
        elif found["kind"] == "RayCluster":
            yield from ray_templates(found)


def selected(values: Mapping[str, Any], labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """The pods that have all of these labels."""
    return [pod for pod in pods(values) if labels.items() <= pod["metadata"]["labels"].items()]


@pytest.mark.parametrize("name", SETS)
def test_whatever_selects_pods_finds_some(name: str) -> None:
    """Services, budgets, monitors and policies select pods of the chart; a ServiceMonitor selects its service."""
    values = value_set(name)
    seen = 0
    for found in objects(values):
        if found["kind"] not in SELECTING:
            continue
        selector = found["spec"].get("podSelector") or found["spec"]["selector"]
        labels = selector.get("matchLabels", selector)
        if found["kind"] == "ServiceMonitor":
            services = of_kind(values, "Service")
            matching = [one for one in services if labels.items() <= one["metadata"]["labels"].items()]
            assert len(matching) == 1, "it would scrape another service too"
            labels = matching[0]["spec"]["selector"]
        assert selected(values, labels), (found["kind"], labels)
        seen += 1
    assert seen >= 2


@pytest.mark.parametrize("name", SETS)
def test_ports_are_named_as_they_are_referred_to(name: str) -> None:
    """Services name ports of pods; ingresses, routes and monitors name ports of the service or the pod."""
    values = value_set(name)
    for service in of_kind(values, "Service"):
        (pod,) = selected(values, service["spec"]["selector"])
        ports = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    component = "app.kubernetes.io/component"
    gateway = next(one for one in of_kind(values, "Service") if one["metadata"]["labels"][component] == "gateway")
    names = {port["name"]: port["port"] for port in gateway["spec"]["ports"]}
    for ingress in of_kind(values, "Ingress"):
        backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
        assert backend["name"] == gateway["metadata"]["name"]
        assert backend["port"]["name"] in names
    for route in of_kind(values, "HTTPRoute"):
        assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
        (backend,) = route["spec"]["rules"][0]["backendRefs"]
        assert (backend["name"], backend["port"]) == (gateway["metadata"]["name"], names["http"])
        assert route["spec"]["parentRefs"]
    for monitor in (*of_kind(values, "ServiceMonitor"), *of_kind(values, "PodMonitor")):
        (endpoint,) = monitor["spec"].get("endpoints") or monitor["spec"]["podMetricsEndpoints"]
        assert (endpoint["port"], endpoint["path"]) == ("http", "/metrics")


@pytest.mark.parametrize("kind", ["serviceMonitor", "podMonitor"])
def test_a_scraper_is_given_the_token_that_the_gateway_asks_for(kind: str) -> None:
    """One key of the secret is the gateway's setting and the monitor's credential."""
    values = merged(value_set("production"), at(f"metrics.{kind}.enabled", True))
    (monitor,) = of_kind(values, kind[0].upper() + kind[1:])
    (endpoint,) = monitor["spec"].get("endpoints") or monitor["spec"]["podMetricsEndpoints"]
    credentials = endpoint["authorization"]["credentials"]
    config = yaml.safe_load(of_kind(values, "ConfigMap")[0]["data"]["vidgate.yaml"])
    assert config["telemetry"]["metrics_token"] == f"${{{credentials['key']}}}"
    (pod,) = selected(values, {"app.kubernetes.io/component": "gateway"})
    assert {"secretRef": {"name": credentials["name"]}} in pod["spec"]["containers"][0]["envFrom"]


def test_keda_scales_the_deployment_on_a_figure_that_there_is() -> None:
    """The query is over a metric of the catalogue, taken once though every replica tells it; no second autoscaler."""
    values = value_set("keda")
    (scaled,) = of_kind(values, "ScaledObject")
    (deployment,) = of_kind(values, "Deployment")
    assert scaled["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]
    assert of_kind(values, "HorizontalPodAutoscaler") == []
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["type"] == "prometheus"
    assert trigger["metadata"]["query"] == 'sum(max by (status) (vidgate_jobs_active{namespace="video"}))'
    assert int(trigger["metadata"]["threshold"]) == 100


def test_the_autoscaler_scales_the_deployment() -> None:
    """And the number of replicas is its own."""
    values = value_set("autoscaled")
    (autoscaler,) = of_kind(values, "HorizontalPodAutoscaler")
    (deployment,) = of_kind(values, "Deployment")
    assert autoscaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]


def test_an_external_secret_fills_the_one_that_pods_read() -> None:
    """Its target is the secret of every pod, and no hook needs it before it can be there."""
    values = value_set("production")
    (external,) = of_kind(values, "ExternalSecret")
    assert external["apiVersion"] == "external-secrets.io/v1"
    name = external["spec"]["target"]["name"]
    read = {
        source["secretRef"]["name"]
        for _, spec in pod_specs(values)
        for container in spec["containers"]
        for source in container.get("envFrom", ())
    }
    assert read == {name}
    hooks = {
        found["metadata"]["annotations"]["helm.sh/hook"]
        for found in objects(values)
        if found["metadata"]["name"].endswith("-migration")
    }
    assert hooks == {"pre-upgrade"}, "at the first install the gateway makes the schema itself"


def test_the_rules_that_are_rendered_are_ones_that_prometheus_takes(tmp_path: Path) -> None:
    """The whole of the PrometheusRule's spec is a rule file, by Prometheus' own tool; every alarm is in it."""
    (rule,) = of_kind(value_set("production"), "PrometheusRule")
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(rule["spec"]), encoding="utf-8")
    done = bounded([programs().promtool, "check", "rules", str(path)], tmp_path, CHECK_TIMEOUT_S)
    assert done.status == 0, done.said
    assert f"{len(ALERTS)} rules found" in done.said


@pytest.mark.parametrize(("name", "named"), [("production", True), ("autoscaled", True), ("minimal", False)])
def test_every_series_of_a_rule_is_named_as_the_charts_monitor_labels_it(name: str, named: bool) -> None:
    """Namespace and job stand in every selector and nothing else is changed; without a monitor nothing is added."""
    values = merged(value_set(name), at("metrics.prometheusRule.enabled", True))
    rules = of_kind(values, "PrometheusRule")[0]["spec"]["groups"][0]["rules"]
    own = r'namespace="video",job=~"\(video/\)\?demo-vidgate(?:-gpu\(-\(worker\|ray\)\)\?)?"'
    for rule, alert in zip(rules, ALERTS, strict=True):
        selectors = re.findall(rf"vidgate_\w+(?:{{{own}[,}}])?", rule["expr"])
        for one in selectors:
            assert ("vidgate_gpu_" in one) == ("demo-vidgate-gpu" in one) or not named, one
        assert {("{" in one) for one in selectors} == {named}, rule["expr"]
        assert re.sub(own, "", rule["expr"]).replace("{}", "").replace("{,", "{") == alert.expression
        assert ({"namespace": "video", "release": "demo"}.items() <= rule["labels"].items()) is named


def test_an_alarm_looks_at_its_own_installation_only(tmp_path: Path) -> None:
    """Others' gateways, in another namespace or beside it, neither hide that this one is down nor ring for it."""
    (rule,) = of_kind(value_set("production"), "PrometheusRule")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]), encoding="utf-8")
    own = ({"namespace": "video", "job": "demo-vidgate"}, {"namespace": "video", "job": "video/demo-vidgate"})
    names = ("demo-vidgate-gpu", "demo-vidgate-gpu-ray", "video/demo-vidgate-gpu-worker", "video/demo-vidgate-gpu-ray")
    workers = tuple({"namespace": "video", "job": name} for name in names)
    others = ({"namespace": "music", "job": "demo-vidgate"}, {"namespace": "video", "job": "second-vidgate"})

    def told(name: str, labels: Mapping[str, str], alarm: str, count: int) -> dict[str, Any]:
        written = ",".join(f'{key}="{value}"' for key, value in labels.items())
        firing = f'count(ALERTS{{alertname="{alarm}",alertstate="firing",release="demo"}}) or vector(0)'
        samples = [{"labels": "{}", "value": count}]
        return {
            "interval": "1m",
            "input_series": [{"series": f"{name}{{{written}}}", "values": "9999x25"}],
            "promql_expr_test": [{"expr": firing, "eval_time": "20m", "exp_samples": samples}],
        }

    doubt = "vidgate_attempts_in_doubt_oldest_seconds"
    tests = [
        *(told("vidgate_build_info", labels, "VidgateDown", 0) for labels in own),
        *(told("vidgate_build_info", labels, "VidgateDown", 1) for labels in others),
        *(told(doubt, labels, "VidgateDoubtAgeing", 1) for labels in own),
        *(told(doubt, labels, "VidgateDoubtAgeing", 0) for labels in others),
        *(told("vidgate_gpu_queue_depth", labels, "VidgateGpuQueueFull", 1) for labels in workers),
        *(told("vidgate_gpu_queue_depth", labels, "VidgateGpuQueueFull", 0) for labels in (*own, *others)),
    ]
    for test, labels in zip(tests[8:], (*workers, *own, *others), strict=True):
        most = ",".join(f'{key}="{value}"' for key, value in labels.items())
        test["input_series"].append({"series": f"vidgate_gpu_queue_max{{{most}}}", "values": "9x25"})
    assert check_rules(tmp_path, tmp_path / "rules.yaml", tests) == ""


def test_every_dashboard_is_in_the_config_map_that_grafana_finds() -> None:
    """Each as JSON, under the sidecar's label."""
    found = [one for one in of_kind(value_set("production"), "ConfigMap") if one["metadata"]["name"].endswith("boards")]
    (config_map,) = found
    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
    shown = {json.loads(text)["uid"] for text in config_map["data"].values()}
    assert shown == {f"vidgate-{name}" for name in DASHBOARDS}


def test_the_test_of_the_chart_may_ask_where_others_may_not() -> None:
    """`helm test` passes under the policy of production: its pod may call the gateway, and is let out to it."""
    values = value_set("production")
    (policy,) = of_kind(values, "NetworkPolicy")
    (tester,) = of_kind(values, "Pod")
    callers = [peer for rule in policy["spec"]["ingress"] for peer in rule["from"] if "podSelector" in peer]
    assert [selected(values, peer["podSelector"]["matchLabels"]) for peer in callers] == [[tester]]


def test_every_pod_runs_where_pods_may_run() -> None:
    """Selector, tolerations and registry hold for the hook, the simulators and the test as for the gateway."""
    base = merged(value_set("air-gapped"), {"database": {"kind": "postgresql"}})
    owners = []
    for owner, spec in pod_specs(base):
        assert spec["nodeSelector"] == base["nodeSelector"], owner
        assert spec["tolerations"] == base["tolerations"], owner
        assert spec["imagePullSecrets"] == base["imagePullSecrets"], owner
        owners.append(owner)
    assert len(owners) == 4, owners


def test_the_migration_reads_the_variables_that_the_gateway_reads() -> None:
    """A configuration with ${NAME} from `extraEnv` is one configuration for both."""
    extra = {"name": "REGION", "value": "eu"}
    values = merged(value_set("production"), {"extraEnv": [extra]})
    named = [one for one in pods(values) if one["spec"]["containers"][0]["name"] in {"gateway", "migration"}]
    assert [extra in pod["spec"]["containers"][0]["env"] for pod in named] == [True, True]
