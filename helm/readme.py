"""Writes helm/vidgate/README.md from values.yaml: `python helm/readme.py`. A test compares the page with it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

CHART = Path(__file__).parent / "vidgate"
PAGE = CHART / "README.md"
LINE = re.compile(r"^(?P<indent> *)(?P<name>[A-Za-z]\w*):(?P<rest>.*)")
HEAD = """# The vidgate chart

Written from values.yaml by `python helm/readme.py`; a test compares the page with it.

    helm install vidgate helm/vidgate -f my-values.yaml

The chart has no default secrets and no default vendor: name a secret with `VIDGATE_SIGNING_SECRET` and the vendors'
keys, and write `config.providers`. What cannot work (several replicas on SQLite, no provider, no secret) is refused
when it is rendered, with the sentence that mends it. [ci/](ci/) has whole sets of values: minimal, production,
autoscaled, KEDA, air-gapped, GPU, and simulators as a test mode. PostgreSQL, Redis and the
object store are the cluster's own: the chart brings no databases along.

`gpuWorker` deploys `vidgate gpu-worker` on nodes with cards, `rayCluster` the same renderer on many cards behind one
address (a RayCluster of KubeRay whose head runs `vidgate gpu-serve`); the provider `local` is pointed at both.
Models lie on a claim or a folder of the node, or are fetched from the hub; the token between gateway and workers is a
key of the secret. Their image is one with the extra `local-gpu` (docs/local-gpu.md).

`helm test` asks the gateway for its health, its readiness and its description of itself.

| value | default | meaning |
|---|---|---|
"""


def page() -> str:
    """The whole page."""
    return HEAD + "".join(f"| `{name}` | `{shown}` | {text} |\n" for name, shown, text in rows())


def rows() -> list[tuple[str, str, str]]:
    """Every value that is written on one line: its dotted name, its default and the comment above it."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    found, place, comment = [], [], ""
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# -- "):
            comment = f"{comment} {stripped[5:]}".strip()
            continue
        match = LINE.match(line)
        if match is None:
            comment = "" if not stripped else comment
            continue
        place = [*place[: len(match["indent"]) // 2], match["name"]]
        value = values
        for part in place:
            value = value[part]
        if match["rest"].strip():
            found.append((".".join(place), json.dumps(value), comment))
        comment = ""
    return found


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
