"""What is read of attempts and of suspense while the service runs is found by an index, however long the history is."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Make the indexes; the one of suspense is over those entries alone."""
    op.create_index("ix_attempts_account_prepared", "attempts", ["account", "prepared_at"])
    op.create_index("ix_attempts_finished", "attempts", ["finished_at"])
    suspended = sa.text("kind = 'suspend'")
    op.create_index("ix_entries_suspended", "entries", ["at"], sqlite_where=suspended, postgresql_where=suspended)


def downgrade() -> None:
    """Take them away again."""
    op.drop_index("ix_entries_suspended", table_name="entries")
    op.drop_index("ix_attempts_finished", table_name="attempts")
    op.drop_index("ix_attempts_account_prepared", table_name="attempts")
