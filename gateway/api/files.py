"""A stored file as a reply: whole or in part, if it is not known already (RFC 9110)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.holds import while_held
from gateway.jobs import TERMINAL, JobStatus
from gateway.media.kinds import EXTENSIONS
from gateway.problems import Conflict, Gone, NotFound, RangeNotSatisfiable
from gateway.service import Service
from gateway.store.jobs import Job

FOR_GOOD = "private, max-age=86400, immutable"  # a result never changes; its team's own cache may keep it
_RANGE = re.compile(r"^bytes=(\d{0,15})-(\d{0,15})$", re.ASCII)
FILE_NUMBER = re.compile(r"^\d{1,9}$", re.ASCII)


async def result_file(request: Request, service: Service, job: Job, number: str) -> Response:
    """A finished file of a job. Raises Conflict before its end, Gone after one without a result, and NotFound."""
    if job.status not in TERMINAL:
        raise Conflict(f"the job is {job.status}; ask again when it has succeeded, or GET it with Prefer: wait=60")
    if job.status is not JobStatus.SUCCEEDED or job.result is None:
        raise Gone(f"the job ended without a result: {job.status}")
    if not FILE_NUMBER.match(number) or int(number) >= len(job.result["files"]):
        raise NotFound(f"the result has {len(job.result['files'])} file(s), counted from 0")
    file = job.result["files"][int(number)]
    name = f"{job.id}-{number}.{EXTENSIONS[file['media_type']]}"
    headers = {"content-disposition": f'inline; filename="{name}"', "cache-control": FOR_GOOD}
    return await stored_file(request, service, (file["sha256"], file["media_type"]), headers)


async def stored_file(
    request: Request, service: Service, file: tuple[str, str], headers: Mapping[str, str]
) -> Response:
    """A file by its SHA-256, with its media type, cut off when the key that asks for it ends.

    Raises Gone when it is not there, and RangeNotSatisfiable.
    """
    sha256, media_type = file
    artifacts = service.parts.inputs.artifacts
    size_bytes = await artifacts.size(sha256)
    if size_bytes is None:
        raise Gone("the stored file is no longer there")
    said = {**headers, "accept-ranges": "bytes", "etag": f'"{sha256}"'}
    is_read = request.method in {"GET", "HEAD"}
    if is_read and _is_known(request, said["etag"]):
        return Response(status_code=304, headers=said)
    part = _part(request, size_bytes, said["etag"]) if is_read else None
    start, end = part or (0, size_bytes)
    status = 200 if part is None else 206
    if part is not None:
        said["content-range"] = f"bytes {start}-{end - 1}/{size_bytes}"
    said["content-length"] = str(end - start)

    async def body() -> AsyncIterator[bytes]:
        if request.method != "HEAD":
            async for chunk in artifacts.stream(sha256, start, end):
                yield chunk

    hold = getattr(request.state, "hold", None)  # a link needs no key
    return StreamingResponse(while_held(hold, body()), status, said, media_type)


def _is_known(request: Request, etag: str) -> bool:
    """Whether the client has the file already (RFC 9110 13.1.2): its tag in the list, weak or strong, or `*`."""
    tags = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return etag in tags or tags == ["*"]


def _part(request: Request, size_bytes: int, etag: str) -> tuple[int, int] | None:
    """The asked part as start and end (exclusive); None for the whole.

    A form we do not serve, several parts at once among them, is ignored: the RFC allows it, and players ask for one.
    """
    asked = _RANGE.match(request.headers.get("range", ""))
    if asked is None or request.headers.get("if-range", etag) != etag:
        return None
    first, last = asked.groups()
    if (not first and not last) or (first and last and int(last) < int(first)):
        return None
    if not first:
        start, end = max(0, size_bytes - int(last)), size_bytes
    else:
        start, end = int(first), min(size_bytes, int(last) + 1) if last else size_bytes
    if start >= end:
        raise RangeNotSatisfiable(
            f"the file has {size_bytes} bytes", headers={"content-range": f"bytes */{size_bytes}"}
        )
    return start, end
