"""Lists page by page and narrowed: nothing twice, nothing missed, nothing of others, all of it by an index."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Connection, text

from gateway.keys import NewKey, create_key
from gateway.money.budgets import retire_budget
from gateway.scopes import Scope
from providers.contract import FailureKind, Refused
from tests.support.fixtures import Start
from tests.support.gateway import NOTHING, Gateway
from tests.support.pictures import picture_base64
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio


async def pages(gateway: Gateway, name: str, path: str, **params: Any) -> list[list[dict[str, Any]]]:
    """Every page of a list, by following its links."""
    found: list[list[dict[str, Any]]] = []
    response = await gateway.client.get(path, params=params)
    while True:
        assert response.status_code == 200, response.text
        found.append(response.json()[name])
        cursor, link = response.json()["next_cursor"], response.headers.get("link")
        assert (cursor is None) == (link is None)
        if link is None:
            return found
        address, _, relation = link.partition("; ")
        assert relation == 'rel="next"'
        assert urlsplit(address.strip("<>")).path == path
        response = await gateway.client.get(address.strip("<>"))


async def ids(gateway: Gateway, **params: Any) -> list[str]:
    """The jobs of a narrowed list."""
    return [job["id"] for page in await pages(gateway, "jobs", "/jobs", **params) for job in page]


async def test_links_lead_through_the_whole_list_and_end(start: Start) -> None:
    """Each job once, newest first, with the same page size and filters; a full last page is the last."""
    gateway = await start(Scripted())
    made = [await gateway.submit(metadata={"n": str(n % 2)}) for n in range(6)]
    found = await pages(gateway, "jobs", "/jobs", limit=2)
    assert [len(page) for page in found] == [2, 2, 2]
    assert [job["id"] for page in found for job in page] == sorted(made, reverse=True)
    assert await ids(gateway, limit=1, **{"metadata[n]": "1"}) == sorted(made[1::2], reverse=True)


async def test_budgets_are_read_page_by_page(start_on_both: Start) -> None:
    """Each once, newest first; retired ones and another team's are in no page, and a cursor from there finds none."""
    gateway = await start_on_both(Scripted())
    for window in ("day", "week", "month"):
        await gateway.set_budget(1_000_000, window=window)
        await gateway.set_budget(500_000, window=window, key_id=gateway.key_id)
    await gateway.write(retire_budget, "budget-week-None", gateway.clock.now())
    found = await pages(gateway, "budgets", "/budgets", limit=2)
    assert [len(page) for page in found] == [2, 2, 1]
    names = [budget["id"] for page in found for budget in page]
    assert names == sorted(names, reverse=True)
    assert len(set(names)) == 5
    assert [budget["id"] for page in await pages(gateway, "budgets", "/budgets") for budget in page] == names
    rest = (await gateway.client.get("/budgets", params={"before": names[2]})).json()["budgets"]
    assert [budget["id"] for budget in rest] == names[3:]
    cursor = (await gateway.client.get("/budgets?limit=1")).json()["next_cursor"]
    _, _, stranger = await gateway.new_key("another team")
    seen = await gateway.client.get("/budgets", params={"cursor": cursor}, headers=stranger)
    assert (seen.json()["budgets"], seen.json()["next_cursor"]) == ([], None)
    assert (await gateway.client.get("/budgets?limit=0")).status_code == 400


async def test_jobs_are_narrowed_by_everything_at_once(start_on_both: Start) -> None:
    """Status, kind, route, key, time and tags; what is narrowed to nothing is an empty list."""
    gateway = await start_on_both(Scripted(submits=[Refused(FailureKind.MODERATED, "blocked")]))
    failed = (await gateway.made(metadata={"project": "reel", "shot": "1"}))["id"]
    await gateway.clock.sleep(3600)
    later = gateway.clock.now()
    done = (await gateway.made(metadata={"project": "reel"}))["id"]
    other_key, _, header = await gateway.new_key()
    response = await gateway.post(headers={**header, "prefer": "wait=60"}, metadata={"project": "100%_"})
    theirs = response.json()["id"]
    assert await ids(gateway) == [theirs, done, failed]
    assert await ids(gateway, status="failed") == [failed]
    assert await ids(gateway, status="succeeded", key=gateway.key_id) == [done]
    assert await ids(gateway, key=other_key) == [theirs]
    assert await ids(gateway, route="alpha/one", status="succeeded") == [theirs, done]
    assert await ids(gateway, route="alpha/two") == []
    assert (await ids(gateway, media="video"), await ids(gateway, media="image")) == ([theirs, done, failed], [])
    assert await ids(gateway, **{"metadata[project]": "reel"}) == [done, failed]
    assert await ids(gateway, **{"metadata[project]": "reel", "metadata[shot]": "1"}) == [failed]
    assert await ids(gateway, **{"metadata[project]": "%"}) == []
    at = (await gateway.job(done))["created_at"]
    assert (await ids(gateway, created_after=at), await ids(gateway, created_before=at)) == ([theirs, done], [failed])
    assert later > 0


