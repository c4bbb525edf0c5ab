"""Jobs as resources: look, list, fetch the result, cancel; and the two addresses that carry their own permission."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from gateway.api.auth import audience_for, caller_of
from gateway.api.prefer import preference_of, show_job, wait_for
from gateway.api.shown import job_json
from gateway.audience import Audience
from gateway.jobs import TERMINAL, JobStatus
from gateway.media.kinds import EXTENSIONS, MEDIA_TYPES
from gateway.problems import BadRequest, Conflict, Gone, NotFound, RangeNotSatisfiable
from gateway.service import Service
from gateway.store import jobs as rows

PAGE_MAX = 100
FOR_GOOD = "private, max-age=86400, immutable"  # a result never changes; its team's own cache may keep it
PAGE_USUAL = 20
_RANGE = re.compile(r"^bytes=(\d{0,15})-(\d{0,15})$", re.ASCII)
_EPOCH = re.compile(r"^\d{1,12}$", re.ASCII)
_NUMBER = re.compile(r"^\d{1,3}$", re.ASCII)


async def get_job(request: Request, service: Service) -> Response:
    """One job; with `Prefer: wait=N` the reply waits for its end."""
    caller = await caller_of(request, service)
    job_id = request.path_params["job_id"]
    preference = preference_of(request, service.parts.settings.server.wait_s_max)
    _, response = await wait_for(service, job_id, caller, preference.wait_s)
    if preference.wait_s:
        await caller_of(request, service)  # a key that was revoked during the wait is told nothing
    return preference.applied(response)


async def list_jobs(request: Request, service: Service) -> Response:
    """The team's jobs, newest first; `before` is the last id of the page before."""
    caller = await caller_of(request, service)
    limit = request.query_params.get("limit", str(PAGE_USUAL))
    if not _NUMBER.match(limit) or not 1 <= int(limit) <= PAGE_MAX:
        raise BadRequest(f"limit must be 1 to {PAGE_MAX}")
    before = request.query_params.get("before")
    page = await service.parts.store.read(_page, caller.team_id, before, int(limit), audience_for(caller, service))
    following = page[-1]["id"] if len(page) == int(limit) else None
    return Response(json.dumps({"jobs": page, "next_before": following}), media_type="application/json")


def _page(
    connection: Connection, team_id: str, before: str | None, limit: int, audience: Audience
) -> list[dict[str, Any]]:
    jobs = rows.list_jobs(connection, team_id, before=before, limit=limit)
    return [job_json(job, rows.load_attempts(connection, job.id), audience) for job in jobs]


async def get_content(request: Request, service: Service) -> Response:
    """The finished file, whole or in part (RFC 9110 Range, one part)."""
    caller = await caller_of(request, service)
    job, _ = await show_job(service, request.path_params["job_id"], caller)
    if job.status not in TERMINAL:
        raise Conflict(f"the job is {job.status}; ask again when it has succeeded, or GET it with Prefer: wait=60")
    if job.status is not JobStatus.SUCCEEDED or job.result is None:
        raise Gone(f"the job ended without a result: {job.status}")
    index = request.query_params.get("file", "0")
    if not _NUMBER.match(index) or int(index) >= len(job.result["files"]):
        raise NotFound(f"the result has {len(job.result['files'])} file(s), counted from 0")
    file = job.result["files"][int(index)]
    name = f"{job.id}-{index}.{EXTENSIONS[file['media_type']]}"
    headers = {
        "content-disposition": f'inline; filename="{name}"',
        "cache-control": "private, max-age=86400, immutable",
    }
    return await _artifact(request, service, file["sha256"], file["media_type"], headers)


async def get_input(request: Request, service: Service) -> Response:
    """An input picture behind a signed link: for vendors, which have no key."""
    name, query = request.path_params["name"], request.query_params
    expires, signature = query.get("expires", ""), query.get("signature", "")
    if not _EPOCH.match(expires) or not service.parts.inputs.links.verify(signature, "input", name, int(expires)):
        raise NotFound("there is nothing at this address")
    if service.parts.clock.now() > int(expires):
        raise Gone("this link has ended")
    sha256, _, extension = name.partition(".")
    return await _artifact(request, service, sha256, MEDIA_TYPES[extension], {"cache-control": "private"})


async def _artifact(
    request: Request, service: Service, sha256: str, media_type: str, headers: dict[str, str]
) -> Response:
    artifacts = service.parts.inputs.artifacts
    size_bytes = await artifacts.size(sha256)
    if size_bytes is None:
        raise Gone("the stored file is no longer there")
    headers = headers | {"accept-ranges": "bytes", "etag": f'"{sha256}"'}
    if _known(request, headers["etag"]):
        return Response(status_code=304, headers=headers)
    part = _part(request, size_bytes, headers["etag"])
    start, end = part or (0, size_bytes)
    status = 200 if part is None else 206
    if part is not None:
        headers["content-range"] = f"bytes {start}-{end - 1}/{size_bytes}"
    headers["content-length"] = str(end - start)

    async def body() -> AsyncIterator[bytes]:
        if request.method != "HEAD":
            async for chunk in artifacts.stream(sha256, start, end):
                yield chunk

    return StreamingResponse(body(), status, headers, media_type)


def _known(request: Request, etag: str) -> bool:
    """Whether the client has the file already (RFC 9110 13.1.2): its tag in the list, weak or strong, or `*`."""
    tags = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return etag in tags or tags == ["*"]


def _part(request: Request, size_bytes: int, etag: str) -> tuple[int, int] | None:
    """The asked part as start and end (exclusive); None for the whole. A form we do not serve is ignored (RFC 9110)."""
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


async def cancel_job(request: Request, service: Service) -> Response:
    """Ask for a job to be stopped: 202. What a vendor has accepted and cannot stop runs to its end and is billed."""
    caller = await caller_of(request, service)
    job_id = request.path_params["job_id"]
    job, _ = await show_job(service, job_id, caller)
    if job.status in TERMINAL:
        raise Conflict(f"the job has ended: {job.status}")
    await service.dispatcher.cancel(job_id)
    _, response = await show_job(service, job_id, caller)
    response.status_code = 202
    return response


async def callback(request: Request, service: Service) -> Response:
    """A vendor's word that an attempt is done: only a hint to ask now. Its body is not read."""
    attempt_id, token = request.path_params["attempt_id"], request.path_params["token"]
    if not service.parts.inputs.links.verify(token, "callback", attempt_id):
        raise NotFound("there is nothing at this address")
    job_id = await service.parts.store.read(rows.job_of_attempt, attempt_id)
    if job_id is not None:
        service.dispatcher.wake(job_id)
    return Response(status_code=204)
