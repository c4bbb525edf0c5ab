"""You see only what is yours: every address with an id answers another team as if there were nothing there."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import pytest

from gateway.app import ROUTES
from gateway.scopes import KEYLESS, NEEDED, Scope
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio

Filled = Callable[[Gateway, str], Awaitable[dict[str, str]]]


async def of_a_job(gateway: Gateway, job_id: str) -> dict[str, str]:
    return {"job_id": job_id}


async def of_its_team(gateway: Gateway, _job_id: str) -> dict[str, str]:
    return {"team_id": gateway.team_id}


async def of_its_key(gateway: Gateway, _job_id: str) -> dict[str, str]:
    return {"key_id": gateway.key_id}


# How to fill the ids of each path with those of a job that is another team's. None: the address carries its own
# permission and asks for no key; tests/api/test_links.py says what it takes.
CASES: dict[str, Filled | None] = {
    "/jobs/{job_id}": of_a_job,
    "/jobs/{job_id}/content": of_a_job,
    "/jobs/{job_id}/events": of_a_job,
    "/jobs/{job_id}/cancel": of_a_job,
    "/jobs/{job_id}/link": of_a_job,
    "/admin/teams/{team_id}": of_its_team,
    "/admin/keys/{key_id}/rotate": of_its_key,
    "/admin/keys/{key_id}/revoke": of_its_key,
    "/inputs/{name}": None,
    "/docs/{asset}": None,
    "/results/{job_id}/{number}": None,
    "/callbacks/{attempt_id}/{token}": None,
}
WITH_IDS = [route for route in ROUTES if "{" in route.path]


@pytest.mark.parametrize("route", WITH_IDS, ids=lambda route: route.path)
async def test_an_address_with_an_id_is_nothing_to_another_team(start: Start, route: object) -> None:
    """404, or 403 for want of a scope: the same as for an id that never was; a new route needs a case here."""
    path, methods = route.path, sorted(route.methods - {"HEAD"})
    assert path in CASES, f"{path} has an id and no case: say how another team is kept out of it"
    fill = CASES[path]
    if fill is None:
        return
    gateway = await start(Scripted())
    job = await gateway.made()
    _, _, stranger = await gateway.new_key("another team")
    theirs = path.format(**await fill(gateway, job["id"]))
    nothing = re.sub(r"\{[^}]+\}", "job_0000000000000000", path)
    for method in methods:
        seen = await gateway.client.request(method, theirs, headers=stranger)
        missing = await gateway.client.request(method, nothing, headers=stranger)
        refused = 403 if NEEDED[path] is Scope.ADMIN else 404
        assert (seen.status_code, missing.status_code) == (refused, refused)
        same = seen.text.replace(theirs, "ID").replace(job["id"], "ID") == missing.text.replace(nothing, "ID").replace(
            "job_0000000000000000", "ID"
        )
        assert same, "the two replies can be told apart"
    assert await gateway.job(job["id"]) == job


def test_no_case_outlives_its_route() -> None:
    """The table of cases is the table of routes."""
    assert set(CASES) == {route.path for route in WITH_IDS}


@pytest.mark.parametrize("route", [route for route in ROUTES if route.path not in KEYLESS], ids=lambda r: r.path)
async def test_every_other_address_asks_for_a_key(start: Start, route: object) -> None:
    """Without a key there is 401 and nothing else to learn."""
    gateway = await start(Scripted())
    gateway.client.headers.pop("authorization")
    for method in sorted(route.methods - {"HEAD"}):
        response = await gateway.client.request(method, re.sub(r"\{[^}]+\}", "x", route.path))
        assert (response.status_code, response.json()["type"].rpartition("/")[2]) == (401, "unauthorized")


async def test_a_list_holds_the_teams_own_jobs_newest_first(start: Start) -> None:
    """Another team's jobs are not in it."""
    gateway = await start(Scripted())
    mine = [await gateway.submit() for _ in range(3)]
    _, _, stranger = await gateway.new_key("another team")
    await gateway.post(headers=stranger)
    listed = (await gateway.client.get("/jobs")).json()["jobs"]
    assert [job["id"] for job in listed] == sorted(mine, reverse=True)


async def test_a_list_is_read_page_by_page_without_gaps(start: Start) -> None:
    """Following `next_before` visits every job once, also while new ones come in."""
    gateway = await start(Scripted())
    for _ in range(7):
        await gateway.submit()
        await gateway.clock.sleep(0.01)
    everything = [job["id"] for job in (await gateway.client.get("/jobs?limit=100")).json()["jobs"]]
    seen: list[str] = []
    before = None
    while True:
        page = (await gateway.client.get("/jobs", params={"limit": 3} | ({"before": before} if before else {}))).json()
        seen += [job["id"] for job in page["jobs"]]
        before = page["next_before"]
        if before is None:
            break
        await gateway.submit()
    assert (seen, len(seen)) == (everything, 7)


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "", "1e2", "٣٣٣"])
async def test_a_page_size_that_is_none_is_refused(start: Start, limit: str) -> None:
    """1 to 100, said in the reply."""
    gateway = await start(Scripted())
    response = await gateway.client.get("/jobs", params={"limit": limit})
    assert (response.status_code, "1 to 100" in response.json()["detail"]) == (400, True)


@pytest.mark.parametrize("path", ["/webhooks/deliveries"])
async def test_a_list_that_is_not_in_the_order_of_ids_takes_its_cursor_alone(start: Start, path: str) -> None:
    """An id as the place to go on from is refused by name, and is no fault of ours."""
    gateway = await start(Scripted())
    response = await gateway.client.get(path, params={"before": "job_1"})
    assert (response.status_code, "cursor" in response.json()["detail"]) == (400, True)
