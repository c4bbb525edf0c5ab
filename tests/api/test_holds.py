"""What a key holds open ends within a second of the key, whatever it is and however the key ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

import gateway.holds
from gateway.holds import LOOK_EVERY_S
from gateway.keys import NewKey, create_key, find_callers, revoke_key, rotate_key
from gateway.media.artifacts import Artifacts
from gateway.scopes import Scope
from gateway.teams import delete_team
from providers.contract import Pending
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.pictures import picture_base64
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio
AT = 5.0
PROMISED_S = 1.0
JSON = {"content-type": "application/json"}


@pytest.fixture
async def busy(start: Start) -> Gateway:
    """A gateway whose renders take a hundred seconds, and which looks at keys as often as it does in earnest."""
    return await start(Scripted(trouble=Pending(), trouble_s=100.0), look_every_s=LOOK_EVERY_S)


async def revoked(gateway: Gateway, key_id: str) -> None:
    await gateway.write(revoke_key, key_id, gateway.clock.now())


async def rotated_out(gateway: Gateway, key_id: str) -> None:
    await gateway.write(rotate_key, key_id, gateway.clock.now(), 0.0)


async def expired(_gateway: Gateway, _key_id: str) -> None:
    """It was made with that end."""


@pytest.mark.parametrize("end", [revoked, rotated_out, expired], ids=lambda end: end.__name__)
async def test_waits_and_streams_end_with_their_key(
    busy: Gateway, end: Callable[[Gateway, str], Awaitable[None]]
) -> None:
    """A wait for a new job or an old one is a 401 without the job, a stream closes without its end; others go on."""
    began = busy.clock.now()
    key_id, _, header = await busy.new_key(expires_at=began + AT if end is expired else None)
    job_id = await busy.submit()
    path = f"/jobs/{job_id}"
    held = [
        asyncio.ensure_future(work)
        for work in (
            busy.client.get(path, headers={**header, "prefer": "wait=50"}, timeout=None),
            busy.post(headers={**header, "prefer": "wait=50"}),
            busy.client.get(f"{path}/events", headers=header, timeout=None),
        )
    ]
    other = asyncio.ensure_future(busy.client.get(path, headers={"prefer": "wait=50"}, timeout=None))
    await busy.clock.sleep(began + AT - busy.clock.now())
    await end(busy, key_id)
    waited, made, stream = await asyncio.gather(*held)
    assert busy.clock.now() - began - AT <= PROMISED_S
    for response in (waited, made):
        assert (response.status_code, response.headers["content-type"]) == (401, "application/problem+json")
        assert "job_" not in response.json()["detail"]
        assert response.headers["www-authenticate"].startswith("Bearer")
    assert stream.status_code == 200
    assert "event: created" in stream.text
    assert "event: ended" not in stream.text
    again = await busy.client.get(f"{path}/events", headers=header)
    assert again.status_code == 401
    assert (await other).status_code == 200


async def slowly(gateway: Gateway, body: bytes | None = None, took_s: float = 2.0) -> AsyncIterator[bytes]:
    """A body that takes its time."""
    whole = body or b'{"image": "' + picture_base64().encode() + b'"}'
    yield whole[:10]
    await gateway.clock.sleep(took_s)
    yield whole[10:]


async def test_a_key_that_ends_while_its_body_comes_gets_no_job(busy: Gateway) -> None:
    """Alone and in a batch: 401, and nothing is held, stored or charged."""
    key_id, _, header = await busy.new_key()
    before = await busy.counts()
    one = b'{"image": "' + picture_base64().encode() + b'"}'
    bodies = {"/generate/video": one, "/generate/video/batch": b'{"requests": [' + one + b"]}"}
    sent = [
        asyncio.ensure_future(busy.client.post(path, content=slowly(busy, body), headers={**header, **JSON}))
        for path, body in bodies.items()
    ]
    await busy.clock.sleep(0.5)
    await revoked(busy, key_id)
    alone, batch = await asyncio.gather(*sent)
    assert alone.status_code == 401
    assert batch.status_code == 401 or {one["status"] for one in batch.json()["results"]} == {401}
    assert await busy.counts() == before


async def test_a_key_whose_team_is_deleted_ends_too(start: Start) -> None:
    """A team with money under way is not deleted, so that what it may hold then is a body, a stream or a download."""
    gateway = await start(Scripted(), look_every_s=LOOK_EVERY_S)
    sent = asyncio.ensure_future(gateway.client.post("/generate/video", content=slowly(gateway), headers=JSON))
    await gateway.clock.sleep(0.5)
    await gateway.write(delete_team, gateway.team_id, gateway.clock.now())
    assert (await sent).status_code == 401


async def test_an_administrator_whose_key_ends_while_a_body_comes_does_nothing(busy: Gateway) -> None:
    """The act is refused as it would have been a second later."""
    new = NewKey("ops", "admin", busy.clock.now(), scopes=frozenset(Scope))
    key_id, _, secret = await busy.write(create_key, busy.service.parts.ids, new)
    header = {"authorization": f"Bearer {secret}", **JSON}
    sent = asyncio.ensure_future(
        busy.client.post("/admin/teams", content=slowly(busy, b'{"name": "a team of nobody"}'), headers=header)
    )
    await busy.clock.sleep(0.5)
    await revoked(busy, key_id)
    assert (await sent).status_code == 401
    _, _, secret = await busy.write(create_key, busy.service.parts.ids, new)
    teams = await busy.client.get("/admin/teams", headers={"authorization": f"Bearer {secret}"})
    assert "a team of nobody" not in teams.text


@pytest.mark.parametrize("inline", [False, True])
async def test_a_download_ends_with_its_key(start: Start, monkeypatch: pytest.MonkeyPatch, inline: bool) -> None:
    """What was sent by then is all that is sent; a link, which needs no key, goes on."""
    gateway = await start(Scripted(), look_every_s=LOOK_EVERY_S)
    whole = Artifacts.stream

    async def piecemeal(self: Artifacts, *asked: Any) -> AsyncIterator[bytes]:
        async for chunk in whole(self, *asked):
            for first in range(0, len(chunk), 300):
                yield bytes(chunk)[first : first + 300]
                await gateway.clock.sleep(1.0)

    job = await gateway.made(output="inline" if inline else "url")
    link = (await gateway.client.post(f"/jobs/{job['id']}/link", json={})).json()["url"]
    monkeypatch.setattr(Artifacts, "stream", piecemeal)
    path = f"/jobs/{job['id']}" if inline else f"/jobs/{job['id']}/content"
    key_id, _, header = await gateway.new_key()
    download = asyncio.ensure_future(sent_by(gateway, path, header))
    public = asyncio.ensure_future(sent_by(gateway, httpx.URL(link).raw_path.decode(), {}))
    await gateway.clock.sleep(AT)
    await revoked(gateway, key_id)
    began = gateway.clock.now()
    messages = await download
    assert gateway.clock.now() - began <= PROMISED_S + 1.0  # a piece was on its way
    assert messages[0]["status"] == 200
    assert 0 < sum(len(one.get("body", b"")) for one in messages) < int(dict(messages[0]["headers"])[b"content-length"])
    assert all(one["more_body"] for one in messages[1:])
    assert not (await public)[-1]["more_body"]


async def sent_by(gateway: Gateway, path: str, header: dict[str, str]) -> list[Any]:
    """What the application sends as a reply, message by message: a client of a library would refuse half a one."""
    messages: list[Any] = []
    target, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": target,
        "raw_path": target.encode(),
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in header.items()],
        "server": ("vidgate.test", 80),
        "client": ("127.0.0.1", 1),
    }

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)

    await gateway.app(scope, receive, send)
    return messages


async def test_however_many_are_held_one_question_is_asked(busy: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty waits and streams of three keys for twenty seconds: two looks a second, and none once they are gone."""
    job_id = await busy.submit()
    headers = [(await busy.new_key())[2] for _ in range(3)]
    looks: list[int] = []

    def counted(connection: Any, hashes: Any, at: float) -> Any:
        looks.append(len(hashes))
        return find_callers(connection, hashes, at)

    monkeypatch.setattr(gateway.holds, "find_callers", counted)
    began = busy.clock.now()
    held = [
        asyncio.ensure_future(busy.client.get(f"/jobs/{job_id}{path}", headers={**header, **wait}, timeout=None))
        for path, wait in (("", {"prefer": "wait=20"}), ("/events", {}))
        for header in headers
        for _ in range(10)
    ]
    await busy.clock.sleep(20.5)
    for one in held:
        one.cancel()
    await asyncio.gather(*held, return_exceptions=True)
    assert busy.clock.now() - began == pytest.approx(20.5)
    assert set(looks) == {3}
    assert 35 <= len(looks) <= 42
    await busy.clock.sleep(2)
    looks.clear()
    await busy.clock.sleep(20)
    assert looks == []
