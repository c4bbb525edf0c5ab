"""Artifacts are stored once, whole, under their own hash."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from obstore.store import S3Store
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.media.artifacts import CHUNK_BYTES, FRESH_S, Artifact, Artifacts
from providers.serving import serve
from tests.unit.tidy import ROOT

ABSENT = "0" * 64


def test_what_was_put_is_got(tmp_path: Path) -> None:
    """The hash is the address, and the folder is made when it is not there."""

    async def scenario() -> None:
        artifacts = Artifacts.open(tmp_path / "deep" / "down")
        stored = await artifacts.put(b"frames", "video/mp4")
        assert stored == Artifact(hashlib.sha256(b"frames").hexdigest(), 6, "video/mp4")
        assert await artifacts.get(stored.sha256) == b"frames"
        assert await artifacts.size(stored.sha256) == 6

    asyncio.run(scenario())


def test_the_same_bytes_are_stored_once_in_a_sharded_place(tmp_path: Path) -> None:
    """Storing again changes nothing, not even the file's time, and leaves no other file behind."""

    async def scenario() -> None:
        artifacts = Artifacts.open(str(tmp_path))
        first = await artifacts.put(b"x" * 100, "video/mp4")
        path = tmp_path / first.sha256[:2] / first.sha256[2:4] / first.sha256
        before = path.stat()
        await asyncio.gather(*(artifacts.put(b"x" * 100, "video/mp4") for _ in range(8)))
        assert path.stat() == before

    asyncio.run(scenario())
    assert len([file for file in tmp_path.rglob("*") if file.is_file()]) == 1


def test_bytes_that_come_again_are_as_young_as_their_last_use(tmp_path: Path) -> None:
    """A rule that deletes files by their age takes none that a job of today was made with."""

    async def scenario() -> None:
        artifacts = Artifacts.open(tmp_path)
        stored = await artifacts.put(b"a logo", "image/png")
        path = tmp_path / stored.sha256[:2] / stored.sha256[2:4] / stored.sha256
        for age_s, is_written in ((FRESH_S - 600, False), (FRESH_S + 600, True)):
            then = int(time.time() - age_s)
            os.utime(path, (then, then))
            await artifacts.put(b"a logo", "image/png")
            assert (path.stat().st_mtime > then) is is_written

    asyncio.run(scenario())


def test_a_file_of_the_wrong_size_is_written_anew(tmp_path: Path) -> None:
    """What a full disk or a lost cable left behind is mended by the next put."""

    async def scenario() -> None:
        artifacts = Artifacts.open(tmp_path)
        stored = await artifacts.put(b"whole file", "video/mp4")
        (tmp_path / stored.sha256[:2] / stored.sha256[2:4] / stored.sha256).write_bytes(b"who")
        await artifacts.put(b"whole file", "video/mp4")
        assert await artifacts.get(stored.sha256) == b"whole file"

    asyncio.run(scenario())


async def read_range(artifacts: Artifacts, sha256: str, start: int, end: int) -> bytes:
    """A range of an artifact in one piece."""
    return b"".join([chunk async for chunk in artifacts.stream(sha256, start, end)])


def test_what_is_not_there_is_said_so() -> None:
    """A missing artifact has no size, and reading it is FileNotFoundError however it is read."""

    async def scenario() -> None:
        artifacts = Artifacts.open("memory:///")
        assert await artifacts.size(ABSENT) is None
        with pytest.raises(FileNotFoundError):
            await artifacts.get(ABSENT)
        with pytest.raises(FileNotFoundError):
            await read_range(artifacts, ABSENT, 0, 1)
        with pytest.raises(FileNotFoundError):
            await anext(artifacts.stream(ABSENT))

    asyncio.run(scenario())


@pytest.mark.parametrize("text", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n", "0" * 65])
def test_nothing_but_a_hash_is_an_address(tmp_path: Path, text: str) -> None:
    """No text that a caller could send leads out of the store."""

    async def scenario() -> None:
        artifacts = Artifacts.open(tmp_path)
        for read in (artifacts.get, artifacts.size):
            with pytest.raises(ValueError, match="not a SHA-256"):
                await read(text)

    asyncio.run(scenario())


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=1, max_size=400), st.integers(-5, 420), st.integers(-5, 420))
def test_a_range_is_the_slice(data: bytes, start: int, end: int) -> None:
    """A range reads what the same slice of the bytes would, and refuses what is empty or outside."""

    async def scenario() -> None:
        artifacts = Artifacts.open("memory:///")
        stored = await artifacts.put(data, "video/mp4")
        if 0 <= start < min(end, len(data)):
            assert await read_range(artifacts, stored.sha256, start, end) == data[start:end]
        else:
            with pytest.raises(ValueError, match="bytes"):
                await read_range(artifacts, stored.sha256, start, end)

    asyncio.run(scenario())


