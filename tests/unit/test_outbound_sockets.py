"""No hostile URL reaches a socket, and no credential leaves its origin: a real server on loopback counts who comes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from random import Random
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpcore
import httpx
import pytest

from gateway.clock import SystemClock
from gateway.outbound import Outbound, OutboundError, Resolver
from gateway.vendor_transport import VendorTransport
from providers.contract import HasBalance, ProviderPlugin, RenderRequest, SourceImage, Tools
from providers.registry import BUILTIN
from tests.support.pictures import SIZE, picture
from tests.unit.hostile_urls import HOSTS, NAMES, TARGETS, URLS, spellings
from tests.unit.outbound_support import LIMITS, PUBLIC, backend_of, reason, refusal, resolver

pytestmark = pytest.mark.anyio
ALLOWED = "origin.test"
KNOWN = resolver(
    {"public.test": [PUBLIC], "intern.test": ["10.0.0.7"], "rebinding-back.test": ["127.0.0.1"], ALLOWED: [PUBLIC]}
)
SECRET = "sk-secret-of-the-account-0123456789"


@dataclass
class Recorder:
    """A real server: it keeps every request whole, and redirects where the path says."""

    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        self.connections += 1
        try:
            first = await reader.readexactly(1)
            if first == b"\x16":  # the beginning of TLS, which is not spoken here
                return
            head = first + await reader.readuntil(b"\r\n\r\n")
            fields = httpx.Headers([tuple(line.split(b": ", 1)) for line in head.split(b"\r\n")[1:-2]])  # type: ignore[arg-type,misc]
            body = await reader.readexactly(int(fields.get("content-length", "0")))
            self.requests.append(head + body)
            writer.write(self.answer(head.split()[1].decode("latin-1")))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def answer(self, path: str) -> bytes:
        """A redirect as the query asks for it, or a small body."""
        asked = parse_qs(urlsplit(path).query)
        if "to" not in asked:
            return b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
        head = f"HTTP/1.1 {asked['status'][0]} Moved\r\nLocation: {asked['to'][0]}\r\nSet-Cookie: a=b\r\n"
        return head.encode("latin-1") + b"Content-Length: 0\r\nConnection: close\r\n\r\n"


class Straight(httpcore.AnyIOBackend):
    """The real way to a socket, with every address led to the recorder; what was asked for is kept."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.asked: list[tuple[str, int]] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.asked.append((host, port))
        return await super().connect_tcp("127.0.0.1", self.recorder.port, timeout, local_address, socket_options)


@pytest.fixture
async def recorder() -> AsyncIterator[Recorder]:
    """The server, listening on loopback."""
    recorder = Recorder()
    server = await asyncio.start_server(recorder.serve, "127.0.0.1", 0, limit=2**20)
    recorder.port = server.sockets[0].getsockname()[1]
    yield recorder
    server.close()
    await server.wait_closed()


def guarded(recorder: Recorder, resolve: Resolver | None = None) -> tuple[Outbound, Straight]:
    """The guard over real sockets; one name may be asked over plain http, so that there is a place to redirect from."""
    allow = [f"{ALLOWED}:80"]
    outbound = Outbound(allow) if resolve is None else Outbound(allow, resolve)
    straight = Straight(recorder)
    backend_of(outbound)._inner = straight
    return outbound, straight


def test_the_lists_are_as_long_as_promised(record_property: Any) -> None:
    """At least sixty spellings of addresses, none twice, and URLs, names and redirects beside them."""
    counts = [len(spellings()), len(URLS), len(NAMES), len(TARGETS) * 5]
    assert all(len(set(found)) == len(found) for found in (spellings(), URLS, TARGETS))
    assert counts[0] >= 100
    assert sum(counts) >= 300
    text = f"{counts[0]} hosts, {counts[1]} URLs, {counts[2]} names, {counts[3]} redirects: 0 sockets reached"
    record_property("figure", text)


@pytest.mark.parametrize("what", HOSTS)
async def test_no_spelling_of_a_private_host_reaches_a_socket(recorder: Recorder, what: str) -> None:
    """By the system's own resolver, over https and, where somebody allows it, over http."""
    outbound, straight = guarded(recorder)
    for host in HOSTS[what]:
        with pytest.raises(OutboundError) as caught:
            await outbound.fetch(f"https://{host}/picture.png", LIMITS)
        assert caught.value.reason in {"forbidden", "malformed", "unreachable"}, host
        assert straight.asked == [], host
    await outbound.close()
    assert recorder.connections == 0


async def test_many_of_the_spellings_are_addresses_to_this_machine() -> None:
    """The list bites: without the guard the system's resolver takes at least eighty of them for an address."""
    loop = asyncio.get_running_loop()
    taken = []
    for host in spellings():
        try:
            taken.append(await loop.getaddrinfo(host.strip("[]"), 443))
        except (OSError, UnicodeError):
            continue
    assert len(taken) >= 80


async def test_no_hostile_form_of_a_url_reaches_a_socket(recorder: Recorder) -> None:
    """Schemes, users, ports, brackets, backslashes, control characters: refused before any connection."""
    outbound, straight = guarded(recorder, KNOWN)
    for url in URLS:
        with pytest.raises(OutboundError) as caught:
            await outbound.fetch(url, LIMITS)
        assert caught.value.reason in {"forbidden", "malformed", "unreachable"}, url
        assert straight.asked == [], url
    await outbound.close()
    assert recorder.connections == 0


