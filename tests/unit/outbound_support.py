"""The outbound guard with its last step replaced: connections are recorded, and answered from a script."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import httpcore

from gateway.outbound import Fetched, FetchLimits, GuardedBackend, Outbound, OutboundError, Resolver

PUBLIC = "93.184.216.34"
LIMITS = FetchLimits(bytes_max=10_000, timeout_s=5.0)
HELLO = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 5\r\n\r\nhello"


def answer(status: str, *headers: str, body: bytes = b"") -> bytes:
    """A raw HTTP reply."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


class RecordedStream(httpcore.AsyncMockStream):
    """A scripted stream that keeps what is written to it and how TLS was asked for."""

    def __init__(self, chunks: list[bytes], wire: Wire) -> None:
        super().__init__(chunks)
        self._wire = wire

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Keep the bytes."""
        del timeout
        self._wire.sent.append(buffer)

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Keep the name that the certificate must be for."""
        del timeout
        self._wire.tls.append((server_hostname, ssl_context.check_hostname, ssl_context.verify_mode))
        return self


@dataclass
class Wire(httpcore.AsyncNetworkBackend):
    """In place of sockets: every connection is counted and answered with the next script, the last one for ever."""

    scripts: Sequence[Sequence[bytes]] = ((HELLO,),)
    dead: frozenset[str] = frozenset()
    connects: list[tuple[str, int]] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    tls: list[tuple[str | None, bool, int]] = field(default_factory=list)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Record, and answer."""
        del timeout, local_address, socket_options
        script = self.scripts[min(len(self.connects), len(self.scripts) - 1)]
        self.connects.append((host, port))
        if host in self.dead:
            raise httpcore.ConnectError("nobody there")
        return RecordedStream(list(script), self)


def resolver(names: Mapping[str, Sequence[str]]) -> Resolver:
    """A resolver that knows these names and nothing else."""

    async def resolve(host: str, _port: int) -> Sequence[str]:
        if host not in names:
            raise OSError(f"unknown name {host}")
        return names[host]

    return resolve


def guarded(wire: Wire, *, resolve: Resolver | None = None, allow: Iterable[str] = ()) -> Outbound:
    """An Outbound, real down to the point where a socket would be opened."""
    outbound = Outbound(allow, resolve) if resolve is not None else Outbound(allow)
    backend_of(outbound)._inner = wire
    return outbound


def backend_of(outbound: Outbound) -> GuardedBackend:
    """The guard inside the client; fails when a new release of httpx keeps it elsewhere."""
    transport = outbound._client._transport
    backend = transport._pool._network_backend  # type: ignore[attr-defined]
    assert isinstance(backend, GuardedBackend)
    return backend


async def refusal(outbound: Outbound, url: str, limits: FetchLimits = LIMITS) -> OutboundError | Fetched:
    """What came of a fetch; any other exception is a failure of the test."""
    try:
        return await outbound.fetch(url, limits)
    except OutboundError as error:
        return error
    finally:
        await outbound.close()


def reason(outcome: OutboundError | Fetched) -> str:
    """The reason of a refusal, or `fetched`."""
    return outcome.reason if isinstance(outcome, OutboundError) else "fetched"
