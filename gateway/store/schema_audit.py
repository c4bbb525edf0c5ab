"""The table of what administrators did. It is written in the transaction of the act and never changed afterwards."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Table, Text

from gateway.store.metadata import metadata
from gateway.store.schema_money import Seconds
from gateway.store.triggers_money import AUDIT_RULES, attach_triggers

# `who` is a key, a person or a user of the machine, `via` how the act came in. `before` and `after` are JSON objects of
# what the act changed of its target, without secrets.
audit = Table(
    "audit",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at", Seconds, nullable=False),
    Column("who", Text, nullable=False),
    Column("via", Text, nullable=False),
    Column("act", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    CheckConstraint("via IN ('http', 'command')", name="via"),
    sqlite_strict=True,
)
attach_triggers(metadata.tables, AUDIT_RULES)
