"""What a client does, step by step and without doing it: which calls, in which order, with which pauses.

Each flow is a generator. It yields a `Call` and is sent the reply, or a `Pause`, or a `Look` at a job for whoever
follows it. Two small drivers, one blocking and one for asyncio, do what is yielded; so both clients behave alike.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random
from typing import Any, BinaryIO, TypeVar

import httpx

from gateway.client.errors import (
    DamagedError,
    GatewayUnavailableError,
    JobStillRunningError,
    NotVidgateError,
    UnreachableError,
    refusal,
    unfinished,
)
from gateway.client.resources import Job, job_of

WAIT_S = 2  # how long the gateway holds a call for a job that is no longer young
YOUNG_S = 10.0
LOOK_PAUSE_S = 0.2
TIMEOUT_USUAL_S = 600.0
IN_PROGRESS = "request-in-progress"
# What may pass by itself. A request under an Idempotency-Key may be sent again whatever became of it.
PASSING = frozenset({408, 425, 429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Submission:
    """A request as the caller writes it: a picture, as bytes or as a link, and fields by any name the gateway knows."""

    image: bytes | str
    fields: Mapping[str, Any] = field(default_factory=dict)
    idempotency_key: str = ""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call is repeated, and after how long: twice as long each time, with jitter, never before a hint.

    `hint_max_s` is the longest `Retry-After` that is waited for; a longer one is an error at once.
    """

    most: int = 4
    first_s: float = 0.25
    longest_s: float = 8.0
    hint_max_s: float = 60.0


USUAL = Retries()


class Sink:
    """Takes the body of a reply, from its start each time that it is sent, and knows its digest."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    def restart(self) -> None:
        """Forget what came so far."""
        self._file.seek(0)
        self._file.truncate()
        self._digest, self.size_bytes = hashlib.sha256(), 0

    def write(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._file.write(chunk)
        self._digest.update(chunk)
        self.size_bytes += len(chunk)

    @property
    def sha256(self) -> str:
        """The digest of what came, in hexadecimal."""
        return self._digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Any] | None = None
    json: Any = None
    into: Sink | None = None  # where the body of a success goes; other bodies are read into the reply


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Look:
    """A job as it was seen just now, for whoever follows it."""

    job: Job


Reply = httpx.Response | httpx.RequestError | None
Result = TypeVar("Result")
Flow = Generator[Call | Pause | Look, Reply, Result]


@dataclass(frozen=True, slots=True)
class Means:
    """What flows are given: how to repeat, chance, the time in seconds, and a source of new idempotency keys."""

    retries: Retries
    random: Random
    now: Callable[[], float]
    new_key: Callable[[], str]


def called(call: Call, means: Means) -> Flow[httpx.Response]:
    """A call, repeated while its failure may pass. Raises UnreachableError or a RefusedError."""
    rules = means.retries
    for repeated in range(rules.most + 1):
        reply = yield call
        if isinstance(reply, httpx.Response):
            if reply.is_success:
                return reply
            hint_s = _hint_s(reply)
            if not _may_pass(reply) or repeated == rules.most or hint_s > rules.hint_max_s:
                raise refusal(reply)
        else:
            hint_s = 0.0
            if repeated == rules.most:
                raise UnreachableError(str(reply) or type(reply).__name__) from reply
        backoff_s = min(rules.longest_s, rules.first_s * 2.0**repeated)
        yield Pause(hint_s + backoff_s * means.random.uniform(0.5, 1.0))
    raise AssertionError("a call is made at least once")


def submitted(wanted: Submission, media: str, means: Means) -> Flow[Job]:
    """The new job of a request, sent under an idempotency key, so that repeating it makes no second job."""
    key = wanted.idempotency_key or means.new_key()
    call = Call("POST", f"/generate/{media}", {"idempotency-key": key}, files=_parts(wanted))
    return job_in((yield from called(call, means)))


def quoted(wanted: Submission, media: str, means: Means) -> Flow[dict[str, Any]]:
    """What every route would cost and take; nothing is run or held."""
    reply = yield from called(Call("POST", f"/generate/{media}/quote", files=_parts(wanted)), means)
    return document_of(reply)


def seen(job_id: str, means: Means, wait_s: int = 0) -> Flow[Job]:
    """A job as it stands; with `wait_s` the gateway holds the line for its end for that long."""
    headers = {"prefer": f"wait={wait_s}"} if wait_s else {}
    return job_in((yield from called(Call("GET", f"/jobs/{job_id}", headers), means)))


def followed(job: Job, means: Means, timeout_s: float) -> Flow[Job]:
    """The job at its end, or when the time is over; a `Look` now and each time that it was asked for.

    A gateway that restarts or is away meanwhile loses no job: it is asked again until the time is over. Raises
    JobStillRunningError when it is not back by then.
    """
    began_at = means.now()
    while True:
        yield Look(job)
        waited_s = means.now() - began_at
        if job.ended or waited_s >= timeout_s:
            return job
        yield Pause(min(LOOK_PAUSE_S, timeout_s - waited_s))
        # A young job is looked at often, for its stages change fast; an older one with a call that ends when it ends.
        try:
            job = yield from seen(job.id, means, 0 if waited_s < YOUNG_S else WAIT_S)
        except (UnreachableError, GatewayUnavailableError) as error:
            if means.now() - began_at >= timeout_s:
                raise JobStillRunningError(job, f"{job.id} was not lost, but its gateway is away: {error}") from error


def finished(job: Job, means: Means, timeout_s: float) -> Flow[Job]:
    """The job with its result. Raises JobFailedError or JobStillRunningError, which have the job."""
    job = yield from followed(job, means, timeout_s)
    if not job.succeeded:
        raise unfinished(job)
    return job


def made(wanted: Submission, media: str, means: Means, timeout_s: float) -> Flow[Job]:
    """A request, followed to its result."""
    job = yield from submitted(wanted, media, means)
    return (yield from finished(job, means, timeout_s))


def canceled(job_id: str, means: Means) -> Flow[Job]:
    """The job after it was asked to stop; a render that has left for a vendor may still end as it would."""
    return job_in((yield from called(Call("POST", f"/jobs/{job_id}/cancel"), means)))


def listed(
    means: Means, limit: int, before: str | None, filters: Mapping[str, Any]
) -> Flow[tuple[list[Job], str | None]]:
    """A page of the team's jobs, newest first, and where the next page begins; None at the last."""
    tags = {f"metadata[{name}]": value for name, value in (filters.get("metadata") or {}).items()}
    narrowed = {name: str(value) for name, value in filters.items() if name != "metadata" and value is not None}
    params = {"limit": str(limit), **({"before": before} if before else {}), **narrowed, **tags}
    page = document_of((yield from called(Call("GET", "/jobs", params=params), means)))
    return [job_of(one) for one in page["jobs"]], page["next_before"]


