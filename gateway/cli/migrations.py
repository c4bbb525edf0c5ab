"""`vidgate database`: the schema, brought up to date before replicas of a new version start."""

from __future__ import annotations

import typer

from gateway.cli.database import in_database
from gateway.cli.options import AsJson
from gateway.cli.output import print_json, result_console
from gateway.cli.serve import ConfigFile, read_configuration
from gateway.store.migrate import schema_revision

app = typer.Typer(no_args_is_help=True)


@app.callback()
def database() -> None:
    """The database's schema.

    [bold]Example[/]
        vidgate database migrate
    """


@app.command("migrate")
def migrate(*, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Bring the schema up to date, and say which revision it has.

    A gateway does this itself when it starts; a deployment of many replicas does it
    once, before the new ones begin. Replicas of the version before go on working.

    [bold]Example[/]
        vidgate database migrate --config vidgate.yaml
    """
    # Opening the database brings its schema up to date, one process after the other.
    revision = in_database(read_configuration(config).settings, schema_revision)
    if as_json:
        print_json({"revision": revision})
    else:
        result_console().print(f"the schema is at revision [bold]{revision}[/]")
