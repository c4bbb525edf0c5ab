"""The client that blocks."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from io import BytesIO
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, Unpack

import httpx

from gateway.client import batches, flows
from gateway.client.connection import CALL_TIMEOUT_S, Address, Picture, means, submission, submissions, written_whole
from gateway.client.errors import VidgateError
from gateway.client.fields import ImageFields, JobFilters, VideoFields
from gateway.client.flows import TIMEOUT_USUAL_S, USUAL, Call, Flow, Look, Pause, Reply, Retries, Sink, Submission
from gateway.client.resources import Job, id_of
from gateway.clock import BlockingClock

Progress = Callable[[Job], None]
Result = TypeVar("Result")


class Vidgate:
    """A gateway's resources, one method each, for programs that block.

    Without a `url` or `key` those of VIDGATE_URL and VIDGATE_KEY are taken. `http` is for a client of one's own, with a
    proxy or certificates. May be shared by threads.
    """

    def __init__(
        self,
        url: str = "",
        *,
        key: str = "",
        retries: Retries = USUAL,
        http: httpx.Client | None = None,
        clock: BlockingClock | None = None,
    ) -> None:
        self._address = Address.of(url, key)
        self._http = http or httpx.Client(timeout=CALL_TIMEOUT_S)
        self._clock = clock or BlockingClock()
        self._means = means(retries, self._clock.now)

    def __enter__(self) -> Vidgate:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def generate_video(
        self,
        image: Picture,
        *,
        on_progress: Progress | None = None,
        timeout_s: float = TIMEOUT_USUAL_S,
        idempotency_key: str = "",
        **fields: Unpack[VideoFields],
    ) -> Job:
        """Make a video of a picture (bytes, a path, a link) and return its finished job; `save` fetches the file.

        `on_progress` is called with the job each time that it is seen. Raises VidgateError; JobStillRunningError after
        `timeout_s` has the job, which goes on: `wait` takes it up again.
        """
        wanted = submission(image, dict(fields), idempotency_key)
        return self._run(flows.made(wanted, "video", self._means, timeout_s), on_progress)

    def generate_image(
        self,
        image: Picture,
        *,
        on_progress: Progress | None = None,
        timeout_s: float = TIMEOUT_USUAL_S,
        idempotency_key: str = "",
        **fields: Unpack[ImageFields],
    ) -> Job:
        """Make pictures of a picture, and return their finished job."""
        wanted = submission(image, dict(fields), idempotency_key)
        return self._run(flows.made(wanted, "image", self._means, timeout_s), on_progress)

    def generate_videos(
        self,
        requests: Sequence[Mapping[str, Any]],
        *,
        on_progress: Progress | None = None,
        timeout_s: float = TIMEOUT_USUAL_S,
        idempotency_key: str = "",
    ) -> list[Job | VidgateError]:
        """Make many videos, sent together: of each request (an `image` and fields) its finished job, or its error."""
        wanted = submissions(requests)
        flow = batches.made_many(wanted, "video", self._means, key=idempotency_key, timeout_s=timeout_s)
        return self._run(flow, on_progress)

    def submit_videos(
        self, requests: Sequence[Mapping[str, Any]], *, idempotency_key: str = ""
    ) -> list[Job | VidgateError]:
        """Ask for many videos and return their new jobs at once, or in its place why there is none."""
        wanted = submissions(requests)
        return self._run(batches.submitted_many(wanted, "video", self._means, key=idempotency_key))

    def submit_video(self, image: Picture, *, idempotency_key: str = "", **fields: Unpack[VideoFields]) -> Job:
        """Ask for a video and return its new job at once. The same `idempotency_key` gives the same job for 24 h."""
        return self.submit(submission(image, dict(fields), idempotency_key), "video")

    def submit_image(self, image: Picture, *, idempotency_key: str = "", **fields: Unpack[ImageFields]) -> Job:
        """Ask for pictures and return their new job at once."""
        return self.submit(submission(image, dict(fields), idempotency_key), "image")

    def submit(self, wanted: Submission, media: str = "video") -> Job:
        """Ask for what a submission says and return the new job at once."""
        return self._run(flows.submitted(wanted, media, self._means))

    def quote_video(self, image: Picture, **fields: Unpack[VideoFields]) -> dict[str, Any]:
        """What every route would cost and take for a video, and which are refused and why; nothing is run or held."""
        return self._run(flows.quoted(submission(image, dict(fields)), "video", self._means))

    def job(self, job_id: str, *, wait_s: int = 0) -> Job:
        """A job as it stands; with `wait_s` the gateway holds the line for its end for that long."""
        return self._run(flows.seen(job_id, self._means, wait_s))

    def wait(self, job: Job | str, *, on_progress: Progress | None = None, timeout_s: float = TIMEOUT_USUAL_S) -> Job:
        """The job when it has a result. Raises JobFailedError or JobStillRunningError."""
        known = self.job(job) if isinstance(job, str) else job
        return self._run(flows.finished(known, self._means, timeout_s), on_progress)

    def follow(self, job: Job | str, *, timeout_s: float = TIMEOUT_USUAL_S) -> Iterator[Job]:
        """The job now and after every look at it, until it has ended or the time is over."""
        known = self.job(job) if isinstance(job, str) else job
        yield from self._steps(flows.followed(known, self._means, timeout_s))

    def save(self, job: Job | str, path: str | PathLike[str], number: int = 0) -> int:
        """Write a finished file of a job to a path, whole or not at all, and return its size in bytes.

        Raises OSError where it cannot be written, and DamagedError when the digest is not the stored file's.
        """
        with written_whole(Path(path)) as sink:
            return self._run(flows.fetched(id_of(job), number, sink, self._means))

    def content(self, job: Job | str, number: int = 0) -> bytes:
        """A finished file of a job, in memory."""
        memory = BytesIO()
        self._run(flows.fetched(id_of(job), number, Sink(memory), self._means))
        return memory.getvalue()

    def cancel(self, job: Job | str) -> Job:
        """Ask for a job to be stopped; a render that has left for a vendor may still end as it would."""
        return self._run(flows.canceled(id_of(job), self._means))

    def jobs(
        self, *, limit: int = 20, before: str | None = None, **filters: Unpack[JobFilters]
    ) -> tuple[list[Job], str | None]:
        """A page of the team's jobs, newest first and narrowed, and the `before` of the next page; None at the last."""
        return self._run(flows.listed(self._means, limit, before, dict(filters)))

    def routes(self) -> list[dict[str, Any]]:
        """Every route with its price, its statistics and what it takes."""
        return self._run(flows.known_routes(self._means))

    def _run(self, flow: Flow[Result], on_progress: Progress | None = None) -> Result:
        steps = self._steps(flow)
        while True:
            try:
                job = next(steps)
            except StopIteration as end:
                result: Result = end.value
                return result
            if on_progress is not None:
                on_progress(job)

    def _steps(self, flow: Flow[Result]) -> Generator[Job, None, Result]:
        """Do what a flow yields, and hand on the jobs that it looks at."""
        reply: Reply = None
        while True:
            try:
                step = flow.send(reply)
            except StopIteration as end:
                result: Result = end.value
                return result
            reply = None
            if isinstance(step, Look):
                yield step.job
            elif isinstance(step, Pause):
                self._clock.sleep(step.seconds)
            else:
                reply = self._send(step)

    def _send(self, call: Call) -> Reply:
        try:
            response = self._http.send(self._address.request(call, self._http), stream=True)
            try:
                if call.into is None or not response.is_success:
                    response.read()
                else:
                    call.into.restart()
                    for chunk in response.iter_bytes():
                        call.into.write(chunk)
            finally:
                response.close()
        except httpx.RequestError as error:
            return error
        return response
