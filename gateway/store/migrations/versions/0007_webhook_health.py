"""Since when an endpoint fails, and until when it is left alone."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

SECONDS: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    """Add the columns; every endpoint is taken to be well."""
    op.add_column("webhooks", sa.Column("failing_since", SECONDS, nullable=True))
    op.add_column("webhooks", sa.Column("paused_until", SECONDS, nullable=True))


def downgrade() -> None:
    """Take them away again."""
    op.drop_column("webhooks", "paused_until")
    op.drop_column("webhooks", "failing_since")
