"""Whoever has no good key: whatever stands in the header, it is 401, nothing is written and nothing is learned."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st

from gateway.keys import hash_key, new_secret
from tests.api.test_bad_input import explore
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio

# What a server may hand on as a header's value: any bytes but the ends of lines and NUL.
BYTES = st.binary(max_size=300).map(lambda data: data.translate(None, b"\r\n\0"))
SQL = st.sampled_from(
    [b"' OR 1=1 --", b"'; DROP TABLE keys; --", b"vg_%", b"%", b"*", b"\\", b"vg_' UNION SELECT hash"]
)
TOKENS = (
    st.lists(st.binary(max_size=60), min_size=3, max_size=5)
    .map(b".".join)
    .map(lambda data: data.translate(None, b"\r\n\0"))
)
SECRETS = BYTES | SQL | TOKENS | st.just(b"vg_" + b"x" * 5000) | st.just("vg_ключ".encode())
SCHEMES = st.sampled_from([b"Bearer ", b"bearer\t", b"BEARER  ", b"Basic ", b"Digest ", b"", b" ", b"Bearer"])
HEADERS = st.lists(
    st.tuples(st.sampled_from([b"authorization", b"x-api-key"]), SCHEMES, SECRETS), min_size=1, max_size=3
).map(lambda given: [(name, scheme + secret if name == b"authorization" else secret) for name, scheme, secret in given])


async def answer_of(gateway: Gateway, headers: list[tuple[bytes, bytes]], path: str, method: str) -> tuple[int, bytes]:
    """What the application answers to these very bytes; no client stands between."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("vidgate.test", 80), "state": {},
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await gateway.app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


async def snapshot(gateway: Gateway) -> list[Any]:
    """Every row of what a stranger might change."""
    tables = ("teams", "keys", "jobs", "idempotency", "audit", "budgets", "webhooks")
    return [
        await gateway.read(lambda c, t=table: sorted(map(str, c.exec_driver_sql(f"SELECT * FROM {t}").all())))
        for table in tables
    ]


async def test_no_header_whatsoever_opens_the_door_or_breaks_it(start: Start) -> None:
    """401 for every one of them, never a fault of ours, and the database is what it was."""
    gateway = await start(Scripted())
    before = await snapshot(gateway)

    async def try_one(headers: list[tuple[bytes, bytes]]) -> None:
        for path, method in (("/jobs", "GET"), ("/admin/keys", "POST")):
            status, body = await answer_of(gateway, headers, path, method)
            assert (status, b"/unauthorized" in body) == (401, True), (headers, status, body)

    await explore(try_one, HEADERS, 150)
    assert await snapshot(gateway) == before


async def test_near_misses_of_a_good_key_are_as_wrong_as_any(start: Start) -> None:
    """Its hash, its beginning, another case, what surrounds it: all the same answer, to the byte."""
    gateway = await start(Scripted())
    good = gateway.client.headers["authorization"].partition(" ")[2]
    wrong = [hash_key(good), good[:-1], good + "A", good.swapcase(), good[:10], f"{good}\x00", new_secret()]
    answers = {
        await answer_of(gateway, [(b"authorization", f"Bearer {secret}".encode())], "/jobs", "GET") for secret in wrong
    }
    assert [status for status, _ in answers] == [401]
    assert (await answer_of(gateway, [(b"authorization", f"Bearer {good}".encode())], "/jobs", "GET"))[0] == 200
