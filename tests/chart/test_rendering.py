"""The chart renders for every kind of deployment, and what it renders is sound, safe and what the gateway takes."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import typer.main
import yaml

from gateway.cli.development import provider_sections
from gateway.cli.main import COMMANDS, program
from gateway.cli.servers import installed, simulated
from gateway.config import load
from gateway.settings import Settings
from tests.chart.chart import CHART, SETS, at, merged, objects, of_kind, pod_specs, render, value_set

KUBERNETES = ("1.29", "1.33", "1.37")
# Kinds of operators, whose schemas Kubernetes does not bring: their fields are looked at in test_operators.py.
CUSTOM = {"ExternalSecret", "HTTPRoute", "PodMonitor", "PrometheusRule", "RayCluster", "ScaledObject", "ServiceMonitor"}
SECRETS = {
    "VIDGATE_SIGNING_SECRET": "a secret of the tests, long enough",
    "SEGMIND_API_KEY": "SG_0123456789abcdef",
    "MODELSLAB_API_KEY": "a key of the tests",
    "VIDGATE_STORE_URL": "postgresql://vidgate@db.video.svc/vidgate",
    "VIDGATE_BUS_URL": "redis://redis.video.svc:6379/0",
    "VIDGATE_METRICS_TOKEN": "a token of the scraper",
    "VIDGATE_GPU_TOKEN": "a token of the workers",
    "VIDGATE_OTLP_HEADERS": "authorization=Bearer%20of-the-collector",
}


@pytest.mark.parametrize("name", SETS)
def test_a_set_of_values_passes_the_strict_lint(name: str) -> None:
    """No warning and no error by Helm's own linter, schema included."""
    report = helm_python.lint(str(CHART), value_set(name), strict=True)
    assert report["errors"] == []
    assert [one for one in report["messages"] if one["severity"] >= 2] == []


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("kubernetes", KUBERNETES)
def test_every_object_is_valid_in_several_versions_of_kubernetes(name: str, kubernetes: str) -> None:
    """Strictly: a field that the schema does not know is an error."""
    checked = 0
    for found in objects(value_set(name)):
        if found["kind"] not in CUSTOM:
            kubernetes_validate.validate(found, kubernetes, strict=True)
            checked += 1
    assert checked >= 5


