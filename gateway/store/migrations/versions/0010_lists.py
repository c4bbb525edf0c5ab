"""What lists of jobs are narrowed by: an index for each, and the callers' own tags as rows."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

BY = {"id": (), "status": ("status",), "route": ("route",), "key": ("key_id",)}
ROWS_AT_ONCE = 1000


def upgrade() -> None:
    """Make the indexes and the table, and fill it from what the jobs say."""
    op.create_table(
        "job_tags",
        sa.Column("job_id", sa.String(40), nullable=False),
        sa.Column("team_id", sa.String(40), nullable=False),
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("value", sa.String(200), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_tags_job_id_jobs")),
        sa.PrimaryKeyConstraint("job_id", "name", name=op.f("pk_job_tags")),
    )
    op.create_index("ix_job_tags_team", "job_tags", ["team_id", "name", "value", "job_id"])
    _fill(op.get_bind())
    for name, columns in BY.items():
        op.create_index(f"ix_jobs_team_{name}", "jobs", ["team_id", *columns, "id"])


def _fill(connection: sa.Connection) -> None:
    """A row for each tag of each job; what no database column can hold stays in the request alone."""
    query = sa.text(
        "SELECT id, team_id, CAST(request AS TEXT) AS request FROM jobs WHERE id > :last ORDER BY id LIMIT :n"
    )
    insert = sa.text("INSERT INTO job_tags (job_id, team_id, name, value) VALUES (:job_id, :team_id, :name, :value)")
    last = ""
    while rows := connection.execute(query, {"last": last, "n": ROWS_AT_ONCE}).all():
        tags = [
            {"job_id": row.id, "team_id": row.team_id, "name": name, "value": value}
            for row in rows
            for name, value in (json.loads(row.request).get("metadata") or {}).items()
            if _is_storable(name) and _is_storable(value)
        ]
        if tags:
            connection.execute(insert, tags)
        last = rows[-1].id


def _is_storable(text: str) -> bool:
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def downgrade() -> None:
    """Take them away again."""
    for name in BY:
        op.drop_index(f"ix_jobs_team_{name}", table_name="jobs")
    op.drop_table("job_tags")
