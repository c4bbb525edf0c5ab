"""Where Redis is: one server, a master behind Sentinels, or a Cluster. Pure: a URL in, an address or a sentence out.

redis://[[user]:password@]host[:6379][/db]                              rediss:// with TLS
redis+sentinel://[[user]:password@]host[:26379][,host:port...]/master[/db]   rediss+sentinel://
redis+cluster://[[user]:password@]host[:6379][,host:port...]                 rediss+cluster://
unix:///path/to/redis.sock[?db=0]
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

REDIS_PORT = 6379
SENTINEL_PORT = 26_379
SCHEMES: dict[str, tuple[Kind, bool]] = {
    "redis": ("single", False),
    "rediss": ("single", True),
    "unix": ("socket", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
Kind = Literal["single", "socket", "sentinel", "cluster"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where Redis is and how to get in. `master` is the name that Sentinels know, `path` the one of a socket."""

    kind: Kind
    hosts: tuple[tuple[str, int], ...] = ()
    tls: bool = False
    db: int = 0
    master: str = ""
    path: str = ""
    username: str | None = None
    password: str | None = field(default=None, repr=False)


def parse_url(url: str) -> Address:
    """Read a URL of Redis. Raises ValueError with a sentence that never repeats the URL: it may hold a password."""
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES:
        raise ValueError(f"must begin with one of {', '.join(f'{name}://' for name in SCHEMES)}")
    kind, tls = SCHEMES[scheme]
    if kind == "socket":
        return _socket(url)
    location, _, path = rest.partition("/")
    credentials, _, hosts = location.rpartition("@")
    username, password = _credentials(credentials)
    usual = SENTINEL_PORT if kind == "sentinel" else REDIS_PORT
    places = tuple(_host(place, usual) for place in hosts.split(","))
    if kind == "single" and len(places) > 1:
        raise ValueError("names several servers: write redis+sentinel:// or redis+cluster:// for those")
    parts = [unquote(part) for part in path.split("/") if part]
    master = ""
    if kind == "sentinel":
        if not parts:
            raise ValueError("must name the master after the Sentinels, such as redis+sentinel://host:26379/mymaster")
        master = parts.pop(0)
    return Address(kind, places, tls, _db(parts, kind), master, "", username, password)


def _socket(url: str) -> Address:
    parts = urlsplit(url)
    if not parts.path:
        raise ValueError("must name a socket, such as unix:///run/redis.sock")
    asked = parse_qs(parts.query).get("db", [])
    return Address("socket", db=_db(asked, "socket"), path=unquote(parts.path))


def _credentials(text: str) -> tuple[str | None, str | None]:
    username, _, password = text.partition(":")
    return unquote(username) or None, unquote(password) or None


def _host(text: str, usual: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    host, port = (host, port) if colon else (text, str(usual))
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ValueError("must name a host and, where it is not the usual one, a port: host:6379")
    return host, int(port)


def _db(parts: list[str], kind: Kind) -> int:
    if not parts:
        return 0
    if kind == "cluster":
        raise ValueError("must end after the hosts: a Cluster has no numbered databases")
    if len(parts) > 1 or not parts[0].isascii() or not parts[0].isdigit() or len(parts[0]) > 4:
        raise ValueError("must end with the number of a database, such as redis://host:6379/0")
    return int(parts[0])
