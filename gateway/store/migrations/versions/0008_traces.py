"""The trace in which a job is done, and in which its events are sent."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the columns; what there is has no trace."""
    op.add_column("jobs", sa.Column("trace", sa.String(55), nullable=True))
    op.add_column("events", sa.Column("trace", sa.Text(), nullable=True))


def downgrade() -> None:
    """Take them away again."""
    op.drop_column("events", "trace")
    op.drop_column("jobs", "trace")
