"""Which deliveries an endpoint is sent next and how many it is being sent: by index, among any number that wait."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

TURN, LEASED = "ix_webhook_deliveries_turn", "ix_webhook_deliveries_leased"


def upgrade() -> None:
    """Make both indexes, over what waits and over what is being sent alone."""
    waits, leased = sa.text("state = 'pending'"), sa.text("lease_until IS NOT NULL")
    columns = ["webhook_id", "due_at"]
    op.create_index(TURN, "webhook_deliveries", columns, sqlite_where=waits, postgresql_where=waits)
    op.create_index(LEASED, "webhook_deliveries", ["webhook_id"], sqlite_where=leased, postgresql_where=leased)


def downgrade() -> None:
    """Take them away again."""
    op.drop_index(LEASED, table_name="webhook_deliveries")
    op.drop_index(TURN, table_name="webhook_deliveries")
