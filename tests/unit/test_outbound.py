"""The guard around foreign URLs, over scripted connections; hostile ones by the hundred: test_outbound_sockets.py."""

from __future__ import annotations

import contextlib
import ipaddress
import ssl
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.outbound import (
    NOTHING_CAME,
    REDIRECTS_MAX,
    AllowList,
    OutboundError,
    embedded_ipv4,
    is_public,
    tunnelled_ipv4,
)
from tests.unit.outbound_support import (
    HELLO,
    LIMITS,
    PUBLIC,
    Wire,
    answer,
    backend_of,
    guarded,
    reason,
    refusal,
    resolver,
)

pytestmark = pytest.mark.anyio
NAMES = resolver(
    {
        "public.test": [PUBLIC],
        "intern.test": ["10.0.0.7"],
        "localhost": ["127.0.0.1", "::1"],
        "127.0.0.1": ["127.0.0.1"],
        "::1": ["::1"],
    }
)


@pytest.mark.parametrize("url", ["https://public.test/", "https://public.test:443/a?b=c", "https://PUBLIC.test/#x"])
async def test_a_public_place_is_fetched(url: str) -> None:
    """The tests above can fail: a public https URL is connected to, at the address that was checked."""
    wire = Wire()
    assert reason(await refusal(guarded(wire, resolve=NAMES), url)) == "fetched"
    assert wire.connects == [(PUBLIC, 443)]


async def test_the_certificate_is_checked_for_the_name_and_not_for_the_address() -> None:
    """Connecting to a checked address does not weaken TLS: the original name must be on the certificate."""
    wire = Wire()
    await refusal(guarded(wire, resolve=NAMES), "https://public.test/")
    assert wire.tls == [("public.test", True, ssl.CERT_REQUIRED)]


PIECES = st.sampled_from(
    ["https://", "http://", "127.0.0.1", "public.test", "intern.test", "[::1]", "@", ":", "/", "\\", "?", "#", "%", "."]
)


MIXTURES = st.lists(PIECES | st.text(max_size=3), max_size=8).map("".join)


@settings(max_examples=30)
@given(st.lists(MIXTURES, min_size=5, max_size=20))
@example(["https://public.test/@127.0.0.1:80\\"])
async def test_no_mixture_of_pieces_reaches_a_private_place(urls: list[str]) -> None:
    """However two readers of URLs might disagree, only a public address on a web port is ever connected to."""
    wire = Wire()
    outbound = guarded(wire, resolve=NAMES)
    for url in urls:
        with contextlib.suppress(OutboundError):
            await outbound.fetch(url, LIMITS)
        assert set(wire.connects) <= {(PUBLIC, 443)}
    await outbound.close()


V4 = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address)
PRIVATE_V4 = st.one_of(
    *(
        st.ip_addresses(v=4, network=network)
        for network in ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12")
    ),
    *(st.ip_addresses(v=4, network=network) for network in ("192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3")),
)
# Where an IPv4 address may hide in an IPv6 one: the prefix, and how far its lowest bit is from the right.
EMBEDDINGS = [
    ("::", 0),
    ("::ffff:0:0", 0),
    ("::ffff:0:0:0", 0),
    ("64:ff9b::", 0),
    ("64:ff9b:1::", 0),
    ("2002::", 80),
    ("2001::", 64),
]


@given(PRIVATE_V4, st.sampled_from(EMBEDDINGS))
def test_a_private_address_is_private_in_every_disguise(inner: ipaddress.IPv4Address, form: tuple[str, int]) -> None:
    """Mapped, compatible, translated, NAT64, 6to4: the inner address decides."""
    prefix, shift = form
    disguised = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | int(inner) << shift)
    assert not is_public(inner)
    assert not is_public(disguised)


@given(V4)
def test_an_embedded_address_is_public_only_if_the_inner_one_is(inner: ipaddress.IPv4Address) -> None:
    """What the guard unwraps, it judges by what is inside, and the two forms that carry traffic agree with it."""
    for text in (f"::ffff:{inner}", f"64:ff9b::{inner}"):
        address = ipaddress.ip_address(text)
        assert embedded_ipv4(address) == inner
        assert is_public(address) == is_public(inner)


@given(V4, st.sampled_from(["2a00:1450::5efe:0:0", "2606:4700::200:5efe:0:0", "fe80::5efe:0:0", "fd00::200:5efe:0:0"]))
def test_a_tunnel_is_public_only_if_both_its_ends_are(inner: ipaddress.IPv4Address, interface: str) -> None:
    """ISATAP hides an IPv4 address under any network: that one, and the network, must be public."""
    outer = ipaddress.IPv6Address(interface)
    address = ipaddress.IPv6Address(int(outer) | int(inner))
    assert tunnelled_ipv4(address) == inner
    assert is_public(address) == (is_public(inner) and outer.is_global)


