"""The finished file over HTTP: whole, in parts, unchanged, and only when there is one (RFC 9110)."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.media.artifacts import Artifacts
from providers.contract import Failed, FailureKind, Pending, Refused
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.pictures import clip
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio

WHOLE = clip()
SIZE = len(WHOLE)


@pytest.fixture
async def film(start: Start) -> tuple[Gateway, str]:
    """A gateway with a finished job, and the path of its file."""
    gateway = await start(Scripted())
    return gateway, f"/jobs/{(await gateway.made())['id']}/content"


async def test_the_whole_file_comes_with_its_type_length_and_hash(film: tuple[Gateway, str]) -> None:
    """A player needs no more than the address."""
    gateway, path = film
    response = await gateway.client.get(path)
    assert (response.status_code, response.content) == (200, WHOLE)
    assert response.headers["content-type"] == "video/mp4"
    assert response.headers["content-length"] == str(SIZE)
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["etag"].strip('"') in (await gateway.client.get(path.removesuffix("/content"))).text
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-disposition"].startswith("inline; filename=")


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-99", 0, 99),
        ("bytes=100-199", 100, 199),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE - 1),
        ("bytes=1000-", 1000, SIZE - 1),
        ("bytes=-10", SIZE - 10, SIZE - 1),
        (f"bytes=-{SIZE + 500}", 0, SIZE - 1),
        (f"bytes=10-{SIZE * 9}", 10, SIZE - 1),
    ],
)
async def test_a_part_is_exactly_the_bytes_that_were_asked_for(
    film: tuple[Gateway, str], asked: str, first: int, last: int
) -> None:
    """First, middle, last and suffix parts, clipped to the file."""
    gateway, path = film
    response = await gateway.client.get(path, headers={"range": asked})
    assert response.status_code == 206
    assert response.content == WHOLE[first : last + 1]
    assert response.headers["content-range"] == f"bytes {first}-{last}/{SIZE}"
    assert response.headers["content-length"] == str(last + 1 - first)


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", f"bytes={SIZE + 5}-{SIZE + 9}", "bytes=-0"])
async def test_a_part_outside_the_file_is_416_with_its_size(film: tuple[Gateway, str], asked: str) -> None:
    """The reply says how long the file is."""
    gateway, path = film
    response = await gateway.client.get(path, headers={"range": asked})
    assert (response.status_code, response.headers["content-range"]) == (416, f"bytes */{SIZE}")
    assert response.json()["type"].endswith("/range-not-satisfiable")


@pytest.mark.parametrize(
    "asked",
    ["bytes=-", "bytes=9-3", "items=0-5", "bytes=a-b", "bytes=0-1,5-6", "bytes 0-5", "", "bytes=" + "9" * 5_000 + "-"],
)
async def test_a_range_in_a_form_that_is_not_served_is_ignored(film: tuple[Gateway, str], asked: str) -> None:
    """Whoever asks strangely gets the whole file, as the RFC allows; never a fault."""
    gateway, path = film
    response = await gateway.client.get(path, headers={"range": asked})
    assert (response.status_code, response.content) == (200, WHOLE)


async def test_a_part_is_given_only_of_the_file_that_the_client_began_with(film: tuple[Gateway, str]) -> None:
    """If-Range with the same tag gives the part, with another one the whole."""
    gateway, path = film
    etag = (await gateway.client.get(path)).headers["etag"]
    same = await gateway.client.get(path, headers={"range": "bytes=0-9", "if-range": etag})
    other = await gateway.client.get(path, headers={"range": "bytes=0-9", "if-range": '"another"'})
    assert (same.status_code, other.status_code, other.content) == (206, 200, WHOLE)


@pytest.mark.parametrize("tag", ["{}", "W/{}", '"x", {}', "*"])
async def test_a_file_that_the_client_has_is_not_sent_again(film: tuple[Gateway, str], tag: str) -> None:
    """If-None-Match with the file's tag, alone, weak or in a list: 304 without a body."""
    gateway, path = film
    etag = (await gateway.client.get(path)).headers["etag"]
    response = await gateway.client.get(path, headers={"if-none-match": tag.format(etag)})
    assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", etag)
    assert (await gateway.client.get(path, headers={"if-none-match": '"another"'})).status_code == 200


async def test_head_tells_the_length_without_the_bytes(film: tuple[Gateway, str]) -> None:
    """What a player asks first; a HEAD with a range is answered like the GET."""
    gateway, path = film
    head = await gateway.client.head(path)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(SIZE))
    part = await gateway.client.head(path, headers={"range": "bytes=0-9"})
    assert (part.status_code, part.content, part.headers["content-length"]) == (206, b"", "10")