def test_a_large_artifact_streams_in_pieces(tmp_path: Path) -> None:
    """A video is never held whole in memory on its way out; an empty file streams nothing."""

    async def scenario() -> None:
        artifacts = Artifacts.open(tmp_path)
        data = bytes(range(256)) * 8192
        stored = await artifacts.put(data, "video/mp4")
        chunks = [chunk async for chunk in artifacts.stream(stored.sha256)]
        assert b"".join(chunks) == data
        assert max(len(chunk) for chunk in chunks) <= 2 * CHUNK_BYTES
        part = [chunk async for chunk in artifacts.stream(stored.sha256, 300_000, 1_000_001)]
        assert b"".join(part) == data[300_000:1_000_001]
        nothing = await artifacts.put(b"", "video/mp4")
        assert [chunk async for chunk in artifacts.stream(nothing.sha256)] == []

    asyncio.run(scenario())


def test_a_bucket_is_opened_by_its_url(tmp_path: Path) -> None:
    """The same class serves folders and buckets; a kind of store that does not exist is refused."""
    assert isinstance(Artifacts.open("s3://bucket/prefix").store, S3Store)
    assert asyncio.run(Artifacts.open((tmp_path / "made here").as_uri()).put(b"a", "x/y")).size_bytes == 1
    assert (tmp_path / "made here").is_dir()
    with pytest.raises(ValueError, match="ftp"):
        Artifacts.open("ftp://host/folder")


class Bucket:
    """As much of S3 as artifacts need: objects by path, a 404 for what is not there; it keeps who asked."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.signed: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path, body = request.url.path, await request.body()
        self.signed.add(re.sub(r"/\d{8}/", "/DAY/", request.headers.get("authorization", "").split(",")[0]))
        if request.method == "PUT":
            self.objects[path] = body
        data = self.objects.get(path)
        first, _, last = request.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = (data or b"")[int(first) : int(last) + 1 if last else None]
        headers = {"etag": '"1"', "last-modified": "Wed, 01 Jan 2025 00:00:00 GMT"}
        if "range" in request.headers and data is not None:
            headers["content-range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        status = 404 if data is None else 206 if "content-range" in headers else 200
        if request.method == "PUT":
            part = b""
        elif request.method == "HEAD" and data is not None:
            headers["content-length"] = str(len(data))
            part = b""
        await Response(part, status, headers)(scope, receive, send)


def test_a_bucket_of_another_server_is_reached_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoint, region and keys by the names of docs/object-stores.md; the bucket is in the path, under its prefix."""
    page = (ROOT / "docs/object-stores.md").read_text(encoding="utf-8")

    async def scenario() -> None:
        bucket = Bucket()
        async with serve(bucket) as url:
            for name, value in {
                "AWS_ENDPOINT": url,
                "AWS_ALLOW_HTTP": "true",
                "AWS_REGION": "eu-central-1",
                "AWS_ACCESS_KEY_ID": "name-of-a-key",
                "AWS_SECRET_ACCESS_KEY": "its secret",
            }.items():
                assert f"`{name}" in page
                monkeypatch.setenv(name, value)
            artifacts = Artifacts.open("s3://clips/prod")
            stored = await artifacts.put(b"0123456789", "video/mp4")
            assert await artifacts.get(stored.sha256) == b"0123456789"
            assert await read_range(artifacts, stored.sha256, 2, 5) == b"234"
        assert list(bucket.objects) == [f"/clips/prod/{stored.sha256[:2]}/{stored.sha256[2:4]}/{stored.sha256}"]
        assert bucket.signed == {"AWS4-HMAC-SHA256 Credential=name-of-a-key/DAY/eu-central-1/s3/aws4_request"}

    asyncio.run(scenario())
