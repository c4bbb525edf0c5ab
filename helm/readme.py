"""Writes helm/vidgate/README.md from values.yaml: `python helm/readme.py`. A test compares the page with it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

CHART = Path(__file__).parent / "vidgate"
PAGE = CHART / "README.md"
LINE = re.compile(r"^(?P<indent> *)(?P<name>[A-Za-z]\w*):(?P<rest>.*)")
HEAD = r"""# The vidgate chart

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

## A first installation

On a cluster with PostgreSQL, Redis and S3. The image is yours to build and to push (docs/supply-chain.md). The secret
is there before the chart, whose migration reads it first; each of its keys becomes an environment variable:

    docker build -t registry.internal/video/vidgate:0.1.0 . && docker push registry.internal/video/vidgate:0.1.0
    kubectl create namespace video
    kubectl -n video create secret generic vidgate-secrets \
      --from-literal=VIDGATE_SIGNING_SECRET="$(openssl rand -base64 32)" \
      --from-literal=VIDGATE_METRICS_TOKEN="$(openssl rand -hex 32)" \
      --from-literal=VIDGATE_STORE_URL='postgresql://vidgate:PASSWORD@db.internal/vidgate?sslmode=require' \
      --from-literal=VIDGATE_BUS_URL='rediss://:PASSWORD@redis.internal:6379/0' \
      --from-literal=AWS_REGION=eu-central-1 \
      --from-literal=AWS_ACCESS_KEY_ID=... --from-literal=AWS_SECRET_ACCESS_KEY=... \
      --from-literal=SEGMIND_API_KEY=...

A service account with a role takes the place of the two access keys (`serviceAccount.annotations`). The values:

```yaml
image: {repository: registry.internal/video/vidgate}
replicaCount: 3
database: {kind: postgresql}
redis: {enabled: true}
artifacts: {url: s3://video-artifacts/prod}
secret: {existingSecret: vidgate-secrets}
metrics: {tokenKey: VIDGATE_METRICS_TOKEN}
config:
  providers: {segmind: {api_key: "${SEGMIND_API_KEY}"}}
```

    helm install vidgate helm/vidgate -n video -f my-values.yaml
    helm test vidgate -n video
    kubectl -n video exec deploy/vidgate -- vidgate keys create --team film

Then, as they are needed:

- A changed configuration rolls the pods by itself; a changed secret does not:
  `kubectl -n video rollout restart deploy/vidgate`.
- What stands in front must let bodies of 32 MiB in, hold the line for `Prefer: wait` (up to `server.wait_s_max`), pass
  events on unbuffered and never repeat a POST. Defaults of controllers do none of this: see `ingress.annotations` and
  `httpRoute.timeouts`.
- `sslmode=require` encrypts and trusts whoever answers. To know the database by its certificate, mount its authority
  with `extraVolumes` and `extraVolumeMounts` and write `sslmode=verify-full&sslrootcert=/ca/root.pem`. Redis is known
  by the public authorities, or by those in the file that `SSL_CERT_FILE` names (`extraEnv`).
- Nothing of the start asks the object store: send a first picture to see that it takes one. A wrong bucket or key is a
  503, and `request.artifacts_error` in the log (docs/object-stores.md).
- Prices of your own are the value `priceBook`; a route without a price does not start (docs/money.md).

## Values

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
