"""Jobs that break their drivers: how often one did, and since when it is parked."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns; whatever there is has never crashed."""
    op.add_column("jobs", sa.Column("crashes", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("parked_at", sa.Float(), nullable=True))


def downgrade() -> None:
    """Take them away again."""
    op.drop_column("jobs", "parked_at")
    op.drop_column("jobs", "crashes")
