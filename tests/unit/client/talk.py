"""A gateway that is a function, and a client of either kind that talks to it in a time that passes at once."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from email import message_from_bytes
from inspect import isawaitable
from typing import Any

import httpx

from gateway.client import AsyncVidgate, Job, Vidgate

Answer = Callable[[httpx.Request], httpx.Response]


class Time:
    """Time that passes when somebody waits; both kinds of client wait in it."""

    def __init__(self, awaited: bool) -> None:
        self.awaited = awaited
        self.at = 0.0
        self.waits: list[float] = []

    def now(self) -> float:
        """Seconds since the test began."""
        return self.at

    def sleep(self, seconds: float) -> Any:
        """Pass the time at once."""
        self.at += seconds
        self.waits.append(seconds)
        return asyncio.sleep(0) if self.awaited else None


class Broken(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that is not what its headers say."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"no gzip"

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"no gzip"


class Talk:
    """A client of either kind whose gateway is a function; `awaited` methods are run to their end."""

    def __init__(self, kind: type[Vidgate] | type[AsyncVidgate]) -> None:
        self.kind = kind
        self.time = Time(kind is AsyncVidgate)
        self.seen: list[httpx.Request] = []

    def to(self, *answers: Answer | httpx.Response | Exception, **options: Any) -> Any:
        """A client that is answered with these, the last one for ever."""
        left = list(answers)

        def answer(request: httpx.Request) -> httpx.Response:
            self.seen.append(request)
            found = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(found, Exception):
                raise found
            return found if isinstance(found, httpx.Response) else found(request)

        transport = httpx.MockTransport(answer)
        http = httpx.AsyncClient(transport=transport) if self.time.awaited else httpx.Client(transport=transport)
        return self.kind("http://gate/", key="sesame", http=http, clock=self.time, **options)  # type: ignore[arg-type]

    def run(self, made: Any) -> Any:
        """What a method answers."""
        return asyncio.run(made) if isawaitable(made) else made

    def all(self, looks: Any) -> list[Job]:
        """Every job that a method hands out."""

        async def gathered() -> list[Job]:
            return [one async for one in looks]

        return asyncio.run(gathered()) if self.time.awaited else list(looks)


def parts(request: httpx.Request) -> dict[str, bytes]:
    """The parts of a multipart request by name."""
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    found = {}
    for part in message_from_bytes(head + request.content).walk():
        name = part.get_param("name", header="content-disposition")
        if name:
            found[str(name)] = bytes(part.get_payload(decode=True) or b"")
    return found


def answered(status: int, body: Any, **headers: str) -> httpx.Response:
    """An answer in JSON; a header's name is written with underscores."""
    return httpx.Response(
        status, content=json.dumps(body), headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def content(body: bytes, *, digest: str | None = None) -> httpx.Response:
    """A file under its digest, or under another."""
    return httpx.Response(200, content=body, headers={"etag": f'"{digest or hashlib.sha256(body).hexdigest()}"'})
