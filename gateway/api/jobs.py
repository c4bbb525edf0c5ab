"""Jobs as resources: look, list, fetch the result, cancel; and the two addresses that carry their own permission."""

from __future__ import annotations

import json
import re
from typing import Any

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.auth import audience_for, caller_of
from gateway.api.files import result_file, stored_file
from gateway.api.prefer import preference_of, show_job, wait_for
from gateway.api.representation import forms_of, represented
from gateway.api.shown import job_json
from gateway.audience import Audience
from gateway.jobs import TERMINAL
from gateway.media.kinds import MEDIA_TYPES
from gateway.problems import BadRequest, Conflict, Gone, NotFound
from gateway.service import Service
from gateway.store import jobs as rows

PAGE_MAX = 100
PAGE_USUAL = 20
_EPOCH = re.compile(r"^\d{1,12}$", re.ASCII)
_NUMBER = re.compile(r"^\d{1,3}$", re.ASCII)


async def get_job(request: Request, service: Service) -> Response:
    """One job; with `Prefer: wait=N` the reply waits for its end, with `Accept: video/mp4` it is the file then."""
    caller = await caller_of(request, service)
    job_id = request.path_params["job_id"]
    preference = preference_of(request, service.parts.settings.server.wait_s_max)
    forms = forms_of(request)
    job, response = await wait_for(service, job_id, caller, preference.wait_s)
    if preference.wait_s:
        await caller_of(request, service)  # a key that was revoked during the wait is told nothing
    return preference.applied(await represented(request, service, job, (response, forms)))


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
    """The finished file, whole or in part."""
    caller = await caller_of(request, service)
    job, _ = await show_job(service, request.path_params["job_id"], caller)
    return await result_file(request, service, job, request.query_params.get("file", "0"))


async def get_input(request: Request, service: Service) -> Response:
    """An input picture behind a signed link: for vendors, which have no key."""
    name, query = request.path_params["name"], request.query_params
    expires, signature = query.get("expires", ""), query.get("signature", "")
    if not _EPOCH.match(expires) or not service.parts.inputs.links.verify(signature, "input", name, int(expires)):
        raise NotFound("there is nothing at this address")
    if service.parts.clock.now() > int(expires):
        raise Gone("this link has ended")
    sha256, _, extension = name.partition(".")
    return await stored_file(request, service, (sha256, MEDIA_TYPES[extension]), {"cache-control": "private"})


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
