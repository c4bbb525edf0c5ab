"""Teams can be deleted; windows of holds lose an index that no query used and every admission wrote."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

INDEX = "ix_hold_budgets_budget_id_starts_at"


def upgrade() -> None:
    """Add the column, drop the index."""
    op.add_column("teams", sa.Column("deleted_at", sa.Float(), nullable=True))
    op.drop_index(INDEX, table_name="hold_budgets")


def downgrade() -> None:
    """Make the index again, take the column away."""
    op.create_index(INDEX, "hold_budgets", ["budget_id", "starts_at"], unique=False)
    op.drop_column("teams", "deleted_at")
