"""HTTP by hand: bytes into a socket and whatever comes back, always within a time."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

WITHIN_S = 20.0


@dataclass(frozen=True)
class Reply:
    """One reply, read."""

    status: int
    headers: dict[str, str]
    body: bytes

    def problem(self) -> dict[str, Any]:
        """The problem that it is."""
        assert self.headers["content-type"] == "application/problem+json", self
        found = dict(json.loads(self.body))
        assert found["status"] == self.status
        return found


@dataclass(frozen=True)
class Heard:
    """Everything that came back on a connection: the replies, and whether the other side ended it."""

    replies: list[Reply]
    closed: bool
    took_s: float

    @property
    def statuses(self) -> list[int]:
        return [reply.status for reply in self.replies]


def connected(url: str, *, receive_bytes: int | None = None) -> socket.socket:
    """A connection; with a small receive buffer the other side has to keep what is not read."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    made = socket.socket()
    made.settimeout(WITHIN_S)
    if receive_bytes is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    made.connect((parts.hostname, parts.port or 80))
    return made


def talk(
    url: str, pieces: Iterable[bytes], *, pause_s: float = 0.0, quiet_s: float = WITHIN_S, replies: int | None = None
) -> Heard:
    """Send pieces with a pause after each, and hear until the other side ends it or says nothing for `quiet_s`.

    With `replies` it is enough that the heads of so many have come.
    """
    began_s = time.monotonic()
    with connected(url) as line:
        try:
            for piece in pieces:
                line.sendall(piece)
                if pause_s:
                    time.sleep(pause_s)
        except OSError:
            pass  # it was ended while we still spoke
        raw, closed = heard(line, quiet_s, replies)
    return Heard(replies_in(raw), closed, time.monotonic() - began_s)


def heard(line: socket.socket, quiet_s: float, replies: int | None = None) -> tuple[bytes, bool]:
    """What comes until the end, a silence or so many replies, and whether it was the end."""
    line.settimeout(quiet_s)
    raw = b""
    try:
        while chunk := line.recv(65_536):
            raw += chunk
            if replies is not None and raw.count(b"\r\n\r\n") >= replies:
                return raw, False
    except TimeoutError:
        return raw, False
    except OSError:
        pass
    return raw, True


def replies_in(raw: bytes) -> list[Reply]:
    """The replies in a stream of bytes; what is left over that is none fails."""
    found = []
    while raw:
        head, blank, raw = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        line = re.fullmatch(r"HTTP/1\.1 (\d{3}) ?.*", first)
        assert line is not None, first
        assert blank, head
        headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)}
        size = int(headers.get("content-length", "0"))
        found.append(Reply(int(line.group(1)), headers, raw[:size]))
        raw = raw[size:]
    return found
