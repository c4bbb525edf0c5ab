"""Many requests in one body: one answer each, in order, and what is wrong with one is wrong with no other."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from gateway.api.batch import AT_ONCE
from providers.contract import Pending
from tests.support.fixtures import Start
from tests.support.gateway import NOTHING, Gateway
from tests.support.pictures import picture_base64
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio

ONE = {"image": picture_base64()}
PATH = "/generate/video/batch"


async def send(gateway: Gateway, *wanted: Any, **headers: str) -> httpx.Response:
    return await gateway.client.post(PATH, json={"requests": list(wanted)}, headers=headers)


def slugs(response: httpx.Response) -> list[str]:
    """What became of each: `job`, or the problem."""
    assert response.status_code == 207, response.text
    found = response.json()["results"]
    return ["job" if one["status"] == 202 else one["problem"]["type"].rpartition("/")[2] for one in found]


async def test_each_request_is_answered_as_if_it_had_come_alone(start: Start) -> None:
    """Good and bad ones in one body: the good ones are jobs, held and begun, the bad ones say what is wrong."""
    gateway = await start(Scripted())
    response = await send(
        gateway, {**ONE, "seed": 1}, {**ONE, "framse": 3}, 7, {"image": "!"}, {**ONE, "fps": 0}, {}, {**ONE, "seed": 2}
    )
    invalid = "invalid-parameter"
    assert slugs(response) == ["job", "unknown-field", "bad-json", "invalid-image", invalid, "invalid-image", "job"]
    results = response.json()["results"]
    assert [one["status"] for one in results] == [202, 422, 400, 422, 422, 422, 202]
    jobs = [results[0]["job"], results[-1]["job"]]
    assert [job["request"]["written"]["seed"] for job in jobs] == [1, 2]
    for job in jobs:
        assert (await gateway.ended(job["id"]))["status"] == "succeeded"
    assert (await gateway.counts())["jobs"] == 2


async def test_a_hundred_come_back_in_their_order(start: Start) -> None:
    """As many as a batch may have, each with the parameters of its own request."""
    gateway = await start(Scripted(trouble=Pending(), trouble_s=10.0))
    response = await send(gateway, *({**ONE, "seed": seed} for seed in range(100)))
    written = [one["job"]["request"]["written"]["seed"] for one in response.json()["results"]]
    assert (written, (await gateway.counts())["jobs"]) == (list(range(100)), 100)
    assert AT_ONCE < 100


async def test_a_batch_that_is_sent_again_makes_nothing_new(start: Start) -> None:
    """Each request has the key of the batch and its number: the same jobs again, also for one of them alone."""
    gateway = await start(Scripted())
    wanted = [{**ONE, "seed": seed} for seed in range(3)]
    first = await send(gateway, *wanted, **{"idempotency-key": "monday"})
    again = await send(gateway, *wanted, **{"idempotency-key": "monday"})
    ids = [[one["job"]["id"] for one in response.json()["results"]] for response in (first, again)]
    assert ids[0] == ids[1]
    assert [one["replayed"] for one in again.json()["results"]] == [True, True, True]
    alone = await gateway.client.post("/generate/video", json=wanted[1], headers={"idempotency-key": "monday.1"})
    assert (alone.json()["id"], alone.headers["idempotent-replayed"]) == (ids[0][1], "true")
    changed = await send(gateway, wanted[0], {**ONE, "seed": 9}, wanted[2], **{"idempotency-key": "monday"})
    assert slugs(changed) == ["job", "idempotency-mismatch", "job"]
    assert (await gateway.counts())["jobs"] == 3


async def test_money_ends_in_the_middle_of_a_batch(start: Start) -> None:
    """As many as the budget covers are admitted, the others are told so; what was refused is replayed as refused."""
    gateway = await start(Scripted(price_micros=100_000))
    await gateway.set_budget(250_000)
    response = await send(gateway, *({**ONE, "seed": seed} for seed in range(4)), **{"idempotency-key": "k"})
    assert sorted(slugs(response)) == ["budget-exceeded", "budget-exceeded", "job", "job"]
    again = await send(gateway, *({**ONE, "seed": seed} for seed in range(4)), **{"idempotency-key": "k"})
    assert slugs(again) == slugs(response)


async def test_every_request_of_a_batch_counts(start: Start) -> None:
    """A batch is no way around a limit: what is over it is told when to come again."""
    gateway = await start(Scripted(), limits={"key": {"requests_per_minute": 3}})
    response = await send(gateway, *({**ONE, "seed": seed} for seed in range(5)))
    assert sorted(slugs(response)) == ["job", "job", "job", "quota-exceeded", "quota-exceeded"]
    refused = [one for one in response.json()["results"] if one["status"] == 429]
    assert all(one["retry_after_s"] > 0 for one in refused)
    assert '"key-requests";r=0' in response.headers["ratelimit"]


async def test_a_fault_with_one_request_is_its_own(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a fault of ours spoils no other request of the batch."""
    gateway = await start(Scripted())
    planner = type(gateway.service.parts.planner)
    plan = planner.plan

    def planned(self: Any, order: Any, now: float) -> Any:
        if order.written.get("seed") == 1:
            raise RuntimeError("a fault in the test")
        return plan(self, order, now)

    monkeypatch.setattr(planner, "plan", planned)
    response = await send(gateway, *({**ONE, "seed": seed} for seed in range(3)))
    assert slugs(response) == ["job", "internal-error", "job"]


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        ({"requests": []}, 422, "invalid-parameter"),
        ({"requests": [{}] * 101}, 422, "invalid-parameter"),
        ({"requests": {}}, 422, "invalid-parameter"),
        ({}, 422, "invalid-parameter"),
        ({"requests": [{}], "fit": "exact"}, 422, "unknown-field"),
        ([], 400, "bad-json"),
    ],
    ids=["none", "too many", "no list", "nothing", "more", "no object"],
)
async def test_what_is_no_batch_is_refused_whole(start: Start, body: Any, status: int, slug: str) -> None:
    """With one problem, and nothing is left behind."""
    gateway = await start(Scripted())
    response = await gateway.client.post(PATH, json=body)
    assert (response.status_code, response.json()["type"].rpartition("/")[2]) == (status, slug)
    assert await gateway.counts() == NOTHING


async def test_the_key_of_a_batch_leaves_room_for_its_numbers(start: Start) -> None:
    """A key that is too long to be told apart is refused before anything is done."""
    gateway = await start(Scripted())
    for length, status in ((250, 207), (251, 400)):
        response = await send(gateway, ONE, **{"idempotency-key": "k" * length})
        assert response.status_code == status


async def test_a_route_is_named_where_there_is_none_of_this_kind(start: Start) -> None:
    """A deployment that makes no pictures has no nearest route to suggest, and says so, alone and in a batch."""
    gateway = await start(Scripted())
    wrong = {**ONE, "routing": {"only": ["alpha/one"]}}
    many = (await gateway.client.post("/generate/image/batch", json={"requests": [wrong]})).json()["results"]
    alone = [(await gateway.client.post(f"/generate/image{path}", json=wrong)).json() for path in ("", "/quote")]
    for problem in (many[0]["problem"], *alone):
        assert (problem["status"], problem["type"].rpartition("/")[2]) == (422, "invalid-parameter")
        assert "there are none of this kind" in problem["detail"]
