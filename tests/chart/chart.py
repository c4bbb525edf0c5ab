"""The chart as the tests see it: rendered by Helm's own engine, read back as objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

from tests.unit.tidy import ROOT

CHART = ROOT / "helm" / "vidgate"
SETS = sorted(path.stem for path in (CHART / "ci").glob("*.yaml"))


def value_set(name: str) -> dict[str, Any]:
    """One of the whole sets of values that the chart ships."""
    values = yaml.safe_load((CHART / "ci" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert isinstance(values, dict)
    return values


@cache
def _chart() -> helm_python.Chart:
    return helm_python.Chart.load(str(CHART))


def render(values: Mapping[str, Any], *, release: str = "demo") -> dict[str, str]:
    """What the templates give for these values, by template. Raises HelmError."""
    rendered = _chart().render(dict(values), name=release, namespace="video")
    return {path.removeprefix("vidgate/templates/"): text for path, text in rendered.items()}


def objects(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every Kubernetes object for these values."""
    texts = [text for path, text in render(values).items() if path.endswith(".yaml")]
    return [found for text in texts for found in yaml.safe_load_all(text) if found]


def of_kind(values: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    """The objects of one kind."""
    return [found for found in objects(values) if found["kind"] == kind]


def pod_specs(values: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The pods that any object starts, with the name of that object."""
    for found in objects(values):
        if found["kind"] == "Pod":
            yield found["metadata"]["name"], found["spec"]
        elif found["kind"] in {"Deployment", "Job"}:
            yield found["metadata"]["name"], found["spec"]["template"]["spec"]
        elif found["kind"] == "RayCluster":
            for template in ray_templates(found):
                yield found["metadata"]["name"], template["spec"]


def ray_templates(cluster: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The pods of a Ray cluster: its head's, and those of each group of workers."""
    spec = cluster["spec"]
    return [group["template"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Values with others over them, as Helm lays one file over another."""
    result = dict(base)
    for name, value in changes.items():
        here = result.get(name)
        result[name] = merged(here, value) if isinstance(here, dict) and isinstance(value, dict) else value
    return result


def at(path: str, value: Any) -> dict[str, Any]:
    """`at("a.b", 1)` is {"a": {"b": 1}}."""
    for part in reversed(path.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def readme_module() -> Any:
    """helm/readme.py, which is a script and not part of a package."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("chart_readme", Path(ROOT / "helm" / "readme.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
