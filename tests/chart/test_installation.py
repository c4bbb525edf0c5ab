"""What a first installation needs: the page's own steps, prices, certificates, roles, proxies, scrapes, memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.cli.servers import installed
from gateway.config import load
from gateway.money.prices import PriceBook
from gateway.settings import ServerSection
from tests.chart.chart import CHART, at, merged, of_kind, pod_specs, ray_templates, value_set
from tests.unit.tidy import ROOT

PAGE = (CHART / "README.md").read_text(encoding="utf-8")
# The ending that each value of the page's secret has to have here; the others may be anything.
WRITTEN = {"VIDGATE_STORE_URL": "postgresql://vidgate:p@db/vidgate", "VIDGATE_BUS_URL": "rediss://:p@redis:6379/0"}
BOOK = {
    "currency": "USD",
    "routes": {
        "segmind/svd": [
            {
                "effective_from": "2026-01-01",
                "terms": [{"per": "call", "usd": "0.5", "confidence": "published", "source": "our contract"}],
            }
        ]
    },
}


def files_of(values: dict[str, Any], name: str = "demo-vidgate") -> dict[str, str]:
    """The files of one ConfigMap."""
    (found,) = [one for one in of_kind(values, "ConfigMap") if one["metadata"]["name"] == name]
    return dict(found["data"])


def test_the_first_installation_of_the_page_is_one_that_starts(tmp_path: Path) -> None:
    """Its values render three replicas, and the gateway takes their configuration with the secret of the page alone."""
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    values = yaml.safe_load(block)
    keys = re.findall(r"--from-literal=(\w+)=", PAGE)
    secret = {key: WRITTEN.get(key, f"a value of {key}, long enough") for key in keys}
    config = files_of(values)["vidgate.yaml"]
    assert set(re.findall(r"\$\{(\w+)\}", config)) <= set(keys)
    file = tmp_path / "vidgate.yaml"
    file.write_text(config, encoding="utf-8")
    configuration = load(file, environment=secret, plugins=installed(), at=1_800_000_000.0)
    assert configuration.routes
    assert configuration.settings.artifacts.url.startswith("s3://")
    (deployment,) = of_kind(values, "Deployment")
    assert deployment["spec"]["replicas"] == 3
    created = re.search(r"create secret generic (\S+)", PAGE)
    assert created is not None
    assert values["secret"]["existingSecret"] == created[1]


@pytest.mark.parametrize("name", ["demo-vidgate", "demo-vidgate-migration"])
def test_a_price_book_of_ones_own_comes_with_the_configuration(name: str) -> None:
    """Beside it, where the setting looks for it; the pods are not rolled for it, for the gateway reads it again."""
    values = merged(value_set("production"), {"priceBook": BOOK})
    files = files_of(values, name)
    place = Path(yaml.safe_load(files["vidgate.yaml"])["money"]["price_book"])
    owner = "demo-vidgate-migration" if name.endswith("migration") else "demo-vidgate"
    (spec,) = [spec for found, spec in pod_specs(values) if found == owner]
    mounts = {one["mountPath"]: one["name"] for one in spec["containers"][0]["volumeMounts"]}
    (volume,) = [one for one in spec["volumes"] if one["name"] == mounts[str(place.parent)]]
    assert volume["configMap"]["name"] == name
    price = PriceBook.seeded(files[place.name]).price("segmind/svd", {}, 1_800_000_000.0)
    assert price is not None
    assert price.cost_micros == 500_000
    settings = yaml.safe_load(files["vidgate.yaml"])["money"]
    assert settings["margin_percent"] == 5, "what the values say of money stays"


def test_certificates_reach_the_gateway_and_its_migration() -> None:
    """Both open the database."""
    volume = {"name": "ca", "configMap": {"name": "database-ca"}}
    mount = {"name": "ca", "mountPath": "/ca", "readOnly": True}
    values = merged(value_set("production"), {"extraVolumes": [volume], "extraVolumeMounts": [mount]})
    for owner, spec in pod_specs(values):
        has = owner in {"demo-vidgate", "demo-vidgate-migration"}
        assert volume in spec["volumes"] if has else "volumes" not in spec, owner
        assert (mount in spec["containers"][0].get("volumeMounts", [])) is has, owner


def test_the_tables_may_belong_to_another_role_than_the_gateways() -> None:
    """The migration's configuration has the owner's URL, and the gateway's its own; nothing else differs."""
    values = merged(value_set("production"), at("migration.urlKey", "OWNER_URL"))
    own, owner = (yaml.safe_load(files_of(values, f"demo-vidgate{end}")["vidgate.yaml"]) for end in ("", "-migration"))
    assert (own["store"].pop("url"), owner["store"].pop("url")) == ("${VIDGATE_STORE_URL}", "${OWNER_URL}")
    assert own == owner


def test_what_stands_in_front_lets_through_what_the_gateway_takes() -> None:
    """Bodies of the usual size, the longest held line, events as they come, no POST twice: as the compose file's."""
    (ingress,) = of_kind(value_set("production"), "Ingress")
    prefix = "nginx.ingress.kubernetes.io/"
    told = {name.removeprefix(prefix): value for name, value in ingress["metadata"]["annotations"].items()}
    longest_s = next(one.le for one in ServerSection.model_fields["wait_s_max"].metadata if hasattr(one, "le"))
    assert told["proxy-body-size"] == f"{ServerSection.model_fields['body_bytes_max'].default >> 20}m"
    assert int(told["proxy-read-timeout"]) > longest_s
    assert (told["proxy-buffering"], told["proxy-next-upstream"]) == ("off", "off")
    compose = (ROOT / "examples/compose/nginx.conf").read_text(encoding="utf-8")
    assert f"client_max_body_size {told['proxy-body-size']};" in compose
    assert f"proxy_read_timeout {told['proxy-read-timeout']}s;" in compose
    (route,) = of_kind(value_set("autoscaled"), "HTTPRoute")
    assert route["spec"]["rules"][0]["timeouts"] == {"request": "0s"}


@pytest.mark.parametrize("kind", ["serviceMonitor", "podMonitor"])
def test_no_scrape_may_take_longer_than_until_the_next(kind: str) -> None:
    """Prometheus refuses a timeout above the interval; without one it takes the shorter of its own and the interval."""
    values = merged(value_set("gpu"), {"metrics": {kind: {"enabled": True, "interval": "5s"}}})
    monitors = of_kind(values, kind[0].upper() + kind[1:])
    assert len(monitors) == 3
    for monitor in monitors:
        (endpoint,) = monitor["spec"].get("endpoints") or monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["interval"] == "5s"
        assert "scrapeTimeout" not in endpoint


def test_rays_object_store_fits_into_shared_memory() -> None:
    """Else Ray would put it on the pod's disk, or not start."""
    (cluster,) = of_kind(value_set("gpu"), "RayCluster")
    spec = cluster["spec"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for group, template in zip(groups, ray_templates(cluster), strict=True):
        (shm,) = [one["emptyDir"] for one in template["spec"]["volumes"] if one["name"] == "shm"]
        assert shm == {"medium": "Memory", "sizeLimit": "2Gi"}
        assert 0 < int(group["rayStartParams"]["object-store-memory"]) < 0.9 * 2**31
