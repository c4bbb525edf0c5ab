"""Clients that are too slow, too large, or say what no client says: each is ended in its time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path

import httpx
import pytest

from gateway.connections import SPARE_CONNECTIONS
from tests.support.processes import Stand, stand
from tests.support.raw_http import connected, heard, talk

HEADER_S = BODY_S = SEND_S = 0.6
# A loaded machine is late; what is compared with it would otherwise last for ever.
LATE_S = 8.0
LIMITS = {
    "header_s": HEADER_S,
    "body_s": BODY_S,
    "send_s": SEND_S,
    "keep_alive_s": 1,
    "body_bytes_max": 1024 * 1024,
    "header_bytes_max": 16 * 1024,
    "connections_max": 60,
}
# Where time is not what is tested, none of ours runs out, however loaded the machine is.
PATIENT = {**LIMITS, "header_s": 60, "body_s": 60, "send_s": 60, "keep_alive_s": 60}
HOST = b"Host: gateway\r\n"
JSON = b"Content-Type: application/json\r\n"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """A gateway behind `vidgate serve`'s own server that gives nobody time."""
    with stand(tmp_path_factory.mktemp("hostile"), switches={}, sections={"server": LIMITS}) as running:
        running.start()
        yield running


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """The same with all the time in the world."""
    with stand(tmp_path_factory.mktemp("patient"), switches={}, sections={"server": PATIENT}) as running:
        running.start()
        yield running


@pytest.fixture(autouse=True)
def alive(gateway: Stand, patient: Stand) -> Iterator[None]:
    """Whatever a test does, the gateways answer others afterwards."""
    yield
    assert [one.client.get("/healthz").status_code for one in (gateway, patient)] == [200, 200]


def url(gateway: Stand) -> str:
    return str(gateway.client.base_url)


def key(gateway: Stand) -> bytes:
    return b"Authorization: " + gateway.client.headers["authorization"].encode() + b"\r\n"


def post(gateway: Stand, *more: bytes, with_key: bool = True) -> bytes:
    """The head of a request for a render."""
    lines = [b"POST /generate/video HTTP/1.1\r\n", HOST, JSON, key(gateway) if with_key else b"", *more, b"\r\n"]
    return b"".join(lines)


def cut(gateway: Stand, reason: str) -> float:
    """How often the metrics tell that a connection was ended for a reason."""
    line = f'vidgate_connections_cut_total{{reason="{reason}"}} '
    found = [one for one in gateway.client.get("/metrics").text.splitlines() if one.startswith(line)]
    return float(found[0].removeprefix(line)) if found else 0.0


def test_a_connection_that_asks_nothing_is_ended_without_a_word(gateway: Stand) -> None:
    """After the time for a head; it is counted."""
    before = cut(gateway, "head_timeout")
    heard_ = talk(url(gateway), [])
    assert (heard_.replies, heard_.closed) == ([], True)
    assert HEADER_S * 0.9 <= heard_.took_s < HEADER_S + LATE_S
    assert cut(gateway, "head_timeout") == before + 1


@pytest.mark.parametrize("head", [b"GET /healthz HTTP/1.1\r\nHost: x\r\nx-slow: " + b"a" * 400, b"G" + b"\r" * 200])
def test_a_head_that_drips_is_ended_in_its_time(gateway: Stand, head: bytes) -> None:
    """A byte now and then does not hold a connection: 408 as a problem, or 400 where it is no head at all."""
    heard_ = talk(url(gateway), (bytes([one]) for one in head), pause_s=0.05)
    assert heard_.closed
    assert heard_.took_s < HEADER_S + LATE_S
    (reply,) = heard_.replies
    assert reply.problem()["type"].rpartition("/")[2] in {"request-timeout", "bad-request"}
    assert reply.headers["connection"] == "close"


def test_a_second_request_must_come_in_time_too(gateway: Stand) -> None:
    """A connection that was good once is as bounded as a new one; blank lines do not keep it open."""
    first = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
    heard_ = talk(url(gateway), chain([first], repeat(b"G", 1)), pause_s=0.05)
    assert (heard_.statuses, heard_.closed) == ([200, 408], True)
    heard_ = talk(url(gateway), chain([first], repeat(b"\r\n", 22)), pause_s=0.05, quiet_s=LATE_S)
    assert (heard_.statuses, heard_.closed) == ([200], True)


