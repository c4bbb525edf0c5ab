"""The addresses that carry their own permission: signed links to pictures, and callbacks that only wake."""

from __future__ import annotations

import io
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image

from gateway.links import Links
from providers.contract import Pending
from tests.support.fixtures import Start
from tests.support.gateway import BASE_URL, SECRET, Gateway
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio

PUBLIC = {"server": {"public_base_url": BASE_URL}}


def stranger(gateway: Gateway) -> Gateway:
    """The same client without a key, as a vendor is."""
    gateway.client.headers.pop("authorization", None)
    return gateway


async def link_of(gateway: Gateway, alpha: Scripted) -> str:
    """The link that a vendor which takes pictures only as links was given."""
    await gateway.made()
    url = alpha.asked[0].image.url
    assert url is not None
    assert url.startswith(f"{BASE_URL}/inputs/")
    return url


async def test_a_vendor_fetches_the_picture_by_its_link_without_a_key(start: Start) -> None:
    """The link gives the clean picture, with its type, whole or in part."""
    alpha = Scripted(image_form="url")
    gateway = await start(alpha, **PUBLIC)
    url = await link_of(gateway, alpha)
    response = await stranger(gateway).client.get(url)
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
    assert Image.open(io.BytesIO(response.content)).size == (64, 48)
    part = await gateway.client.get(url, headers={"range": "bytes=0-7"})
    assert (part.status_code, part.content) == (206, b"\x89PNG\r\n\x1a\n")


async def test_without_a_public_address_a_route_that_needs_a_link_is_out_and_says_what_mends_it(start: Start) -> None:
    """The reason names the setting."""
    gateway = await start(Scripted(image_form="url"))
    body = (await gateway.post()).json()
    assert "server.public_base_url" in body["refused"][0]["reasons"][0]


@pytest.mark.parametrize("change", ["signature", "expires", "name", "no signature", "no expiry", "odd expiry", "twice"])
async def test_a_link_that_was_changed_leads_nowhere(start: Start, change: str) -> None:
    """404, as if there had never been anything: the three parts are signed together."""
    alpha = Scripted(image_form="url")
    gateway = await start(alpha, **PUBLIC)
    parts = urlsplit(await link_of(gateway, alpha))
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    path, params = parts.path, dict(query)
    if change == "signature":
        params["signature"] = query["signature"][:-1] + ("0" if query["signature"][-1] != "0" else "1")
    if change == "expires":
        params["expires"] = str(int(query["expires"]) + 1_000)
    if change == "name":
        path = path[:-10] + "000000.png"
    if change == "no signature":
        del params["signature"]
    if change == "no expiry":
        del params["expires"]
    if change == "odd expiry":
        params["expires"] = "²²²"
    if change == "twice":
        params["signature"] = query["signature"] * 2
    response = await stranger(gateway).client.get(path, params=params)
    assert (response.status_code, response.json()["type"].rpartition("/")[2]) == (404, "not-found")


async def test_a_link_ends_at_its_time(start: Start) -> None:
    """410 once it is over: the signature was good, the time is not."""
    alpha = Scripted(image_form="url")
    gateway = await start(alpha, **PUBLIC, security={"signing_secret": SECRET, "link_ttl_s": 600})
    url = await link_of(gateway, alpha)
    assert (await stranger(gateway).client.get(url)).status_code == 200
    await gateway.clock.sleep(601)
    assert (await gateway.client.get(url)).status_code == 410


async def test_a_link_of_another_secret_leads_nowhere(start: Start) -> None:
    """Only this deployment signs its links."""
    alpha = Scripted(image_form="url")
    gateway = await start(alpha, **PUBLIC)
    name = urlsplit(await link_of(gateway, alpha)).path.rpartition("/")[2]
    forged = Links("another secret, also long enough", BASE_URL).input_url(name, gateway.clock.now() + 100)
    assert (await stranger(gateway).client.get(forged)).status_code == 404


async def test_a_signed_picture_link_is_no_callback(start: Start) -> None:
    """A signature for one purpose opens nothing else."""
    gateway = await start(Scripted(), **PUBLIC)
    links = gateway.service.parts.inputs.links
    token = links.sign("input", "att_1", 9_999_999_999)
    assert (await gateway.client.post(f"/callbacks/att_1/{token}")).status_code == 404


async def test_a_callback_makes_vidgate_ask_at_once_and_believes_nothing(start: Start) -> None:
    """The vendor's word only wakes the job: what counts is the answer to the question that follows."""
    alpha = Scripted(trouble=Pending(eta_s=500.0), trouble_s=100.0)
    gateway = await start(alpha, **PUBLIC, polling={"delay_max_s": 300})
    job_id = await gateway.submit()
    await gateway.until(job_id, "rendering")
    polled = len(alpha.checked_at)
    path = urlsplit(str(alpha.asked[0].callback_url)).path
    lie = {"status": "success", "output": ["http://evil.test/x.mp4"]}
    early = await gateway.client.post(path, json=lie, headers={"authorization": ""})
    await gateway.clock.sleep(0.1)
    assert (early.status_code, len(alpha.checked_at)) == (204, polled + 1)
    assert (await gateway.job(job_id))["status"] == "running"
    await gateway.clock.sleep(100)
    await gateway.client.post(path, content=b"not even json", headers={"authorization": ""})
    job = await gateway.ended(job_id, within_s=1)
    assert (job["status"], len(alpha.asked)) == ("succeeded", 1)


@pytest.mark.parametrize("moment", ["another attempt", "after the end", "twice", "unknown attempt"])
async def test_a_callback_out_of_place_changes_nothing(start: Start, moment: str) -> None:
    """Forged, late or repeated: no state changes, no vendor is asked more than it pays."""
    alpha = Scripted(trouble=Pending(), trouble_s=30.0)
    gateway = await start(alpha, **PUBLIC)
    job = await gateway.made()
    attempt_id = job["attempts"][0]["id"]
    links = gateway.service.parts.inputs.links
    token = links.sign("callback", attempt_id)
    asked = len(alpha.checked_at)
    if moment == "another attempt":
        assert (await gateway.client.post(f"/callbacks/att_other/{token}")).status_code == 404
    elif moment == "unknown attempt":
        signed = links.sign("callback", "att_unknown")
        assert (await gateway.client.post(f"/callbacks/att_unknown/{signed}")).status_code == 204
    else:
        for _ in range(2 if moment == "twice" else 1):
            assert (await gateway.client.post(f"/callbacks/{attempt_id}/{token}")).status_code == 204
    await gateway.clock.sleep(60)
    assert len(alpha.checked_at) == asked
    assert await gateway.job(job["id"]) == job


async def test_no_callback_address_is_given_where_vendors_cannot_reach_vidgate(start: Start) -> None:
    """Without a public address there is nothing to call."""
    alpha = Scripted()
    gateway = await start(alpha)
    await gateway.made()
    assert alpha.asked[0].callback_url is None
