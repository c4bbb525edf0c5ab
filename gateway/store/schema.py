"""The tables of the service: teams, keys, jobs, attempts, and the rulings on them. Money stands in schema_money.py."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.types import TypeEngine

from gateway.jobs import AttemptState, JobStatus
from gateway.store.metadata import metadata

# Money and seeds need more than 32 bits; SQLite's integers have 64 by any name.
Whole: TypeEngine[int] = BigInteger().with_variant(Integer(), "sqlite")


def _one_of(column: str, values: type[JobStatus] | type[AttemptState]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(value.value) for value in values)})", name=column)


# A deleted team's row stays, because the books name it; so does its name.
teams = Table(
    "teams",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(120), nullable=False, unique=True),
    Column("timezone", String(64), nullable=False, server_default="UTC"),
    Column("plan", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("deleted_at", Float),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("team_id", String(40), ForeignKey("teams.id"), nullable=False, index=True),
    Column("name", String(120), nullable=False),
    Column("prefix", String(16), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("old_hash", String(64), unique=True),
    Column("old_until", Float),
    Column("grants", JSON, nullable=False),
    Column("scopes", String(120), nullable=False, server_default="billing generate read"),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
)

# `request` is what the caller wrote and what it became, `plan` the ranking that was used, `result` the finished files.
# `lease_owner`, `lease_until` and `fence` say which process drives it: every write of the engine carries the fence.
# `trace` is the span of the request that it came with (W3C `traceparent`): whoever drives it goes on in that trace.
# `crashes` counts the drivers that broke on it since it last came a step on; with too many it is parked (parking.py).
jobs = Table(
    "jobs",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("team_id", String(40), ForeignKey("teams.id"), nullable=False),
    Column("key_id", String(40), ForeignKey("keys.id"), nullable=False),
    Column("media", String(8), nullable=False),
    Column("status", String(12), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("deadline_at", Float, nullable=False),
    Column("give_up_at", Float, nullable=False),
    Column("hold_id", String(40), nullable=False, unique=True),
    Column("held_micros", Whole, nullable=False),
    Column("request", JSON, nullable=False),
    Column("parameters", JSON, nullable=False),
    Column("input", JSON, nullable=False),
    Column("plan", JSON, nullable=False),
    Column("replans", JSON, nullable=False),
    Column("route", String(80)),
    Column("receipt", JSON, nullable=False),
    Column("result", JSON),
    Column("error", JSON),
    Column("bill", JSON),
    Column("cancel_requested_at", Float),
    Column("due_at", Float, nullable=False),
    Column("lease_owner", String(40)),
    Column("lease_until", Float),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("crashes", Integer, nullable=False, server_default="0"),
    Column("parked_at", Float),
    Column("trace", String(55)),
    _one_of("status", JobStatus),
    CheckConstraint("(status IN ('queued', 'running')) = (finished_at IS NULL)", name="finished"),
)
Index("ix_jobs_team_created", jobs.c.team_id, jobs.c.created_at)
Index(
    "ix_jobs_active",
    jobs.c.due_at,
    sqlite_where=text("status IN ('queued', 'running')"),
    postgresql_where=text("status IN ('queued', 'running')"),
)

# What lists are narrowed by, in the order of the ids that they are read in.
for _name, _columns in {
    "id": (),
    "status": (jobs.c.status,),
    "route": (jobs.c.route,),
    "key": (jobs.c.key_id,),
}.items():
    Index(f"ix_jobs_team_{_name}", jobs.c.team_id, *_columns, jobs.c.id)

# The caller's own tags, which also stand in the job's request: rows, so that jobs are found by them.
job_tags = Table(
    "job_tags",
    metadata,
    Column("job_id", String(40), ForeignKey("jobs.id"), primary_key=True),
    Column("team_id", String(40), nullable=False),
    Column("name", String(40), primary_key=True),
    Column("value", String(200), nullable=False),
)
Index("ix_job_tags_team", job_tags.c.team_id, job_tags.c.name, job_tags.c.value, job_tags.c.job_id)

# `wire` is what the vendor is sent, without picture and credentials; `events` is the story of the attempt in order.
attempts = Table(
    "attempts",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("job_id", String(40), ForeignKey("jobs.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("route", String(80), nullable=False),
    Column("account", String(40), nullable=False),
    Column("size_class", String(40), nullable=False),
    Column("state", String(12), nullable=False),
    Column("prepared_at", Float, nullable=False),
    Column("sent_at", Float),
    Column("accepted_at", Float),
    Column("finished_at", Float),
    Column("submits", Integer, nullable=False, server_default="0"),
    Column("wire", JSON, nullable=False),
    Column("price_micros", Whole, nullable=False),
    Column("token", JSON),
    Column("eta_s", Float),
    Column("events", JSON, nullable=False),
    Column("failure_kind", String(24)),
    Column("failure_detail", String(500)),
    Column("vendor_request_id", String(120), index=True),
    Column("credits_before_micros", Whole),
    Column("cost_micros", Whole),
    Column("cost_source", String(24)),
    Column("seed", Whole),
    Column("model", String(80)),
    _one_of("state", AttemptState),
    CheckConstraint("(state IN ('succeeded', 'failed')) = (finished_at IS NOT NULL)", name="finished"),
)
Index("uq_attempts_job_number", attempts.c.job_id, attempts.c.number, unique=True)
# What a lost submit is told from, and what the router's memory begins with.
Index("ix_attempts_account_prepared", attempts.c.account, attempts.c.prepared_at)
Index("ix_attempts_finished", attempts.c.finished_at)
# At most one try of a job may be under way: a second one is never started beside it.
Index(
    "uq_attempts_one_open",
    attempts.c.job_id,
    unique=True,
    sqlite_where=text("state IN ('prepared', 'accepted', 'in_doubt')"),
    postgresql_where=text("state IN ('prepared', 'accepted', 'in_doubt')"),
)

# An operator's word on an attempt in doubt, once for each doubt: what became of the submit, who says so, and why.
rulings = Table(
    "rulings",
    metadata,
    Column("attempt_id", String(40), ForeignKey("attempts.id"), primary_key=True),
    Column("doubt", Integer, primary_key=True),
    Column("verdict", String(16), nullable=False),
    Column("at", Float, nullable=False),
    Column("who", String(120), nullable=False),
    Column("why", String(500), nullable=False),
    Column("token", Text),
    Column("charged_micros", Whole),
    CheckConstraint("verdict IN ('accepted', 'not_accepted', 'charged', 'lost')", name="verdict"),
    CheckConstraint("(verdict = 'accepted') = (token IS NOT NULL)", name="token"),
    CheckConstraint("(verdict = 'charged') = (charged_micros IS NOT NULL)", name="charged"),
)
