"""`/admin/...`: teams and keys over HTTP, for administrators alone, within what they have, and written down."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from gateway import audit
from gateway.administration import end_key, end_team
from gateway.app import ROUTES
from gateway.ids import Ids
from gateway.keys import KeyGrantError, NewKey, create_key, find_caller, list_keys, revoke_key, rotate_key_by
from gateway.money.budgets import Budget, set_budget
from gateway.money.grants import Grants
from gateway.money.windows import WindowKind
from gateway.problems import LastAdministrator
from gateway.scopes import NEEDED, Scope, Scopes
from gateway.store.schema import keys
from tests.support.clock import START
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.scripted import Scripted
from tests.support.undone import Stopped, undone

asynchronous = pytest.mark.anyio
ALL = frozenset(Scope)


async def administrator(gateway: Gateway, scopes: Scopes = ALL, **changes: Any) -> tuple[str, dict[str, str]]:
    """A key of the team `ops` with these scopes: its id and the header to send."""
    new = replace(NewKey("ops", "admin", gateway.clock.now(), scopes=scopes), **changes)
    key_id, _, secret = await gateway.write(create_key, gateway.service.parts.ids, new)
    return key_id, bearer(secret)


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


async def call(gateway: Gateway, method: str, path: str, header: dict[str, str], **fields: Any) -> dict[str, Any]:
    """What an administrator is answered, which must be a success."""
    response = await gateway.client.request(method, path, headers=header, json=fields or None)
    assert response.is_success, response.text
    return dict(response.json())


async def log_of(gateway: Gateway) -> list[audit.Entry]:
    """The log of acts, the first first."""
    return list(reversed(await gateway.read(audit.entries)))


@asynchronous
async def test_a_team_and_its_key_are_made_used_rotated_and_ended(start: Start) -> None:
    """The whole life over HTTP; each secret is shown once and works as long as it should."""
    gateway = await start(Scripted(), money={"default_budget_micros": 1_000_000})
    _, admin = await administrator(gateway)
    team = await call(
        gateway, "POST", "/admin/teams", admin, name="film", timezone="Europe/Berlin", plan={"percent": 5}
    )
    made = await call(
        gateway, "POST", "/admin/keys", admin, team_id=team["id"], name="ci", limits={"max_cost_micros": 200_000}
    )
    header = bearer(made["key"])
    job = await gateway.post(headers=header)
    assert (job.status_code, job.json()["bill"]["held_micros"]) == (202, 105_000)
    (budget,) = (await gateway.client.get("/budgets", headers=header)).json()["budgets"]
    assert (budget["limit_micros"], budget["window"]) == (1_000_000, "month")
    rotated = await call(gateway, "POST", f"/admin/keys/{made['id']}/rotate", admin, overlap_s=60)
    for secret, until in ((made["key"], 60), (rotated["key"], 10_000)):
        assert await gateway.read(find_caller, secret, gateway.clock.now() + until - 1) is not None
    assert await gateway.read(find_caller, made["key"], gateway.clock.now() + 60) is None
    await call(gateway, "POST", f"/admin/keys/{made['id']}/revoke", admin)
    assert (await gateway.client.get("/jobs", headers=bearer(rotated["key"]))).status_code == 401
    assert (await gateway.client.post(f"/admin/keys/{made['id']}/revoke", headers=admin)).status_code == 404
    (listed,) = (await call(gateway, "GET", f"/admin/keys?team_id={team['id']}", admin))["keys"]
    assert (listed["name"], listed["limits"], listed["revoked_at"] is not None) == (
        "ci",
        {"max_cost_micros": 200_000},
        True,
    )


@asynchronous
async def test_a_busy_team_is_not_deleted_and_a_deleted_one_stays_in_the_list(start: Start) -> None:
    """409 with the numbers while money is under way; afterwards its keys end and its name stays taken."""
    gateway = await start(Scripted())
    _, admin = await administrator(gateway)
    job_id = await gateway.submit()
    busy = await gateway.client.delete(f"/admin/teams/{gateway.team_id}", headers=admin)
    assert (busy.status_code, busy.json()["active_jobs"], busy.json()["held_micros"]) == (409, 1, 100_000)
    await gateway.ended(job_id)
    ended = await call(gateway, "DELETE", f"/admin/teams/{gateway.team_id}", admin)
    assert ended["ended"] == {"keys": 1, "budgets": 0, "webhooks": 0}
    assert (await gateway.client.get("/jobs")).status_code == 401
    assert (await gateway.client.delete(f"/admin/teams/{gateway.team_id}", headers=admin)).status_code == 404
    taken = await gateway.client.post("/admin/teams", headers=admin, json={"name": "reel"})
    assert taken.status_code == 409
    shown = {one["name"]: one["deleted_at"] for one in (await call(gateway, "GET", "/admin/teams", admin))["teams"]}
    assert (shown["ops"], shown["reel"] is not None) == (None, True)
    refused = await gateway.client.post("/admin/keys", headers=admin, json={"team_id": gateway.team_id})
    assert refused.status_code == 422


@asynchronous
async def test_lists_are_read_page_by_page_without_gaps(start: Start) -> None:
    """Following `next_before` visits every team, key and entry once, the newest first."""
    gateway = await start(Scripted())
    _, admin = await administrator(gateway)
    for number in range(5):
        await gateway.clock.sleep(0.01)
        team = await call(gateway, "POST", "/admin/teams", admin, name=f"team {number}")
        await call(gateway, "POST", "/admin/keys", admin, team_id=team["id"])
    for name, count in (("teams", 7), ("keys", 7), ("audit", 10)):
        seen: list[str] = []
        page: dict[str, Any] = {"next_before": ""}
        while page["next_before"] is not None:
            before = f"&before={page['next_before']}" if page["next_before"] else ""
            page = await call(gateway, "GET", f"/admin/{name}?limit=3{before}", admin)
            seen += [one["id"] for one in page["entries" if name == "audit" else name]]
        assert (len(seen), len(set(seen)), seen) == (count, count, sorted(seen, reverse=True))
    keys_made = await call(gateway, "GET", "/admin/audit?act=key.create&limit=100", admin)
    assert len(keys_made["entries"]) == 5


@asynchronous
@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/admin/teams", {"name": ""}, 422),
        ("/admin/teams", {"name": "a\x00b"}, 422),
        ("/admin/teams", {"name": "\ud800"}, 422),
        ("/admin/teams", {"name": "film\u202egnp"}, 422),
        ("/admin/teams", {"name": "film\u0085"}, 422),
        ("/admin/teams", {"name": "fi\u200blm"}, 422),
        ("/admin/teams", {"name": " \u3000"}, 422),
        ("/admin/teams", {"name": "x", "timezone": "Mars/Phobos"}, 422),
        ("/admin/teams", {"name": "x", "plan": {"percent": "lots"}}, 422),
        ("/admin/teams", {"name": "x", "owner": "me"}, 422),
        ("/admin/teams", {}, 422),
        ("/admin/keys", {"team_id": "team_none"}, 422),
        ("/admin/keys", {"team_id": "\x00"}, 422),
        ("/admin/keys", {"team_id": "TEAM", "scopes": ["root"]}, 422),
        ("/admin/keys", {"team_id": "TEAM", "expires_at": "2001-01-01T00:00:00Z"}, 422),
        ("/admin/keys", {"team_id": "TEAM", "expires_at": "9999-12-31T23:59:59Z"}, 422),
        ("/admin/keys", {"team_id": "TEAM", "expires_at": "tomorrow"}, 422),
        ("/admin/keys", {"team_id": "TEAM", "limits": {"max_cost_micros": -1}}, 422),
        ("/admin/keys", {"team_id": "TEAM", "limits": {"expires_at": 4e9}}, 422),
        ("/admin/keys", {"team_id": "TEAM", "limits": {"max_cots_micros": 1}}, 422),
        ("/admin/keys/key_none/rotate", {}, 404),
        ("/admin/keys/KEY/rotate", {"overlap_s": 1e9}, 422),
        ("/admin/keys/key%00/revoke", None, 404),
        ("/admin/audit?target=%00", "GET", 400),
        ("/admin/keys?before=%27%20OR%201=1", "GET", 400),
        ("/admin/teams?limit=0", "GET", 400),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(start: Start, path: str, body: Any, status: int) -> None:
    """A problem that names what is wrong, and not a line in the log."""
    gateway = await start(Scripted())
    _, admin = await administrator(gateway)
    path = path.replace("KEY", gateway.key_id)
    if body == "GET":
        response = await gateway.client.get(path, headers=admin)
    else:
        content = json.dumps(body).replace("TEAM", gateway.team_id)
        response = await gateway.client.post(
            path, headers={**admin, "content-type": "application/json"}, content=content
        )
    assert response.status_code == status, response.text
    assert await log_of(gateway) == []
    rows = await gateway.read(lambda c: c.execute(text("SELECT count(*) FROM teams")).scalar_one())
    assert rows == 2


@asynchronous
async def test_only_the_scope_opens_the_door(start: Start) -> None:
    """Every address under /admin refuses the most that an ordinary key can have."""
    gateway = await start(Scripted())
    _, ordinary = await administrator(gateway, ALL - {Scope.ADMIN})
    under = [route for route in ROUTES if route.path.startswith("/admin")]
    assert len(under) == 8
    for route in under:
        assert NEEDED[route.path] is Scope.ADMIN
        for method in (route.methods or set()) - {"HEAD"}:
            answer = await gateway.client.request(method, route.path, headers=ordinary)
            assert (answer.status_code, answer.json()["scope"]) == (403, "admin")
    assert await log_of(gateway) == []


@asynchronous
async def test_a_key_hands_out_only_what_it_has(start: Start) -> None:
    """Neither by making a key nor by learning the secret of one that exists; it may end any of them."""
    gateway = await start(Scripted())
    _, narrow = await administrator(gateway, frozenset({Scope.ADMIN, Scope.READ}), grants=Grants(providers={"alpha"}))
    make = {"team_id": gateway.team_id, "limits": {"providers": ["alpha"]}}
    for wanted in ({**make, "scopes": ["generate"]}, {**make, "scopes": ["read"], "limits": {}}):
        refused = await gateway.client.post("/admin/keys", headers=narrow, json=wanted)
        assert (refused.status_code, "would go beyond" in refused.json()["detail"]) == (403, True)
    rotated = await gateway.client.post(f"/admin/keys/{gateway.key_id}/rotate", headers=narrow)
    assert (rotated.status_code, "would go beyond" in rotated.json()["detail"]) == (403, True)
    made = await call(gateway, "POST", "/admin/keys", narrow, **make, scopes=["read"])
    assert (await gateway.client.get("/jobs", headers=bearer(made["key"]))).status_code == 200
    await call(gateway, "POST", f"/admin/keys/{gateway.key_id}/revoke", narrow)
    assert [one.act for one in await log_of(gateway)] == ["key.create", "key.revoke"]


SCOPES = st.frozensets(st.sampled_from(list(Scope)))
NAMES = st.none() | st.frozensets(st.sampled_from(["a", "b"]), max_size=2)
LIMITS = st.builds(Grants, providers=NAMES, max_cost_micros=st.none() | st.integers(0, 2))


@settings(max_examples=50)
@given(SCOPES, LIMITS, SCOPES, LIMITS, st.booleans(), st.booleans())
def test_whoever_learns_a_secret_had_all_that_it_grants(
    first: Scopes, limits: Grants, second: Scopes, others: Grants, same_team: bool, has_budget: bool
) -> None:
    """Making and rotating follow one rule: within the issuer, of the same team unless it administers, no budget."""
    ids = Ids(Stopped())
    with undone() as connection:
        new = NewKey("ops", "issuer", START, grants=limits, scopes=first)
        issuer_id, team_id, _ = create_key(connection, ids, new)
        if has_budget:
            set_budget(connection, Budget("b", team_id, WindowKind.DAY, limit_micros=5, key_id=issuer_id), START)
        team = "ops" if same_team else "film"
        target_id, _, before = create_key(connection, ids, NewKey(team, "target", START, grants=others, scopes=second))
        may = second <= first and not others.beyond(limits) and not has_budget
        may = may and (same_team or Scope.ADMIN in first)
        issued = NewKey(team, "issued", START, grants=others, scopes=second, issuer_id=issuer_id)
        if may:
            create_key(connection, ids, issued)
            secret = rotate_key_by(connection, issuer_id, target_id, START, overlap_s=0)
            assert find_caller(connection, str(secret), START) is not None
        else:
            for attempt in (
                lambda: create_key(connection, ids, issued),
                lambda: rotate_key_by(connection, issuer_id, target_id, START, overlap_s=0),
            ):
                with pytest.raises(KeyGrantError):
                    attempt()
            assert find_caller(connection, before, START) is not None
        assert rotate_key_by(connection, issuer_id, issuer_id, START, overlap_s=0) is not None, "itself it may renew"


@asynchronous
async def test_the_last_administrator_cannot_end_itself(start: Start) -> None:
    """Neither its key nor its team; keys that are no live administrator's do not count, and nothing is written down."""
    gateway = await start(Scripted())
    key_id, admin = await administrator(gateway)
    await administrator(gateway, expires_at=gateway.clock.now() + 1.0)
    await administrator(gateway, ALL - {Scope.ADMIN})
    gone, _ = await administrator(gateway)
    elsewhere, _ = await administrator(gateway, team_name="gone")
    team_of = {one.id: one.team_id for one in await gateway.read(list_keys)}
    await gateway.clock.sleep(2.0)
    await call(gateway, "POST", f"/admin/keys/{gone}/revoke", admin)
    await call(gateway, "DELETE", f"/admin/teams/{team_of[elsewhere]}", admin)
    before = await log_of(gateway)
    for method, path in (
        ("POST", f"/admin/keys/{key_id}/revoke"),
        ("DELETE", f"/admin/teams/{team_of[key_id]}"),
    ):
        refused = await gateway.client.request(method, path, headers=admin)
        assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (409, "last-administrator")
    assert await log_of(gateway) == before
    await call(gateway, "POST", f"/admin/keys/{key_id}/rotate", admin, overlap_s=60)
    await call(gateway, "POST", f"/admin/keys/{gateway.key_id}/revoke", admin)
    other, _ = await administrator(gateway, team_name="more ops")
    await call(gateway, "POST", f"/admin/keys/{key_id}/revoke", admin)
    assert [one.id for one in await gateway.read(list_keys, "more ops") if one.revoked_at is None] == [other]


