"""A team's jobs, newest first, narrowed: every condition stands in an index, and texts are compared whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Connection, select

from gateway.ids import first_id_at
from gateway.store.jobs import Attempt, Job, attempt_of, job_of
from gateway.store.schema import attempts, job_tags, jobs

# An id is drawn a moment before or after the time that its job says it was made at.
DRAWN_APART_S = 60.0


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which of a team's jobs; None is any. `before` is the id that a page begins after, times are unix seconds."""

    before: str | None = None
    status: str | None = None
    route: str | None = None
    media: str | None = None
    key_id: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def list_jobs(connection: Connection, team_id: str, wanted: JobFilter, limit: int) -> list[Job]:
    """A team's jobs that the filter lets through, newest first (ids sort by time)."""
    equal = {
        jobs.c.status: wanted.status,
        jobs.c.route: wanted.route,
        jobs.c.media: wanted.media,
        jobs.c.key_id: wanted.key_id,
    }
    conditions: list[ColumnElement[bool]] = [jobs.c.team_id == team_id]
    conditions += [column == value for column, value in equal.items() if value is not None]
    if wanted.before is not None:
        conditions.append(jobs.c.id < wanted.before)
    if wanted.created_after is not None:
        conditions.append(jobs.c.created_at >= wanted.created_after)
        conditions.append(jobs.c.id >= first_id_at("job", wanted.created_after - DRAWN_APART_S))
    if wanted.created_before is not None:
        conditions.append(jobs.c.created_at < wanted.created_before)
        conditions.append(jobs.c.id < first_id_at("job", wanted.created_before + DRAWN_APART_S))
    for name, value in wanted.tags.items():
        tagged = select(job_tags.c.job_id).where(
            job_tags.c.team_id == team_id, job_tags.c.name == name, job_tags.c.value == value
        )
        conditions.append(jobs.c.id.in_(tagged))
    rows = connection.execute(select(jobs).where(*conditions).order_by(jobs.c.id.desc()).limit(limit))
    return [job_of(row) for row in rows.mappings()]


def attempts_of(connection: Connection, job_ids: list[str]) -> dict[str, list[Attempt]]:
    """The attempts of each of these jobs, first one first."""
    found: dict[str, list[Attempt]] = {job_id: [] for job_id in job_ids}
    query = select(attempts).where(attempts.c.job_id.in_(job_ids)).order_by(attempts.c.number)
    for row in connection.execute(query).mappings():
        found[row["job_id"]].append(attempt_of(row))
    return found
