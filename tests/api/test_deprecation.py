"""An operation that will go says so in every reply and in the description, and works on as before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest

from gateway.api import deprecation
from gateway.api.deprecation import DEPRECATED, Deprecated
from gateway.api.openapi import document
from gateway.app import ROUTES
from tests.support.fixtures import Start
from tests.support.scripted import Scripted

OLD = Deprecated(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC), "/jobs/{job_id}/events")
WARNINGS = {"deprecation", "sunset"}


@pytest.mark.anyio
async def test_every_reply_of_a_deprecated_operation_says_since_and_until_when(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Successes, refusals and HEAD; the other method of the same address, and other addresses, say nothing."""
    gateway = await start(Scripted())
    job_id = await gateway.submit()
    monkeypatch.setattr(deprecation, "DEPRECATED", {("GET", "/jobs/{job_id}"): OLD})
    for method, path, status in (("GET", job_id, 200), ("HEAD", job_id, 200), ("GET", "job_of_nobody", 404)):
        response = await gateway.client.request(method, f"/jobs/{path}")
        assert response.status_code == status
        assert response.headers["deprecation"] == "@1767225600"
        assert parsedate_to_datetime(response.headers["sunset"]) == OLD.sunset
        assert 'rel="deprecation"' in response.headers["link"]
        assert '</jobs/{job_id}/events>; rel="successor-version"' in response.headers["link"]
    for path in ("/jobs", f"/jobs/{job_id}/events"):
        assert not WARNINGS & set((await gateway.client.get(path)).headers)
    described = document([])["paths"]
    assert described["/jobs/{job_id}"]["get"]["deprecated"] is True
    assert "deprecated" not in described["/jobs"]["get"]


@pytest.mark.anyio
async def test_nothing_warns_unless_it_is_in_the_table(start: Start) -> None:
    """The headers appear for entries alone."""
    gateway = await start(Scripted())
    response = await gateway.client.get("/jobs")
    assert not WARNINGS & set(response.headers)


def test_the_table_is_of_operations_that_there_are_and_gives_half_a_year() -> None:
    """No entry outlives its route, and none comes too late to act on."""
    served = {(verb, route.path) for route in ROUTES for verb in route.methods or ()}
    assert set(DEPRECATED) <= served
    assert all(entry.sunset - entry.since >= timedelta(days=180) for entry in DEPRECATED.values())