@asynchronous
async def test_of_two_last_administrators_one_is_left(start_on_both: Start) -> None:
    """Each ends itself at the same moment, by its key or with its team: never are both gone."""
    gateway = await start_on_both(Scripted())
    by, at = audit.Actor("both", "http"), gateway.clock.now()
    for turn in range(10):
        (first, _), (second, _) = [await administrator(gateway, team_name=f"ops {turn}.{one}") for one in range(2)]
        team_of = {one.id: one.team_id for one in await gateway.read(list_keys)}
        one = (end_team, team_of[first]) if turn % 2 else (end_key, first)
        answers = await asyncio.gather(
            *(gateway.write(fn, target, by, at) for fn, target in (one, (end_key, second))), return_exceptions=True
        )
        assert [type(answer) for answer in answers if isinstance(answer, Exception)] == [LastAdministrator], answers
        (left,) = [
            one.id for one in await gateway.read(list_keys) if one.revoked_at is None and Scope.ADMIN in one.scopes
        ]
        await gateway.write(revoke_key, left, at)


@asynchronous
async def test_the_log_says_who_did_what_and_what_it_changed(start: Start) -> None:
    """Old and new of what changed, in the order of the acts, and no secret or hash anywhere in the table."""
    gateway = await start(Scripted(), money={"default_budget_micros": 5})
    admin_id, admin = await administrator(gateway)
    team = await call(gateway, "POST", "/admin/teams", admin, name="film")
    made = await call(gateway, "POST", "/admin/keys", admin, team_id=team["id"], scopes=["read"])
    rotated = await call(gateway, "POST", f"/admin/keys/{made['id']}/rotate", admin)
    await call(gateway, "POST", f"/admin/keys/{made['id']}/revoke", admin)
    await call(gateway, "DELETE", f"/admin/teams/{team['id']}", admin)
    found = await log_of(gateway)
    told = [(one.act, one.target) for one in found if one.act != "budget.set"]
    ids = (team["id"], made["id"], made["id"], made["id"], team["id"])
    assert told == list(zip(("team.create", "key.create", "key.rotate", "key.revoke", "team.delete"), ids, strict=True))
    assert {(one.who, one.via) for one in found} == {(f"key {admin_id} of ops", "http")}
    by_act = {one.act: one for one in found}
    assert by_act["key.create"].after["scopes"] == "read"
    assert by_act["key.rotate"].before == {"prefix": made["key"][:10]}
    assert by_act["key.rotate"].after["prefix"] == rotated["key"][:10]
    assert set(by_act["key.revoke"].after) == {"revoked_at"}
    assert by_act["budget.set"].after["limit_micros"] == 5
    written = str(await gateway.read(lambda c: c.execute(text("SELECT * FROM audit")).all()))
    hashes = await gateway.read(lambda c: c.execute(keys.select()).mappings().all())
    assert not [one for one in (made["key"], rotated["key"]) if one in written]
    assert not [row for row in hashes if row["hash"] in written or str(row["old_hash"]) in written]
    shown = (await call(gateway, "GET", "/admin/audit?limit=100", admin))["entries"]
    assert [one["id"] for one in shown] == [one.id for one in reversed(found)]


