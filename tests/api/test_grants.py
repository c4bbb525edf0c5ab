"""Keys and their limits over HTTP: what a key may not do is refused by name, and a key never grants what it has not."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine

from gateway.ids import Ids
from gateway.keys import KeyGrantError, NewKey, create_key, find_caller, list_keys, revoke_key, rotate_key
from gateway.money.budgets import Budget, retire_budget, set_budget
from gateway.money.grants import Grants
from gateway.money.windows import WindowKind
from gateway.store import schema_events, schema_money  # noqa: F401 - the tables that keys refer to
from gateway.store.metadata import metadata
from gateway.wishes import standing_of
from providers.contract import Failed, FailureKind
from tests.support.clock import START
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.scripted import Scripted

asynchronous = pytest.mark.anyio


async def key_with(gateway: Gateway, grants: Grants, **changes: Any) -> tuple[str, dict[str, str]]:
    """A key of the tests' own team with these limits: its id and the header to send."""
    new = replace(NewKey("reel", "narrow", gateway.clock.now(), grants=grants), **changes)
    key_id, _, secret = await gateway.write(create_key, gateway.service.parts.ids, new)
    return key_id, {"authorization": f"Bearer {secret}"}


@asynchronous
@pytest.mark.parametrize("grants", [Grants(routes={"beta/one"}), Grants(providers={"beta"})])
async def test_a_key_is_kept_to_its_routes(start: Start, grants: Grants) -> None:
    """The cheaper route is refused with the sentence, the allowed one is taken."""
    gateway = await start(Scripted(price_micros=10_000), Scripted("beta", price_micros=90_000))
    _, header = await key_with(gateway, grants)
    job = await gateway.ended((await gateway.post(headers=header)).json()["id"])
    assert job["route"] == "beta/one"
    (refused,) = job["plan"]["refused"]
    assert (refused["route"], refused["reasons"]) == ("alpha/one", ["this key does not allow it"])


@asynchronous
async def test_the_limits_hold_when_a_job_is_planned_again(start: Start) -> None:
    """A route that failed is not followed by one that the key may not use."""
    first = Scripted(checks=[Failed(FailureKind.RENDER_FAILED, "out of memory")] * 4)
    gateway = await start(first, Scripted("beta", price_micros=1_000))
    _, header = await key_with(gateway, Grants(providers={"alpha"}))
    job = await gateway.ended((await gateway.post(headers=header)).json()["id"])
    assert {attempt["route"] for attempt in job["attempts"]} == {"alpha/one"}
    assert job["status"] == "failed"


@asynchronous
async def test_a_key_that_may_use_nothing_is_told_why_for_every_route(start: Start) -> None:
    """An empty set of providers: 422 with a reason a route, and nothing is held."""
    gateway = await start(Scripted())
    _, header = await key_with(gateway, Grants(providers=set()))
    answer = await gateway.post(headers=header)
    assert (answer.status_code, answer.json()["refused"][0]["reasons"]) == (422, ["this key does not allow it"])
    assert (await gateway.counts())["holds"] == 0


@asynchronous
async def test_an_objective_that_the_key_may_not_ask_for_is_forbidden(start: Start) -> None:
    """403 with the objectives that it may."""
    gateway = await start(Scripted())
    _, header = await key_with(gateway, Grants(objectives={"cheapest"}))
    refused = await gateway.post(headers=header, routing={"objective": "fastest"})
    assert (refused.status_code, refused.json()["type"].rsplit("/", 1)[1]) == (403, "forbidden")
    assert "cheapest" in refused.json()["detail"]
    assert (await gateway.post(headers=header, routing={"objective": "cheapest"})).status_code == 202


@asynchronous
async def test_no_request_of_a_key_costs_more_than_its_limit(start: Start) -> None:
    """Dearer routes are out, the hold is no larger, and a higher wish of the request does not help."""
    gateway = await start(Scripted(price_micros=50_000), Scripted("beta", price_micros=90_000))
    _, header = await key_with(gateway, Grants(max_cost_micros=60_000))
    job = await gateway.ended((await gateway.post(headers=header, routing={"max_cost_usd": 5})).json()["id"])
    assert (job["route"], job["bill"]["held_micros"] <= 60_000) == ("alpha/one", True)
    pinned = await gateway.post(headers=header, routing={"pin": "beta/one"})
    assert pinned.status_code == 422


@asynchronous
async def test_a_rotated_key_works_under_both_secrets_for_its_time(start: Start) -> None:
    """Then the old one is unknown; id and team stay."""
    gateway = await start(Scripted())
    key_id, old = await key_with(gateway, Grants())
    secret = await gateway.write(rotate_key, key_id, gateway.clock.now(), 60.0)
    new = {"authorization": f"Bearer {secret}"}
    assert [(await gateway.client.get("/jobs", headers=one)).status_code for one in (old, new)] == [200, 200]
    await gateway.clock.sleep(60.0)
    assert [(await gateway.client.get("/jobs", headers=one)).status_code for one in (old, new)] == [401, 200]