@pytest.mark.parametrize("text", [PUBLIC, "1.1.1.1", "8.8.8.8", "2606:4700::1111", "2a00:1450::5", "::ffff:8.8.8.8"])
def test_the_public_internet_is_public(text: str) -> None:
    """The guard does not refuse everything."""
    assert is_public(ipaddress.ip_address(text))


async def test_every_redirect_is_checked_where_it_connects() -> None:
    """A public page that points inside is followed as far as the guard, and no further."""
    for target in ("https://intern.test/", "https://127.0.0.1/", "http://public.test/", "https://u:p@public.test/"):
        wire = Wire([[answer("302 Found", f"Location: {target}")]])
        outcome = await refusal(guarded(wire, resolve=NAMES), "https://public.test/")
        assert reason(outcome) in {"forbidden", "malformed"}
        assert wire.connects == [(PUBLIC, 443)]


async def test_redirects_end_after_three() -> None:
    """A loop costs four requests and is refused."""
    wire = Wire([[answer("301 Moved Permanently", "Location: /again")]])
    assert reason(await refusal(guarded(wire, resolve=NAMES), "https://public.test/")) == "refused"
    assert len(wire.connects) == REDIRECTS_MAX + 1


@pytest.mark.parametrize("status", ["301 a", "302 b", "303 c", "307 d", "308 e"])
async def test_a_relative_redirect_is_followed(status: str) -> None:
    """Each of the five kinds of redirect leads on, relative or absolute, with GET."""
    wire = Wire([[answer(status, "Location: ../b.png?x=1")], [HELLO]])
    assert reason(await refusal(guarded(wire, resolve=NAMES), "https://public.test/a/a.png")) == "fetched"
    assert b"GET /b.png?x=1 HTTP/1.1" in b"".join(wire.sent)


async def test_a_name_that_changes_its_address_gains_nothing() -> None:
    """DNS rebinding: the answer that was checked is the one that is connected to, asked for once a connection."""
    answers = iter([[PUBLIC], ["127.0.0.1"], [PUBLIC]])

    async def flipping(_host: str, _port: int) -> Sequence[str]:
        return next(answers)

    wire = Wire([[answer("302 Found", "Location: /again")], [HELLO]])
    outbound = guarded(wire, resolve=flipping)
    assert reason(await refusal(outbound, "https://public.test/")) == "forbidden"
    assert wire.connects == [(PUBLIC, 443)]


@pytest.mark.parametrize("addresses", [[PUBLIC, "10.0.0.1"], ["::1", PUBLIC], [PUBLIC, "fe80::1%eth0"]])
async def test_one_private_answer_spoils_the_name(addresses: list[str]) -> None:
    """A name with a public and a private address is refused whole."""
    wire = Wire()
    outbound = guarded(wire, resolve=resolver({"both.test": addresses}))
    assert reason(await refusal(outbound, "https://both.test/")) == "forbidden"
    assert wire.connects == []


@pytest.mark.parametrize("addresses", [[], ["no address"], [""]])
async def test_a_name_without_a_usable_address_is_unreachable(addresses: list[str]) -> None:
    """A resolver that answers nothing, or nonsense, ends the fetch."""
    wire = Wire()
    outbound = guarded(wire, resolve=resolver({"odd.test": addresses}))
    assert reason(await refusal(outbound, "https://odd.test/")) == "unreachable"


NOWHERE = {
    "unknown": "https://unknown.test/",
    "nonsense": "https://nonsense.test/",
    "private": "https://inside.test/",
    "written": "https://169.254.169.254/latest",
    "half private": "https://both.test/",
    "dead": "https://dead.test/",
    "silent": "https://silent.test/",
    "a redirect inside": "https://moves.test/",
}


@pytest.mark.parametrize("case", NOWHERE)
async def test_who_chose_the_address_is_told_the_same_of_all_from_which_nothing_came(case: str) -> None:
    """A name that there is not, a private place, a dead and a silent one: only the error knows which."""
    names = {
        "nonsense.test": ["no address"], "inside.test": ["10.0.0.5"], "169.254.169.254": ["169.254.169.254"],
        "both.test": [PUBLIC, "10.0.0.5"], "dead.test": ["1.1.1.1"], "silent.test": [PUBLIC], "moves.test": [PUBLIC],
    }  # fmt: skip
    moved = answer("302 Found", "Location: https://inside.test:443/x")
    wire = Wire([[b""]] if case != "a redirect inside" else [[moved]], dead=frozenset({"1.1.1.1"}))
    outcome = await refusal(guarded(wire, resolve=resolver(names)), NOWHERE[case])
    assert isinstance(outcome, OutboundError)
    assert outcome.told == ("unreachable", NOTHING_CAME)
    private = {"private", "written", "half private", "a redirect inside"}
    assert (outcome.reason == "forbidden") is (case in private)
    assert outcome.detail != NOTHING_CAME


