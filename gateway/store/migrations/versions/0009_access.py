"""What a key is for, and what administrators did."""

import sqlalchemy as sa
from alembic import op

from gateway.store.triggers_money import create_triggers, drop_functions

revision = "0009"
down_revision = "0008"

SECONDS: sa.types.TypeEngine[float] = sa.Double().with_variant(sa.REAL(), "sqlite")
# What every key could do before there were scopes.
USUAL = "billing generate read"
RULES = (
    ("audit", "audit_no_update", "UPDATE", "", "audit is append-only"),
    ("audit", "audit_no_delete", "DELETE", "", "audit is append-only"),
)


def upgrade() -> None:
    """Add the column, make the table; every key goes on as before."""
    op.add_column("keys", sa.Column("scopes", sa.String(120), server_default=USUAL, nullable=False))
    op.create_table(
        "audit",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at", SECONDS, nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("via", sa.Text(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("before", sa.Text(), nullable=False),
        sa.Column("after", sa.Text(), nullable=False),
        sa.CheckConstraint("via IN ('http', 'command')", name=op.f("ck_audit_via")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        sqlite_strict=True,
    )
    create_triggers(op.get_bind(), RULES)


def downgrade() -> None:
    """Take them away again."""
    op.drop_table("audit")
    drop_functions(op.get_bind(), RULES)
    op.drop_column("keys", "scopes")
