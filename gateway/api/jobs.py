"""Jobs as resources: look, list, fetch the result, cancel; and the two addresses that carry their own permission."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.auth import audience_for, caller_of, check_scope, hold_of
from gateway.api.files import FILE_NUMBER, result_file, stored_file
from gateway.api.pages import ID, Page, instant, listed, page_of, whole
from gateway.api.prefer import load_job, preference_of, show_job, wait_for
from gateway.api.reading import is_plain
from gateway.api.representation import forms_of, represented
from gateway.api.shown import job_json
from gateway.audience import Audience
from gateway.jobs import TERMINAL, JobStatus
from gateway.media.kinds import MEDIA_TYPES
from gateway.problems import BadRequest, Conflict, Gone, NotFound
from gateway.scopes import Scope
from gateway.service import Service
from gateway.store import jobs as rows
from gateway.store import listing
from gateway.store.listing import JobFilter

CHOICES: Mapping[str, tuple[str, ...]] = {
    "status": tuple(status.value for status in JobStatus),
    "media": ("video", "image"),
}
TAGS_MAX = 16
_TAG = re.compile(r"metadata\[(.{1,40})\]", re.DOTALL)
_EPOCH = re.compile(r"^\d{1,12}$", re.ASCII)


async def get_job(request: Request, service: Service) -> Response:
    """One job; with `Prefer: wait=N` the reply waits for its end, with `Accept: video/mp4` it is the file then."""
    await caller_of(request, service)
    job_id = request.path_params["job_id"]
    preference = preference_of(request, service.parts.settings.server.wait_s_max)
    forms = forms_of(request)
    job, response = await wait_for(service, job_id, hold_of(request), preference.wait_s)
    if preference.wait_s:
        await caller_of(request, service)  # a key that was revoked during the wait is told nothing
    return preference.applied(await represented(request, service, job, (response, forms)))


async def list_jobs(request: Request, service: Service) -> Response:
    """The team's jobs, newest first, narrowed by what the query names."""
    caller = await caller_of(request, service)
    page = page_of(request)
    wanted, audience = _filter(request, page), audience_for(caller, service)
    found = await service.parts.store.read(_page, caller.team_id, wanted, page.limit + 1, audience)
    return listed(request, "jobs", whole(found, page.limit))


def _filter(request: Request, page: Page) -> JobFilter:
    """What the list is narrowed by. Raises BadRequest for what can be no value of it."""
    query = request.query_params
    for name, known in CHOICES.items():
        if query.get(name) is not None and query[name] not in known:
            raise BadRequest(f"{name} must be one of {', '.join(known)}, not {query[name][:80]!r}")
    for name in ("route", "key"):
        if query.get(name) is not None and not ID.fullmatch(query[name]):
            raise BadRequest(f"{name} is no name of a {name}")
    tags = {match[1]: value for name, value in query.multi_items() if (match := _TAG.fullmatch(name))}
    if len(tags) > TAGS_MAX or not all(is_plain(text) for pair in tags.items() for text in pair):
        raise BadRequest(f"metadata[name]=value must be at most {TAGS_MAX} tags of plain text")
    return JobFilter(
        before=page.after_id,
        status=query.get("status"),
        route=query.get("route"),
        media=query.get("media"),
        key_id=query.get("key"),
        created_after=instant(query.get("created_after"), None),
        created_before=instant(query.get("created_before"), None),
        tags=tags,
    )


def _page(
    connection: Connection, team_id: str, wanted: JobFilter, limit: int, audience: Audience
) -> list[dict[str, Any]]:
    jobs = listing.list_jobs(connection, team_id, wanted, limit)
    tries = listing.attempts_of(connection, [job.id for job in jobs])
    return [job_json(job, tries[job.id], audience) for job in jobs]


async def get_content(request: Request, service: Service) -> Response:
    """The finished file, whole or in part."""
    caller = await caller_of(request, service)
    number = request.query_params.get("file", "0")
    if not FILE_NUMBER.match(number):
        raise BadRequest(f"file must be a number, counted from 0, not {number[:80]!r}")
    job, _ = await service.parts.store.read(load_job, request.path_params["job_id"], caller.team_id)
    return await result_file(request, service, job, number)


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
    """Ask for a job to be stopped: 202. What a vendor has accepted and cannot stop runs to its end and is billed.

    The reply tells all of the job, so a key that may not read cancels only what it asked for itself.
    """
    caller = await caller_of(request, service)
    job_id = request.path_params["job_id"]
    job, _ = await service.parts.store.read(load_job, job_id, caller.team_id)
    if job.key_id != caller.key_id:
        check_scope(caller, Scope.READ, "to cancel a job that another key asked for")
    if job.status in TERMINAL:
        raise Conflict(f"the job has ended: {job.status}")
    await service.dispatcher.cancel(job_id)
    _, response = await show_job(service, job_id, hold_of(request))
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
