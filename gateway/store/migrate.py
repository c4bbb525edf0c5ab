"""Bring a database's schema up to date with the Alembic history that lies beside this file.

A database that a newer vidgate has migrated is left as it is: while a new version is rolled out, replicas of the old
one go on, for migrations only ever add what the version before can do without.
"""

from __future__ import annotations

from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

SCRIPTS = Path(__file__).parent / "migrations"

log = structlog.get_logger()


def migrate(connection: Connection, revision: str = "head") -> None:
    """Apply every migration up to `revision` inside the connection's transaction."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["connection"] = connection
    script = ScriptDirectory.from_config(config)
    current = set(MigrationContext.configure(connection).get_current_heads())
    newer = current - {known.revision for known in script.walk_revisions()}
    if newer:
        log.warning("schema.newer", revision=sorted(newer), known=script.get_heads())
    elif current != set(script.get_heads()) or revision != "head":
        command.upgrade(config, revision)


def schema_revision(connection: Connection) -> str:
    """The revision that the database's schema has."""
    return ", ".join(sorted(MigrationContext.configure(connection).get_current_heads()))
