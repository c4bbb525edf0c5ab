"""Limits over HTTP: kept exactly, told on every reply, refused with 429, and a refusal leaves nothing behind."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import http_sf
import httpx
import pytest
from sqlalchemy import text, update
from sqlalchemy.dialects import sqlite

from gateway import quotas
from gateway.keys import NewKey, create_key
from gateway.money.grants import Grants
from gateway.problems import TYPE_BASE
from gateway.store.schema import teams
from providers.contract import Failed, FailureKind, Pending
from tests.support.fixtures import Start
from tests.support.gateway import NOTHING, Gateway
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio

Items = dict[str, dict[str, Any]]
UNITS = {"requests", "content-bytes", "concurrent-requests", "micro-usd"}


def items(response: httpx.Response, header: str) -> Items:
    """The list in a header as a parser of structured fields reads it; names are strings and stand there once."""
    parsed = http_sf.parse(response.headers[header].encode(), tltype="list")
    assert all(isinstance(name, str) and not isinstance(name, http_sf.Token) for name, _ in parsed)
    assert len({name for name, _ in parsed}) == len(parsed)
    return {name: dict(parameters) for name, parameters in parsed}


def check_announced(response: httpx.Response) -> tuple[Items, Items]:
    """The policies and the standings of a reply, which keep to the draft."""
    policies = items(response, "RateLimit-Policy")
    standings = items(response, "RateLimit") if "RateLimit" in response.headers else {}
    for parameters in policies.values():
        assert parameters.keys() <= {"q", "qu", "w"}
        assert type(parameters["q"]) is int
        assert parameters.get("qu", "requests") in UNITS
        assert parameters.get("w", 1) > 0
    for name, parameters in standings.items():
        assert parameters.keys() <= {"r", "t"}
        assert 0 <= parameters["r"] <= policies[name]["q"]
        assert parameters.get("t", 0) >= 0
    return policies, standings


def check_refused(response: httpx.Response, *violated: str) -> int:
    """A refusal by these policies; the seconds of its Retry-After."""
    assert response.status_code == 429, response.text
    body = response.json()
    assert body["type"] == TYPE_BASE + "quota-exceeded"
    assert body["violated-policies"] == list(violated)
    policies, standings = check_announced(response)
    retry_after_s = int(response.headers["retry-after"])
    for name in violated:
        assert name in policies
        assert retry_after_s >= standings[name].get("t", 1)
    return retry_after_s


async def key_with(gateway: Gateway, **grants: Any) -> dict[str, str]:
    """The header of another key of the tests' own team."""
    new = replace(NewKey("reel", "narrow", gateway.clock.now()), grants=Grants(**grants))
    _, _, secret = await gateway.write(create_key, gateway.service.parts.ids, new)
    return {"authorization": f"Bearer {secret}"}


async def set_plan(gateway: Gateway, plan: dict[str, Any]) -> None:
    statement = update(teams).where(teams.c.id == gateway.team_id).values(plan=plan)
    await gateway.write(lambda connection: connection.execute(statement))


async def test_without_limits_nothing_is_announced(start: Start) -> None:
    """No policy, no header."""
    gateway = await start(Scripted())
    for response in (await gateway.client.get("/jobs"), await gateway.post()):
        assert "ratelimit" not in response.headers
        assert "ratelimit-policy" not in response.headers


