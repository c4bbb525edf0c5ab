"""People at a whole gateway: what is written down of them, what they may, and how they are shut out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from gateway import audit
from gateway.keys import NewKey, create_key, list_keys, revoke_key, rotate_key
from gateway.scopes import Scope
from gateway.store.schema import jobs
from gateway.teams import delete_team
from tests.support.issuer import AUDIENCE, ROLES, Issuer, issuing
from tests.support.pictures import picture_base64
from tests.support.replicas import Replica, stand
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Real time: the issuer is on real sockets."""
    return "asyncio"


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with asyncio.timeout(60):
        async with issuing() as made:
            yield made


@pytest.fixture
async def replica(issuer: Issuer, tmp_path: Path) -> AsyncIterator[Replica]:
    """A whole gateway that trusts the issuer, with the teams `reel` and `ops`."""
    async with stand(tmp_path, f"sqlite:///{tmp_path / 'v.db'}", "memory://") as place:
        oidc = {"issuer": issuer.url, "audience": AUDIENCE, "roles": ROLES}
        secret = "a secret of the tests, long enough"
        made = await place.start(
            [Scripted(mode="sync")],
            server={"replicas": 1},
            bus={"url": "memory://"},
            security={"signing_secret": secret, "oidc": oidc},
        )
        parts = made.service.parts
        await parts.store.write(create_key, parts.ids, NewKey("ops", "first", parts.clock.now()))
        yield made


def bearer(replica: Replica, issuer: Issuer, **changes: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {issuer.sign(issuer.claims(replica.service.parts.clock.now(), **changes))}"}


async def test_a_person_makes_a_job_that_is_told_as_theirs(replica: Replica, issuer: Issuer) -> None:
    """One row a person stands for them in jobs, reports and lists; nobody can present it, and it cannot be rotated."""
    mara = bearer(replica, issuer)
    answer = await replica.client.post("/generate/video", json={"image": picture_base64()}, headers=mara)
    assert answer.status_code == 202, answer.text
    store = replica.service.parts.store
    row = next(one for one in await store.read(list_keys, "reel") if one.name.startswith("person mara at "))
    assert (row.prefix, row.scopes) == ("person", {Scope.GENERATE, Scope.READ})
    assert await store.read(lambda c: c.execute(select(jobs.c.key_id)).scalars().all()) == [row.id]
    assert (await replica.client.get("/usage", headers=mara)).status_code == 403
    now = replica.service.parts.clock.now()
    assert await store.write(rotate_key, row.id, now, 0.0) is None
    place = await store.read(
        lambda c: c.execute(text("SELECT hash FROM keys WHERE id = :id"), {"id": row.id}).scalar_one()
    )
    for guess in (place, place.removeprefix("person:"), "person:", "person"):
        refused = await replica.client.get("/jobs", headers={"authorization": f"Bearer {guess}"})
        assert refused.status_code == 401
    both = bearer(replica, issuer, roles=["editor", "accountant"])
    assert (await replica.client.get("/usage", headers=both)).status_code == 200
    assert len([one for one in await store.read(list_keys) if one.prefix == "person"]) == 1


async def test_first_requests_side_by_side_make_one_row(replica: Replica, issuer: Issuer) -> None:
    """Twenty at once, and a person is one person."""
    headers = [bearer(replica, issuer, sub="noor") for _ in range(20)]
    answers = await asyncio.gather(*(replica.client.get("/jobs", headers=one) for one in headers))
    assert {answer.status_code for answer in answers} == {200}
    people = [one for one in await replica.service.parts.store.read(list_keys) if one.prefix == "person"]
    assert len(people) == 1


async def test_a_person_who_is_shut_out_stays_out(replica: Replica, issuer: Issuer) -> None:
    """Revoking the row that stands for somebody ends their good tokens at once; others of the team go on."""
    assert (await replica.client.get("/jobs", headers=bearer(replica, issuer))).status_code == 200
    store, now = replica.service.parts.store, replica.service.parts.clock.now()
    (row,) = [one for one in await store.read(list_keys) if one.prefix == "person"]
    assert await store.write(revoke_key, row.id, now)
    for _ in range(2):
        assert (await replica.client.get("/jobs", headers=bearer(replica, issuer))).status_code == 403
    assert (await replica.client.get("/jobs", headers=bearer(replica, issuer, sub="noor"))).status_code == 200
    assert (await replica.client.get("/jobs", headers=bearer(replica, issuer, roles=["ghost"]))).status_code == 403
    ops = await store.read(list_keys, "ops")
    await store.write(delete_team, ops[0].team_id, now)
    assert (
        await replica.client.get("/admin/teams", headers=bearer(replica, issuer, roles=["operator"]))
    ).status_code == 403


async def test_an_operator_acts_under_their_own_name(replica: Replica, issuer: Issuer) -> None:
    """The log says which person; and who has admin alone hands out nothing else."""
    operator = bearer(replica, issuer, sub="ines", roles=["operator"])
    made = await replica.client.post("/admin/teams", json={"name": "news"}, headers=operator)
    assert made.status_code == 201, made.text
    asked = {"team_id": made.json()["id"], "scopes": ["read"]}
    assert (await replica.client.post("/admin/keys", json=asked, headers=operator)).status_code == 403
    (entry,) = await replica.service.parts.store.read(audit.entries)
    assert (entry.who, entry.act, entry.via) == (f"person ines at {issuer.url}", "team.create", "http")


async def test_people_who_administer_count_as_administrators(replica: Replica, issuer: Issuer) -> None:
    """One who has been here lets the last key go; the last person stays while nobody else has been."""
    parts = replica.service.parts
    new = NewKey("ops", "only", parts.clock.now(), scopes=frozenset({Scope.ADMIN}))
    key_id, _, secret = await parts.store.write(create_key, parts.ids, new)
    last, key = f"/admin/keys/{key_id}/revoke", {"authorization": f"Bearer {secret}"}
    assert (await replica.client.post(last, headers=key)).status_code == 409
    ines, noor = (bearer(replica, issuer, sub=name, roles=["operator"]) for name in ("ines", "noor"))
    assert (await replica.client.get("/admin/teams", headers=ines)).status_code == 200
    assert (await replica.client.post(last, headers=key)).status_code == 200
    (row,) = [one for one in await parts.store.read(list_keys) if one.name.startswith("person ines at ")]
    assert (await replica.client.post(f"/admin/keys/{row.id}/revoke", headers=ines)).status_code == 409
    assert (await replica.client.get("/admin/teams", headers=noor)).status_code == 200
    assert (await replica.client.post(f"/admin/keys/{row.id}/revoke", headers=ines)).status_code == 200


async def test_without_the_issuer_people_wait_and_keys_go_on(replica: Replica, issuer: Issuer) -> None:
    """503 for a person whose token cannot be checked, 200 for the team's key, and never a fault of ours."""
    issuer.is_down = True
    refused = await replica.client.get("/jobs", headers=bearer(replica, issuer))
    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (503, "unavailable")
    assert (await replica.client.get("/jobs")).status_code == 200
    token = bearer(replica, issuer)["authorization"].partition(" ")[2]
    assert (await replica.client.get("/jobs", headers={"authorization": "", "x-api-key": token})).status_code == 401