@asynchronous
async def test_a_revoked_or_expired_key_is_refused_at_once(start: Start) -> None:
    """Both of its secrets, and it cannot be rotated back to life."""
    gateway = await start(Scripted())
    key_id, old = await key_with(gateway, Grants())
    secret = await gateway.write(rotate_key, key_id, gateway.clock.now(), 600.0)
    assert await gateway.write(revoke_key, key_id, gateway.clock.now())
    assert not await gateway.write(revoke_key, key_id, gateway.clock.now())
    for header in (old, {"authorization": f"Bearer {secret}"}):
        assert (await gateway.client.get("/jobs", headers=header)).status_code == 401
    assert await gateway.write(rotate_key, key_id, gateway.clock.now(), 0.0) is None
    _, passing = await key_with(gateway, Grants(), expires_at=gateway.clock.now() + 10)
    await gateway.clock.sleep(10.0)
    assert (await gateway.client.get("/jobs", headers=passing)).status_code == 401


NAMES = st.none() | st.frozensets(st.sampled_from(["a/x", "a/y", "b/x", "c"]), max_size=3)
LIMITS = st.builds(
    Grants, routes=NAMES, providers=NAMES, objectives=NAMES, max_cost_micros=st.none() | st.integers(0, 5)
)
ENDS = st.none() | st.integers(1, 5).map(lambda day: START + day * 86_400.0)


def _database() -> Connection:
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    return engine.connect()


class _Now:
    def now(self) -> float:
        return START

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@settings(max_examples=60)
@given(LIMITS, ENDS, LIMITS, ENDS)
def test_a_key_never_grants_more_than_its_issuer(
    first: Grants, first_ends: float | None, second: Grants, second_ends: float | None
) -> None:
    """Whatever is asked for: what is issued stays within the issuer, and what goes beyond is refused by its names."""
    ids = Ids(_Now())
    with _database() as connection:
        issuer_id, _, _ = create_key(connection, ids, NewKey("film", "issuer", START, first_ends, first))
        wanted = NewKey("film", "issued", START, second_ends, second, issuer_id)
        beyond = second.model_copy(update={"expires_at": second_ends}).beyond(
            first.model_copy(update={"expires_at": first_ends})
        )
        if beyond:
            with pytest.raises(KeyGrantError, match=".*".join(beyond)):
                create_key(connection, ids, wanted)
            assert len(list_keys(connection)) == 1
            return
        _, _, secret = create_key(connection, ids, wanted)
        caller = find_caller(connection, secret, START)
        assert caller is not None
        issued = standing_of({}, caller.grants)
        limit = standing_of({}, first.model_dump(mode="json", exclude_none=True))
        for route in ("a/x", "a/y", "b/x"):
            assert not limit.refusals(route) or issued.refusals(route)
        if limit.max_cost_micros is not None:
            assert issued.max_cost_micros is not None
            assert issued.max_cost_micros <= limit.max_cost_micros


def test_only_a_live_key_of_the_same_team_issues() -> None:
    """An unknown, revoked, expired or foreign issuer issues nothing."""
    ids = Ids(_Now())
    with _database() as connection:
        foreign, _, _ = create_key(connection, ids, NewKey("other", "k", START))
        ended, _, _ = create_key(connection, ids, NewKey("film", "k", START - 10, START - 1))
        revoked, _, _ = create_key(connection, ids, NewKey("film", "k", START))
        revoke_key(connection, revoked, START)
        for issuer in ("key_nobody", foreign, ended, revoked):
            with pytest.raises(KeyGrantError):
                create_key(connection, ids, NewKey("film", "issued", START, issuer_id=issuer))


def test_a_key_with_a_budget_of_its_own_issues_none() -> None:
    """What it may spend once would be spent twice; without the budget, or with a warning alone, it may issue."""
    ids = Ids(_Now())
    with _database() as connection:
        issuer, team_id, _ = create_key(connection, ids, NewKey("film", "issuer", START))
        issued = NewKey("film", "issued", START, issuer_id=issuer)
        set_budget(connection, Budget("soft", team_id, WindowKind.DAY, soft_micros=5, key_id=issuer), START)
        set_budget(connection, Budget("team", team_id, WindowKind.DAY, limit_micros=5), START)
        create_key(connection, ids, issued)
        set_budget(connection, Budget("hard", team_id, WindowKind.MONTH, limit_micros=5, key_id=issuer), START)
        with pytest.raises(KeyGrantError, match="a budget of its own"):
            create_key(connection, ids, issued)
        retire_budget(connection, "hard", START)
        create_key(connection, ids, issued)
