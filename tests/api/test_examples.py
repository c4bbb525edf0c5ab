"""The examples of the description: every operation has them, they are as its schemas say, and the gateway takes them.

They are replies of a gateway like this one; VIDGATE_WRITE_EXAMPLES=1 records them again.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from gateway.api import documentation, openapi
from gateway.api.openapi.generation import EXAMPLE_FILES, FORM_FIELDS
from gateway.api.openapi.jobs import PART_EXAMPLES
from gateway.keys import NewKey, create_key
from gateway.scopes import Scope
from providers.capability import DELIVERED_BY_GATEWAY, Capability, Route
from providers.contract import Finished
from tests.support.checked import operation_of
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.pictures import picture
from tests.support.scripted import Scripted

FILE = Path(openapi.__file__).parent / "examples.json"
ASSETS = Path(documentation.__file__).parent / "assets"
FILE_BYTES_MAX = 64 * 1024
JSON = "application/json"
# Of no other test's size and price, so that nobody takes an example for something of a team's.
PICTURE = base64.b64encode(picture("PNG", (80, 60))).decode("ascii")
PRICE_MICROS = 165_900
ONE = {"image": PICTURE, "num_frames": 14, "seed": 7, "metadata": {"project": "reel"}}
ONE_IMAGE = {"image": PICTURE, "prompt": "the same at night", "seed": 7, "metadata": {"project": "reel"}}
METRICS = re.compile(r"^# (HELP|TYPE) vidgate_jobs_admitted_total|^vidgate_jobs_admitted_total")
DOCUMENT = openapi.document([])
EXAMPLES: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
OPERATIONS = {one.id: one for one in openapi.OPERATIONS}


class Painter(Scripted):
    """The scripted vendor with a route for pictures."""

    @property
    def route(self) -> Route:
        capabilities = (Capability("prompt", "prompt"), Capability("seed", "seed"), *DELIVERED_BY_GATEWAY)
        return replace(super().route, media="image", capabilities=capabilities)

    def finished(self, request_id: str, data: bytes | None = None, **report: Any) -> Finished:
        self.running[request_id] = replace(self.running[request_id], parameters={"frames": 1, "fps": 1})
        return super().finished(request_id, picture("PNG", (80, 60)) if data is None else data, **report)


class Recorder:
    """Makes calls and keeps what was sent and what came."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.found: dict[str, Any] = {}

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        sent = {"json": body} if body is not None else {}
        response = await self.gateway.client.request(method, path, headers=headers, timeout=None, **sent)
        operation = operation_of(DOCUMENT, method, path.partition("?")[0])
        assert operation is not None, path
        kept = self.found.setdefault(operation["operationId"], {})
        if body is not None:
            kept.setdefault("request", {}).setdefault(JSON, {})["usual"] = body
        kind = _kind(response)
        came = response.json() if kind.endswith("json") else response.text
        kept.setdefault(str(response.status_code), {}).setdefault(kind, {})["usual"] = came
        return came


def _kind(response: httpx.Response) -> str:
    return response.headers["content-type"].partition(";")[0]


async def record(gateway: Gateway) -> dict[str, Any]:
    """A walk through the API as its own administrator."""
    make = Recorder(gateway)
    new = NewKey("reel", "administrator", gateway.clock.now(), scopes=frozenset(Scope))
    _, _, secret = await gateway.write(create_key, gateway.service.parts.ids, new)
    gateway.client.headers["authorization"] = f"Bearer {secret}"
    await gateway.set_budget(5_000_000)
    for media, one in (("image", ONE_IMAGE), ("video", ONE)):
        await make.call("POST", f"/generate/{media}/quote", one)
        await make.call("POST", f"/generate/{media}/batch", {"requests": [one, {**one, "seeed": 14}]})
        await make.call("POST", f"/generate/{media}", one)
        await make.call("POST", f"/generate/{media}", one, prefer="wait=60")
    job = await make.call("POST", "/generate/video", ONE, **{"idempotency-key": "take-1"})
    await make.call("POST", f"/jobs/{job['id']}/cancel")
    job = await gateway.made(**ONE)
    for path in ("", "/content?file=9", "/events"):
        await make.call("GET", f"/jobs/{job['id']}{path}")
    await make.call("POST", f"/jobs/{job['id']}/link", {"file": 0, "ttl_s": 3600})
    await make.call("GET", "/jobs?limit=1")
    for path in ("/usage?group_by=route", "/billing/statement"):
        await make.call("GET", path, accept="text/csv")
        await make.call("GET", path)
    for path in ("/routes", "/budgets", "/webhooks/deliveries", "/healthz", "/readyz", "/metrics"):
        await make.call("GET", path)
    team = await make.call("POST", "/admin/teams", {"name": "studio", "timezone": "Europe/Berlin"})
    key = await make.call("POST", "/admin/keys", {"team_id": team["id"], "name": "render farm", "scopes": ["generate"]})
    await make.call("POST", f"/admin/keys/{key['id']}/rotate", {"overlap_s": 3600})
    await make.call("POST", f"/admin/keys/{key['id']}/revoke")
    await make.call("DELETE", f"/admin/teams/{team['id']}")
    for path in ("/admin/teams?limit=1", "/admin/keys?limit=1", "/admin/audit?limit=1"):
        await make.call("GET", path)
    # Of all that is measured a few lines are enough to see what it looks like.
    metrics = make.found["getMetrics"]["200"]["text/plain"]
    metrics["usual"] = "".join(line for line in metrics["usual"].splitlines(keepends=True) if METRICS.match(line))
    return make.found


