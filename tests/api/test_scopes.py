"""Scopes of keys: each address asks for one, a key without it learns nothing, and no key passes on what it has not."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select, text

from gateway.api.openapi import document
from gateway.app import ROUTES
from gateway.ids import Ids
from gateway.keys import KeyGrantError, NewKey, create_key, find_caller, list_keys
from gateway.scopes import KEYLESS, NEEDED, USUAL, Scope, Scopes, parse_scopes, scopes_text
from gateway.store.schema import keys, teams
from tests.support.clock import START
from tests.support.fixtures import Start
from tests.support.gateway import NOTHING, Gateway
from tests.support.scripted import Scripted
from tests.support.undone import Stopped, undone

asynchronous = pytest.mark.anyio
SCOPES = st.frozensets(st.sampled_from(list(Scope)))
# A HEAD is its GET without the body.
ASKED = [(route.path, verb) for route in ROUTES if route.path in NEEDED for verb in (route.methods or set()) - {"HEAD"}]


async def key_for(gateway: Gateway, scopes: Scopes, **changes: Any) -> dict[str, str]:
    """The header of a key of the tests' own team with these scopes."""
    new = replace(NewKey("reel", "scoped", gateway.clock.now(), scopes=scopes), **changes)
    _, _, secret = await gateway.write(create_key, gateway.service.parts.ids, new)
    return {"authorization": f"Bearer {secret}"}


def test_every_address_asks_for_a_scope_or_is_named_as_keyless() -> None:
    """A new route without a row in the table fails here; a row without a route too."""
    paths = {route.path for route in ROUTES}
    assert paths - KEYLESS == set(NEEDED)
    assert paths >= KEYLESS


@asynchronous
@pytest.mark.parametrize(("path", "method"), sorted(ASKED))
async def test_a_key_without_the_scope_is_told_which_and_learns_nothing(start: Start, path: str, method: str) -> None:
    """403 by name, whether or not there is what it asks for; with every other scope it is still refused."""
    gateway = await start(Scripted())
    job_id = await gateway.submit()
    header = await key_for(gateway, frozenset(Scope) - {NEEDED[path]})
    answers = []
    for name in (job_id, "job_0000000000000000"):
        asked = re.sub(r"\{[^}]+\}", name, path)
        answer = await gateway.client.request(method, asked, headers=header)
        assert answer.status_code == 403
        assert f'scope="{NEEDED[path]}"' in answer.headers["www-authenticate"]
        answers.append(answer.text.replace(name, "ID"))
    assert answers[0] == answers[1], "the two replies can be told apart"
    problem = answer.json()
    assert (problem["type"].rpartition("/")[2], problem["scope"]) == ("missing-scope", NEEDED[path])
    assert (await gateway.job(job_id))["cancel_requested_at"] is None
    assert (await gateway.counts())["jobs"] == 1


@asynchronous
async def test_one_scope_is_enough_for_what_it_is_for(start: Start) -> None:
    """A key that generates, one that reads and one that bills each do their part and no other."""
    gateway = await start(Scripted())
    generates, reads, bills = [await key_for(gateway, frozenset({scope})) for scope in list(Scope)[:3]]
    job_id = (await gateway.post(headers=generates)).json()["id"]
    for path in (f"/jobs/{job_id}", "/usage", "/jobs"):
        found = [(await gateway.client.get(path, headers=one)).status_code for one in (generates, reads, bills)]
        assert found == ([403, 403, 200] if path == "/usage" else [403, 200, 403])
    assert (await gateway.client.post(f"/jobs/{job_id}/cancel", headers=generates)).status_code == 202


@asynchronous
async def test_a_key_that_may_not_read_learns_nothing_of_other_jobs_by_cancelling_them(start: Start) -> None:
    """It is told which scope it lacks, nothing of the job, and the job goes on; ended or not makes no difference."""
    gateway = await start(Scripted())
    done, job_id = (await gateway.made())["id"], await gateway.submit(metadata={"project": "secret"})
    generates = await key_for(gateway, frozenset({Scope.GENERATE}))
    told = []
    for name in (job_id, done):
        refused = await gateway.client.post(f"/jobs/{name}/cancel", headers=generates)
        assert (refused.status_code, refused.json()["scope"]) == (403, "read")
        assert 'scope="read"' in refused.headers["www-authenticate"]
        assert not [header for header in refused.headers if header.startswith("x-vidgate-")]
        told.append(refused.text.replace(name, "ID"))
    assert told[0] == told[1]
    assert "secret" not in told[0]
    assert (await gateway.job(job_id))["cancel_requested_at"] is None
    both = await key_for(gateway, frozenset({Scope.GENERATE, Scope.READ}))
    taken = await gateway.client.post(f"/jobs/{job_id}/cancel", headers=both)
    assert (taken.status_code, taken.json()["id"]) == (202, job_id)


@asynchronous
async def test_a_key_with_no_scope_at_all_is_good_for_nothing(start: Start) -> None:
    """An unknown word in the database grants nothing; refused requests leave nothing behind."""
    gateway = await start(Scripted())
    header = await key_for(gateway, frozenset())
    await gateway.write(lambda c: c.execute(text("UPDATE keys SET scopes = 'root *' WHERE name = 'scoped'")))
    assert (await gateway.post(headers=header)).status_code == 403
    assert (await gateway.client.get("/jobs", headers=header)).status_code == 403
    assert await gateway.counts() == NOTHING


def test_a_key_of_a_time_before_scopes_goes_on_as_before() -> None:
    """A row that names none has everything but the administration."""
    row = {"id": "k", "team_id": "t", "name": "n", "prefix": "p", "hash": "h", "grants": {}, "created_at": START}
    with undone() as connection:
        connection.execute(insert(teams).values(id="t", name="film", plan={}, created_at=START))
        connection.execute(insert(keys).values(row))
        assert parse_scopes(connection.execute(select(keys.c.scopes)).scalar_one()) == USUAL
    assert Scope.ADMIN not in USUAL


@given(SCOPES)
def test_what_is_stored_is_read_as_it_was(scopes: Scopes) -> None:
    """As text and back."""
    assert parse_scopes(scopes_text(scopes)) == scopes


@given(st.text(max_size=40))
def test_no_other_word_grants_a_scope(written: str) -> None:
    """Only whole known words do."""
    assert {str(scope) for scope in parse_scopes(written)} == set(written.split()) & set(Scope)


@settings(max_examples=40)
@given(SCOPES, SCOPES)
def test_a_key_never_grants_a_scope_that_its_issuer_lacks(first: Scopes, second: Scopes) -> None:
    """Whatever is asked for; what goes beyond is refused by name, and nothing is written."""
    ids = Ids(Stopped())
    with undone() as connection:
        issuer_id, _, _ = create_key(connection, ids, NewKey("film", "issuer", START, scopes=first))
        wanted = NewKey("film", "issued", START, issuer_id=issuer_id, scopes=second)
        if second <= first:
            caller = find_caller(connection, create_key(connection, ids, wanted)[2], START)
            assert caller is not None
            assert caller.scopes == second
        else:
            with pytest.raises(KeyGrantError, match="the scope " + min(second - first)):
                create_key(connection, ids, wanted)
            assert len(list_keys(connection)) == 1


def test_the_description_says_the_scope_of_every_operation() -> None:
    """Beside the form of the key stands what it must be for; keyless addresses ask for nothing."""
    for path, item in document([])["paths"].items():
        for verb, operation in item.items():
            if verb == "parameters":
                continue
            asked = [{"bearer": [NEEDED[path]]}, {"apiKey": [NEEDED[path]]}] if path in NEEDED else []
            assert operation["security"] == asked