@pytest.mark.parametrize("number", ["-1", "x", "", "1e0", "٣", "0,1", "9999999999"])
async def test_a_file_number_that_is_none_is_400_whatever_became_of_the_job(start: Start, number: str) -> None:
    """The question is refused before the job is looked at."""
    gateway = await start(Scripted(submits=[Refused(FailureKind.MODERATED, "blocked")]))
    for job_id in ((await gateway.made())["id"], "job_of_nobody"):
        response = await gateway.client.get(f"/jobs/{job_id}/content", params={"file": number})
        assert (response.status_code, "counted from 0" in response.json()["detail"]) == (400, True)


@pytest.mark.parametrize("number", ["1", "99", "1000"])
async def test_a_file_number_that_does_not_exist_is_404(film: tuple[Gateway, str], number: str) -> None:
    """The reply says how many there are."""
    gateway, path = film
    response = await gateway.client.get(path, params={"file": number})
    assert (response.status_code, "1 file(s)" in response.json()["detail"]) == (404, True)


async def test_there_is_no_content_before_the_end_and_none_after_a_failure(start: Start) -> None:
    """409 while it runs, 410 when it ended without a result."""
    alpha = Scripted(trouble=Pending(), trouble_s=30.0, checks=[Failed(FailureKind.MODERATED, "blocked")])
    gateway = await start(alpha)
    job_id = await gateway.submit()
    early = await gateway.client.get(f"/jobs/{job_id}/content")
    assert (early.status_code, early.json()["type"].rpartition("/")[2]) == (409, "conflict")
    await gateway.ended(job_id)
    late = await gateway.client.get(f"/jobs/{job_id}/content")
    assert (late.status_code, late.json()["type"].rpartition("/")[2]) == (410, "gone")


async def test_a_file_that_was_removed_from_the_store_is_gone(film: tuple[Gateway, str]) -> None:
    """An operator who clears old files leaves an honest answer."""
    gateway, path = film
    for file in (gateway.setting.folder / "artifacts").rglob("*"):
        if file.is_file():
            file.unlink()
    response = await gateway.client.get(path)
    assert (response.status_code, response.headers["content-type"]) == (410, "application/problem+json")


async def test_inline_output_puts_the_file_into_the_reply(start: Start) -> None:
    """`output: inline` gives base64 beside the address; the list of jobs stays small."""
    gateway = await start(Scripted())
    job: dict[str, Any] = await gateway.made(output="inline")
    assert base64.b64decode(job["result"]["files"][0]["data"]) == WHOLE
    (listed,) = (await gateway.client.get("/jobs")).json()["jobs"]
    assert "data" not in listed["result"]["files"][0]


async def test_a_result_too_large_for_the_reply_is_linked_alone(start: Start) -> None:
    """Over `server.inline_bytes_max` the file's `data` is null, and its address leads to it."""
    gateway = await start(Scripted(), server={"inline_bytes_max": SIZE - 1})
    job: dict[str, Any] = await gateway.made(output="inline")
    (file,) = job["result"]["files"]
    assert file["data"] is None
    assert (await gateway.client.get(file["url"])).content == WHOLE


async def test_a_file_for_the_reply_that_was_removed_is_null(start: Start) -> None:
    """A job whose file was cleared is still shown, without it."""
    gateway = await start(Scripted())
    job: dict[str, Any] = await gateway.made(output="inline")
    for file in (gateway.setting.folder / "artifacts").rglob("*"):
        if file.is_file():
            file.unlink()
    (file,) = (await gateway.client.get(f"/jobs/{job['id']}")).json()["result"]["files"]
    assert file["data"] is None


async def test_only_a_reply_that_is_sent_reads_the_file_and_never_whole(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look before a download and the wakes of a wait read no file; a reply reads it in pieces."""
    streamed, stream = [], Artifacts.stream

    def counted(self: Artifacts, sha256: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        streamed.append(sha256)
        return stream(self, sha256, start, end)

    async def whole(self: Artifacts, sha256: str) -> bytes:
        raise AssertionError(f"{sha256} was read as a whole")

    gateway = await start(Scripted())
    path = f"/jobs/{await gateway.submit(output='inline')}"
    ended = await gateway.client.get(path, headers={"prefer": "wait=60"})
    monkeypatch.setattr(Artifacts, "stream", counted)
    monkeypatch.setattr(Artifacts, "get", whole)
    assert (await gateway.client.get(f"{path}/content")).content == WHOLE
    assert len(streamed) == 1, "the download itself"
    assert (await gateway.client.post(f"{path}/cancel")).status_code == 409
    assert (await gateway.client.get(path, headers={"accept": "video/mp4"})).content == WHOLE
    assert len(streamed) == 2, "the second download"
    shown = await gateway.client.get(path)
    assert len(streamed) == 3
    assert int(shown.headers["content-length"]) == len(shown.content)
    assert shown.json() == ended.json()
