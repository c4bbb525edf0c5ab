"""`GET /jobs/{id}/events`: a job's story as server-sent events, to be followed and taken up again on any replica."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator

from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.auth import audience_for, caller_of
from gateway.api.prefer import load_job, progress_shown
from gateway.api.story import Place, place_of, story
from gateway.jobs import TERMINAL
from gateway.problems import Unauthorized
from gateway.service import Service

PING_S = 15.0


async def job_events(request: Request, service: Service) -> Response:
    """Everything that has happened since `Last-Event-ID`, then what happens, until the job has ended.

    Between them stand `progress` events, which have no id, and a comment at least every 15 s.
    """
    caller = await caller_of(request, service)
    job_id = request.path_params["job_id"]
    await service.parts.store.read(
        load_job, job_id, caller.team_id
    )  # another team's is not found, before anything is sent
    after = place_of(request.headers.get("last-event-id"))
    return EventSourceResponse(_follow(request, service, job_id, after), ping=PING_S)


async def _follow(request: Request, service: Service, job_id: str, after: Place) -> AsyncIterator[ServerSentEvent]:
    clock, bus, shown = service.parts.clock, service.parts.bus, None
    with bus.listen("job", job_id) as event:
        while True:
            event.clear()
            try:
                caller = await caller_of(request, service)
            except Unauthorized:  # the key was revoked while its holder listened
                return
            job, attempts = await service.parts.store.read(load_job, job_id, caller.team_id)
            for line in story(job, attempts, audience_for(caller, service)):
                if line.place > after:
                    after = line.place
                    yield ServerSentEvent(json.dumps(line.data), event=line.name, id=line.id)
            if job.status in TERMINAL:
                return
            progress = progress_shown(service, job, attempts)
            if progress != shown:
                shown = progress
                yield ServerSentEvent(json.dumps(progress), event="progress")
            here = service.dispatcher.run_of(job_id) is not None
            await clock.wait(event, min(PING_S, math.inf if here else bus.recheck_s))
