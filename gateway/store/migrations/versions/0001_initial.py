"""The first schema: teams, keys, jobs, attempts, money and events."""

from alembic import op

from gateway.store import schema, schema_events, schema_money  # noqa: F401
from gateway.store.metadata import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table of the metadata."""
    metadata.create_all(op.get_bind())


def downgrade() -> None:
    """Take them away again."""
    metadata.drop_all(op.get_bind())
