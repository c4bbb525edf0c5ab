"""An operator's word on attempts in doubt."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

WIDE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "rulings",
        sa.Column("attempt_id", sa.String(40), nullable=False),
        sa.Column("doubt", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("who", sa.String(120), nullable=False),
        sa.Column("why", sa.String(500), nullable=False),
        sa.Column("token", sa.Text(), nullable=True),
        sa.Column("charged_micros", WIDE, nullable=True),
        sa.CheckConstraint(
            "verdict IN ('accepted', 'not_accepted', 'charged', 'lost')", name=op.f("ck_rulings_verdict")
        ),
        sa.CheckConstraint("(verdict = 'accepted') = (token IS NOT NULL)", name=op.f("ck_rulings_token")),
        sa.CheckConstraint("(verdict = 'charged') = (charged_micros IS NOT NULL)", name=op.f("ck_rulings_charged")),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_rulings_attempt_id_attempts")),
        sa.PrimaryKeyConstraint("attempt_id", "doubt", name=op.f("pk_rulings")),
    )


def downgrade() -> None:
    """Take it away again."""
    op.drop_table("rulings")
