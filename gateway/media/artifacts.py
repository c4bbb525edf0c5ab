"""Stored inputs and outputs, addressed by the SHA-256 of their bytes: a folder, or a bucket of S3, GCS or Azure.

The same bytes are stored once. Every write is atomic: a reader sees a whole artifact or none.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

from gateway.clock import Clock, SystemClock

if TYPE_CHECKING:  # the library's names for types are in its stubs alone
    from obstore import ObjectMeta

Operation = Literal["read", "write"]
CHUNK_BYTES = 256 * 1024
# Bytes that come again after so long are written again, so that a rule that deletes by age counts from their last use.
FRESH_S = 86_400
_SHA256 = re.compile(r"[0-9a-f]{64}")
_URL = re.compile(r"([a-z][a-z0-9+.-]+)://")
BUCKET_SCHEMES = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "adl", "memory")


class ArtifactsUnavailableError(Exception):
    """The bucket or folder does not take or give files now: it is away, full, or refuses what we are."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A stored file: the SHA-256 of its bytes in lower-case hexadecimal, its size and its media type."""

    sha256: str
    size_bytes: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Artifacts:
    """A store of artifacts. Reading one that is not there raises FileNotFoundError.

    Every call may raise ArtifactsUnavailableError, after the retries of the bucket's own client; `troubled` is told
    of it with `read` or `write`.
    """

    store: ObjectStore
    troubled: Callable[[Operation], None] = lambda _operation: None
    clock: Clock = field(default_factory=SystemClock)

    @classmethod
    def open(cls, url_or_path: str | Path) -> Artifacts:
        """Open a folder, which is made when it is not there, or a `file`, `memory`, `s3`, `gs` or `az` URL.

        Buckets take their credentials from the environment, as their own tools do. Raises ValueError for another
        kind of URL.
        """
        text = str(url_or_path)
        url = _URL.match(text)
        if url is None or url[1] == "file":
            folder = Path(text if url is None else unquote(urlsplit(text).path))
            return cls(LocalStore(folder.absolute(), mkdir=True))
        if url[1] not in BUCKET_SCHEMES:
            raise ValueError(
                f"artifacts cannot lie at {url[1]}://; take a folder or one of {', '.join(BUCKET_SCHEMES)}"
            )
        return cls(from_url(text))

    async def put(self, data: bytes, media_type: str) -> Artifact:
        """Store bytes, unless the same bytes were stored within the last day."""
        sha256 = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
        kept = await self._head(sha256)
        if kept is None or kept["size"] != len(data) or self._age_s(kept) > FRESH_S:
            with self._telling("write"):
                await self.store.put_async(_key(sha256), data, attributes=self._attributes(media_type))
        return Artifact(sha256, len(data), media_type)

    async def get(self, sha256: str) -> bytes:
        """All bytes of an artifact."""
        with self._telling("read"):
            result = await self.store.get_async(_key(sha256))
            return bytes(await result.bytes_async())

    async def stream(self, sha256: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` to before `end`, or to the last one, in chunks of about `CHUNK_BYTES`.

        Raises ValueError, before the first chunk, where the range is empty or begins after the end.
        """
        size_bytes = await self.size(sha256)
        if size_bytes is None:
            raise FileNotFoundError(sha256)
        last = size_bytes if end is None else min(end, size_bytes)
        if size_bytes == 0 and start == 0 and end is None:
            return
        if not 0 <= start < last:
            raise ValueError(f"bytes {start} to {end} of {size_bytes}")
        with self._telling("read"):
            result = await self.store.get_async(_key(sha256), options={"range": (start, last)})
        async for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
            yield chunk

    async def size(self, sha256: str) -> int | None:
        """The size in bytes, or None when there is no such artifact."""
        kept = await self._head(sha256)
        return None if kept is None else kept["size"]

    async def _head(self, sha256: str) -> ObjectMeta | None:
        try:
            with self._telling("read"):
                return await self.store.head_async(_key(sha256))
        except FileNotFoundError:
            return None

    def _age_s(self, kept: ObjectMeta) -> float:
        return self.clock.now() - kept["last_modified"].timestamp()

    @contextmanager
    def _telling(self, operation: Operation) -> Iterator[None]:
        """Translate what the store's library raises; that a file is not there is no trouble of the store."""
        try:
            yield
        except BaseError as error:
            self.troubled(operation)
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise ArtifactsUnavailableError(f"{type(error).__name__}: {said[0][:300]}") from error

    def _attributes(self, media_type: str) -> dict[str, str] | None:
        # Folders cannot keep attributes and refuse them; buckets show the type to whoever follows a signed link.
        return None if isinstance(self.store, LocalStore | MemoryStore) else {"Content-Type": media_type}


def _key(sha256: str) -> str:
    """Where an artifact lies: two levels of folders, so that none grows large. Raises ValueError for another text."""
    if not _SHA256.fullmatch(sha256):
        raise ValueError(f"not a SHA-256: {sha256[:80]!r}")
    return f"{sha256[:2]}/{sha256[2:4]}/{sha256}"
