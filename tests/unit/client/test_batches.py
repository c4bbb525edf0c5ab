"""Both clients with many requests: what is sent together, what is sent again, and what comes of each."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway.client import (
    AsyncVidgate,
    BudgetExceededError,
    Job,
    JobFailedError,
    RefusedError,
    UnreachableError,
    Vidgate,
)
from gateway.client import batches as module
from tests.unit.cli.jobs import job
from tests.unit.client.talk import Talk, answered

ConnectionRefused = httpx.ConnectError("refused")
PROBLEM = "https://vidgate.dev/problems/"
LINK = "https://a.test/b.png"


@pytest.fixture(params=[Vidgate, AsyncVidgate])
def talk(request: pytest.FixtureRequest) -> Iterator[Talk]:
    """Each kind of client."""
    return Talk(request.param)


def refusal(status: int, slug: str) -> dict[str, Any]:
    return {"status": status, "problem": {"type": PROBLEM + slug, "title": "t", "detail": "d"}, "replayed": False}


def admitted(**changes: Any) -> dict[str, Any]:
    return {"status": 202, "job": job(**changes), "replayed": False}


def test_many_requests_are_one_call_and_each_has_its_answer(talk: Talk) -> None:
    """In their order: jobs, and in the place of the others the error that each would have raised alone."""
    reply = answered(207, {"results": [admitted(), refusal(402, "budget-exceeded"), refusal(422, "unknown-field")]})
    client = talk.to(reply)
    wanted = [{"image": b"png", "seed": 1, "metadata": {}}, {"image": LINK}, {"image": LINK, "framse": 3}]
    found = talk.run(client.submit_videos(wanted, idempotency_key="k"))
    assert [type(one) for one in found] == [Job, BudgetExceededError, RefusedError]
    (seen,) = talk.seen
    assert (seen.url.path, seen.headers["idempotency-key"]) == ("/generate/video/batch", "k")
    first, second, _ = json.loads(seen.content)["requests"]
    assert (first, second) == ({"image": base64.b64encode(b"png").decode(), "seed": 1}, {"image": LINK})


def test_what_is_refused_for_a_while_is_asked_for_again_under_its_own_key(talk: Talk) -> None:
    """Only those, as they were sent, until they are taken or the client gives up."""
    results = [
        admitted(),
        refusal(429, "quota-exceeded"),
        refusal(409, "request-in-progress"),
        refusal(503, "unavailable"),
    ]
    client = talk.to(
        answered(207, {"results": results}),
        answered(202, job()),
        answered(202, job()),
        ConnectionRefused,
    )
    found = talk.run(client.submit_videos([{"image": LINK, "seed": n} for n in range(4)], idempotency_key="k"))
    assert [type(one) for one in found] == [Job, Job, Job, UnreachableError]
    again = [(one.url.path, one.headers["idempotency-key"]) for one in talk.seen[1:4]]
    assert again == [("/generate/video", f"k.{n}") for n in (1, 2, 3)]
    assert json.loads(talk.seen[1].content) == {"image": LINK, "seed": 1}


def test_more_than_one_call_takes_are_more_calls(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred at a time, or fewer large pictures; each call has a key of its own."""
    monkeypatch.setattr(module, "BODY_BYTES_MAX", 2_000)
    sizes = []

    def answer(request: Any) -> Any:
        sizes.append(len(json.loads(request.content)["requests"]))
        return answered(207, {"results": [admitted()] * sizes[-1]})

    client = talk.to(answer)
    found = talk.run(client.submit_videos([{"image": LINK}] * 130 + [{"image": b"x" * 1_200}] * 2))
    assert (len(found), sizes) == (132, [100, 30, 1, 1])
    keys = [one.headers["idempotency-key"] for one in talk.seen]
    assert keys == [keys[0], f"{keys[0]}-1", f"{keys[0]}-2", f"{keys[0]}-3"]


def test_videos_are_made_together_and_followed_to_their_ends(talk: Talk) -> None:
    """Each finished job or its error; progress is told as it is seen."""
    results = [admitted(status="queued"), refusal(422, "unknown-field"), admitted(status="queued")]
    client = talk.to(
        answered(207, {"results": results}),
        answered(200, job(status="succeeded")),
        answered(200, job(status="failed", error={"title": "blocked"})),
    )
    looks: list[Job] = []
    found = talk.run(client.generate_videos([{"image": LINK}] * 3, on_progress=looks.append))
    assert [type(one) for one in found] == [Job, RefusedError, JobFailedError]
    assert len(looks) == 4


def test_a_request_without_a_picture_is_a_mistake_of_the_program(talk: Talk) -> None:
    """Said before anything is sent."""
    with pytest.raises(ValueError, match="request 1 has no image"):
        talk.run(talk.to(answered(207, {})).submit_videos([{"image": LINK}, {"seed": 1}]))
    assert talk.seen == []


def test_lists_are_narrowed(talk: Talk) -> None:
    """By what a list may be narrowed by; tags have brackets."""
    client = talk.to(answered(200, {"jobs": [], "next_before": None}))
    talk.run(client.jobs(status="failed", route="a/b", metadata={"project": "reel"}))
    assert dict(talk.seen[0].url.params) == {
        "limit": "20",
        "status": "failed",
        "route": "a/b",
        "metadata[project]": "reel",
    }