async def test_requests_are_counted_down_and_refused_and_come_back(start: Start) -> None:
    """Three a minute: r falls to 0, the fourth is told when to come, and then is taken; unknown keys see nothing."""
    gateway = await start(Scripted(), limits={"key": {"requests_per_minute": 3}})
    seen = []
    for _ in range(3):
        response = await gateway.client.get("/jobs")
        policies, standings = check_announced(response)
        assert policies == {"key-requests": {"q": 3, "w": 60}}
        seen.append(standings["key-requests"])
    assert seen == [{"r": 2, "t": 20}, {"r": 1, "t": 40}, {"r": 0, "t": 20}]
    wait_s = check_refused(await gateway.client.get("/jobs"), "key-requests")
    await gateway.clock.sleep(wait_s - 0.5)
    check_refused(await gateway.client.get("/jobs"), "key-requests")
    await gateway.clock.sleep(0.5)
    assert (await gateway.client.get("/jobs")).status_code == 200
    stranger = await gateway.client.get("/jobs", headers={"authorization": "Bearer vg_nobody"})
    assert (stranger.status_code, "ratelimit" in stranger.headers) == (401, False)
    assert (await gateway.client.get("/healthz")).status_code == 200


async def test_every_authenticated_reply_says_what_is_left(start: Start) -> None:
    """Successes, problems and streams alike, each request counted once."""
    gateway = await start(Scripted(), limits={"team": {"requests_per_minute": 100}})
    job_id = await gateway.submit()
    await gateway.ended(job_id)
    paths = ("/jobs", "/jobs/nothing", f"/jobs/{job_id}/events", f"/jobs/{job_id}/content", "/routes", "/usage?group=x")
    left = []
    for path in paths:
        _, standings = check_announced(await gateway.client.get(path))
        left.append(standings["team-requests"]["r"])
    check_announced(await gateway.client.post("/generate/video", content=b"{", headers={"content-type": "text/plain"}))
    assert left == list(range(left[0], left[0] - len(paths), -1))


async def test_a_plan_and_grants_narrow_and_never_widen(start: Start) -> None:
    """The tightest of configuration, plan and grants holds, for the team over all its keys and for each key alone."""
    gateway = await start(Scripted(), limits={"team": {"requests_per_minute": 5}, "key": {"requests_per_minute": 4}})
    await set_plan(gateway, {"limits": {"requests_per_minute": 3}})
    narrow = await key_with(gateway, requests_per_minute=2)
    wide = await key_with(gateway, requests_per_minute=900)
    policies, _ = check_announced(await gateway.client.get("/jobs", headers=narrow))
    assert policies == {"team-requests": {"q": 3, "w": 60}, "key-requests": {"q": 2, "w": 60}}
    policies, _ = check_announced(await gateway.client.get("/jobs", headers=wide))
    assert policies["key-requests"]["q"] == 4
    await gateway.client.get("/jobs", headers=narrow)
    check_refused(await gateway.client.get("/jobs", headers=narrow), "team-requests", "key-requests")
    check_refused(await gateway.client.get("/jobs", headers=wide), "team-requests")


async def test_of_many_at_once_exactly_as_many_jobs_are_admitted_as_may_run(start_on_both: Start) -> None:
    """Twenty-four requests at the same moment, five places of the team and three of the key, on both databases."""
    vendor = Scripted(checks=[Pending()] * 1000)
    limits = {"team": {"concurrent_jobs": 5, "spend_micros_per_hour": 10**9}, "key": {"concurrent_jobs": 3}}
    gateway = await start_on_both(vendor, limits=limits)
    other = await key_with(gateway)
    headers = [None, other] * 12
    answers = await asyncio.gather(*(gateway.post(headers=one) for one in headers))
    admitted = [answer for answer in answers if answer.status_code == 202]
    assert len(admitted) == 5
    assert (await gateway.counts())["jobs"] == (await gateway.counts())["holds"] == 5
    for answer in answers:
        policies, _ = check_announced(answer)
        assert policies["team-jobs"] == {"q": 5, "qu": "concurrent-requests"}
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) == 19
    assert {tuple(answer.json()["violated-policies"]) for answer in refused} <= {("team-jobs",), ("key-jobs",)}
    await gateway.client.post(admitted[0].headers["location"] + "/cancel")


