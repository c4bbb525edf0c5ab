"""HEAD, OPTIONS and every other method on every address of the application (RFC 9110)."""

from __future__ import annotations

import re
from collections.abc import Iterable

import httpx
import pytest

from gateway.app import ROUTES
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio

PATHS = sorted({route.path for route in ROUTES})
TAKEN = {path: {verb for route in ROUTES if route.path == path for verb in route.methods or ()} for path in PATHS}
# Of a moment, not of the thing: a HEAD a moment later has others.
OF_THE_MOMENT = {"traceresponse", "ratelimit"}


def filled(path: str, job_id: str = "x") -> str:
    return re.sub(r"\{[^}]+\}", job_id, path)


def lasting(response: httpx.Response, *left_out: str) -> dict[str, str]:
    """The headers that do not change from one moment to the next."""
    return {name: value for name, value in response.headers.items() if name not in {*OF_THE_MOMENT, *left_out}}


async def test_options_says_what_an_address_takes(start: Start) -> None:
    """204 without a body and without a key; GET brings HEAD with it."""
    gateway = await start(Scripted())
    gateway.client.headers.pop("authorization")
    for path in PATHS:
        response = await raw(gateway, "OPTIONS", filled(path))
        assert (response.status_code, response.content) == (204, b"")
        allowed = response.headers["allow"].split(", ")
        assert allowed == sorted({*TAKEN[path], "OPTIONS"})
        assert ("GET" in allowed) == ("HEAD" in allowed)


async def test_a_method_that_an_address_does_not_take_is_405_and_says_which_it_takes(start: Start) -> None:
    """A problem with Allow, whatever the method is called."""
    gateway = await start(Scripted())
    methods = {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"}
    for path, method in ((one, verb) for one in PATHS for verb in methods - TAKEN[one]):
        response = await raw(gateway, method, filled(path))
        assert (response.status_code, response.headers["content-type"]) == (405, "application/problem+json")
        assert response.headers["allow"] == (await raw(gateway, "OPTIONS", filled(path))).headers["allow"]
        assert response.json()["type"].endswith("/method-not-allowed")


async def test_a_head_is_its_get_without_the_body(start: Start) -> None:
    """The same status and headers, also where the answer is a stream or a refusal."""
    gateway = await start(Scripted())
    known, paths = (await gateway.made())["id"], [path for path in PATHS if "GET" in TAKEN[path]]
    for path, job_id in ((one, name) for one in paths for name in (known, "job_of_nobody")):
        get, head = [await raw(gateway, method, filled(path, job_id)) for method in ("GET", "HEAD")]
        # How long metrics are depends on the moment, and a stream has no length.
        left_out = {"content-length", "transfer-encoding"} if path == "/metrics" or path.endswith("/events") else set()
        assert (head.status_code, head.content) == (get.status_code, b"")
        assert lasting(head, *left_out) == lasting(get, *left_out)


async def test_an_address_has_one_spelling(start: Start) -> None:
    """One with a slash at its end is not found; nobody is sent elsewhere by what a Host header says."""
    gateway = await start(Scripted())
    response = await raw(gateway, "GET", "/jobs/")
    assert (response.status_code, "location" in response.headers) == (404, False)


async def test_every_reply_is_what_it_says_and_is_not_kept(start: Start) -> None:
    """`nosniff` and `no-store`, but where the reply says itself how long it holds."""
    gateway = await start(Scripted())
    job_id = (await gateway.made())["id"]
    for path in (*PATHS, "/nowhere"):
        for method in ("GET", "POST", "OPTIONS"):
            headers = (await raw(gateway, method, filled(path, job_id))).headers
            assert headers["x-content-type-options"] == "nosniff"
            kept = method == "GET" and path.endswith("/content")
            assert headers["cache-control"] == ("private, max-age=86400, immutable" if kept else "no-store")


async def raw(gateway: Gateway, method: str, path: str) -> httpx.Response:
    """A request past the check against the description, which does not describe other methods."""
    transport = httpx.ASGITransport(gateway.app, raise_app_exceptions=False)
    headers: Iterable[tuple[str, str]] = gateway.client.headers.items()
    async with httpx.AsyncClient(transport=transport, base_url="http://vidgate.test", headers=dict(headers)) as client:
        return await client.request(method, path)
