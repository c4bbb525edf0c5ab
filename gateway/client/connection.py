"""What both clients share: where the gateway is, under which key, and how pictures and files are read and written."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from random import Random
from typing import Any

import httpx

from gateway.client.flows import Call, Means, Retries, Sink, Submission

URL_VARIABLE = "VIDGATE_URL"
KEY_VARIABLE = "VIDGATE_KEY"
URL_USUAL = "http://127.0.0.1:8080"
CALL_TIMEOUT_S = 90.0
LINKS = ("https://", "http://", "data:")

Picture = bytes | str | PathLike[str]


@dataclass(frozen=True, slots=True)
class Address:
    """Where the gateway is, and the key it is called with; both from the environment where nothing is given."""

    url: str
    key: str

    @classmethod
    def of(cls, url: str, key: str) -> Address:
        """The address that was given, else that of VIDGATE_URL and VIDGATE_KEY, else a gateway on this machine.

        Raises ValueError for a key that cannot be one.
        """
        url, key = url or os.environ.get(URL_VARIABLE) or URL_USUAL, key or os.environ.get(KEY_VARIABLE, "")
        if not key.isascii() or not key.isprintable():
            raise ValueError("a key is of printable ASCII characters; this one has others")
        return cls(url.rstrip("/"), key)

    def request(self, call: Call, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """The request of a call, as httpx sends it. The key goes nowhere else: redirects are not followed."""
        headers = dict(call.headers) | ({"authorization": f"Bearer {self.key}"} if self.key else {})
        params = dict(call.params) or None
        body = {"json": call.json} if call.json is not None else {"files": call.files}
        return http.build_request(call.method, self.url + call.path, headers=headers, params=params, **body)


def means(retries: Retries, now: Callable[[], float]) -> Means:
    """What flows are given outside tests: real chance, and idempotency keys that nobody guesses."""
    return Means(retries, Random(secrets.randbits(64)), now, lambda: secrets.token_urlsafe(18))


def submission(image: Picture, fields: dict[str, Any], idempotency_key: str = "") -> Submission:
    """A request about a picture: its bytes, a link, a data URI, or the path of a file. Raises OSError."""
    if not isinstance(image, bytes) and not str(image).startswith(LINKS):
        image = Path(image).read_bytes()
    return Submission(image if isinstance(image, bytes) else str(image), fields, idempotency_key)


def submissions(requests: Sequence[Mapping[str, Any]]) -> list[Submission]:
    """Requests that each have an `image` and fields. Raises OSError, and ValueError for one without a picture."""
    wanted = []
    for number, request in enumerate(requests):
        fields = dict(request)
        if "image" not in fields:
            raise ValueError(f"request {number} has no image")
        wanted.append(submission(fields.pop("image"), fields))
    return wanted


@contextmanager
def written_whole(path: Path) -> Iterator[Sink]:
    """A sink whose bytes are at a path when the block has ended well, and nowhere when it has not. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    try:
        with partial.open("wb") as file:
            yield Sink(file)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
