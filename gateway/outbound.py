"""The only way to open a URL that vidgate did not write: input pictures, results, webhook targets.

Resolving, checking and connecting are one step, in the network backend under the HTTP client, so that a name cannot
change its address in between (DNS rebinding) and every redirect hop is checked as it connects. No proxy, no
environment, no credentials, no cookies; bytes are counted raw, before any decoding.

Why not `ipaddress.is_global` alone: it calls several spellings of private addresses public (CVE-2024-4032, and IPv4
embedded in IPv6), so the embedded forms are unwrapped and the rest of the special networks listed here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Literal
from urllib.parse import urlsplit

import httpcore
import httpx

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
Reason = Literal["forbidden", "unreachable", "too_large", "refused", "malformed"]

NOTHING_CAME = "no whole answer came: it leads to no address that vidgate may reach, or nothing answers there in time"
REDIRECTS_MAX = 3
ADDRESSES_TRIED_MAX = 4
PORTS = frozenset({80, 443})
REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
DENIED_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in (
        "100.64.0.0/10",  # carrier-grade NAT, where a cloud's metadata service lives (100.100.100.200)
        "168.63.129.16/32",  # a cloud's host agent, on a public address
        "192.0.0.0/24",
        "192.88.99.0/24",  # where 6to4 had its relays
        "198.18.0.0/15",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/96",
        "::ffff:0:0:0/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# The interface of an ISATAP tunnel (RFC 5214 6.1): its IPv4 address follows, under any network.
ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})


class OutboundError(Exception):
    """A URL could not be fetched. `reason` is for machines, the text for people; it never holds the whole URL.

    Both are for operators. Whoever chose the address is `told` no more than that nothing came: else links would find
    out which names and places there are inside the network.
    """

    def __init__(self, reason: Reason, detail: str, status: int | None = None, *, leads_inside: bool = False) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.status = status
        self._leads_inside = leads_inside

    @property
    def told(self) -> tuple[Reason, str]:
        """Reason and text for whoever chose the address: the same for one that is private, dead or silent."""
        hidden = self._leads_inside or self.reason == "unreachable"
        return ("unreachable", NOTHING_CAME) if hidden else (self.reason, self.detail)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A body and what its sender called it; believe the bytes, not the name."""

    data: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Posted:
    """How a receiver answered: its status, and its Retry-After as it was written. Its body is not read."""

    status: int
    retry_after: str | None