async def test_another_teams_jobs_are_in_no_list(start: Start) -> None:
    """Not by their tags, not by their key, and not by a cursor from there."""
    gateway = await start(Scripted())
    await gateway.submit(metadata={"project": "reel"})
    await gateway.submit(metadata={"project": "reel"})
    _, _, stranger = await gateway.new_key("another team")
    mine = (await gateway.client.get("/jobs?limit=1")).json()["next_cursor"]
    for params in ({"metadata[project]": "reel"}, {"key": gateway.key_id}, {"cursor": mine}):
        seen = await gateway.client.get("/jobs", params=params, headers=stranger)
        assert (seen.status_code, seen.json()["jobs"]) == (200, [])


@pytest.mark.parametrize(
    "params",
    [
        {"status": "done"},
        {"media": "audio"},
        {"route": "a b"},
        {"key": ""},
        {"created_after": "yesterday"},
        {"created_before": "0000-01-01"},
        {"limit": "0"},
        {"cursor": ""},
        {"cursor": "!"},
        {"cursor": "W10"},
        {"cursor": base64.urlsafe_b64encode(json.dumps([1.0]).encode()).decode()},
        {"cursor": base64.urlsafe_b64encode(json.dumps(["a\x00"]).encode()).decode()},
        {"cursor": "WyJqb2JfMDFhIl0", "before": "job_01a"},
        {"metadata[a]": "\x00"},
        {f"metadata[{n}]": "x" for n in range(17)},
    ],
    ids=str,
)
async def test_a_question_that_cannot_be_answered_is_refused(start: Start, params: dict[str, str]) -> None:
    """400 that says what would do, never a fault and never the whole list instead."""
    gateway = await start(Scripted())
    response = await gateway.client.get("/jobs", params=params)
    assert (response.status_code, response.json()["type"].rpartition("/")[2]) == (400, "bad-request")


async def test_tags_that_no_database_can_hold_are_refused(start: Start) -> None:
    """With 400, before anything is kept."""
    gateway = await start(Scripted())
    for tags in ({"a": "\x00"}, {"\x1b": "a"}, {"a": "\ud800"}):
        response = await gateway.client.post(
            "/generate/video",
            content=json.dumps({"image": "https://a.test/b.png", "metadata": tags}),
            headers={"content-type": "application/json"},
        )
        assert response.status_code == 400


@pytest.mark.parametrize("narrowed", ["status = 'failed'", "route = 'a/b'", "key_id = 'k'", "id < 'z'"])
async def test_every_condition_stands_in_an_index(start: Start, narrowed: str) -> None:
    """SQLite says that it searches by an index in the order of the list: no scan, no sort."""
    gateway = await start(Scripted())

    def plan(connection: Connection) -> str:
        query = f"SELECT * FROM jobs WHERE team_id = 't' AND {narrowed} ORDER BY id DESC LIMIT 20"
        return " ".join(str(row[-1]) for row in connection.execute(text(f"EXPLAIN QUERY PLAN {query}")))

    said = await gateway.read(plan)
    assert "SEARCH jobs USING INDEX ix_jobs_team_" in said
    assert "TEMP B-TREE" not in said


