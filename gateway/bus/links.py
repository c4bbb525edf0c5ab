"""A connection to Redis in each of its three deployments, with no retry of its own.

Whoever sends a command bounds it with `asyncio.timeout`: the client's own timeout for sending is `asyncio.wait_for`,
which in Python 3.11 loses a cancellation that comes as it finishes, and a task that is to end would then never end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError

from gateway.bus.urls import Address

CONNECT_TIMEOUT_S = 2.0
# Everything that a network or a server in trouble makes the client raise.
FAULTS = (RedisError, RedisClusterException, OSError, TimeoutError, EOFError)


class Link(Protocol):
    """Commands and one subscription."""

    async def execute(self, *command: Any) -> Any:
        """Send a command and return its reply; the caller bounds it. Raises one of FAULTS."""

    def hear(self, channel: str) -> Any:
        """A context with a subscription to a channel, as redis-py's PubSub. Raises one of FAULTS."""

    async def reset(self) -> None:
        """Let every connection go, so that the next command looks for the server anew."""

    async def close(self) -> None:
        """Let everything go."""


class ServerLink:
    """One server, or the master that Sentinels name; `asking` are the clients with which those are asked."""

    def __init__(self, client: Any, asking: Sequence[Any] = ()) -> None:
        self._client = client
        self._asking = asking

    async def execute(self, *command: Any) -> Any:
        """Send a command and return its reply. Raises one of FAULTS."""
        return await self._client.execute_command(*command)

    @asynccontextmanager
    async def hear(self, channel: str) -> AsyncIterator[Any]:
        """A subscription to a channel for the length of the block."""
        async with _subscribed(self._client, channel) as subscription:
            yield subscription

    async def reset(self) -> None:
        """Let every connection go: the next command connects, and asks the Sentinels where the master is."""
        for client in (self._client, *self._asking):
            await client.connection_pool.disconnect()

    async def close(self) -> None:
        """Let everything go."""
        for client in (self._client, *self._asking):
            await client.aclose()


class ClusterLink:
    """A Cluster: commands go where their key lives; a message reaches every node, so any will do for hearing."""

    def __init__(self, address: Address) -> None:
        self._address = address
        nodes = [ClusterNode(host, port) for host, port in address.hosts]
        # The layout is always learned from the hosts of the URL: their names outlive the addresses of nodes.
        self._client: Any = RedisCluster(startup_nodes=nodes, dynamic_startup_nodes=False, **_options(address))

    async def execute(self, *command: Any) -> Any:
        """Send a command and return its reply. Raises one of FAULTS."""
        return await self._client.execute_command(*command)

    @asynccontextmanager
    async def hear(self, channel: str) -> AsyncIterator[Any]:
        """A subscription to a channel for the length of the block."""
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await self._client.initialize()
        node = self._client.get_random_node()
        client = Redis(host=node.host, port=node.port, **_options(self._address))
        async with client, _subscribed(client, channel) as subscription:
            yield subscription

    async def reset(self) -> None:
        """Forget the layout of the Cluster: the next command learns it anew."""
        await self._client.aclose()

    async def close(self) -> None:
        """Let everything go."""
        await self._client.aclose()


def connect(address: Address) -> Link:
    """A link to an address; nothing is sent yet."""
    options = _options(address)
    if address.kind == "cluster":
        return ClusterLink(address)
    if address.kind == "sentinel":
        # The credentials are the servers'. Sentinels are asked without: few have any of their own.
        asking = {name: value for name, value in options.items() if name not in {"username", "password"}}
        sentinel: Any = Sentinel(list(address.hosts), sentinel_kwargs=asking, **options)  # type: ignore[no-untyped-call]
        return ServerLink(sentinel.master_for(address.master, db=address.db), sentinel.sentinels)
    if address.kind == "socket":
        options.pop("ssl", None)
        return ServerLink(Redis(unix_socket_path=address.path, db=address.db, **options))
    host, port = address.hosts[0]
    return ServerLink(Redis(host=host, port=port, db=address.db, **options))


def _options(address: Address) -> dict[str, Any]:
    return {
        "username": address.username,
        "password": address.password,
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        **({"ssl": True} if address.tls else {}),
    }


@asynccontextmanager
async def _subscribed(client: Any, channel: str) -> AsyncIterator[Any]:
    async with client.pubsub() as subscription:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await subscription.subscribe(channel)
        yield subscription
