"""Each documented value does something: flipped, it changes what is rendered; the page and the schema know it."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from tests.chart.chart import CHART, at, merged, readme_module, render, value_set

ROWS = readme_module().rows()
# PostgreSQL and an object store that only the configuration names: the volume that the values ask for is not needed.
ELSEWHERE = merged(
    value_set("minimal"), {"database": {"kind": "postgresql"}, "config": {"artifacts": {"url": "s3://clips"}}}
)
# A worker that fetches its model from the hub.
HUB = merged(value_set("gpu"), {"gpuWorker": {"offline": False, "modelVolume": {"existingClaim": ""}}})
BASES = {"elsewhere": ELSEWHERE, "hub": HUB}
# For every value: the set in which it matters, and another value for it.
FLIPS: dict[str, tuple[str, Any]] = {
    "image.repository": ("minimal", "registry.internal/vidgate"),
    "image.tag": ("minimal", "9.9.9"),
    "image.digest": ("minimal", "sha256:" + "a" * 64),
    "image.pullPolicy": ("minimal", "Always"),
    "imagePullSecrets": ("minimal", [{"name": "registry"}]),
    "nameOverride": ("minimal", "clips"),
    "fullnameOverride": ("minimal", "clips"),
    "replicaCount": ("production", 5),
    "database.kind": ("minimal", "postgresql"),
    "database.urlKey": ("production", "DATABASE_URL"),
    "redis.enabled": ("minimal", True),
    "redis.urlKey": ("production", "REDIS_URL"),
    "artifacts.url": ("minimal", "s3://clips"),
    "persistence.enabled": ("elsewhere", False),
    "persistence.existingClaim": ("minimal", "mine"),
    "persistence.storageClass": ("minimal", "fast"),
    "persistence.size": ("minimal", "1Ti"),
    "secret.existingSecret": ("minimal", "other"),
    "secret.externalSecret.enabled": ("production", False),
    "secret.externalSecret.storeRef": ("production", {"name": "aws", "kind": "SecretStore"}),
    "secret.externalSecret.refreshInterval": ("production", "5m"),
    "secret.externalSecret.remoteKey": ("production", "other/place"),
    "config.providers": ("minimal", {"modelslab": {"api_key": "${MODELSLAB_API_KEY}"}}),
    "priceBook": ("minimal", {"currency": "USD", "routes": {}}),
    "extraVolumes": ("minimal", [{"name": "certificates", "configMap": {"name": "database-ca"}}]),
    "extraVolumeMounts": ("minimal", [{"name": "tmp", "mountPath": "/scratch"}]),
    "publicBaseUrl": ("minimal", "https://clips.example.com"),
    "extraEnv": ("minimal", [{"name": "TZ", "value": "UTC"}]),
    "podAnnotations": ("minimal", {"a": "b"}),
    "podLabels": ("minimal", {"a": "b"}),
    "resources.requests": ("minimal", {"cpu": "2"}),
    "resources.limits": ("minimal", {"memory": "4Gi"}),
    "preStopSleepSeconds": ("minimal", 9),
    "drainSeconds": ("minimal", 90),
    "probes.livenessPeriodSeconds": ("minimal", 30),
    "probes.readinessPeriodSeconds": ("minimal", 30),
    "probes.startupFailureThreshold": ("minimal", 5),
    "autoscaling.enabled": ("autoscaled", False),
    "autoscaling.minReplicas": ("autoscaled", 3),
    "autoscaling.maxReplicas": ("autoscaled", 9),
    "autoscaling.targetCPUUtilizationPercentage": ("autoscaled", 50),
    "autoscaling.keda.enabled": ("keda", False),
    "autoscaling.keda.prometheusAddress": ("keda", "http://prometheus:9090"),
    "autoscaling.keda.jobsPerReplica": ("keda", 20),
    "podDisruptionBudget.enabled": ("production", False),
    "service.type": ("minimal", "NodePort"),
    "service.port": ("minimal", 8000),
    "ingress.enabled": ("production", False),
    "ingress.className": ("production", "traefik"),
    "ingress.annotations": ("production", {"a": "b"}),
    "ingress.host": ("production", "clips.example.com"),
    "ingress.tlsSecret": ("production", "other-tls"),
    "httpRoute.enabled": ("autoscaled", False),
    "httpRoute.parentRefs": ("autoscaled", [{"name": "inner"}]),
    "httpRoute.hostnames": ("autoscaled", ["clips.example.com"]),
    "httpRoute.timeouts": ("autoscaled", {"request": "330s"}),
    "serviceAccount.create": ("minimal", False),
    "serviceAccount.name": ("minimal", "clips"),
    "serviceAccount.annotations": ("minimal", {"a": "b"}),
    "metrics.serviceMonitor.enabled": ("minimal", True),
    "metrics.serviceMonitor.interval": ("production", "1m"),
    "metrics.serviceMonitor.labels": ("production", {"a": "b"}),
    "metrics.podMonitor.enabled": ("minimal", True),
    "metrics.podMonitor.interval": ("autoscaled", "1m"),
    "metrics.podMonitor.labels": ("autoscaled", {"a": "b"}),
    "metrics.prometheusRule.enabled": ("minimal", True),
    "metrics.prometheusRule.labels": ("production", {"a": "b"}),
    "metrics.dashboards.enabled": ("minimal", True),
    "metrics.dashboards.labels": ("production", {"a": "b"}),
    "metrics.tokenKey": ("minimal", "SCRAPER_TOKEN"),
    "networkPolicy.enabled": ("minimal", True),
    "networkPolicy.ingressFrom": ("production", [{"podSelector": {}}]),
    "networkPolicy.dnsTo": ("production", [{"ipBlock": {"cidr": "169.254.20.10/32"}}]),
    "networkPolicy.egressTo": ("production", []),
    "networkPolicy.vendors": ("production", False),
    "migration.enabled": ("production", False),
    "migration.activeDeadlineSeconds": ("production", 30),
    "migration.urlKey": ("production", "OWNER_URL"),
    "simulators.enabled": ("minimal", True),
    "simulators.resources.requests": ("simulators", {"cpu": "2"}),
    "simulators.resources.limits": ("simulators", {"memory": "4Gi"}),
    "gpuWorker.enabled": ("gpu", False),
    "gpuWorker.replicaCount": ("gpu", 5),
    "gpuWorker.image.repository": ("gpu", "other/vidgate-gpu"),
    "gpuWorker.image.tag": ("gpu", "9.9.9"),
    "gpuWorker.image.digest": ("gpu", "sha256:" + "a" * 64),
    "gpuWorker.model": ("gpu", "/models/other"),
    "gpuWorker.modelName": ("gpu", "svd"),
    "gpuWorker.offline": ("gpu", False),
    "gpuWorker.tokenKey": ("gpu", "OTHER_TOKEN"),
    "gpuWorker.queueMax": ("gpu", 2),
    "gpuWorker.keepSeconds": ("gpu", 60),
    "gpuWorker.drainSeconds": ("gpu", 30),
    "gpuWorker.gpuResource": ("gpu", "amd.com/gpu"),
    "gpuWorker.gpus": ("gpu", 2),
    "gpuWorker.runtimeClassName": ("gpu", "other"),
    "gpuWorker.modelVolume.existingClaim": ("gpu", "other-models"),
    "gpuWorker.modelVolume.hostPath": ("hub", "/data/models"),
    "gpuWorker.modelVolume.size": ("hub", "99Gi"),
    "gpuWorker.scratchSize": ("gpu", "99Gi"),
    "gpuWorker.resources.requests": ("gpu", {"cpu": "8"}),
    "gpuWorker.resources.limits": ("gpu", {"memory": "64Gi"}),
    "gpuWorker.nodeSelector": ("gpu", {"gpu": "big"}),
    "gpuWorker.tolerations": ("gpu", []),
    "gpuWorker.affinity": ("gpu", {"nodeAffinity": {}}),
    "gpuWorker.extraEnv": ("gpu", [{"name": "TZ", "value": "UTC"}]),
    "gpuWorker.startupFailureThreshold": ("gpu", 500),
    "gpuWorker.revision": ("hub", "9e43909513c6714f1bc78bcb44d96e733cd242aa"),
    "gpuWorker.variant": ("gpu", "fp16"),
    "gpuWorker.dtype": ("gpu", "bfloat16"),
    "gpuWorker.compile": ("gpu", "off"),
    "gpuWorker.attention": ("gpu", "flash"),
    "gpuWorker.channelsLast": ("gpu", "on"),
    "gpuWorker.guidance": ("gpu", "split"),
    "gpuWorker.warmUp": ("gpu", False),
    "gpuWorker.wedgedSeconds": ("gpu", 900),
    "gpuWorker.startSeconds": ("gpu", 900),
    "gpuWorker.extraArgs": ("gpu", ["--threads", "4"]),
    "gpuWorker.podDisruptionBudget.enabled": ("gpu", False),
    "rayCluster.enabled": ("gpu", False),
    "rayCluster.rayVersion": ("gpu", "9.9.9"),
    "rayCluster.workers": ("gpu", 3),
    "rayCluster.cpusEach": ("gpu", 1.5),
    "rayCluster.extraArgs": ("gpu", ["--threads", "4"]),
    "rayCluster.headResources": ("gpu", {"limits": {"memory": "1Gi"}}),
    "nodeSelector": ("minimal", {"disk": "fast"}),
    "tolerations": ("minimal", [{"operator": "Exists"}]),
    "affinity": ("minimal", {"nodeAffinity": {}}),
    "topologySpread.enabled": ("production", False),
}


def test_every_value_has_a_case_and_a_meaning() -> None:
    """The table of this file, values.yaml and its comments name the same values."""
    assert sorted(FLIPS) == sorted(name for name, _, _ in ROWS)
    assert [name for name, _, meaning in ROWS if len(meaning) < 10] == []


def base_of(name: str) -> dict[str, Any]:
    """The values of a base by its name."""
    return BASES.get(name) or value_set(name)


@cache
def unflipped(name: str) -> dict[str, str]:
    """What a base renders."""
    return render(base_of(name))


@pytest.mark.parametrize("name", FLIPS)
def test_flipping_a_value_changes_what_is_rendered(name: str) -> None:
    """No value is there for nothing."""
    base_name, value = FLIPS[name]
    assert render(merged(base_of(base_name), at(name, value))) != unflipped(base_name)


def test_the_page_is_written_from_the_values() -> None:
    """`python helm/readme.py` would change nothing."""
    module = readme_module()
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run: python helm/readme.py"


def test_the_schema_knows_every_value() -> None:
    """Each documented value has its place in values.schema.json, where unknown ones are errors."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    for name, _, _ in ROWS:
        here = schema
        for part in name.split("."):
            if here.get("type") == "object" and "properties" not in here:
                break  # free-form: what stands under it is another program's to check
            assert here["additionalProperties"] is False, name
            here = here["properties"][part]
