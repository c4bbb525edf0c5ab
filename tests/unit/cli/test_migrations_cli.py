"""The command for the schema, run as a deployment runs it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from alembic.config import Config
from alembic.script import ScriptDirectory

from gateway.cli.exit_codes import ExitCode
from gateway.store.migrate import SCRIPTS
from tests.unit.cli.test_money_cli import Run, database, template, vidgate

__all__ = ["database", "template", "vidgate"]


def head() -> str:
    """The newest revision of the history."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    newest = ScriptDirectory.from_config(config).get_current_head()
    assert newest is not None
    return newest


def test_an_empty_database_gets_the_newest_schema(vidgate: Run, database: Path) -> None:
    """The job that runs before the first replica makes everything; a second run changes nothing."""
    database.unlink()
    for _ in range(2):
        code, out, _ = vidgate("database", "migrate", "--json")
        assert (code, json.loads(out)) == (ExitCode.OK, {"revision": head()})
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (0,)


def test_a_database_in_use_keeps_its_rows(vidgate: Run, database: Path) -> None:
    """People read which revision it has."""
    with sqlite3.connect(database) as connection:
        before = connection.execute("SELECT count(*) FROM entries").fetchone()
    code, out, _ = vidgate("database", "migrate")
    assert code == ExitCode.OK
    assert f"the schema is at revision {head()}" in out
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM entries").fetchone() == before