def known_routes(means: Means) -> Flow[list[dict[str, Any]]]:
    """Every route with its price, its statistics and what it takes."""
    reply = yield from called(Call("GET", "/routes"), means)
    routes: list[dict[str, Any]] = document_of(reply)["routes"]
    return routes


def fetched(job_id: str, number: int, sink: Sink, means: Means) -> Flow[int]:
    """The size of a finished file, which is then in the sink, and is what the gateway stored. Raises DamagedError."""
    as_it_is = {"accept-encoding": "identity"}  # a video does not get smaller
    call = Call("GET", f"/jobs/{job_id}/content", as_it_is, {"file": str(number)}, into=sink)
    for _ in range(2):
        reply = yield from called(call, means)
        if reply.headers.get("etag", "").removeprefix("W/").strip('"') == sink.sha256:
            return sink.size_bytes
    raise DamagedError(f"what came of {job_id} is not the file that the gateway stored, twice")


def _parts(wanted: Submission) -> dict[str, tuple[str | None, str | bytes]]:
    """The parts of a multipart body: the picture as a file or a link, texts as they are, everything else as JSON."""
    parts: dict[str, tuple[str | None, str | bytes]] = {
        name: (None, value if isinstance(value, str) else json.dumps(value))
        for name, value in wanted.fields.items()
        if value != {}
    }
    parts["image"] = ("image", wanted.image) if isinstance(wanted.image, bytes) else (None, wanted.image)
    return parts


def document_of(reply: httpx.Response) -> dict[str, Any]:
    """The JSON object of a success. Raises NotVidgateError when it is none: a page to log in at, say."""
    try:
        document = reply.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise NotVidgateError(f"what answers at {reply.url.host} is no vidgate gateway: HTTP {reply.status_code}")
    return document


def job_in(reply: httpx.Response) -> Job:
    """The job of a success. Raises NotVidgateError when there is none."""
    document = document_of(reply)
    try:
        return job_of(document)
    except (KeyError, TypeError, AttributeError) as error:
        raise NotVidgateError(f"what answers at {reply.url.host} is no vidgate gateway: it has no job") from error


def _may_pass(reply: httpx.Response) -> bool:
    """Whether a refusal may pass by itself: the first request with the same key is one that still runs."""
    if reply.status_code == httpx.codes.CONFLICT:
        return refusal(reply).kind == IN_PROGRESS
    return reply.status_code in PASSING


def _hint_s(reply: httpx.Response) -> float:
    """The seconds of a `Retry-After`: as written, or from the reply's own date to the one named; else 0 (RFC 9110)."""
    hint = reply.headers.get("retry-after", "")
    if hint.isascii() and hint.isdigit():
        return float(hint)
    until, said_at = _date(hint), _date(reply.headers.get("date", ""))
    return max(0.0, (until - said_at).total_seconds()) if until is not None and said_at is not None else 0.0


def _date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text).astimezone(UTC) if text else None
    except ValueError:
        return None