@pytest.mark.parametrize("name", NAMES)
async def test_no_name_reaches_a_private_address(recorder: Recorder, name: str) -> None:
    """Whatever a name resolves to, time after time: only a public address that was checked is connected to."""
    answers = cycle(NAMES[name])

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return next(answers)

    outbound, straight = guarded(recorder, resolve)
    for _ in range(6):
        with pytest.raises(OutboundError):  # the recorder speaks no TLS: what gets to it gets no further
            await outbound.fetch(f"https://{name}/", LIMITS)
    await outbound.close()
    assert set(straight.asked) <= {(PUBLIC, 443)}
    assert len(straight.asked) <= 6


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_leads_to_a_private_place(recorder: Recorder, status: int) -> None:
    """A real server sends each of the five kinds to each target: it alone is connected to, once for each."""
    outbound, straight = guarded(recorder, KNOWN)
    for target in TARGETS:
        url = str(httpx.URL(f"http://{ALLOWED}/go", params={"to": target, "status": status}))
        with pytest.raises(OutboundError) as caught:
            await outbound.fetch(url, LIMITS)
        assert caught.value.reason in {"forbidden", "malformed", "unreachable"}, target
    await outbound.close()
    assert straight.asked == [(PUBLIC, 80)] * len(TARGETS)
    assert recorder.connections == len(recorder.requests) == len(TARGETS)


async def test_a_chain_of_redirects_ends_and_an_honest_one_arrives(recorder: Recorder) -> None:
    """Three hops are followed and a fourth is not; a page that asks a browser to go on is a body like any other."""
    end = f"http://{ALLOWED}/end"
    for hops, outcome in ((0, "fetched"), (3, "fetched"), (4, "refused")):
        url = end
        for _ in range(hops):
            url = str(httpx.URL(f"http://{ALLOWED}/go", params={"to": url, "status": 302}))
        outbound, straight = guarded(recorder, KNOWN)
        assert reason(await refusal(outbound, url)) == outcome
        assert set(straight.asked) == {(PUBLIC, 80)}


async def test_a_foreign_server_is_told_nothing_of_ours(recorder: Recorder) -> None:
    """Over a redirect too: no key, no cookie of the hop before, no referrer, no name of the caller."""
    outbound, _ = guarded(recorder, KNOWN)
    url = str(httpx.URL(f"http://{ALLOWED}/go", params={"to": f"http://{ALLOWED}/end", "status": 302}))
    await outbound.fetch(url, LIMITS)
    await outbound.close()
    assert len(recorder.requests) == 2
    for request in recorder.requests:
        names = {line.split(b":")[0].lower() for line in request.split(b"\r\n")[1:] if line}
        assert names == {b"host", b"accept", b"accept-encoding", b"user-agent", b"connection"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_webhook_is_not_sent_on(recorder: Recorder, status: int) -> None:
    """A receiver that redirects gets the event and its signature, and nobody else does."""
    outbound, straight = guarded(recorder, KNOWN)
    url = str(httpx.URL(f"http://{ALLOWED}/hook", params={"to": "https://public.test/", "status": status}))
    posted = await outbound.post(url, b'{"type":"job"}', {"webhook-signature": "v1,abc"}, 5.0)
    await outbound.close()
    assert posted.status == status
    assert straight.asked == [(PUBLIC, 80)]
    assert len(recorder.requests) == 1


VENDORS: Mapping[str, Mapping[str, Any]] = {
    plugin.name: {"api_key": SECRET} for plugin in BUILTIN if "api_key" in plugin.settings.model_fields
}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("plugin", [plugin for plugin in BUILTIN if plugin.name in VENDORS], ids=lambda one: one.name)
async def test_a_vendors_key_is_told_to_that_vendor_alone(
    recorder: Recorder, plugin: ProviderPlugin, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vendor, or who has taken its name, redirects every call, and a proxy is offered: both hear nothing."""
    elsewhere = Recorder()
    listening = await asyncio.start_server(elsewhere.serve, "127.0.0.1", 0)
    elsewhere.port = listening.sockets[0].getsockname()[1]
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{elsewhere.port}")
    monkeypatch.setattr(
        Recorder,
        "answer",
        lambda _self, _path: (
            f"HTTP/1.1 {status} Moved\r\nLocation: http://localhost:{elsewhere.port}/taken\r\n"
            "Content-Length: 0\r\nConnection: close\r\n\r\n"
        ).encode(),
    )
    async with httpx.AsyncClient(transport=VendorTransport(), timeout=5.0, trust_env=False) as client:
        section = {**VENDORS[plugin.name], "base_url": f"http://127.0.0.1:{recorder.port}"}
        provider = plugin.build(plugin.settings.model_validate(section), Tools(client, SystemClock(), Random(1)))
        for route in plugin.catalogue:
            await provider.submit(asked(route))
        if isinstance(provider, HasBalance):
            await provider.balance()
    listening.close()
    await listening.wait_closed()
    heard = b"".join(recorder.requests)
    assert SECRET.encode() in heard  # the test would see it: the vendor itself was told
    assert (elsewhere.connections, elsewhere.requests) == (0, [])


def asked(route: Any) -> RenderRequest:
    """An order for a route, with a picture in both forms."""
    image = SourceImage("image/png", *SIZE, data=picture(), url="https://public.test/picture.png")
    values = {one.parameter: one.default for one in route.capabilities if getattr(one, "default", None) is not None}
    return RenderRequest(
        route=route, attempt_id="att_1", parameters=values, image=image, callback_url=None, timeout_s=5.0
    )


def test_every_vendor_with_a_key_is_tried() -> None:
    """A new provider with a key is in the test above without being named."""
    assert {"segmind", "modelslab"} <= set(VENDORS)
    assert json.dumps(sorted(VENDORS))
