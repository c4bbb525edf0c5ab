"""Pages of other origins: nothing unless the operator names them, and then only theirs."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.settings_edge import ServerSection
from tests.api.test_methods import raw
from tests.support.fixtures import Start
from tests.support.scripted import Scripted

STUDIO = "https://studio.example.com"
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "authorization, prefer"}


@pytest.mark.anyio
async def test_no_page_may_read_anything_unless_named(start: Start) -> None:
    """Without the setting there is no word of sharing in any reply."""
    gateway = await start(Scripted())
    gateway.client.headers["origin"] = STUDIO
    for method, path in (("GET", "/jobs"), ("OPTIONS", "/generate/video"), ("GET", "/nowhere")):
        headers = (await raw(gateway, method, path)).headers
        assert [name for name in headers if name.startswith("access-control")] == []
        assert "origin" not in headers.get("vary", "").lower()


@pytest.mark.anyio
async def test_a_named_page_asks_first_and_then_calls(start: Start) -> None:
    """The preflight names the methods of the address and the headers that may be sent; the reply may be read."""
    gateway = await start(Scripted(), server={"cors_origins": [STUDIO]})
    gateway.client.headers["origin"] = STUDIO
    gateway.client.headers.update(PREFLIGHT)
    asked = await raw(gateway, "OPTIONS", "/generate/video")
    assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, STUDIO)
    assert asked.headers["access-control-allow-methods"] == "OPTIONS, POST"
    sendable = asked.headers["access-control-allow-headers"].lower().split(", ")
    assert {"authorization", "x-api-key", "content-type", "idempotency-key", "prefer", "last-event-id"} <= set(sendable)
    for path, status in (("/jobs", 200), ("/jobs/job_of_nobody", 404)):
        got = await gateway.client.get(path)
        assert (got.status_code, got.headers["access-control-allow-origin"]) == (status, STUDIO)
        assert "Location" in got.headers["access-control-expose-headers"]
        assert "origin" in got.headers["vary"].lower()
        assert "access-control-allow-credentials" not in got.headers


@pytest.mark.anyio
@pytest.mark.parametrize(
    "origin", ["https://evil.example", STUDIO + ".evil.example", "null", "http://studio.example.com"]
)
async def test_another_page_is_not_told_anything(start: Start, origin: str) -> None:
    """Its preflight has no leave, and a cache keeps its reply apart."""
    gateway = await start(Scripted(), server={"cors_origins": [STUDIO]})
    gateway.client.headers.update({"origin": origin, **PREFLIGHT})
    for method in ("OPTIONS", "GET"):
        headers = (await raw(gateway, method, "/jobs")).headers
        assert [name for name in headers if name.startswith("access-control")] == []
        assert headers["vary"] == "Origin"


@pytest.mark.parametrize(
    "origin",
    ["*", "https://*.example.com", "https://a.example/", "https://a.example/x", "a.example", "null", "ftp://a.example",
     "https://A.example", "https://user@a.example", "https://", ""],
)  # fmt: skip
def test_only_whole_origins_can_be_named(origin: str) -> None:
    """A pattern, a path or another spelling than a browser's is refused at the start."""
    with pytest.raises(ValidationError, match=r"no origin|one host"):
        ServerSection(cors_origins=(origin,))