@pytest.mark.parametrize("host", ["public.test", "inside.test", "unknown.test"])
async def test_another_port_is_refused_wherever_it_leads(host: str) -> None:
    """By the text alone, so that the answer says nothing of the name; what a text shows is told."""
    names = resolver({"public.test": [PUBLIC], "inside.test": ["10.0.0.5"]})
    outcome = await refusal(guarded(Wire(), resolve=names), f"https://{host}:8443/")
    assert isinstance(outcome, OutboundError)
    assert outcome.told == ("forbidden", "port 8443 is not allowed; use 443 or 80")
    plain = await refusal(guarded(Wire(), resolve=names), f"http://{host}/")
    assert isinstance(plain, OutboundError)
    assert plain.told == ("forbidden", "plain http is not fetched; use https")


async def test_a_dead_address_is_passed_over() -> None:
    """With several public addresses, the next one is tried when the first takes no connection."""
    wire = Wire(dead=frozenset({"1.1.1.1"}))
    outbound = guarded(wire, resolve=resolver({"two.test": ["1.1.1.1", PUBLIC]}))
    assert reason(await refusal(outbound, "https://two.test/")) == "fetched"
    assert [host for host, _ in wire.connects] == ["1.1.1.1", PUBLIC]


async def test_a_socket_of_this_machine_is_never_opened() -> None:
    """There is no way to a unix socket through the guard."""
    outbound = guarded(Wire())
    with pytest.raises(Exception, match="unix sockets are not allowed"):
        await backend_of(outbound).connect_unix_socket("/run/docker.sock")
    await outbound.close()


ALLOWED = [
    (["inside.test"], "http://inside.test:9000/", True),
    (["inside.test"], "https://inside.test/", True),
    (["INSIDE.test:9000"], "http://inside.test:9000/", True),
    (["inside.test:9000"], "http://inside.test:9001/", False),
    (["inside.test:9000"], "https://inside.test/", False),
    (["10.0.0.0/8"], "https://inside.test:8443/", True),
    (["10.0.0.0/8"], "http://10.1.2.3:9000/", True),
    (["10.0.0.0/8"], "http://inside.test:9000/", False),
    (["10.0.0.0/8"], "https://192.168.0.1/", False),
    (["10.1.2.3"], "http://10.1.2.3/", True),
    (["fd00::/8"], "https://[fd00::1]/", True),
    (["[fd00::1]:9000"], "http://[fd00::1]:9000/", True),
    (["other.test"], "https://inside.test/", False),
    (["10.0.0.0/8"], "http://public.test/", False),
    (["10.0.0.0/8"], "https://public.test:8443/", False),
]


@pytest.mark.parametrize(("allow", "url", "reached"), ALLOWED, ids=str)
async def test_private_places_are_reached_only_when_they_are_listed(allow: list[str], url: str, reached: bool) -> None:
    """A deployment names hosts, host:port or networks; just those may be private, plain or on another port."""
    hosts = ("10.1.2.3", "192.168.0.1", "fd00::1")
    names = resolver({"inside.test": ["10.1.2.3"], "public.test": [PUBLIC], **{host: [host] for host in hosts}})
    wire = Wire()
    outcome = await refusal(guarded(wire, resolve=names, allow=allow), url)
    assert (reason(outcome) == "fetched") is reached
    assert (len(wire.connects) == 1) is reached


@pytest.mark.parametrize(
    ("entry", "host", "port", "allowed"),
    [
        ("[fd00::1]:8443", "fd00::1", 8443, True),
        ("[fd00::1]:8443", "fd00::1", 22, False),
        ("[fd00::1]:8443", "fd00::1:8443", 22, False),
        ("[fd00::1]", "fd00::1", 22, True),
        ("fd00::1", "FD00::1", 22, True),
        ("fd00::1:22", "fd00::1", 22, False),
        ("Inside.test:8443", "inside.test", 8443, True),
        ("inside.test:8443", "inside.test", 22, False),
        ("inside.test", "inside.test", 22, True),
    ],
)
def test_a_place_of_the_allow_list_is_a_host_and_a_port(entry: str, host: str, port: int, allowed: bool) -> None:
    """An address and its port never read together as another address with every port."""
    assert AllowList([entry]).has_host(host, port) is allowed


def test_an_allow_list_with_a_port_that_is_no_number_is_refused() -> None:
    """Told at start, as every typing mistake."""
    with pytest.raises(ValueError, match="invalid literal"):
        AllowList(["inside.test:https"])


def test_an_allow_list_with_a_broken_network_is_refused() -> None:
    """A typing mistake in a network is told at start, not taken for a host."""
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 network"):
        AllowList(["10.0.0.0/99"])