async def test_a_place_is_free_again_when_a_job_ends(start: Start) -> None:
    """What ended is not counted; r tells the places left after this job, and a replay takes none."""
    gateway = await start(Scripted(), limits={"key": {"concurrent_jobs": 1}})
    first = await gateway.post(headers={"idempotency-key": "a"})
    _, standings = check_announced(first)
    assert standings == {"key-jobs": {"r": 0}}
    assert check_refused(await gateway.post(headers={"idempotency-key": "b"}), "key-jobs") > 0
    counts = await gateway.counts()
    assert (counts["jobs"], counts["holds"], counts["idempotency"]) == (1, 1, 1), "nothing is kept of a refusal"
    again = await gateway.post(headers={"idempotency-key": "a"})
    assert (again.status_code, again.content) == (202, first.content)
    await gateway.ended(first.json()["id"])
    assert (await gateway.post(headers={"idempotency-key": "b"})).status_code == 202


async def test_spend_is_kept_under_its_rate_and_comes_back_with_the_hour(start: Start) -> None:
    """Holds and bills of the last hour count; what was released does not; Retry-After is when enough is free."""
    limits = {"team": {"spend_micros_per_hour": 100_000}}
    gateway = await start(Scripted(price_micros=40_000), limits=limits, claim_interval_s=600.0)
    for left in (60_000, 20_000):
        response = await gateway.post()
        policies, standings = check_announced(response)
        assert policies == {"team-spend": {"q": 100_000, "qu": "micro-usd", "w": 3600}}
        assert standings["team-spend"]["r"] == left
        await gateway.ended(response.json()["id"])
        await gateway.clock.sleep(600)
    before = await gateway.counts()
    wait_s = check_refused(await gateway.post(), "team-spend")
    assert await gateway.counts() == before
    assert 0 < wait_s <= 2_400
    await gateway.clock.sleep(wait_s)
    assert (await gateway.post()).status_code == 202


async def test_money_that_was_given_back_is_not_spent(start: Start) -> None:
    """A job without a result leaves its rate as it was."""
    failing = Scripted(price_micros=60_000, checks=[Failed(FailureKind.RENDER_FAILED, "out of memory")])
    limits = {"key": {"spend_micros_per_hour": 100_000}}
    gateway = await start(failing, limits=limits, jobs={"attempts_max": 1})
    assert (await gateway.made())["status"] == "failed"
    _, standings = check_announced(await gateway.post())
    assert standings["key-spend"]["r"] == 40_000


async def test_a_job_that_could_never_be_had_is_not_put_off(start: Start) -> None:
    """A hold above the whole rate is 403 with both figures: waiting would not help."""
    gateway = await start(Scripted(price_micros=40_000), limits={"key": {"spend_micros_per_hour": 30_000}})
    response = await gateway.post()
    assert (response.status_code, response.json()["type"]) == (403, TYPE_BASE + "forbidden")
    assert "$0.04" in response.json()["detail"]
    assert "$0.03" in response.json()["detail"]
    assert "retry-after" not in response.headers
    assert await gateway.counts() == NOTHING


async def test_a_request_over_its_limit_is_refused_before_its_body_is_read(start: Start) -> None:
    """The limit guards the expensive part: nothing is parsed, decoded or stored."""
    gateway = await start(Scripted(), limits={"key": {"requests_per_minute": 1}})
    await gateway.client.get("/jobs")
    sent = 0

    async def body() -> Any:
        nonlocal sent
        sent += 1
        yield b"{}"

    headers = {"content-type": "application/json"}
    check_refused(await gateway.client.post("/generate/video", content=body(), headers=headers), "key-requests")
    assert sent == 0


async def test_active_jobs_are_counted_from_the_index_of_active_jobs(start: Start) -> None:
    """A team with a million old jobs is counted as fast as one with none."""
    gateway = await start(Scripted())
    for prepared in quotas._ACTIVE.values():
        bound: Any = prepared._statement.params(of="x")
        query = str(bound.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))
        rows = await gateway.read(
            lambda connection, sql: connection.execute(text(sql)).all(), f"EXPLAIN QUERY PLAN {query}"
        )
        assert "ix_jobs_active" in str(rows)
