"""The HTTP client: what it sends, how it follows a job, and how every failure is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from email import message_from_bytes
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.cli.client import YOUNG_S, GatewayClient, Submission
from gateway.cli.exit_codes import CommandError, ExitCode
from tests.unit.cli.jobs import job

pytestmark = pytest.mark.anyio
Answer = Callable[[httpx.Request], httpx.Response]


class Time:
    """A clock on which a sleep takes no time at all."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        """Seconds since the test began."""
        return self.at

    async def sleep(self, seconds: float) -> None:
        """Pass the time at once."""
        self.at += seconds


def client(answer: Answer) -> GatewayClient:
    """A client whose gateway is this function."""
    return GatewayClient(httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://gate"))


def refusing(status: int, problem: Any) -> GatewayClient:
    """A client whose gateway refuses everything."""
    return client(lambda _request: httpx.Response(status, content=json.dumps(problem)))


def parts(request: httpx.Request) -> dict[str, bytes]:
    """The parts of a multipart request by name."""
    head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
    message = message_from_bytes(head + request.content)
    found = {}
    for part in message.walk():
        name = part.get_param("name", header="content-disposition")
        if name:
            found[str(name)] = bytes(part.get_payload(decode=True) or b"")
    return found


async def test_a_submission_is_one_multipart_request_under_an_idempotency_key() -> None:
    """The picture as a file, parameters as text, routing and tags as JSON."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(202, json=job("queued"))

    wanted = Submission(b"\x89PNG", {"num_frames": "25"}, "nearest", {"pin": "a/b"}, {"film": "x"})
    assert (await client(answer).submit(wanted))["id"] == "job_1"
    (request,) = seen
    assert (request.method, request.url.path) == ("POST", "/generate/video")
    assert len(request.headers["idempotency-key"]) >= 16
    assert parts(request) == {
        "image": b"\x89PNG",
        "num_frames": b"25",
        "fit": b"nearest",
        "routing": b'{"pin": "a/b"}',
        "metadata": b'{"film": "x"}',
    }
    assert b'filename="image"' in request.content


async def test_a_link_is_sent_as_a_field_and_no_file() -> None:
    """The gateway then fetches it itself, under its own guard."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(202, json=job("queued"))

    await client(answer).submit(Submission("https://x/y.png", idempotency_key="mine"))
    assert parts(seen[0]) == {"image": b"https://x/y.png", "fit": b"exact"}
    assert b"filename" not in seen[0].content
    assert seen[0].headers["idempotency-key"] == "mine"


async def test_every_submission_has_a_key_of_its_own() -> None:
    """Two runs of the same command are two jobs."""
    keys: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["idempotency-key"])
        return httpx.Response(202, json=job("queued"))

    for _ in range(2):
        await client(answer).submit(Submission(b"x"))
    assert len(set(keys)) == 2


async def test_a_job_is_followed_to_its_end() -> None:
    """A young job is looked at often and without waiting; an older one with a call that the gateway holds."""
    waits: list[str | None] = []
    time = Time()

    def answer(request: httpx.Request) -> httpx.Response:
        waits.append(request.headers.get("prefer"))
        return httpx.Response(200, json=job("succeeded" if time.at > YOUNG_S + 1 else "running"))

    looks = [look async for look in client(answer).follow(job("queued"), time, 1000)]
    assert looks[-1]["status"] == "succeeded"
    assert waits[0] is None
    assert waits[-1] == "wait=2"
    assert waits == sorted(waits, key=lambda wait: wait or "")


async def test_a_job_that_has_ended_is_not_asked_for_again() -> None:
    """No call is made for what is known."""
    looks = [look async for look in client(lambda _request: httpx.Response(500)).follow(job(), Time(), 1000)]
    assert looks == [job()]


async def test_following_ends_when_its_time_is_over() -> None:
    """The last look is of a job that still runs: nothing is lost, and the caller is told."""
    time = Time()
    follow = client(lambda _request: httpx.Response(200, json=job("running"))).follow(job("queued"), time, 3)
    looks = [look async for look in follow]
    assert looks[-1]["status"] == "running"
    assert time.at == pytest.approx(3)


async def test_with_no_time_to_wait_one_look_is_enough() -> None:
    """`--timeout 0` submits and goes."""
    looks = [look async for look in client(lambda _request: httpx.Response(500)).follow(job("queued"), Time(), 0)]
    assert [look["status"] for look in looks] == ["queued"]


async def test_a_result_is_written_whole_and_folders_are_made(tmp_path: Path) -> None:
    """And no half file is left beside it."""
    target = tmp_path / "new" / "out.mp4"
    assert await client(lambda _request: httpx.Response(200, content=b"video")).save("job_1", target) == 5
    assert target.read_bytes() == b"video"
    assert [file.name for file in target.parent.iterdir()] == ["out.mp4"]


async def test_a_result_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """A folder where the file should go is the caller's to mend."""
    (tmp_path / "out.mp4").mkdir()
    with pytest.raises(CommandError, match="cannot be written") as caught:
        await client(lambda _request: httpx.Response(200, content=b"video")).save("job_1", tmp_path / "out.mp4")
    assert caught.value.code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("status", "code"), [(401, ExitCode.REFUSED), (402, ExitCode.NO_BUDGET), (422, ExitCode.REFUSED), (503, 5)]
)
async def test_a_problem_is_told_in_its_own_words(status: int, code: ExitCode) -> None:
    """Title, detail and hint of the problem document, and the exit code of its kind."""
    problem = {"title": "The title", "detail": "the detail", "hint": "the hint"}
    with pytest.raises(CommandError, match="The title: the detail") as caught:
        await refusing(status, problem).job("job_1")
    assert caught.value.code == code
    assert ("VIDGATE_KEY" if status == 401 else "the hint") in caught.value.mend


async def test_a_refusal_lists_the_reasons_of_every_route() -> None:
    """No route eligible is only useful with why."""
    problem = {
        "title": "No route",
        "detail": "see why",
        "refused": [{"route": "a/b", "reasons": ["one", "two"]}, {"route": "c/d", "reasons": ["three"]}],
    }
    with pytest.raises(CommandError) as caught:
        await refusing(422, problem).job("job_1")
    assert caught.value.what.splitlines() == ["No route: see why", "  a/b: one; two", "  c/d: three"]


@pytest.mark.parametrize("body", ["<html>", "[]", "null", '"text"', "{}"])
async def test_an_error_that_is_no_problem_document_is_told_by_its_status(body: str) -> None:
    """A proxy in between may answer anything."""
    answer = client(lambda _request: httpx.Response(502, content=body))
    with pytest.raises(CommandError, match="HTTP 502") as caught:
        await answer.routes()
    assert caught.value.code is ExitCode.UNREACHABLE


@pytest.mark.parametrize(
    "error", [httpx.ConnectError("refused"), httpx.ReadTimeout(""), httpx.RemoteProtocolError("odd")]
)
async def test_a_gateway_that_does_not_answer_is_told_with_its_address(error: Exception) -> None:
    """And with how to start one."""

    def answer(_request: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(CommandError, match="no gateway answers at http://gate") as caught:
        await client(answer).routes()
    assert caught.value.code is ExitCode.UNREACHABLE
    assert "vidgate dev" in caught.value.mend
    assert not caught.value.what.endswith(": ")


async def test_cancelling_asks_the_gateway() -> None:
    """The job's own address, by POST."""
    seen: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.method, request.url.path))
        return httpx.Response(202, json=job("running"))

    await client(answer).cancel("job_1")
    assert seen == [("POST", "/jobs/job_1/cancel")]
