"""The GPU part of the chart: cards, models, token, both ways through the network, and what the gateway is told of it.

KubeRay's RayCluster has no schema in Kubernetes: its structure is held here against what KubeRay's own reference
demands, and its pods against Kubernetes' schema of a pod.
"""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
import typer.main
import yaml

from gateway.cli.main import COMMANDS, program
from tests.chart.chart import at, merged, objects, of_kind, ray_templates, value_set
from tests.chart.test_rendering import KUBERNETES

GPU = value_set("gpu")
HUB = merged(GPU, {"gpuWorker": {"offline": False, "modelVolume": {"existingClaim": ""}}})
COMPONENT = "app.kubernetes.io/component"
# ray.io/v1: the fields of a RayCluster that the chart may write; those that must be there are in the second place.
RAY_FIELDS: dict[str, tuple[set[str], set[str]]] = {
    "spec": (
        {"rayVersion", "headGroupSpec", "workerGroupSpecs", "autoscalerOptions", "enableInTreeAutoscaling", "suspend"},
        {"headGroupSpec"},
    ),
    "head": (
        {"rayStartParams", "template", "serviceType", "enableIngress", "headService"},
        {"rayStartParams", "template"},
    ),
    "workers": (
        {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template", "scaleStrategy"},
        {"groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"},
    ),
}


def worker(values: dict[str, Any]) -> dict[str, Any]:
    """The Deployment of the GPU workers."""
    (found,) = [one for one in of_kind(values, "Deployment") if one["metadata"]["labels"][COMPONENT] == "gpu-worker"]
    return found


def container(values: dict[str, Any]) -> dict[str, Any]:
    """The only container of a worker's pod."""
    (found,) = worker(values)["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def words_of_head(values: dict[str, Any]) -> list[str]:
    """The words after `vidgate` in the head of the Ray cluster."""
    (cluster,) = of_kind(values, "RayCluster")
    (head,) = ray_templates(cluster)[0]["spec"]["containers"]
    return [str(word) for word in head["args"][1:]]


def test_a_worker_asks_for_cards_and_runs_where_they_are() -> None:
    """Its resource, runtime class, nodes and taints; none of them is the gateway's."""
    spec = worker(GPU)["spec"]["template"]["spec"]
    assert container(GPU)["resources"]["limits"] == {"nvidia.com/gpu": 1, "memory": "24Gi"}
    assert spec["runtimeClassName"] == "nvidia"
    assert spec["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H200"}
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    (gateway,) = [one for one in of_kind(GPU, "Deployment") if one["metadata"]["labels"][COMPONENT] == "gateway"]
    pod = gateway["spec"]["template"]["spec"]
    assert not {"nodeSelector", "tolerations", "runtimeClassName"} & pod.keys()
    assert "nvidia.com/gpu" not in pod["containers"][0]["resources"]["limits"]


def test_models_come_from_a_claim_a_folder_or_the_hub() -> None:
    """Offline they are only read; from the hub they are written to an empty folder, and the hub is let through."""

    def seen(values: dict[str, Any]) -> tuple[dict[str, Any], bool, set[str], bool]:
        spec = worker(values)["spec"]["template"]["spec"]
        (volume,) = [one for one in spec["volumes"] if one["name"] == "models"]
        (mount,) = [one for one in container(values)["volumeMounts"] if one["name"] == "models"]
        env = {one["name"] for one in container(values)["env"]}
        return volume, mount.get("readOnly", False), env & {"HF_HUB_OFFLINE"}, "--offline" in container(values)["args"]

    claim = {"name": "models", "persistentVolumeClaim": {"claimName": "video-models", "readOnly": True}}
    assert seen(GPU) == (claim, True, {"HF_HUB_OFFLINE"}, True)
    assert seen(HUB) == ({"name": "models", "emptyDir": {"sizeLimit": "30Gi"}}, False, set(), False)
    folder = merged(GPU, {"gpuWorker": {"modelVolume": {"existingClaim": "", "hostPath": "/data/models"}}})
    assert seen(folder)[0] == {"name": "models", "hostPath": {"path": "/data/models", "type": "Directory"}}


def test_the_root_is_read_only_and_everything_that_is_written_has_a_place() -> None:
    """Orders, results, compiled kernels, shared memory and temporary files lie on volumes of the pod."""
    mounts = {one["mountPath"]: one.get("readOnly", False) for one in container(GPU)["volumeMounts"]}
    assert mounts == {"/models": True, "/var/lib/vidgate": False, "/tmp": False, "/dev/shm": False}
    places = {one["name"]: one.get("value", "") for one in container(GPU)["env"]}
    for name in ("HOME", "HF_HOME", "TORCHINDUCTOR_CACHE_DIR"):
        assert places[name].startswith("/var/lib/vidgate")
    words = container(GPU)["args"]
    assert words[words.index("--work-dir") + 1].startswith("/var/lib/vidgate/")


def test_gateway_and_workers_share_one_key_of_the_secret() -> None:
    """The worker is given that key alone, and not the vendors' keys; the gateway's setting names it."""
    (token,) = [one for one in container(GPU)["env"] if one["name"] == "VIDGATE_GPU_TOKEN"]
    assert token["valueFrom"]["secretKeyRef"] == {"name": "vidgate-secrets", "key": "VIDGATE_GPU_TOKEN"}
    assert "envFrom" not in container(GPU)
    changed = merged(GPU, at("gpuWorker.tokenKey", "CARD_TOKEN"))
    config = yaml.safe_load(of_kind(changed, "ConfigMap")[0]["data"]["vidgate.yaml"])
    assert config["providers"]["local"]["token"] == "${CARD_TOKEN}"


def test_the_gateway_is_pointed_at_every_worker() -> None:
    """At the name whose addresses are the workers', and at the one address of the Ray cluster; settings are merged."""
    config = yaml.safe_load(of_kind(GPU, "ConfigMap")[0]["data"]["vidgate.yaml"])
    assert config["providers"]["local"]["workers"] == [
        "dns+http://demo-vidgate-gpu:8000",
        "http://demo-vidgate-gpu-ray:8000",
    ]
    assert config["providers"]["local"]["dead_after_s"] == 30
    services = {one["metadata"]["name"]: one["spec"] for one in of_kind(GPU, "Service")}
    assert services["demo-vidgate-gpu"]["clusterIP"] == "None", "a render belongs to one worker"
    assert services["demo-vidgate-gpu"]["publishNotReadyAddresses"] is True
    assert "clusterIP" not in services["demo-vidgate-gpu-ray"]
    alone = merged(value_set("minimal"), {"config": {"providers": None}, "gpuWorker": {**GPU["gpuWorker"]}})
    providers = yaml.safe_load(of_kind(alone, "ConfigMap")[0]["data"]["vidgate.yaml"])["providers"]
    assert set(providers) == {"local"}


@pytest.mark.parametrize("name", ["minimal", "production"])
def test_without_gpus_nothing_of_this_is_there(name: str) -> None:
    """No object, no provider, no rule of the network; dashboards and alarms are always all."""
    every = [one for one in objects(value_set(name)) if one["kind"] != "PrometheusRule"]
    found = [one for one in every if not one["metadata"]["name"].endswith("boards")]
    assert found
    assert "gpu" not in yaml.safe_dump(found)


def test_a_worker_takes_the_card_of_the_one_before_and_finishes_its_render() -> None:
    """No pod waits for a card that the old one holds; the grace period covers the drain."""
    spec = worker(GPU)["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}
    words = container(GPU)["args"]
    drain_s = int(words[words.index("--drain-s") + 1])
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= drain_s + 10
    (budget,) = [one for one in of_kind(GPU, "PodDisruptionBudget") if one["metadata"]["name"] == "demo-vidgate-gpu"]
    assert budget["spec"]["maxUnavailable"] == 1
    single = merged(GPU, at("gpuWorker.replicaCount", 1))
    assert of_kind(single, "PodDisruptionBudget") == []


def test_probes_are_those_of_the_protocol() -> None:
    """Alive is not ready: a start may take half an hour, and a pod that warms up is not killed."""
    for one in (container(GPU), ray_templates(of_kind(GPU, "RayCluster")[0])[0]["spec"]["containers"][0]):
        paths = {name: one[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
        assert paths == {"startup": "/readyz", "liveness": "/healthz", "readiness": "/readyz"}
        assert one["startupProbe"]["periodSeconds"] * one["startupProbe"]["failureThreshold"] >= 1800


# Both ways through the network


def policies(values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The gateway's policy and that of the GPU pods."""
    found = {one["metadata"]["name"]: one["spec"] for one in of_kind(values, "NetworkPolicy")}
    return found["demo-vidgate"], found["demo-vidgate-gpu"]


def test_every_pod_is_under_one_policy() -> None:
    """Policies add up: a GPU pod under the gateway's too would be let out to the vendors."""
    outer, inner = policies(GPU)
    (excluded,) = outer["podSelector"]["matchExpressions"]
    (included,) = inner["podSelector"]["matchExpressions"]
    assert (excluded["operator"], included["operator"]) == ("NotIn", "In")
    assert excluded["values"] == included["values"] == ["gpu-worker", "gpu-ray", "gpu-ray-worker"]
    labels = {one["metadata"]["labels"][COMPONENT] for one in ray_templates(of_kind(GPU, "RayCluster")[0])}
    assert labels | {worker(GPU)["metadata"]["labels"][COMPONENT]} == set(included["values"])


def test_only_gateway_and_prometheus_reach_a_worker() -> None:
    """On its port, and the gateway is let out to it."""
    outer, inner = policies(GPU)
    (callers,) = [rule for rule in inner["ingress"] if rule.get("ports")]
    assert callers["ports"] == [{"port": 8000, "protocol": "TCP"}]
    gateway, prometheus = callers["from"]
    assert gateway["podSelector"]["matchLabels"][COMPONENT] == "gateway"
    assert prometheus == GPU["networkPolicy"]["ingressFrom"][0]
    out = [rule for rule in outer["egress"] if rule["ports"] == [{"port": 8000, "protocol": "TCP"}]]
    reached = {rule["to"][0]["podSelector"]["matchLabels"][COMPONENT] for rule in out}
    assert reached == {"gpu-worker", "gpu-ray"}


def test_a_worker_gets_out_to_the_hub_only_when_it_fetches_from_there() -> None:
    """Offline, nothing but names and the pods of its own cluster."""

    def https(values: dict[str, Any]) -> list[Any]:
        rules = policies(values)[1]["egress"]
        return [rule for rule in rules if {"port": 443, "protocol": "TCP"} in rule.get("ports", ())]

    assert https(GPU) == []
    (rule,) = https(HUB)
    assert "10.0.0.0/8" in rule["to"][0]["ipBlock"]["except"]


@pytest.mark.parametrize("kind", ["serviceMonitor", "podMonitor"])
def test_prometheus_scrapes_the_workers(kind: str) -> None:
    """Each kind of them by a monitor of its own, and it is let in by the policy."""
    metrics = {"serviceMonitor": {"enabled": False}, kind: {"enabled": True}}
    values = merged(GPU, {"metrics": metrics})
    monitors = {one["metadata"]["name"]: one["spec"] for one in of_kind(values, kind[0].upper() + kind[1:])}
    for component in ("gpu-worker", "gpu-ray"):
        spec = monitors[f"demo-vidgate-{component}"]
        assert spec["selector"]["matchLabels"][COMPONENT] == component
        (endpoint,) = spec.get("endpoints") or spec["podMetricsEndpoints"]
        assert (endpoint["port"], endpoint["path"]) == ("http", "/metrics")
    (callers,) = [rule for rule in policies(values)[1]["ingress"] if rule.get("ports")]
    assert GPU["networkPolicy"]["ingressFrom"][0] in callers["from"]


# The Ray cluster


def test_the_ray_cluster_has_the_structure_that_kuberay_demands() -> None:
    """Every field is one of ray.io/v1, those that must be there are, and each group has one pod with one container."""
    (cluster,) = of_kind(GPU, "RayCluster")
    spec = cluster["spec"]
    parts = [("spec", spec), ("head", spec["headGroupSpec"]), *(("workers", one) for one in spec["workerGroupSpecs"])]
    for name, part in parts:
        may, must = RAY_FIELDS[name]
        assert must <= part.keys() <= may, name
    assert cluster["apiVersion"] == "ray.io/v1"
    for part in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in part["rayStartParams"].values())
    (group,) = spec["workerGroupSpecs"]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    head = spec["headGroupSpec"]["template"]
    assert head["metadata"]["annotations"] == {"ray.io/overwrite-container-cmd": "true"}
    assert "nvidia.com/gpu" not in head["spec"]["containers"][0]["resources"]["limits"]


@pytest.mark.parametrize("kubernetes", KUBERNETES)
def test_the_pods_of_the_ray_cluster_are_pods_of_kubernetes(kubernetes: str) -> None:
    """Strictly, as the templates of any other object."""
    for number, template in enumerate(ray_templates(of_kind(GPU, "RayCluster")[0])):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"pod-{number}"}, "spec": template["spec"]}
        kubernetes_validate.validate(pod, kubernetes, strict=True)


def test_the_head_begins_ray_as_kuberay_would_and_then_serves() -> None:
    """The generated command runs beside; the words that follow are the command line's."""
    (head,) = ray_templates(of_kind(GPU, "RayCluster")[0])[0]["spec"]["containers"]
    script = head["args"][0]
    assert head["command"] == ["/bin/bash", "-c"]
    assert "$KUBERAY_GEN_RAY_START_CMD &" in script
    assert script.strip().endswith('exec vidgate "$0" "$@"')
    assert words_of_head(GPU)[0] == "gpu-serve"


@pytest.mark.parametrize("values", [GPU, HUB], ids=["offline", "hub"])
def test_worker_and_head_are_told_what_the_command_line_takes(values: dict[str, Any]) -> None:
    """Every option is one of the command, and both are told the same of model, address and queue."""
    group = typer.main.get_command(program(COMMANDS))
    for words in (container(values)["args"], words_of_head(values)):
        command = group.commands[words[0]]  # type: ignore[attr-defined]
        command.make_context(words[0], [str(word) for word in words[1:]])
    assert words_of_head(values)[1 : len(container(values)["args"])] == [str(w) for w in container(values)["args"][1:]]


# Value, what it is set to, and the words that both programs are told for it.
SWITCHES: tuple[tuple[str, Any, list[str]], ...] = (
    ("revision", "9e43909513c6", ["--revision", "9e43909513c6"]),
    ("variant", "fp16", ["--variant", "fp16"]),
    ("dtype", "bfloat16", ["--dtype", "bfloat16"]),
    ("compile", "inductor", ["--compile", "inductor"]),
    ("compile", False, ["--compile", "off"]),
    ("attention", "flash", ["--attention", "flash"]),
    ("channelsLast", True, ["--channels-last", "on"]),
    ("guidance", "split", ["--guidance", "split"]),
    ("warmUp", False, ["--no-warm-up"]),
    ("wedgedSeconds", 900, ["--wedged-s", "900"]),
    ("startSeconds", 600, ["--start-s", "600"]),
)


def parsed(words: list[str]) -> dict[str, Any]:
    """What the command line makes of a container's words."""
    command = typer.main.get_command(program(COMMANDS)).commands[words[0]]  # type: ignore[attr-defined]
    return dict(command.make_context(words[0], words[1:]).params)


@pytest.mark.parametrize(("name", "value", "words"), SWITCHES, ids=str)
def test_a_switch_reaches_worker_and_head(name: str, value: Any, words: list[str]) -> None:
    """Under its option's name, as the command line takes it."""
    values = merged(GPU, at(f"gpuWorker.{name}", value))
    for told in (container(values)["args"], words_of_head(values)):
        joined = " ".join(str(word) for word in told) + " "
        assert " ".join(words) + " " in joined
        parsed([str(word) for word in told])


def test_without_values_of_ones_own_the_programs_have_their_own_defaults() -> None:
    """Whatever the chart says of itself is what the command line would have taken anyway, places and queue aside."""
    plain = parsed(["gpu-worker", "--model", "m"])
    told = parsed([str(word) for word in container(GPU)["args"]])
    named = {"model", "name", "offline", "host", "work_dir"}
    assert {key: value for key, value in told.items() if plain[key] != value}.keys() == named


def test_further_words_come_last_and_count() -> None:
    """Each program has its own; what is said twice counts as it is said there."""
    extra = {"gpuWorker": {"extraArgs": ["--threads", "4", "--guidance", "split"]}}
    ray = {"rayCluster": {"extraArgs": ["--queue-each", "3"]}}
    values = merged(GPU, {**extra, **ray})
    worker_told, head_told = (
        parsed([str(w) for w in one]) for one in (container(values)["args"], words_of_head(values))
    )
    assert (worker_told["threads"], worker_told["guidance"]) == (4, "split")
    assert (head_told["threads"], head_told["guidance"], head_told["queue_each"]) == (0, "batched", 3.0)
