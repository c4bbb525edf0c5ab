"""`Prefer: wait=N` and `respond-async` (RFC 7240): hold the line for the end of a job, and say what was honoured."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.auth import audience_for
from gateway.api.inline import document_with_files
from gateway.api.shown import job_json, reply_headers
from gateway.api.story import progress_of, standing
from gateway.holds import Hold
from gateway.jobs import TERMINAL
from gateway.problems import NotFound
from gateway.service import Service
from gateway.store import jobs as rows

ACCEPTED = 202
# A preference with its value, bare or quoted, and parameters that nobody needs; commas in quotes part nothing. It gives
# nothing back once read (`++`), and reads no more than so much: what does not match would else be tried at every place.
_ONE = re.compile(
    r'\s*+([!#$%&*+.^_`|~0-9A-Za-z\'-]++)\s*+(?:=\s*+("(?:[^"\\]|\\.)*+"|[^\s,;"]*+))?\s*+(?:;[^,]*+)?(?:,|$)'
)
PREFER_CHARACTERS_MAX = 1024
_SECONDS = re.compile(r"^\d{1,9}$", re.ASCII)


@dataclass(frozen=True, slots=True)
class Preference:
    """How long the caller will wait (seconds, capped by the server), and whether it rather comes again.

    `wait` is None where nothing was said of waiting.
    """

    wait: float | None
    is_async: bool

    @property
    def wait_s(self) -> float:
        """How long to hold the line."""
        return self.wait or 0.0

    def applied(self, response: Response) -> Response:
        """The response with `Preference-Applied`, where something was; `respond-async` was where it is a 202."""
        said = ["respond-async"] if self.is_async and response.status_code == ACCEPTED else []
        said += [f"wait={self.wait:g}"] if self.wait is not None else []
        if said:
            response.headers["Preference-Applied"] = ", ".join(said)
        response.headers.add_vary_header("Accept")
        response.headers.add_vary_header("Prefer")
        return response


def preference_of(request: Request, wait_s_max: float) -> Preference:
    """Read every Prefer header (RFC 7240): of a repeated preference the first counts, unknown ones are ignored.

    Preferences beyond 1,024 characters in all are ignored as well, every one of them.
    """
    wishes: dict[str, str] = {}
    given = request.headers.getlist("prefer")
    for header in given if sum(map(len, given)) <= PREFER_CHARACTERS_MAX else ():
        for match in _ONE.finditer(header):
            wishes.setdefault(match[1].lower(), (match[2] or "").strip('"'))
    asked = wishes.get("wait", "")
    wait = min(float(asked), wait_s_max) if _SECONDS.match(asked) else None
    return Preference(wait, "respond-async" in wishes)


async def show_job(service: Service, job_id: str, hold: Hold) -> tuple[rows.Job, Response]:
    """A job as it stands, for its own team. Raises NotFound."""
    job, attempts = await service.parts.store.read(load_job, job_id, hold.caller.team_id)
    return job, await _document(service, hold, job, attempts)


async def wait_for(service: Service, job_id: str, hold: Hold, wait_s: float) -> tuple[rows.Job, Response]:
    """The job once it has ended, or as it stands when this time is over. Raises the problem of a key that has ended."""
    clock, bus = service.parts.clock, service.parts.bus
    until = clock.now() + wait_s
    with bus.listen("job", job_id) as event:
        hold.wakes(event)
        while True:
            event.clear()
            hold.check()
            job, attempts = await service.parts.store.read(load_job, job_id, hold.caller.team_id)
            if job.status in TERMINAL or clock.now() >= until:
                return job, await _document(service, hold, job, attempts)
            # A job that is driven elsewhere may end without a word reaching here: look again now and then.
            patience_s = math.inf if service.dispatcher.run_of(job_id) is not None else bus.recheck_s
            await clock.wait(event, min(until - clock.now(), patience_s))


async def _document(service: Service, hold: Hold, job: rows.Job, attempts: Sequence[rows.Attempt]) -> Response:
    shown = job_json(job, attempts, audience_for(hold.caller, service), progress_shown(service, job, attempts))
    headers = reply_headers(job, len(attempts))
    if job.status in TERMINAL and job.result is not None and job.parameters.get("output") == "inline":
        artifacts, most = service.parts.delivery.artifacts, service.parts.settings.server.inline_bytes_max
        return await document_with_files(artifacts, shown, hold=hold, headers=headers, bytes_max=most)
    return Response(json.dumps(shown), headers=headers, media_type="application/json")


def progress_shown(service: Service, job: rows.Job, attempts: Sequence[rows.Attempt]) -> dict[str, Any]:
    """How a job stands: as its driver knows when it is driven here, else as its rows tell."""
    run = service.dispatcher.run_of(job.id)
    if run is not None and job.status not in TERMINAL:
        return standing(run.stage, run.eta_s, fraction=run.progress, why=run.why, until=run.until)
    return progress_of(job, attempts, service.parts.clock.now())


def load_job(connection: Connection, job_id: str, team_id: str) -> tuple[rows.Job, list[rows.Attempt]]:
    """A job of this team with its attempts. Raises NotFound."""
    job = rows.load_job(connection, job_id, team_id)
    if job is None:
        raise NotFound(f"there is no job {job_id}")
    return job, rows.load_attempts(connection, job_id)