TOO_LARGE = {
    "an endless header": [b"GET / HTTP/1.1\r\n" + HOST + b"x: ", *[b"a" * 65_536] * 1_600],
    "a long address": [b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"],
    "a header in one piece": [b"GET / HTTP/1.1\r\n" + HOST + b"x: " + b"a" * 17_000 + b"\r\n\r\n"],
    "a hundred and one headers": [b"GET / HTTP/1.1\r\n" + HOST + b"x: a\r\n" * 100 + b"\r\n"],
    "trailers without end": [
        b"POST /callbacks/a/b HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n",
        *[b"x: " + b"a" * 8_000 + b"\r\n"] * 400,
    ],
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_a_head_that_is_too_large_is_refused(patient: Stand, name: str) -> None:
    """431 at the limit, whatever still comes; a hundred megabytes are not taken in."""
    heard_ = talk(url(patient), TOO_LARGE[name])
    assert heard_.closed
    assert heard_.statuses[-1:] in ([431], []), "a reply may be lost where its reader still sends"
    if heard_.replies:
        assert heard_.replies[-1].problem()["type"].endswith("/headers-too-large")


SMUGGLED = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
MALFORMED = {
    "a length and chunks": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and a length": b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 4\r\n\r\n",
    "a negative length": b"Content-Length: -1\r\n\r\n",
    "a length with a sign": b"Content-Length: +4\r\n\r\nabcd",
    "a length with an underscore": b"Content-Length: 1_0\r\n\r\n",
    "a length beyond 64 bits": b"Content-Length: 99999999999999999999999\r\n\r\n",
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks that are not last": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a coding after a tab": b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "a chunk of no size": b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "a chunk beyond 64 bits": b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
    "a space before the colon": b"Content-Length : 4\r\n\r\nabcd",
    "a folded header": b"x: a\r\n b\r\n\r\n",
    "a second host": b"Host: elsewhere\r\n\r\n",
    "a NUL": b"x: a\x00b\r\n\r\n",
    "a bare CR": b"x: a\rb: c\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_nothing_is_smuggled_behind_a_request_of_two_lengths(patient: Stand, name: str) -> None:
    """A head that two readers could read in two ways is a 400 that ends the connection; what follows is not heard."""
    heard_ = talk(url(patient), [b"POST /callbacks/a/b HTTP/1.1\r\n" + HOST + MALFORMED[name] + SMUGGLED])
    assert heard_.closed
    assert 200 not in heard_.statuses, heard_
    assert heard_.statuses[-1] == 400, heard_
    assert heard_.replies[-1].problem()["type"].endswith("/bad-request")


@pytest.mark.parametrize(
    "first",
    [
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/1.1\nx\n\n",
        b"GET /healthz HTTP/1.1\r\nAccept: */*\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused_as_a_problem(patient: Stand, first: bytes) -> None:
    """Another protocol, and one that does not exist, are a 400 too."""
    heard_ = talk(url(patient), [first])
    assert (heard_.statuses, heard_.closed) == ([400], True)
    assert heard_.replies[0].problem()["detail"]
    assert heard_.replies[0].headers["x-content-type-options"] == "nosniff"
    assert heard_.replies[0].headers["cache-control"] == "no-store"


def test_what_stands_behind_the_body_is_no_header(patient: Stand) -> None:
    """A key among the trailers is none: what proxies and logs did not see as a header never becomes one."""
    chunked = b"GET /jobs HTTP/1.1\r\n" + HOST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n"
    in_front = talk(url(patient), [chunked + key(patient) + b"\r\n1\r\na\r\n0\r\n\r\n"])
    behind = talk(url(patient), [chunked + b"\r\n1\r\na\r\n0\r\n" + key(patient) + b"\r\n"])
    behind_in_pieces = talk(url(patient), [chunked + b"\r\n", b"1\r\na\r\n0\r\n", key(patient), b"\r\n"], pause_s=0.05)
    assert (in_front.statuses, behind.statuses, behind_in_pieces.statuses) == ([200], [401], [401])


def test_a_request_of_the_older_protocol_needs_no_host(patient: Stand) -> None:
    """HTTP/1.0 has none (RFC 9112 3.2)."""
    assert talk(url(patient), [b"GET /healthz HTTP/1.0\r\n\r\n"]).statuses == [200]


def test_a_body_that_drips_is_ended_in_its_time(gateway: Stand) -> None:
    """408 with the rate that was missed, by length and by chunks; nothing is kept of it."""
    drips = {
        b"Content-Length: 100\r\n": [b"{"] * 60,
        b"Transfer-Encoding: chunked\r\n": [b"1\r\n{\r\n"] * 60,
        b"Content-Length: 5\r\n": [b"{"],
    }
    for framing, pieces in drips.items():
        heard_ = talk(url(gateway), [post(gateway, framing), *pieces], pause_s=0.05)
        assert (heard_.statuses, heard_.closed) == ([408], True), framing
        assert "a second" in heard_.replies[0].problem()["detail"]
        assert heard_.took_s < BODY_S + HEADER_S + LATE_S
    assert gateway.client.get("/jobs").json()["jobs"] == []


def test_chunks_without_end_are_refused_at_the_limit(gateway: Stand) -> None:
    """413 as soon as it is too much, and the rest is not listened to for long."""
    endless = (b"10000\r\n" + b" " * 65_536 + b"\r\n" for _ in range(4_000))
    heard_ = talk(url(gateway), chain([post(gateway, b"Transfer-Encoding: chunked\r\n")], endless))
    assert heard_.closed
    assert heard_.statuses in ([413], []), "a reply may be lost where its reader still sends"
    assert heard_.took_s < HEADER_S + LATE_S


def test_a_body_that_nobody_wants_is_not_listened_to(gateway: Stand) -> None:
    """The reply to a request without a key comes at once, and its dripping body ends with the connection."""
    before = cut(gateway, "unwanted_body")
    head = post(gateway, b"Content-Length: 1000\r\n", with_key=False)
    heard_ = talk(url(gateway), chain([head], repeat(b"{", 80)), pause_s=0.05)
    assert (heard_.statuses, heard_.closed) == ([401], True)
    assert cut(gateway, "unwanted_body") == before + 1


def test_nobody_is_told_to_go_on_for_nothing(gateway: Stand, patient: Stand) -> None:
    """`Expect: 100-continue` is answered by the refusal where there is one, and by 100 where the body is wanted."""
    expect = b"Expect: 100-continue\r\n"
    for refused, status in (
        (post(gateway, expect, b"Content-Length: 10\r\n", with_key=False), 401),
        (post(gateway, expect, b"Content-Length: 9000000\r\n"), 413),
    ):
        heard_ = talk(url(gateway), [refused], quiet_s=HEADER_S + LATE_S)
        assert (heard_.statuses, heard_.closed) == ([status], True)
    heard_ = talk(url(patient), [post(patient, expect, b"Content-Length: 2\r\n"), b"{}"], pause_s=0.1, replies=2)
    assert heard_.statuses == [100, 422]


def test_a_few_requests_may_wait_on_one_connection_and_not_thousands(patient: Stand) -> None:
    """Pipelining works for who does it; a thousand at once are refused before they cost memory."""
    asked = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
    assert talk(url(patient), [asked * 5], replies=5).statuses == [200] * 5
    heard_ = talk(url(patient), [asked * 5_000])
    assert heard_.closed
    assert len(heard_.replies) < 100


def test_who_does_not_take_the_reply_is_cut_off(gateway: Stand) -> None:
    """A client that asks for much and reads nothing loses its connection, and the reply its memory."""
    before = cut(gateway, "send_timeout")
    asked = b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n"
    with connected(url(gateway), receive_bytes=4_096) as line:
        try:
            for _ in range(40):
                line.sendall(asked)
                time.sleep(0.05)
        except OSError:
            pass
        gateway.until(lambda: cut(gateway, "send_timeout") == before + 1, within_s=SEND_S + LATE_S)
        raw, closed = heard(line, LATE_S)
    assert closed
    assert raw


def test_more_connections_than_allowed_are_told_so(patient: Stand) -> None:
    """The next one gets a 503 to try again, those that are open stay, and room is made as they end."""
    held = [connected(url(patient)) for _ in range(LIMITS["connections_max"] + SPARE_CONNECTIONS + 10)]
    try:
        raws = [heard(line, LATE_S)[0] for line in held[-3:]]
        assert all(raw.startswith(b"HTTP/1.1 503") and b"temporary-reduced-capacity" in raw for raw in raws)
    finally:
        for line in held:
            line.close()
    patient.until(lambda: httpx.get(f"{url(patient)}/healthz").status_code == 200)


PROBES = {b"/healthz": 200, b"/metrics": 200, b"/routes": 503, b"/readyz?full": 200}


def test_health_is_answered_when_all_connections_are_taken(patient: Stand) -> None:
    """A probe of a full gateway gets its 200 on a connection that ends then; every other request gets the 503."""
    held = [connected(url(patient)) for _ in range(PATIENT["connections_max"])]
    try:
        asked = {path: b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n" for path in PROBES}
        heard_ = {path: talk(url(patient), [head]) for path, head in asked.items()}
    finally:
        for line in held:
            line.close()
    assert {path: one.statuses for path, one in heard_.items()} == {path: [status] for path, status in PROBES.items()}
    assert all(one.closed for one in heard_.values())


OFFERS = {
    "HTTP/2": b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
    "WebSocket": b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n",
}


@pytest.mark.parametrize("name", OFFERS)
def test_an_offer_to_speak_another_protocol_is_declined(patient: Stand, name: str) -> None:
    """A request that offers another protocol is answered as what else it is."""
    heard_ = talk(url(patient), [b"GET /healthz HTTP/1.1\r\n" + HOST + OFFERS[name] + b"\r\n"], replies=1)
    assert heard_.statuses == [200]


SLOW = 20


def test_twenty_slow_clients_are_cut_off_and_the_fast_ones_are_all_answered(gateway: Stand, tmp_path: Path) -> None:
    """Slow heads, slow bodies and slow readers at once, and requests of others between them."""
    kinds = (
        [b"GET /healthz HTTP/1.1\r\nx: ", *[b"a"] * 100],
        [post(gateway, b"Content-Length: 100\r\n"), *[b"{"] * 100],
        [b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n"] * 2,
    )
    ended: list[bool] = []

    def slow(number: int) -> None:
        ended.append(talk(url(gateway), kinds[number % 3], pause_s=0.1).closed)

    threads = [threading.Thread(target=slow, args=(number,), daemon=True) for number in range(SLOW)]
    for thread in threads:
        thread.start()
    answers = [gateway.client.get("/routes").status_code for _ in range(30)]
    for thread in threads:
        thread.join(30.0)
    assert answers == [200] * 30
    assert ended == [True] * SLOW