# Every address under /admin that changes something: the body that does so, and the act it is written down as.
ACTS: dict[tuple[str, str], tuple[dict[str, Any], str]] = {
    ("POST", "/admin/teams"): ({"name": "film"}, "team.create"),
    ("DELETE", "/admin/teams/{team_id}"): ({}, "team.delete"),
    ("POST", "/admin/keys"): ({"team_id": "TEAM"}, "key.create"),
    ("POST", "/admin/keys/{key_id}/rotate"): ({"overlap_s": 1}, "key.rotate"),
    ("POST", "/admin/keys/{key_id}/revoke"): ({}, "key.revoke"),
}


@asynchronous
async def test_every_act_over_http_leaves_one_entry(start: Start) -> None:
    """Walked from the table of routes: a new address that changes something fails without a row."""
    under = [route for route in ROUTES if route.path.startswith("/admin")]
    changing = {(verb, route.path) for route in under for verb in (route.methods or set()) - {"GET", "HEAD"}}
    assert changing == set(ACTS)
    gateway = await start(Scripted())
    admin_id, admin = await administrator(gateway)
    for (method, path), (body, act) in sorted(ACTS.items(), key=lambda row: row[0], reverse=True):
        ids = {"team_id": gateway.team_id, "key_id": gateway.key_id}
        fields = {name: ids["team_id"] if value == "TEAM" else value for name, value in body.items()}
        before = await log_of(gateway)
        await call(gateway, method, path.format(**ids), admin, **fields)
        (entry,) = (await log_of(gateway))[len(before) :]
        assert (entry.act, entry.who, entry.via) == (act, f"key {admin_id} of ops", "http")


@asynchronous
async def test_the_log_cannot_be_rewritten(start_on_both: Start) -> None:
    """Not by a direct statement, on either database."""
    gateway = await start_on_both(Scripted())
    _, admin = await administrator(gateway)
    await call(gateway, "POST", "/admin/teams", admin, name="film")
    before = await log_of(gateway)
    for statement in ("UPDATE audit SET who = 'nobody'", "DELETE FROM audit"):
        with pytest.raises(IntegrityError, match="append-only"):
            await gateway.write(lambda c, s=statement: c.execute(text(s)))
    assert await log_of(gateway) == before


@asynchronous
async def test_an_act_that_cannot_be_written_down_is_not_done(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are one transaction: without its entry the team is not there either."""
    gateway = await start(Scripted())
    _, admin = await administrator(gateway)
    monkeypatch.setattr(audit, "_new_id", lambda _at: "the same id")
    await call(gateway, "POST", "/admin/teams", admin, name="first")
    failed = await gateway.client.post("/admin/teams", headers=admin, json={"name": "second"})
    assert failed.status_code == 500
    assert {one["name"] for one in (await call(gateway, "GET", "/admin/teams", admin))["teams"]} == {
        "reel",
        "ops",
        "first",
    }