async def test_deliveries_are_listed_page_by_page(start_on_both: Start) -> None:
    """In one order, each once, whatever their times; a cursor of jobs is none of deliveries."""
    gateway = await start_on_both(Scripted())

    def endpoints(connection: Connection) -> None:
        for number in range(2):
            values = f"'wh_{number}', '{gateway.team_id}', 'https://a.test/', 's', 0"
            connection.execute(text(f"INSERT INTO webhooks (id, team_id, url, secret, created_at) VALUES ({values})"))

    await gateway.write(endpoints)
    for _ in range(3):
        await gateway.made()
    (whole,) = await pages(gateway, "deliveries", "/webhooks/deliveries")
    told = [(one["event_id"], one["webhook_id"]) for one in whole]
    assert len(set(told)) == len(told) >= 6
    small = await pages(gateway, "deliveries", "/webhooks/deliveries", limit=2)
    assert [(one["event_id"], one["webhook_id"]) for page in small for one in page] == told
    cursor = (await gateway.client.get("/jobs?limit=1")).json()["next_cursor"]
    assert (await gateway.client.get("/webhooks/deliveries", params={"cursor": cursor})).status_code == 400


async def administrator(gateway: Gateway) -> dict[str, str]:
    """The header of a key that may do everything."""
    new = NewKey("operations", "everything", gateway.clock.now(), scopes=frozenset(Scope))
    _, _, secret = await gateway.write(create_key, gateway.service.parts.ids, new)
    return {"authorization": f"Bearer {secret}"}


ADDRESSES = (
    "/jobs", "/usage", "/billing/statement", "/budgets", "/webhooks/deliveries", "/admin/teams", "/admin/keys",
    "/admin/audit", "/routes",
)  # fmt: skip


MISTYPED = [
    ("/jobs", "stauts=failed", "'stauts' here; did you mean `status`?"),
    ("/jobs", "status=failed&status=queued", "'status' is there 2 times"),
    ("/jobs", "metadata=reel", "'metadata' here; "),
    ("/jobs", "status[x]=failed", "'status[x]' here; "),
    ("/jobs", f"metadata[{'x' * 41}]=1", "here; "),
    ("/usage", "group=route", "'group' here; did you mean `group_by`?"),
    ("/admin/audit", "actor=me", "'actor' here; did you mean `act`?"),
    ("/webhooks/deliveries", "before=evt_1", "'before' here; known are: cursor, limit, state"),
    ("/routes", "media=video", "'media' here; this address takes none"),
]


async def test_a_mistyped_parameter_of_the_query_is_refused(start: Start) -> None:
    """A filter that is ignored answers with everything, and looks like an answer; the nearest one is named."""
    gateway = await start(Scripted())
    admin = await administrator(gateway)
    for path, query, said in MISTYPED:
        response = await gateway.client.get(f"{path}?{query}", headers=admin)
        assert response.status_code == 400, response.text
        assert response.headers["content-type"] == "application/problem+json"
        assert said in response.json()["detail"]


async def test_every_parameter_of_the_description_is_taken_and_no_other(start: Start) -> None:
    """What the description says of each list is what the list does; nobody without a key is told either."""
    gateway = await start(Scripted())
    admin = await administrator(gateway)
    document = (await gateway.client.get("/openapi.json")).json()
    values = {"limit": "5", "status": "failed", "media": "video", "state": "failed", "format": "json"}
    for path in ADDRESSES:
        for one in document["paths"][path]["get"].get("parameters", []):
            if one["in"] == "query" and one["name"] != "cursor":
                name = "metadata[a]" if one["name"] == "metadata" else one["name"]
                value = values.get(name, "2026-01" if name == "period" else "2026-01-02" if "ted_" in name else "day")
                value = "2026-01-02" if name in {"since", "until"} else value
                response = await gateway.client.get(path, params={name: value}, headers=admin)
                assert response.status_code == 200, (path, name, response.text)
        unknown = {"params": {"no-such-thing": "1"}}
        assert (await gateway.client.get(path, headers=admin, **unknown)).status_code == 400
        stranger = {"authorization": "Bearer vg_nobody"}
        assert (await gateway.client.get(path, headers=stranger, **unknown)).status_code == 401


async def test_a_parameter_in_the_query_of_an_order_is_refused_before_anything_is_made(start: Start) -> None:
    """The parameters of a render are in the body: `?frames=25` would have been a video of 14 frames."""
    gateway = await start(Scripted())
    response = await gateway.client.post("/generate/video?frames=25", json={"image": picture_base64()})
    assert (response.status_code, "this address takes none" in response.json()["detail"]) == (400, True)
    assert await gateway.counts() == NOTHING
