"""The history of the schema: it leads to the tables of today, up and down, and can be run again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, inspect, text

from gateway.store import schema, schema_audit, schema_events, schema_money
from gateway.store.metadata import metadata
from gateway.store.migrate import SCRIPTS, migrate

assert schema.jobs.metadata is schema_money.holds.metadata is schema_events.events.metadata is metadata
assert schema_audit.audit.metadata is metadata


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An empty database."""
    made = create_engine(f"sqlite:///{tmp_path}/history.db")
    yield made
    made.dispose()


def objects(connection: Connection) -> dict[str, list[str]]:
    """Every table, index and trigger with the clauses that made it, in any order; the history's own table left out."""
    rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
    return {row.name: clauses(row.sql) for row in rows if not row.name.startswith("alembic_version")}


def clauses(statement: str) -> list[str]:
    """A statement cut at the commas of its outer brackets, sorted: the order of constraints means nothing."""
    found, depth = [""], 0
    for character in " ".join(statement.split()):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 1:
            found.append("")
        else:
            found[-1] += character
    head, *middle = (clause.strip() for clause in found)
    opening, _, first = head.partition("( ")
    last, _, closing = (middle or [first])[-1].rpartition(" )")
    return sorted([opening, first, *middle[:-1], last, closing])


def downgrade(connection: Connection, revision: str) -> None:
    """Go back in the history."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["connection"] = connection
    command.downgrade(config, revision)


def test_the_history_leads_to_the_tables_of_the_code(engine: Engine, tmp_path: Path) -> None:
    """After all migrations nothing differs from the metadata: no table, column, constraint, index or trigger."""
    fresh = create_engine(f"sqlite:///{tmp_path}/fresh.db")
    with engine.begin() as migrated, fresh.begin() as made:
        migrate(migrated)
        metadata.create_all(made)
        assert compare_metadata(MigrationContext.configure(migrated), metadata) == []
        assert objects(migrated) == objects(made)
        assert set(inspect(migrated).get_table_names()) - {"alembic_version"} == set(metadata.tables)
    fresh.dispose()


def test_migrating_again_changes_nothing(engine: Engine) -> None:
    """Every start runs the history; on a database of today that is no work."""
    with engine.begin() as connection:
        migrate(connection)
        before = objects(connection)
        migrate(connection)
        assert objects(connection) == before


def test_the_way_down_leaves_nothing_and_the_way_up_works_again(engine: Engine) -> None:
    """Each migration can be undone and done once more."""
    with engine.begin() as connection:
        migrate(connection)
        before = objects(connection)
        downgrade(connection, "base")
        assert objects(connection) == {}
        migrate(connection)
        assert objects(connection) == before


def test_the_history_is_one_line() -> None:
    """No two migrations claim the same predecessor: there is one head."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    script = ScriptDirectory.from_config(config)
    assert len(script.get_heads()) == 1
    assert len(script.get_bases()) == 1


def test_a_failed_migration_leaves_the_database_as_it_was(engine: Engine) -> None:
    """The history runs inside the caller's transaction: an error undoes all of it."""
    with pytest.raises(Exception, match="Can't locate revision"), engine.begin() as connection:
        migrate(connection, "no such revision")
    with engine.begin() as connection:
        assert objects(connection) == {}


def test_jobs_of_before_are_found_by_their_tags(engine: Engine) -> None:
    """The migration that makes tags rows fills them from the jobs; what no column can hold is left out."""
    request = json.dumps({"metadata": {"project": "reel é 🎞", "odd": "a\x00b", "half": "\ud800"}})
    with engine.begin() as connection:
        migrate(connection, "0009")
        connection.execute(text("INSERT INTO teams (id, name, plan, created_at) VALUES ('t', 'film', '{}', 0)"))
        connection.execute(
            text(
                "INSERT INTO keys (id, team_id, name, prefix, hash, grants, created_at)"
                " VALUES ('k', 't', 'n', 'p', 'h', '{}', 0)"
            )
        )
        row = {
            **dict.fromkeys(("parameters", "input", "plan"), "{}"),
            **dict.fromkeys(("replans", "receipt"), "[]"),
            **dict.fromkeys(("created_at", "deadline_at", "give_up_at", "due_at", "held_micros"), 0),
            "id": "job_1",
            "team_id": "t",
            "key_id": "k",
            "media": "video",
            "status": "queued",
            "hold_id": "hold_1",
            "request": request,
        }
        names = ", ".join(row)
        values = ", ".join(f":{name}" for name in row)
        connection.execute(text(f"INSERT INTO jobs ({names}) VALUES ({values})"), row)
        migrate(connection)
        tags = connection.execute(text("SELECT job_id, team_id, name, value FROM job_tags")).all()
        assert tags == [("job_1", "t", "project", "reel é 🎞")]
