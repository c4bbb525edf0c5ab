"""Alembic's entry: run the history over the connection that `gateway.store.migrate` hands in."""

from alembic import context

from gateway.store.metadata import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
