"""Alembic's entry: run the history over the connection that `gateway.store.migrate` hands in."""

from alembic import context

from gateway.store import schema, schema_money
from gateway.store.metadata import metadata

assert schema and schema_money  # noqa: PT018 - imported so that every table is known to the metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