def embedded_ipv4(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address inside an IPv6 one (mapped, 6to4, NAT64), or None. Teredo is denied whole, with 2001::/23."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def tunnelled_ipv4(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an ISATAP tunnel would lead to, or None; the IPv6 network before it counts as well."""
    if isinstance(address, ipaddress.IPv4Address) or int(address) >> 32 & 0xFFFF_FFFF not in ISATAP:
        return None
    return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet, whatever form it is written in."""
    inner = embedded_ipv4(address)
    if inner is not None:
        return is_public(inner)
    behind = tunnelled_ipv4(address)
    if behind is not None and not is_public(behind):
        return False
    denied = any(address.version == network.version and address in network for network in DENIED_NETWORKS)
    return address.is_global and not denied


class AllowList:
    """Private places that a deployment allows by name: `host:port`, `host`, an address or a network in CIDR form.

    An IPv6 address with a port stands in brackets, as in a URL.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._places: set[tuple[str, int | None]] = set()
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for entry in entries:
            if "/" in entry:
                self._networks.append(ipaddress.ip_network(entry))
            else:
                self._places.add(_place(entry))

    def has_host(self, host: str, port: int) -> bool:
        """Whether this place is allowed by its name."""
        return not self._places.isdisjoint({(host.lower(), None), (host.lower(), port)})

    def has_address(self, address: Address) -> bool:
        """Whether an address lies in an allowed network."""
        return any(address.version == network.version and address in network for network in self._networks)


def _place(entry: str) -> tuple[str, int | None]:
    """The host and the port of an entry, None for every port. Raises ValueError where the port is no number."""
    if entry.startswith("["):
        host, _, port = entry[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = entry.partition(":") if entry.count(":") == 1 else (entry, "", "")
    return host.lower(), int(port) if port else None


async def resolve(host: str, port: int) -> Sequence[str]:
    """Every address of a name, by the system's resolver."""
    loop = asyncio.get_running_loop()
    answers = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(answer[4][0]) for answer in answers]


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects only to checked addresses: the answer that was checked is the one that is connected to."""

    def __init__(self, allow: AllowList, resolver: Resolver) -> None:
        self._allow = allow
        self._resolve = resolver
        self._inner: httpcore.AsyncNetworkBackend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check every answer, connect to the first that takes the connection."""
        answers = await self._answers(host, port)
        allowed_host = self._allow.has_host(host, port)
        if not allowed_host and port not in PORTS and not (answers and all(map(self._allow.has_address, answers))):
            raise OutboundError("forbidden", f"port {port} is not allowed; use 443 or 80")  # wherever it leads
        if not answers:
            raise httpcore.ConnectError(f"{host} has no usable address")
        for address in answers:
            if not (allowed_host or is_public(address) or self._allow.has_address(address)):
                raise OutboundError("forbidden", f"{host} is at a private or reserved address", leads_inside=True)
        failure: Exception = httpcore.ConnectError(f"{host} takes no connection")
        for address in answers[:ADDRESSES_TRIED_MAX]:
            try:
                return await self._inner.connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _answers(self, host: str, port: int) -> list[Address]:
        """Every address of a name; none where it has one that is none, or cannot be resolved."""
        try:
            return [ipaddress.ip_address(answer.split("%", 1)[0]) for answer in await self._resolve(host, port)]
        except (OSError, ValueError):
            return []

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Never: a URL cannot name a socket of this machine."""
        raise OutboundError("forbidden", "unix sockets are not allowed")

    async def sleep(self, seconds: float) -> None:
        """Wait between connection tries, as the client asks."""
        await self._inner.sleep(seconds)


class _GuardedTransport(httpx.AsyncHTTPTransport):
    """httpx's transport over the guarded backend; httpx offers no public way to pass one (pinned by a test)."""

    def __init__(self, backend: GuardedBackend) -> None:
        super().__init__(trust_env=False, retries=0, limits=httpx.Limits(max_keepalive_connections=0))
        assert isinstance(self._pool, httpcore.AsyncConnectionPool)
        self._pool._network_backend = backend


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What one fetch may take: whole seconds from start to last byte, and raw bytes."""

    bytes_max: int
    timeout_s: float


class Outbound:
    """Fetches foreign URLs under the guard."""

    def __init__(self, allow: Iterable[str] = (), resolver: Resolver = resolve) -> None:
        self._allow = AllowList(allow)
        self._client = httpx.AsyncClient(
            transport=_GuardedTransport(GuardedBackend(self._allow, resolver)),
            trust_env=False,
            follow_redirects=False,
            headers={"user-agent": "vidgate", "accept-encoding": "identity"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # what one place sets is told to no other
        )

    async def close(self) -> None:
        """Let the client go."""
        await self._client.aclose()

    async def fetch(self, url: str, limits: FetchLimits) -> Fetched:
        """The body behind a URL, at most three redirects away. Raises OutboundError and nothing else."""
        try:
            async with asyncio.timeout(limits.timeout_s):
                return await self._follow(url, limits)
        except TimeoutError:
            raise OutboundError("unreachable", f"no whole answer within {limits.timeout_s:g} s") from None
        except (httpx.InvalidURL, UnicodeError):
            raise OutboundError("malformed", "this is not a URL") from None
        except (httpx.TransportError, httpx.StreamError) as error:
            raise OutboundError("unreachable", f"could not be fetched: {type(error).__name__}") from error

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Posted:
        """Hand a body to a URL, once; a redirect is an answer and is not followed. Raises OutboundError."""
        self._check_form(url)
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._client.stream("POST", url, content=body, headers=dict(headers), timeout=timeout_s) as response,
            ):
                return Posted(response.status_code, response.headers.get("retry-after"))
        except TimeoutError:
            raise OutboundError("unreachable", f"no answer within {timeout_s:g} s") from None
        except (httpx.InvalidURL, UnicodeError):
            raise OutboundError("malformed", "this is not a URL") from None
        except (httpx.TransportError, httpx.StreamError) as error:
            raise OutboundError("unreachable", f"could not be reached: {type(error).__name__}") from error

    async def _follow(self, url: str, limits: FetchLimits) -> Fetched:
        for _hop in range(REDIRECTS_MAX + 1):
            self._check_form(url)
            async with self._client.stream("GET", url, timeout=limits.timeout_s) as response:
                if response.status_code not in REDIRECT_STATUSES:
                    return await _body(response, limits.bytes_max)
                location = response.headers.get("location", "")
            url = str(httpx.URL(url).join(location))
        raise OutboundError("refused", f"more than {REDIRECTS_MAX} redirects")

    def _check_form(self, url: str) -> None:
        """Scheme and user part; the address itself is checked where the connection is made."""
        try:
            parts = urlsplit(url)
            port = (443 if parts.scheme == "https" else 80) if parts.port is None else parts.port
        except ValueError:
            raise OutboundError("malformed", "this is not a URL") from None
        host = (parts.hostname or "").rstrip(".")
        if parts.scheme not in {"https", "http"} or not host or not port:
            raise OutboundError("malformed", "only https URLs with a host are fetched")
        if parts.username is not None or parts.password is not None:
            raise OutboundError("malformed", "a URL with a user name or password is not fetched")
        if parts.scheme == "http" and not self._allows_plain(host, port):
            raise OutboundError("forbidden", "plain http is not fetched; use https")

    def _allows_plain(self, host: str, port: int) -> bool:
        if self._allow.has_host(host, port):
            return True
        try:
            return self._allow.has_address(ipaddress.ip_address(host))
        except ValueError:
            return False


async def _body(response: httpx.Response, bytes_max: int) -> Fetched:
    if response.status_code != 200:
        raise OutboundError("refused", f"answered HTTP {response.status_code}", status=response.status_code)
    if response.headers.get("content-encoding", "identity") != "identity":
        raise OutboundError("refused", "answered with an encoded body although none was asked for")
    declared = response.headers.get("content-length", "0")
    chunks: list[bytes] = []
    size_bytes = int(declared) if declared.isdigit() else 0
    if size_bytes <= bytes_max:
        size_bytes = 0
        async for chunk in response.aiter_raw():
            size_bytes += len(chunk)
            if size_bytes > bytes_max:
                break
            chunks.append(chunk)
    if size_bytes > bytes_max:
        raise OutboundError("too_large", f"is larger than {bytes_max} bytes")
    return Fetched(b"".join(chunks), response.headers.get("content-type", ""))
