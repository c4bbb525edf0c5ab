"""A job's story as events in a fixed order, and how it stands, both from its rows alone. Pure.

Every replica tells the same events under the same ids, `attempt.line`, beginning with 0.0. Lines are only ever added,
so an id says how far somebody has read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.api.shown import event_json, job_json, rfc3339
from gateway.audience import Audience
from gateway.jobs import TERMINAL, AttemptState, JobStatus
from gateway.store.jobs import Attempt, Job, open_attempt

Place = tuple[int, int]
BEFORE_ALL: Place = (-1, 0)
END: Place = (1_000_000_000, 0)
END_ID = "end"
_PLACE = re.compile(r"^(\d{1,9})\.(\d{1,9})$", re.ASCII)
_STAGES = {AttemptState.ACCEPTED: "rendering", AttemptState.IN_DOUBT: "in_doubt"}


@dataclass(frozen=True, slots=True)
class Line:
    """One event of a story; `name` is created, started, submit, accepted, retry, in_doubt, failed, …, ended."""

    place: Place
    name: str
    data: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Its place as text."""
        return END_ID if self.place == END else f"{self.place[0]}.{self.place[1]}"


def place_of(event_id: str | None) -> Place:
    """How far the holder of this id has read; one that is none of ours begins at the beginning."""
    if event_id == END_ID:
        return END
    match = _PLACE.match(event_id or "")
    return (int(match.group(1)), int(match.group(2))) if match else BEFORE_ALL


def story(job: Job, attempts: Sequence[Attempt], audience: Audience) -> Iterator[Line]:
    """Everything that has happened to a job, in order, as far as its audience may know."""
    yield Line(
        (0, 0), "created", {"job": job.id, "at": rfc3339(job.created_at), "deadline_at": rfc3339(job.deadline_at)}
    )
    for attempt in attempts:
        where = {"job": job.id, "attempt": attempt.number, "route": attempt.route}
        for index, event in enumerate(attempt.events):
            shown = event_json(event)
            what = str(shown.pop("what"))
            name = "started" if index == 0 and what == "submit" else what
            yield Line((attempt.number, index), name, {**where, **shown})
    if job.status in TERMINAL:
        shown = job_json(job, attempts, audience)
        told = {name: shown[name] for name in ("status", "route", "bill", "error", "links")}
        yield Line(END, "ended", {"job": job.id, "at": shown["finished_at"], **told})


def progress_of(job: Job, attempts: Sequence[Attempt], now: float) -> dict[str, Any]:
    """How a job stands as far as its rows tell: what is shown of one that another replica drives."""
    attempt = open_attempt(attempts)
    if job.parked_at is not None and job.status not in TERMINAL:
        return standing("parked", why="it broke whatever drove it, and waits for an operator")
    if job.status in TERMINAL or job.status is JobStatus.QUEUED:
        return standing(job.status)
    if attempt is None:
        return standing("routing")
    if attempt.state is AttemptState.PREPARED:
        return _between_submits(attempt) if attempt.sent_at is None else standing("submitting")
    left_s = None
    if attempt.state is AttemptState.ACCEPTED and attempt.eta_s is not None:
        left_s = max(0.0, (attempt.accepted_at or attempt.prepared_at) + attempt.eta_s - now)
    return standing(_STAGES.get(attempt.state, job.status), left_s)


def _between_submits(attempt: Attempt) -> dict[str, Any]:
    last = attempt.events[-1] if attempt.events else {}
    return standing("retrying", why=f"{attempt.route}: {last.get('detail', '')}", until=last.get("again_at"))


def standing(
    stage: str,
    eta_s: float | None = None,
    *,
    fraction: float | None = None,
    why: str = "",
    until: float | None = None,
) -> dict[str, Any]:
    """How a job stands, as a client sees it; while it waits with why, and until when that is expected to last."""
    shown = {"stage": stage, "fraction": fraction, "eta_s": eta_s}
    return shown | {"reason": why, "until": rfc3339(until)} if why else shown
