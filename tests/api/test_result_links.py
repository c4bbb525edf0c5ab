"""Links to results: made with a key, followed without one, for as long as was said and not a second more."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from gateway.links import Links
from providers.contract import Failed, FailureKind, Pending
from tests.support.clock import START
from tests.support.fixtures import Start
from tests.support.gateway import BASE_URL, Gateway
from tests.support.pictures import clip
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio


async def linked(gateway: Gateway, **wanted: Any) -> tuple[str, str]:
    """A finished job, and the address of a link to its file."""
    job_id = (await gateway.made())["id"]
    response = await gateway.client.post(f"/jobs/{job_id}/link", json=wanted)
    assert response.status_code == 201, response.text
    assert response.headers["location"] == response.json()["url"]
    return job_id, response.json()["url"]


async def follow(gateway: Gateway, url: str, **headers: str) -> Any:
    """Follow a link without a key."""
    return await gateway.client.get(url, headers={"authorization": "", **headers})


async def test_whoever_has_the_link_has_the_file(start: Start) -> None:
    """Without a key, whole, in part, and not again when it is known; named like the file of the job."""
    gateway = await start(Scripted())
    job_id, url = await linked(gateway)
    whole = await follow(gateway, url)
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, clip(), "video/mp4")
    assert whole.headers["content-disposition"] == f'inline; filename="{job_id}-0.mp4"'
    assert (await follow(gateway, url, range="bytes=2-4")).content == clip()[2:5]
    assert (await follow(gateway, url, **{"if-none-match": whole.headers["etag"]})).status_code == 304
    assert (await gateway.client.head(url, headers={"authorization": ""})).headers["content-length"] == str(len(clip()))


async def test_a_link_is_whole_where_the_gateway_has_a_public_address(start: Start) -> None:
    """It can be handed on as it is; elsewhere it is a path on this gateway."""
    gateway = await start(Scripted(), server={"public_base_url": BASE_URL})
    _, url = await linked(gateway)
    assert url.startswith(f"{BASE_URL}/results/")
    assert (await follow(gateway, url)).status_code == 200


@pytest.mark.parametrize(("wanted", "ttl_s"), [({}, 3600), ({"ttl_s": 60}, 60), ({"ttl_s": None, "file": 0}, 3600)])
async def test_a_link_ends_when_it_was_said_to(start: Start, wanted: dict[str, Any], ttl_s: int) -> None:
    """To the second: then 410, and the job's own address goes on."""
    gateway = await start(Scripted())
    job_id, url = await linked(gateway, **wanted)
    made_at = gateway.clock.now()
    await gateway.clock.sleep(ttl_s - 1)
    assert (await follow(gateway, url)).status_code == 200
    await gateway.clock.sleep(2)
    ended = await follow(gateway, url)
    assert (ended.status_code, ended.json()["type"].rpartition("/")[2]) == (410, "gone")
    assert (await gateway.client.get(f"/jobs/{job_id}/content")).status_code == 200
    assert made_at > START


@pytest.mark.parametrize("change", ["job", "number", "expires", "signature", "unsigned", "unended", "twice", "digits"])
async def test_a_link_that_was_changed_leads_nowhere(start: Start, change: str) -> None:
    """404 as for what never was: job, file and time are signed together."""
    gateway = await start(Scripted())
    job_id, url = await linked(gateway)
    other = (await gateway.made())["id"]
    parts = urlsplit(url)
    query, path = dict(parse_qsl(parts.query)), parts.path
    if change == "job":
        path = path.replace(job_id, other)
    if change == "number":
        path = path[:-1] + "1"
    if change == "expires":
        query["expires"] = str(int(query["expires"]) + 1)
    if change == "signature":
        query["signature"] = query["signature"][::-1]
    if change == "unsigned":
        del query["signature"]
    if change == "unended":
        del query["expires"]
    if change == "twice":
        query["signature"] *= 2
    if change == "digits":
        query["expires"] = "٣" * 10
    response = await gateway.client.get(path, params=query, headers={"authorization": ""})
    assert (response.status_code, response.json()["type"].rpartition("/")[2]) == (404, "not-found")


async def test_only_this_gateway_signs_its_links(start: Start) -> None:
    """Neither another secret nor a signature for another purpose opens a file."""
    gateway = await start(Scripted())
    job_id = (await gateway.made())["id"]
    until = int(gateway.clock.now()) + 100
    forged = Links("another secret, also long enough", "").result_url(job_id, 0, until)
    signed = gateway.service.parts.inputs.links.sign("input", job_id, until)
    for url in (forged, f"/results/{job_id}/0?expires={until}&signature={signed}"):
        assert (await follow(gateway, url)).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        ({"ttl_s": 59}, 422, "invalid-parameter"),
        ({"ttl_s": 7 * 86_400 + 1}, 422, "invalid-parameter"),
        ({"ttl_s": "3600"}, 422, "invalid-parameter"),
        ({"ttl_s": True}, 422, "invalid-parameter"),
        ({"ttl": 60}, 422, "unknown-field"),
        ({"file": -1}, 422, "invalid-parameter"),
        ({"file": 1}, 404, "not-found"),
        ([], 400, "bad-json"),
    ],
)
async def test_a_link_that_cannot_be_is_not_made(start: Start, body: Any, status: int, slug: str) -> None:
    """Each with the problem that says why."""
    gateway = await start(Scripted())
    job_id = (await gateway.made())["id"]
    response = await gateway.client.post(f"/jobs/{job_id}/link", json=body)
    assert (response.status_code, response.json()["type"].rpartition("/")[2]) == (status, slug)


async def test_there_is_no_link_to_what_is_not_there(start: Start) -> None:
    """409 before the end, 410 after an end without a result; a link to a file that was cleared away is gone."""
    alpha = Scripted(trouble=Pending(), trouble_s=30.0, checks=[Failed(FailureKind.MODERATED, "blocked")])
    gateway = await start(alpha)
    job_id = await gateway.submit()
    assert (await gateway.client.post(f"/jobs/{job_id}/link")).status_code == 409
    await gateway.ended(job_id)
    assert (await gateway.client.post(f"/jobs/{job_id}/link")).status_code == 410
    alpha.trouble_s = 0.0
    _, url = await linked(gateway)
    for file in (gateway.setting.folder / "artifacts").rglob("*"):
        if file.is_file():
            file.unlink()
    assert (await follow(gateway, url)).status_code == 410
