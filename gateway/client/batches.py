"""Many requests in few calls: what is sent together, what of it is sent again, and what comes of each."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gateway.client.errors import VidgateError, refused
from gateway.client.flows import (
    IN_PROGRESS,
    PASSING,
    Call,
    Flow,
    Means,
    Submission,
    called,
    document_of,
    finished,
    job_in,
)
from gateway.client.resources import Job, job_of

REQUESTS_MAX = 100
BODY_BYTES_MAX = 16 * 1024 * 1024
Body = dict[str, Any]


def submitted_many(
    wanted: Sequence[Submission], media: str, means: Means, *, key: str = ""
) -> Flow[list[Job | VidgateError]]:
    """The new job of each request, or why there is none, in their order; each has a key of its own.

    What is refused for a while is asked for again by itself.
    """
    bodies = [_body(one) for one in wanted]
    key = key or means.new_key()
    found: list[Job | VidgateError] = []
    for number, chunk in enumerate(_chunks(bodies)):
        name = key if number == 0 else f"{key}-{number}"
        call = Call("POST", f"/generate/{media}/batch", {"idempotency-key": name}, json={"requests": chunk})
        results = document_of((yield from called(call, means)))["results"]
        for index, (body, result) in enumerate(zip(chunk, results, strict=True)):
            if _may_pass(result):
                again = Call("POST", f"/generate/{media}", {"idempotency-key": f"{name}.{index}"}, json=body)
                found.append((yield from _tried(again, means)))
            else:
                found.append(_outcome(result))
    return found


def made_many(
    wanted: Sequence[Submission], media: str, means: Means, *, key: str, timeout_s: float
) -> Flow[list[Job | VidgateError]]:
    """Requests sent together, each followed to its result: its job, or the error that it would have raised alone."""
    until = means.now() + timeout_s
    begun = yield from submitted_many(wanted, media, means, key=key)
    ended: list[Job | VidgateError] = []
    for one in begun:
        if isinstance(one, Job):
            try:
                ended.append((yield from finished(one, means, max(0.0, until - means.now()))))
            except VidgateError as error:
                ended.append(error)
        else:
            ended.append(one)
    return ended


def _may_pass(result: Mapping[str, Any]) -> bool:
    """Whether a refusal passes by itself; one of a batch that was sent before may still be being answered."""
    return result["status"] in PASSING or refused(result["status"], result.get("problem") or {}).kind == IN_PROGRESS


def _tried(call: Call, means: Means) -> Flow[Job | VidgateError]:
    try:
        return job_in((yield from called(call, means)))
    except VidgateError as error:
        return error


def _outcome(result: Mapping[str, Any]) -> Job | VidgateError:
    return job_of(result["job"]) if "job" in result else refused(result["status"], result["problem"])


def _body(wanted: Submission) -> Body:
    image = wanted.image if isinstance(wanted.image, str) else base64.b64encode(wanted.image).decode("ascii")
    return {"image": image, **{name: value for name, value in wanted.fields.items() if value != {}}}


def _chunks(bodies: Sequence[Body]) -> Iterator[list[Body]]:
    """As many at a time as one call takes, by number and by the size of their pictures."""
    chunk: list[Body] = []
    size_bytes = 0
    for body in bodies:
        if chunk and (len(chunk) == REQUESTS_MAX or size_bytes + len(body["image"]) > BODY_BYTES_MAX):
            yield chunk
            chunk, size_bytes = [], 0
        chunk.append(body)
        size_bytes += len(body["image"])
    if chunk:
        yield chunk
