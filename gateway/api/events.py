"""`GET /jobs/{id}/events`: a job's story as server-sent events, to be followed and taken up again on any replica."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

from sse_starlette.event import ServerSentEvent
from sse_starlette.sse import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.auth import audience_for, caller_of, hold_of
from gateway.api.prefer import load_job, progress_shown
from gateway.api.story import Place, place_of, story
from gateway.jobs import TERMINAL
from gateway.service import Service

PING_S = 15.0
# Less than the server gives its open connections.
STOP_GRACE_S = 2.0


@dataclass(slots=True)
class Stop:
    """What the server sets when it stops: the stream that waits for `event` is woken, and ends."""

    asked: bool = False
    event: asyncio.Event | None = None

    def set(self) -> None:
        """Ask the stream to end."""
        self.asked = True
        if self.event is not None:
            self.event.set()


async def job_events(request: Request, service: Service) -> Response:
    """Everything that has happened since `Last-Event-ID`, then what happens, until the job has ended.

    Between them stand `progress` events, which have no id, and a comment at least every 15 s.
    """
    caller = await caller_of(request, service)
    job_id = request.path_params["job_id"]
    # Another team's job is not found, before anything is sent.
    await service.parts.store.read(load_job, job_id, caller.team_id)
    after, stop = place_of(request.headers.get("last-event-id")), Stop()
    told = _follow(request, service, after, stop)
    stop_word = cast("Any", stop)
    stream = EventSourceResponse(told, ping=PING_S, shutdown_event=stop_word, shutdown_grace_period=STOP_GRACE_S)
    return stream if request.method != "HEAD" else _headers_of(stream)


def _headers_of(stream: Response) -> Response:
    """What a stream begins with, without waiting for its end; it has no length."""
    head = Response(headers=dict(stream.headers))
    del head.headers["content-length"]
    return head


async def _follow(request: Request, service: Service, after: Place, stop: Stop) -> AsyncIterator[ServerSentEvent]:
    """The stream; a server that stops ends it in good order, and the client goes on at another one.

    It ends with its key too: who asks again is told why.
    """
    clock, bus, shown, job_id = service.parts.clock, service.parts.bus, None, request.path_params["job_id"]
    look_at, hold = clock.now(), hold_of(request)
    with bus.listen("job", job_id) as event:
        stop.event = event
        hold.wakes(event)
        while not (stop.asked or hold.ended):
            if event.is_set() or clock.now() >= look_at:
                event.clear()
                job, attempts = await service.parts.store.read(load_job, job_id, hold.caller.team_id)
                for line in story(job, attempts, audience_for(hold.caller, service)):
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
                look_at = clock.now() + min(PING_S, math.inf if here else bus.recheck_s)
            await clock.wait(event, look_at - clock.now())
