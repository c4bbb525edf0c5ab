"""The examples of the description: every operation has them, they are as its schemas say, and the gateway takes them.

They are replies of a gateway like this one; VIDGATE_WRITE_EXAMPLES=1 records them again.
"""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from gateway.api import openapi
from gateway.keys import NewKey, create_key
from gateway.scopes import Scope
from tests.support.checked import operation_of
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.pictures import picture
from tests.support.scripted import Scripted

FILE = Path(openapi.__file__).parent / "examples.json"
JSON = "application/json"
# Of no other test's size and price, so that nobody takes an example for something of a team's.
PICTURE = base64.b64encode(picture("PNG", (80, 60))).decode("ascii")
PRICE_MICROS = 165_900
ONE = {"image": PICTURE, "num_frames": 14, "seed": 7, "metadata": {"project": "reel"}}
# Replies that are the description itself, and those of pictures, which look like those of videos.
WITHOUT_REPLY = {"getDescription", "generateImage", "quoteImage", "generateImageBatch"}
DOCUMENT = openapi.document([])
EXAMPLES: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
OPERATIONS = {one.id: one for one in openapi.OPERATIONS}


class Recorder:
    """Makes calls and keeps what was sent and what came."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.found: dict[str, Any] = {}

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        sent = {"json": body} if body is not None else {}
        response = await self.gateway.client.request(method, path, headers=headers, **sent)
        operation = operation_of(DOCUMENT, method, path.partition("?")[0])
        assert operation is not None, path
        kept = self.found.setdefault(operation["operationId"], {})
        if body is not None:
            kept.setdefault("request", {}).setdefault(JSON, {})["usual"] = body
        kept.setdefault(str(response.status_code), {}).setdefault(_kind(response), {})["usual"] = response.json()
        return response.json()


def _kind(response: httpx.Response) -> str:
    return response.headers["content-type"].partition(";")[0]


async def record(gateway: Gateway) -> dict[str, Any]:
    """A walk through the API as its own administrator."""
    make = Recorder(gateway)
    new = NewKey("reel", "administrator", gateway.clock.now(), scopes=frozenset(Scope))
    _, _, secret = await gateway.write(create_key, gateway.service.parts.ids, new)
    gateway.client.headers["authorization"] = f"Bearer {secret}"
    await gateway.set_budget(5_000_000)
    for media in ("video", "image"):
        one = ONE if media == "video" else {name: value for name, value in ONE.items() if name != "num_frames"}
        await make.call("POST", f"/generate/{media}/quote", one)
        await make.call("POST", f"/generate/{media}/batch", {"requests": [one, {**one, "framse": 14}]})
        job = await make.call("POST", f"/generate/{media}", one)
    job = await make.call("POST", "/generate/video", ONE, **{"idempotency-key": "take-1"})
    await make.call("POST", f"/jobs/{job['id']}/cancel")
    job = await gateway.made(**ONE)
    for path in ("", "/content?file=9"):
        await make.call("GET", f"/jobs/{job['id']}{path}")
    await make.call("POST", f"/jobs/{job['id']}/link", {"file": 0, "ttl_s": 3600})
    await make.call("GET", "/jobs?limit=1")
    for path in ("/routes", "/usage?group_by=route", "/billing/statement", "/budgets", "/webhooks/deliveries"):
        await make.call("GET", path)
    for path in ("/healthz", "/readyz"):
        await make.call("GET", path)
    team = await make.call("POST", "/admin/teams", {"name": "studio", "timezone": "Europe/Berlin"})
    key = await make.call("POST", "/admin/keys", {"team_id": team["id"], "name": "render farm", "scopes": ["generate"]})
    await make.call("POST", f"/admin/keys/{key['id']}/rotate", {"overlap_s": 3600})
    await make.call("POST", f"/admin/keys/{key['id']}/revoke")
    await make.call("DELETE", f"/admin/teams/{team['id']}")
    for path in ("/admin/teams?limit=1", "/admin/keys?limit=1", "/admin/audit?limit=1"):
        await make.call("GET", path)
    return make.found


@pytest.mark.anyio
async def test_a_gateway_answers_as_the_examples_say(start: Start) -> None:
    """The same operations with the same statuses and members, in a walk through all of it."""
    gateway = await start(Scripted(price_micros=PRICE_MICROS))
    found = await record(gateway)
    if os.environ.get("VIDGATE_WRITE_EXAMPLES"):
        text = re.sub(
            r"vg_[A-Za-z0-9_-]{20,}", "vg_...", json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True)
        )
        FILE.write_text(text + "\n", encoding="utf-8")
        pytest.skip("the examples were recorded")
    assert {name: sorted(one) for name, one in found.items()} == {name: sorted(one) for name, one in EXAMPLES.items()}
    for name, one in EXAMPLES.items():
        for status in set(one) - {"request"}:
            kind, kept = next(iter(one[status].items()))
            assert set(found[name][status][kind]["usual"]) == set(kept["usual"]), (name, status)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_operation_has_examples_that_are_as_its_schemas_say(name: str) -> None:
    """Of its body, and of what it answers where that is JSON."""
    operation, known = OPERATIONS[name], EXAMPLES.get(name, {})
    described = DOCUMENT["paths"][operation.path][operation.method]
    if operation.body is not None:
        assert known.get("request"), "its body has no example"
    if name not in WITHOUT_REPLY and any(JSON in one.content for one in operation.replies.values()):
        assert any(status[0] == "2" for status in known if status != "request"), "its reply has no example"
    for status, kinds in known.items():
        place = described["requestBody"] if status == "request" else described["responses"][status]
        for kind, named in kinds.items():
            schema = {"components": DOCUMENT["components"], **place["content"][kind]["schema"]}
            for value in named.values():
                assert [error.message for error in Draft202012Validator(schema).iter_errors(value)] == []
            if not kind.endswith("problem+json"):
                assert {one: each["value"] for one, each in place["content"][kind]["examples"].items()} == named
