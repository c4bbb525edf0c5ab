"""One key of one team means one outcome for a day: one job, one hold, and the same answer byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from providers.contract import Pending
from tests.support.fixtures import Start
from tests.support.gateway import NOTHING
from tests.support.pictures import picture, picture_base64
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio

KEY = {"idempotency-key": '"take-1"'}


async def test_the_same_request_again_gets_the_same_bytes_and_no_second_job(start_on_both: Start) -> None:
    """A replay is the first answer, marked as such."""
    alpha = Scripted()
    gateway = await start_on_both(alpha)
    first = await gateway.post(headers=KEY, seed=5)
    await gateway.ended(first.json()["id"])
    again = await gateway.post(headers=KEY, seed=5)
    assert (again.status_code, again.content) == (202, first.content)
    assert again.headers["location"] == first.headers["location"]
    assert (first.headers.get("idempotent-replayed"), again.headers["idempotent-replayed"]) == (None, "true")
    assert (len(alpha.asked), (await gateway.counts())["jobs"]) == (1, 1)


async def test_quoted_and_bare_spellings_are_one_key(start_on_both: Start) -> None:
    """The draft's quoted string and what everybody sends mean the same."""
    gateway = await start_on_both(Scripted())
    first = await gateway.post(headers={"idempotency-key": '"take-1"'})
    again = await gateway.post(headers={"idempotency-key": "take-1"})
    assert again.content == first.content


async def test_the_order_of_members_and_blanks_makes_no_difference(start_on_both: Start) -> None:
    """The request is compared by what it says."""
    gateway = await start_on_both(Scripted())
    headers = KEY | {"content-type": "application/json"}
    image = "data:image/png;base64," + picture_base64()
    one = f'{{"image": "{image}", "fps": 7, "seed": 1}}'
    two = f'{{ "seed":1,"fps":7,\n"image":"{image}" }}'
    first = await gateway.client.post("/generate/video", content=one, headers=headers)
    again = await gateway.client.post("/generate/video", content=two, headers=headers)
    assert (first.status_code, again.content) == (202, first.content)


@pytest.mark.parametrize(
    "change", [{"seed": 6}, {"fps": 8}, {"metadata": {"a": "b"}}, {"routing": {"objective": "fastest"}}]
)
async def test_the_key_with_another_request_is_refused(start_on_both: Start, change: dict[str, object]) -> None:
    """422, and the first job is untouched."""
    gateway = await start_on_both(Scripted())
    first = await gateway.post(headers=KEY, seed=5)
    other = await gateway.post(headers=KEY, **({"seed": 5} | change))
    assert (other.status_code, other.json()["type"].rpartition("/")[2]) == (422, "idempotency-mismatch")
    assert (await gateway.counts())["jobs"] == 1
    assert (await gateway.ended(first.json()["id"]))["status"] == "succeeded"


async def test_another_picture_is_another_request(start_on_both: Start) -> None:
    """The bytes of a file are part of the request."""
    gateway = await start_on_both(Scripted())
    send = gateway.client.post
    first = await send("/generate/video", files={"image": ("a.png", picture())}, headers=KEY)
    same = await send("/generate/video", files={"image": ("b.png", picture())}, headers=KEY)
    other = await send("/generate/video", files={"image": ("a.png", picture(size=(48, 64)))}, headers=KEY)
    assert (same.content, other.status_code) == (first.content, 422)


async def test_the_same_body_for_another_endpoint_is_another_request(start_on_both: Start) -> None:
    """A key belongs to the path that it was used on."""
    gateway = await start_on_both(Scripted())
    await gateway.post(headers=KEY)
    assert (await gateway.post("/generate/image", headers=KEY)).status_code == 422


async def test_fifty_identical_requests_at_once_make_one_job_and_one_hold(
    start_on_both: Start, record_property: Callable[[str, object], None]
) -> None:
    """Duplicate clicks and impatient retries: everyone gets the same job."""
    alpha = Scripted(trouble=Pending(), trouble_s=30.0)
    gateway = await start_on_both(alpha)
    answers = await asyncio.gather(*(gateway.post(headers=KEY, seed=5) for _ in range(50)))
    statuses = {answer.status_code for answer in answers}
    assert statuses <= {202, 409}
    admitted = [answer for answer in answers if answer.status_code == 202]
    assert len({answer.content for answer in admitted}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in admitted) == 1
    counts = await gateway.counts()
    assert (counts["jobs"], counts["holds"], counts["idempotency"]) == (1, 1, 1)
    await gateway.ended(admitted[0].json()["id"])
    assert len(alpha.asked) == 1
    made = f"{counts['jobs']} job, {counts['holds']} hold, {len(alpha.asked)} submit"
    record_property("figure", f"{len(answers)} identical requests at once: {made}")


async def test_two_teams_may_use_the_same_key(start_on_both: Start) -> None:
    """A key is a team's own: the other one gets its own job and sees nothing of the first."""
    gateway = await start_on_both(Scripted())
    first = await gateway.post(headers=KEY)
    _, _, other = await gateway.new_key("another team")
    second = await gateway.post(headers=KEY | other)
    assert second.status_code == 202
    assert second.json()["id"] != first.json()["id"]


async def test_two_keys_of_one_team_share_its_idempotency(start_on_both: Start) -> None:
    """The outcome belongs to the team, not to the credential."""
    gateway = await start_on_both(Scripted())
    first = await gateway.post(headers=KEY)
    _, _, colleague = await gateway.new_key()
    assert (await gateway.post(headers=KEY | colleague)).content == first.content


async def test_a_key_is_new_after_a_day(start_on_both: Start) -> None:
    """24 hours is what is promised; after that the key makes a new job."""
    gateway = await start_on_both(Scripted(), claim_interval_s=600.0)
    first = await gateway.post(headers=KEY)
    await gateway.clock.sleep(23 * 3600)
    assert (await gateway.post(headers=KEY)).content == first.content
    await gateway.clock.sleep(2 * 3600)
    second = await gateway.post(headers=KEY)
    assert second.json()["id"] != first.json()["id"]


async def test_a_refused_request_does_not_spend_its_key(start_on_both: Start) -> None:
    """After a 422 the mended request goes through under the same key."""
    gateway = await start_on_both(Scripted())
    assert (await gateway.post(headers=KEY, fps=0)).status_code == 422
    assert (await gateway.post(headers=KEY, fps=7)).status_code == 202


async def test_a_replay_survives_a_restart(start_on_both: Start) -> None:
    """The answer is as durable as the job."""
    alpha = Scripted()
    gateway = await start_on_both(alpha)
    first = await gateway.post(headers=KEY)
    key = gateway.client.headers["authorization"]
    await gateway.stop()
    again = await start_on_both(alpha)
    replayed = await again.post(headers=KEY | {"authorization": key})
    assert replayed.content == first.content


async def test_a_request_without_a_key_is_always_new(start_on_both: Start) -> None:
    """Nobody is protected without asking for it."""
    gateway = await start_on_both(Scripted())
    assert (await gateway.submit(seed=5)) != (await gateway.submit(seed=5))


async def test_several_keys_on_one_request_are_refused(start: Start) -> None:
    """Neither could be obeyed without breaking what the other promises; nothing is made."""
    gateway = await start(Scripted())
    headers = [("idempotency-key", "first"), ("idempotency-key", "second")]
    response = await gateway.client.post("/generate/video", json={"image": picture_base64()}, headers=headers)
    assert (response.status_code, "one Idempotency-Key" in response.json()["detail"]) == (400, True)
    assert await gateway.counts() == NOTHING
