"""The service about itself: alive, ready, described."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from gateway.api import openapi
from gateway.app import ROUTES
from gateway.problems import Problem
from gateway.store.database import StoreUnavailableError
from providers import modelslab, preview, segmind
from providers.vocabulary import PARAMETERS
from tests.support.fixtures import Start
from tests.support.pictures import picture_base64
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio

CATALOGUE = (*segmind.PLUGIN.catalogue, *modelslab.PLUGIN.catalogue, *preview.PLUGIN.catalogue)


async def test_a_running_service_is_alive_and_ready_without_a_key(start: Start) -> None:
    """What a probe needs to know."""
    gateway = await start(Scripted())
    gateway.client.headers.pop("authorization")
    assert (await gateway.client.get("/healthz")).json()["status"] == "ok"
    ready = await gateway.client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")


async def test_a_draining_service_is_alive_and_not_ready(start: Start) -> None:
    """The load balancer sends its work elsewhere; the process is not killed for it."""
    gateway = await start(Scripted())
    gateway.service.dispatcher.draining = True
    ready = await gateway.client.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (503, "not_ready")
    assert ready.json()["checks"]["draining"] is True
    assert (await gateway.client.get("/healthz")).status_code == 200
    gateway.service.dispatcher.draining = False


async def test_a_service_without_its_store_is_not_ready(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that does not answer is told by name."""
    gateway = await start(Scripted())

    async def broken() -> None:
        raise StoreUnavailableError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(gateway.store, "ping", broken)
        ready = await gateway.client.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["store"]) == (503, "unavailable")


async def test_the_description_is_valid_openapi_3_1_and_the_one_that_is_served(start: Start) -> None:
    """Checked by the specification's own validator, for the real catalogue."""
    gateway = await start((segmind.PLUGIN, {"api_key": "SG_0123456789abcdef"}), (preview.PLUGIN, {}))
    served = (await gateway.client.get("/openapi.json")).json()
    assert served["openapi"].startswith("3.1")
    validate(served)
    assert served == openapi.document(gateway.service.parts.fleet.routes.values())


def test_every_address_is_described_with_its_verbs() -> None:
    """What is not in the description does not exist, and the other way round."""
    described = {
        (path, verb)
        for path, item in openapi.document(CATALOGUE)["paths"].items()
        for verb in item
        if verb in {"get", "post", "put", "patch", "delete"}
    }
    real = {(route.path, verb.lower()) for route in ROUTES for verb in (route.methods or set()) - {"HEAD"}}
    assert described == real


def test_every_problem_is_in_the_description() -> None:
    """A client can switch over the documented types."""
    known = openapi.document(CATALOGUE)["components"]["schemas"]["Problem"]["properties"]["type"]["enum"]

    def tree(kind: type[Problem]) -> set[str]:
        return {kind.slug}.union(*(tree(child) for child in kind.__subclasses__()))

    assert {url.rpartition("/")[2] for url in known} == tree(Problem)


@pytest.mark.parametrize("media", ["video", "image"])
def test_the_request_schema_knows_every_parameter_under_all_its_names(media: Any) -> None:
    """Canonical names with range and default, aliases, and what each route takes."""
    name = "VideoRequest" if media == "video" else "ImageRequest"
    properties = openapi.document(CATALOGUE)["components"]["schemas"][name]["properties"]
    for parameter in PARAMETERS:
        if media not in parameter.media:
            continue
        schema = properties[parameter.name]
        assert schema.get("minimum") == parameter.minimum
        assert schema.get("default") == parameter.default
        assert set(parameter.aliases) <= set(properties)
        takes = {route.name for route in CATALOGUE if route.media == media and route.capability(parameter.name)}
        assert set(schema["x-routes"]) == takes


@pytest.mark.parametrize(
    ("fields", "fine"),
    [
        ({"num_frames": 14, "fps": 7}, True),
        ({"frames": "14", "motion": "pan_left"}, True),
        ({"routing": {"objective": "fastest", "weights": {"cost": 1}}}, True),
        ({"num_frames": 99}, False),
        ({"frame": 14}, False),
        ({"routing": {"fastest": True}}, False),
        ({"fit": "roughly"}, False),
    ],
)
async def test_the_request_schema_and_the_service_agree(start: Start, fields: dict[str, Any], fine: bool) -> None:
    """What the schema allows is not called unreadable, and what it forbids is refused."""
    gateway = await start((preview.PLUGIN, {}), (segmind.PLUGIN, {"api_key": "SG_0123456789abcdef"}))
    document = openapi.document(gateway.service.parts.fleet.routes.values())
    schema = {"components": document["components"], "$ref": "#/components/schemas/VideoRequest"}
    body = {"image": picture_base64(), **fields}
    assert Draft202012Validator(schema).is_valid(body) is fine
    response = await gateway.post("/generate/video/quote", **fields)
    assert (response.status_code == 200) is fine