async def files_of(gateway: Gateway) -> dict[str, bytes]:
    """A result of each usual kind, by its media type."""
    found = {}
    for media, one in (("video", ONE), ("image", ONE_IMAGE)):
        response = await gateway.client.post(
            f"/generate/{media}", json=one, headers={"prefer": "wait=60", "accept": "video/mp4, image/png"}
        )
        assert response.status_code == 200, response.text
        found[_kind(response)] = response.content
    return found


@pytest.mark.anyio
async def test_a_gateway_answers_as_the_examples_say(start: Start) -> None:
    """The same operations with the same statuses, forms and members, in a walk through all of it."""
    gateway = await start(Scripted(price_micros=PRICE_MICROS), Painter("beta", price_micros=PRICE_MICROS))
    found = await record(gateway)
    if os.environ.get("VIDGATE_WRITE_EXAMPLES"):
        text = re.sub(
            r"vg_[A-Za-z0-9_-]{20,}", "vg_...", json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True)
        )
        FILE.write_text(text + "\n", encoding="utf-8")
        for kind, data in (await files_of(gateway)).items():
            (ASSETS / Path(EXAMPLE_FILES[kind]).name).write_bytes(data)
        pytest.skip("the examples were recorded")
    assert _shapes(found) == _shapes(EXAMPLES)


def _shapes(recorded: dict[str, Any]) -> dict[str, Any]:
    """What stays the same from one walk to the next: members of JSON, and that text is there."""
    return {
        (name, status, kind): sorted(one["usual"]) if isinstance(one["usual"], dict) else bool(one["usual"])
        for name, statuses in recorded.items()
        for status, kinds in statuses.items()
        for kind, one in kinds.items()
    }


@pytest.mark.anyio
async def test_what_the_description_only_names_is_served(start: Start) -> None:
    """An example that stands elsewhere is there for everybody, of the type that it is an example of, and small."""
    gateway = await start(Scripted())
    addresses = {(kind, at) for *_, kind, one in _contents(DOCUMENT) for at in _elsewhere(one)}
    assert {(kind, at) for kind, at in EXAMPLE_FILES.items()} < addresses
    for kind, address in sorted(addresses):
        response = await gateway.client.get(address, headers={"authorization": ""})
        assert (response.status_code, _kind(response)) == (200, kind), address
        if kind in EXAMPLE_FILES:
            assert len(response.content) < FILE_BYTES_MAX


def test_examples_of_parts_are_parts_of_the_examples() -> None:
    """What a Range of the example's file would be answered with."""
    for kind, (asked, part) in PART_EXAMPLES.items():
        first, last = map(int, asked.removeprefix("bytes=").split("-"))
        data = (ASSETS / Path(EXAMPLE_FILES[kind]).name).read_bytes()
        assert data[first : last + 1] == part.encode()


@pytest.mark.anyio
async def test_the_form_of_the_examples_is_taken(start: Start) -> None:
    """As it stands, but for the picture, which is behind an address of nobody's."""
    gateway = await start(Scripted(), Painter("beta"))
    for media in ("video", "image"):
        fields = {**FORM_FIELDS, "image": PICTURE}
        parts = {name: (None, value) for name, value in fields.items()}
        response = await gateway.client.post(f"/generate/{media}/quote", files=parts)
        assert response.status_code == 200, response.text


def _contents(document: dict[str, Any]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Every body of a request and of a success: the operation, `request` or the status, its media type and object."""
    for item in document["paths"].values():
        for operation in item.values():
            bodies = {"request": operation.get("requestBody", {}), **operation["responses"]}
            for name, body in bodies.items():
                for kind, media in body.get("content", {}).items():
                    if name == "request" or name.startswith("2"):
                        yield operation["operationId"], name, kind, media


def _elsewhere(media: dict[str, Any]) -> list[str]:
    return [one["externalValue"] for one in media.get("examples", {}).values() if "externalValue" in one]


def without_examples(document: dict[str, Any]) -> list[str]:
    """Every request and success that has a body, and an example in none of its forms; and every form of text."""
    found: dict[str, list[bool]] = {}
    bare = []
    for name, place, kind, media in _contents(document):
        found.setdefault(f"{name} {place}", []).append(bool(media.get("examples")))
        if kind.startswith(("text/", "application/json")) and not media.get("examples"):
            bare.append(f"{name} {place} {kind}")
    return [where for where, known in found.items() if not any(known)] + bare


def test_every_operation_has_examples() -> None:
    """The whole description is walked, so that a new operation without an example is found here."""
    assert without_examples(DOCUMENT) == []
    paths = json.loads(json.dumps(DOCUMENT["paths"]))
    for media in paths["/jobs/{job_id}/content"]["get"]["responses"]["206"]["content"].values():
        media.pop("examples", None)
    del paths["/jobs/{job_id}/events"]["get"]["responses"]["200"]["content"]["text/event-stream"]["examples"]
    assert set(without_examples({"paths": paths})) == {
        "getContent 206",
        "followJob 200",
        "followJob 200 text/event-stream",
    }


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_examples_are_as_the_schemas_say(name: str) -> None:
    """Each that was recorded stands in the description, where it is held against its schema."""
    operation, known = OPERATIONS[name], EXAMPLES[name]
    described = DOCUMENT["paths"][operation.path][operation.method]
    for status, kinds in known.items():
        place = described["requestBody"] if status == "request" else described["responses"][status]
        for kind, named in kinds.items():
            schema = {"components": DOCUMENT["components"], **place["content"][kind]["schema"]}
            for value in named.values():
                assert [error.message for error in Draft202012Validator(schema).iter_errors(value)] == []
            if not kind.endswith("problem+json"):
                assert {one: each["value"] for one, each in place["content"][kind]["examples"].items()} == named
