"""`Accept: video/mp4`: the bytes themselves when there are any, the document when there are none yet."""

from __future__ import annotations

from typing import Any

import pytest

from providers.contract import FailureKind, Pending, Refused
from tests.support.fixtures import Start
from tests.support.gateway import NOTHING
from tests.support.pictures import clip
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio

MP4, JSON, PROBLEM = "video/mp4", "application/json", "application/problem+json"


async def test_one_call_from_picture_to_bytes(start: Start) -> None:
    """With a wait that is long enough the reply is the file, and says of the job what every reply does."""
    gateway = await start(Scripted())
    response = await gateway.post(headers={"prefer": "wait=60", "accept": MP4})
    assert (response.status_code, response.headers["content-type"], response.content) == (200, MP4, clip())
    job_id = response.headers["x-vidgate-job-id"]
    assert response.headers["content-location"] == f"/jobs/{job_id}/content"
    assert response.headers["content-disposition"] == f'inline; filename="{job_id}-0.mp4"'
    assert response.headers["x-vidgate-cost-usd"] == "0.100000"
    assert (response.headers["vary"], response.headers["preference-applied"]) == ("Accept, Prefer", "wait=60")
    plain = await gateway.client.get(f"/jobs/{job_id}/content")
    assert plain.headers["etag"] == response.headers["etag"]


async def test_what_is_not_finished_is_a_document_whatever_is_accepted(start: Start) -> None:
    """202 and JSON, so that nobody takes an unfinished job for a film; later the same address gives the bytes."""
    gateway = await start(Scripted(trouble=Pending(), trouble_s=30.0))
    response = await gateway.post(headers={"prefer": "wait=5", "accept": MP4})
    assert (response.status_code, response.headers["content-type"]) == (202, JSON)
    path = response.headers["location"]
    early = await gateway.client.get(path, headers={"accept": MP4})
    assert (early.status_code, early.headers["content-type"]) == (200, JSON)
    late = await gateway.client.get(path, headers={"accept": MP4, "prefer": "wait=60"})
    assert (late.headers["content-type"], late.content) == (MP4, clip())
    part = await gateway.client.get(path, headers={"accept": MP4, "range": "bytes=0-9"})
    assert (part.status_code, part.content) == (206, clip()[:10])


@pytest.mark.parametrize(
    ("accept", "given"),
    [
        ("*/*", JSON),
        ("", JSON),
        ("application/json, video/mp4", JSON),
        ("application/json;q=0.5, video/mp4", MP4),
        ("video/*, */*;q=0.1", MP4),
        ("image/gif, application/json;q=0.5", JSON),
    ],
)
async def test_what_the_caller_likes_best_is_what_it_gets(start: Start, accept: str, given: str) -> None:
    """Weights decide; who takes everything gets the document."""
    gateway = await start(Scripted())
    job_id = (await gateway.made())["id"]
    response = await gateway.client.get(f"/jobs/{job_id}", headers={"accept": accept})
    assert (response.status_code, response.headers["content-type"]) == (200, given)


@pytest.mark.parametrize(
    ("accept", "fields"), [("text/html", {}), ("image/png", {}), (MP4, {"output_format": "gif"}), ("image/gif", {})]
)
async def test_a_form_that_the_result_cannot_have_is_refused_before_it_costs_anything(
    start: Start, accept: str, fields: dict[str, Any]
) -> None:
    """406 that names the form it would have; no job, no hold."""
    gateway = await start(Scripted())
    response = await gateway.post(headers={"accept": accept}, **fields)
    assert (response.status_code, response.json()["type"].rpartition("/")[2]) == (406, "not-acceptable")
    assert await gateway.counts() == NOTHING


async def test_a_failed_job_is_its_problem_to_who_takes_no_document(start: Start) -> None:
    """With the problem's own status: a program that asked for bytes does not store an error as a film."""
    gateway = await start(Scripted(submits=[Refused(FailureKind.MODERATED, "blocked")]))
    response = await gateway.post(headers={"prefer": "wait=60", "accept": MP4})
    assert (response.status_code, response.headers["content-type"]) == (422, PROBLEM)
    assert response.json()["type"].endswith("/request-refused")
    path = f"/jobs/{response.headers['x-vidgate-job-id']}"
    both = await gateway.client.get(path, headers={"accept": f"{MP4}, {JSON};q=0.1"})
    assert (both.status_code, both.json()["status"]) == (200, "failed")


async def test_a_result_in_another_form_than_the_caller_takes_is_shown_as_its_document(start: Start) -> None:
    """What was paid for is not hidden behind a refusal."""
    gateway = await start(Scripted())
    job_id = (await gateway.made())["id"]
    response = await gateway.client.get(f"/jobs/{job_id}", headers={"accept": "video/webm"})
    assert (response.status_code, response.headers["content-type"]) == (200, JSON)


async def test_reports_are_negotiated_the_same_way(start: Start) -> None:
    """The best liked form that there is; 406 when none is taken."""
    gateway = await start(Scripted())
    csv = await gateway.client.get("/usage", headers={"accept": "text/html, text/csv;q=0.9, application/json;q=0.5"})
    assert csv.headers["content-type"].startswith("text/csv")
    none = await gateway.client.get("/usage", headers={"accept": "text/html"})
    assert (none.status_code, "text/csv" in none.json()["detail"]) == (406, True)
