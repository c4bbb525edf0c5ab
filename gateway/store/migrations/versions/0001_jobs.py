"""Teams, keys, jobs and attempts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

WIDE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables, each after those it refers to."""
    _teams()
    _keys()
    _jobs()
    _attempts()


def downgrade() -> None:
    """Take them away again."""
    for table in (
        "attempts",
        "jobs",
        "keys",
        "teams",
    ):
        op.drop_table(table)


def _teams() -> None:
    op.create_table(
        "teams",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("timezone", sa.String(length=64), server_default="UTC", nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_teams")),
        sa.UniqueConstraint("name", name=op.f("uq_teams_name")),
    )


def _keys() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("team_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("old_hash", sa.String(length=64), nullable=True),
        sa.Column("old_until", sa.Float(), nullable=True),
        sa.Column("grants", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("revoked_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_keys_team_id_teams")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keys")),
        sa.UniqueConstraint("hash", name=op.f("uq_keys_hash")),
        sa.UniqueConstraint("old_hash", name=op.f("uq_keys_old_hash")),
    )
    op.create_index(op.f("ix_keys_team_id"), "keys", ["team_id"], unique=False)


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("team_id", sa.String(length=40), nullable=False),
        sa.Column("key_id", sa.String(length=40), nullable=False),
        sa.Column("media", sa.String(length=8), nullable=False),
        sa.Column("status", sa.String(length=12), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=True),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.Column("deadline_at", sa.Float(), nullable=False),
        sa.Column("give_up_at", sa.Float(), nullable=False),
        sa.Column("hold_id", sa.String(length=40), nullable=False),
        sa.Column("held_micros", WIDE, nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("input", sa.JSON(), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("replans", sa.JSON(), nullable=False),
        sa.Column("route", sa.String(length=80), nullable=True),
        sa.Column("receipt", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("bill", sa.JSON(), nullable=True),
        sa.Column("cancel_requested_at", sa.Float(), nullable=True),
        sa.Column("due_at", sa.Float(), nullable=False),
        sa.Column("lease_owner", sa.String(length=40), nullable=True),
        sa.Column("lease_until", sa.Float(), nullable=True),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint("(status IN ('queued', 'running')) = (finished_at IS NULL)", name=op.f("ck_jobs_finished")),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'failed', 'canceled', 'expired')", name=op.f("ck_jobs_status")
        ),
        sa.ForeignKeyConstraint(["key_id"], ["keys.id"], name=op.f("fk_jobs_key_id_keys")),
        sa.ForeignKeyConstraint(["team_id"], ["teams.id"], name=op.f("fk_jobs_team_id_teams")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("hold_id", name=op.f("uq_jobs_hold_id")),
    )
    op.create_index(
        "ix_jobs_active",
        "jobs",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("status IN ('queued', 'running')"),
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )
    op.create_index("ix_jobs_team_created", "jobs", ["team_id", "created_at"], unique=False)


def _attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("route", sa.String(length=80), nullable=False),
        sa.Column("account", sa.String(length=40), nullable=False),
        sa.Column("size_class", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("prepared_at", sa.Float(), nullable=False),
        sa.Column("sent_at", sa.Float(), nullable=True),
        sa.Column("accepted_at", sa.Float(), nullable=True),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.Column("submits", sa.Integer(), server_default="0", nullable=False),
        sa.Column("wire", sa.JSON(), nullable=False),
        sa.Column("price_micros", WIDE, nullable=False),
        sa.Column("token", sa.JSON(), nullable=True),
        sa.Column("eta_s", sa.Float(), nullable=True),
        sa.Column("events", sa.JSON(), nullable=False),
        sa.Column("failure_kind", sa.String(length=24), nullable=True),
        sa.Column("failure_detail", sa.String(length=500), nullable=True),
        sa.Column("vendor_request_id", sa.String(length=120), nullable=True),
        sa.Column("credits_before_micros", WIDE, nullable=True),
        sa.Column("cost_micros", WIDE, nullable=True),
        sa.Column("cost_source", sa.String(length=24), nullable=True),
        sa.Column("seed", WIDE, nullable=True),
        sa.Column("model", sa.String(length=80), nullable=True),
        sa.CheckConstraint(
            "(state IN ('succeeded', 'failed')) = (finished_at IS NOT NULL)", name=op.f("ck_attempts_finished")
        ),
        sa.CheckConstraint(
            "state IN ('prepared', 'accepted', 'in_doubt', 'succeeded', 'failed')", name=op.f("ck_attempts_state")
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_attempts_job_id_jobs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
    )
    op.create_index(op.f("ix_attempts_vendor_request_id"), "attempts", ["vendor_request_id"], unique=False)
    op.create_index("uq_attempts_job_number", "attempts", ["job_id", "number"], unique=True)
    op.create_index(
        "uq_attempts_one_open",
        "attempts",
        ["job_id"],
        unique=True,
        sqlite_where=sa.text("state IN ('prepared', 'accepted', 'in_doubt')"),
        postgresql_where=sa.text("state IN ('prepared', 'accepted', 'in_doubt')"),
    )