def test_a_misspelt_field_would_be_seen() -> None:
    """The validation above can fail."""
    deployment = of_kind(value_set("minimal"), "Deployment")[0]
    deployment["spec"]["replica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES[-1], strict=True)


@pytest.mark.parametrize("name", SETS)
def test_the_configuration_of_a_set_is_one_that_the_gateway_takes(name: str, tmp_path: Path) -> None:
    """Every setting that the chart writes is a setting that there is, and the whole passes the gateway's own check."""
    for config_map in of_kind(value_set(name), "ConfigMap"):
        if "vidgate.yaml" in config_map["data"]:
            file = tmp_path / "vidgate.yaml"
            file.write_text(config_map["data"]["vidgate.yaml"])
            configuration = load(file, environment=SECRETS, plugins=installed(), at=1_800_000_000.0)
            assert isinstance(configuration.settings, Settings)
            assert configuration.routes


@pytest.mark.parametrize("name", SETS)
def test_every_argument_of_a_container_is_one_that_the_command_line_takes(name: str) -> None:
    """The words are parsed by the command itself; nothing is run."""
    group = typer.main.get_command(program(COMMANDS))
    seen = 0
    for _, spec in pod_specs(value_set(name)):
        for container in spec["containers"]:
            if "args" in container and "command" not in container:
                words, command = [str(word) for word in container["args"]], group
                while True:
                    found = command.commands.get(words[0]) if words and hasattr(command, "commands") else None
                    if found is None:
                        break
                    words, command = words[1:], found
                assert command is not group, f"there is no command {words[0]}"
                command.make_context(container["name"], words)
                seen += 1
    assert seen >= 1


@pytest.mark.parametrize("name", SETS)
def test_every_pod_is_locked_down(name: str) -> None:
    """Not root, nothing to write but its own places, no privileges, the default seccomp, no token of the cluster."""
    for owner, spec in pod_specs(value_set(name)):
        assert spec["automountServiceAccountToken"] is False, owner
        assert spec["securityContext"]["runAsNonRoot"] is True, owner
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, owner
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, owner
            assert container["resources"]["limits"]["memory"], owner
            assert "cpu" not in container["resources"]["limits"], owner


@pytest.mark.parametrize("name", SETS)
def test_no_secret_is_made_up_or_written_down(name: str) -> None:
    """The chart renders no Secret, and a secret stands in the configuration as the name of a variable only."""
    assert of_kind(value_set(name), "Secret") == []
    for config_map in of_kind(value_set(name), "ConfigMap"):
        config = yaml.safe_load(config_map["data"].get("vidgate.yaml", "{}"))
        if config:
            assert config["security"]["signing_secret"] == "${VIDGATE_SIGNING_SECRET}"
            if "simulators" not in value_set(name):
                secrets = [one.get("api_key") or one["token"] for one in config["providers"].values()]
                assert {secret[:2] for secret in secrets} == {"${"}


@pytest.mark.parametrize("name", SETS)
def test_the_grace_period_covers_the_sleep_and_the_drain(name: str) -> None:
    """A pod is not killed while it finishes what is quick."""
    for found in of_kind(value_set(name), "Deployment"):
        spec = found["spec"]["template"]["spec"]
        container = spec["containers"][0]
        if container["name"] == "gateway":
            sleep_s = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
            drain_s = yaml.safe_load(of_kind(value_set(name), "ConfigMap")[0]["data"]["vidgate.yaml"])["server"][
                "drain_s"
            ]
            assert spec["terminationGracePeriodSeconds"] >= sleep_s + drain_s + 5
            paths = [container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")]
            assert paths == ["/healthz", "/healthz", "/readyz"]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "several replicas on SQLite": ({"replicaCount": 2}, "set database.kind to postgresql"),
    "several replicas without Redis": ({"replicaCount": 2, "database": {"kind": "postgresql"}}, "set redis.enabled"),
    "several replicas without an object store": (
        {"autoscaling": {"enabled": True}, "database": {"kind": "postgresql"}, "redis": {"enabled": True}},
        "set artifacts.url",
    ),
    "no secret": ({"secret": {"existingSecret": ""}}, "vidgate has no default secrets"),
    "no provider": ({"config": None}, "no provider is configured"),
    "an external secret of nothing": (
        {"secret": {"existingSecret": "", "externalSecret": {"enabled": True}}},
        "secret.externalSecret.remoteKey",
    ),
    "an offline worker without a model": (
        {"gpuWorker": {"enabled": True}},
        "set gpuWorker.modelVolume.existingClaim or .hostPath, or gpuWorker.offline to false",
    ),
    "models in two places": (
        {"gpuWorker": {"enabled": True, "modelVolume": {"existingClaim": "models", "hostPath": "/models"}}},
        "not both",
    ),
    "a start that its probe cuts off": (
        {"gpuWorker": {"startSeconds": 3600}},
        "set gpuWorker.startupFailureThreshold to a tenth of gpuWorker.startSeconds",
    ),
    "a hub that cannot be reached": (
        {
            "gpuWorker": {"enabled": True, "offline": False},
            "networkPolicy": {"enabled": True, "vendors": False},
        },
        "put it on gpuWorker.modelVolume",
    ),
    "a route to nowhere": ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs"),
    "SQLite without a volume": ({"persistence": {"enabled": False}}, "set persistence.enabled, or database.kind"),
    "pictures and videos without a volume": (
        {"persistence": {"enabled": False}, "database": {"kind": "postgresql"}},
        "set persistence.enabled, or artifacts.url",
    ),
    "an ingress to open metrics": ({"ingress": {"enabled": True}}, "set metrics.tokenKey"),
    "a route to open metrics": (
        {"httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}},
        "set metrics.tokenKey",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_with_the_sentence_that_mends_it(case: str) -> None:
    """Rendering fails and says what to set."""
    changes, said = REFUSED[case]
    values = value_set("minimal")
    values = {**merged(values, changes), "config": {}} if case == "no provider" else merged(values, changes)
    with pytest.raises(helm_python.HelmError, match=said.replace(".", r"\.")):
        render(values)


@pytest.mark.parametrize(
    "changes",
    [
        {"replicas": 2},
        {"replicaCount": 0},
        {"replicaCount": "two"},
        {"database": {"kind": "mysql"}},
        {"image": {"digest": "latest"}},
        {"metrics": {"serviceMonitor": {"interval": "often"}}},
        {"secret": {"signingSecret": "hunter2"}},
        {"networkPolicy": {"dnsTo": []}},
        {"gpuWorker": {"model": ""}},
        {"gpuWorker": {"modelName": "sdxl"}},
        {"gpuWorker": {"gpuResource": "gpu"}},
        {"gpuWorker": {"compile": "yes"}},
        {"gpuWorker": {"wedgedSeconds": 0}},
        {"gpuWorker": {"extraArgs": "--threads 4"}},
        {"gpuWorker": {"extraArgs": ["--token=hunter2"]}},
        {"rayCluster": {"extraArgs": ["--port", "9000"]}},
        {"rayCluster": {"workers": 0}},
        {"networkPolicy": {"egressTo": [{"ports": [5432]}]}},
    ],
    ids=str,
)
def test_the_schema_refuses_what_it_does_not_know(changes: dict[str, Any]) -> None:
    """An unknown key, a wrong type or an impossible value."""
    with helm_python.Chart.load(str(CHART)) as chart:
        chart.validate_schema(value_set("minimal"))
        with pytest.raises(helm_python.HelmError):
            chart.validate_schema(merged(value_set("minimal"), changes))


def test_the_simulated_providers_are_those_of_the_sandbox() -> None:
    """What the chart writes for its test mode is what `vidgate sandbox` says of its simulators."""
    config = yaml.safe_load(of_kind(value_set("simulators"), "ConfigMap")[0]["data"]["vidgate.yaml"])
    known = installed()
    urls = {one.name: f"http://video-test-simulators:{9100 + place}" for place, one in enumerate(simulated(known))}
    assert config["providers"] == provider_sections(urls, known)
    hosts = [url.removeprefix("http://") for url in urls.values()]
    assert config["outbound"]["allow_hosts"] == hosts
    service = next(
        one for one in of_kind(value_set("simulators"), "Service") if "simulators" in one["metadata"]["name"]
    )
    assert [f"{service['metadata']['name']}:{port['port']}" for port in service["spec"]["ports"]] == hosts


def test_the_chart_is_of_the_version_of_the_package() -> None:
    """Chart, image tag and package go together."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == version("vidgate")
    assert of_kind(value_set("minimal"), "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["image"] == (
        f"vidgate:{version('vidgate')}"
    )


def test_replicas_share_nothing_but_what_is_made_for_it() -> None:
    """In production no volume is mounted, the roll-out keeps all replicas, and one may be disrupted at a time."""
    values = value_set("production")
    deployment = of_kind(values, "Deployment")[0]["spec"]
    assert deployment["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert {volume["name"] for volume in deployment["template"]["spec"]["volumes"]} == {"config", "tmp"}
    assert of_kind(values, "PersistentVolumeClaim") == []
    assert of_kind(values, "PodDisruptionBudget")[0]["spec"]["maxUnavailable"] == 1
    assert len(deployment["template"]["spec"]["topologySpreadConstraints"]) == 2


def test_the_only_process_on_sqlite_ends_before_the_next_begins() -> None:
    """Two processes never have the file, and its volume outlives the release."""
    assert of_kind(value_set("minimal"), "Deployment")[0]["spec"]["strategy"] == {"type": "Recreate"}
    claim = of_kind(value_set("minimal"), "PersistentVolumeClaim")[0]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


@pytest.mark.parametrize(
    ("changes", "strategy"),
    [
        ({"redis": {"enabled": True}}, "Recreate"),
        ({"artifacts": {"url": "s3://clips"}}, "Recreate"),
        ({"redis": {"enabled": True}, "artifacts": {"url": "s3://clips"}}, "RollingUpdate"),
    ],
    ids=["it has the volume", "it shares nothing", "it shares all"],
)
def test_a_replica_on_postgresql_is_rolled_only_where_two_can_stand_together(
    changes: dict[str, Any], strategy: str
) -> None:
    """A claim that one node may write holds the next pod up; without Redis two do not know of each other."""
    values = merged(merged(value_set("minimal"), {"database": {"kind": "postgresql"}}), changes)
    assert of_kind(values, "Deployment")[0]["spec"]["strategy"]["type"] == strategy


def test_the_migration_runs_before_anything_else_and_brings_its_configuration() -> None:
    """A hook before install and upgrade; its ConfigMap comes first, because that of the release is not there yet."""
    values = merged(value_set("production"), at("secret.externalSecret.enabled", False))
    job = of_kind(values, "Job")[0]
    config_map = next(one for one in of_kind(values, "ConfigMap") if one["metadata"]["name"].endswith("-migration"))
    for one in (job, config_map):
        assert one["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    weights = [int(one["metadata"]["annotations"]["helm.sh/hook-weight"]) for one in (config_map, job)]
    assert weights == sorted(weights)
    assert of_kind(value_set("minimal"), "Job") == []


def test_the_network_policy_lets_out_only_what_is_configured() -> None:
    """DNS, the named databases and collector, the vendors; without vendors nothing on port 443."""
    policy = of_kind(value_set("production"), "NetworkPolicy")[0]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    ports = sorted({port["port"] for rule in policy["egress"] for port in rule["ports"]})
    assert ports == [53, 443, 4318, 5432, 6379, 8080]
    for rule in policy["egress"]:
        assert rule["to"], "a rule without peers is open to every address"
        if rule["ports"][0]["port"] == 443:
            old, new = (peer["ipBlock"] for peer in rule["to"])
            assert (old["cidr"], new["cidr"]) == ("0.0.0.0/0", "::/0")
            assert "169.254.0.0/16" in old["except"]
            assert new["except"] == ["fc00::/7", "fe80::/10"]
        if rule["ports"][0]["port"] == 53:
            assert [set(peer) for peer in rule["to"]] == [{"namespaceSelector", "podSelector"}]
    gapped = of_kind(value_set("air-gapped"), "NetworkPolicy")[0]["spec"]
    assert all(rule["to"] and port["port"] != 443 for rule in gapped["egress"] for port in rule["ports"])


def test_a_changed_configuration_rolls_the_pods() -> None:
    """The checksum on the pods follows the configuration and nothing else."""

    def checksum(changes: dict[str, Any]) -> str:
        found = of_kind(merged(value_set("minimal"), changes), "Deployment")[0]
        return str(found["spec"]["template"]["metadata"]["annotations"]["checksum/config"])

    assert checksum({}) == checksum({"podLabels": {"a": "b"}})
    assert checksum({}) != checksum({"config": {"jobs": {"deadline_s": 60}}})
