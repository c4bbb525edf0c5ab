"""Links to finished files that carry their own permission: made for a time by a key, followed without one."""

from __future__ import annotations

import json
import re

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.auth import caller_of
from gateway.api.bodies import Body, read_model
from gateway.api.files import result_file
from gateway.api.prefer import load_job
from gateway.api.shown import rfc3339
from gateway.problems import Gone, NotFound
from gateway.service import Service
from gateway.store import jobs as rows

TTL_S_MAX = 7 * 86_400
_EPOCH = re.compile(r"^\d{1,12}$", re.ASCII)


class LinkBody(Body):
    """Which file a link leads to, and for how many seconds; as long as usual when nothing is said."""

    file: int = Field(0, ge=0, le=999, strict=True)
    ttl_s: int | None = Field(None, ge=60, le=TTL_S_MAX, strict=True)


async def make_link(request: Request, service: Service) -> Response:
    """A link to a finished file, for whoever has it, until its time is over. Nothing can take it back sooner."""
    caller = await caller_of(request, service)
    job_id = request.path_params["job_id"]
    job, _ = await service.parts.store.read(load_job, job_id, caller.team_id)
    wanted = await read_model(request, LinkBody)
    await result_file(request, service, job, str(wanted.file))  # refused here, where its team can be told why
    ttl_s = service.parts.settings.security.link_ttl_s if wanted.ttl_s is None else wanted.ttl_s
    expires_at = int(service.parts.clock.now() + ttl_s)
    url = service.parts.inputs.links.result_url(job.id, wanted.file, expires_at)
    shown = {"url": url, "file": wanted.file, "expires_at": rfc3339(expires_at)}
    return Response(json.dumps(shown), 201, {"location": url}, "application/json")


async def follow_link(request: Request, service: Service) -> Response:
    """The file behind a signed link. A changed one leads nowhere, one that is over says so."""
    job_id, number = request.path_params["job_id"], request.path_params["number"]
    expires, signature = (request.query_params.get(name, "") for name in ("expires", "signature"))
    links = service.parts.inputs.links
    if not _EPOCH.match(expires) or not links.verify(signature, "result", job_id, number, int(expires)):
        raise NotFound("there is nothing at this address")
    if service.parts.clock.now() > int(expires):
        raise Gone("this link has ended")
    job = await service.parts.store.read(rows.load_job, job_id)
    if job is None:
        raise Gone("the job is no longer there")
    return await result_file(request, service, job, number)
