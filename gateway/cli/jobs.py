"""`vidgate jobs`: the jobs that broke every driver, and sending them back to work."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from sqlalchemy import Connection

from gateway import parking
from gateway.audit import acted
from gateway.cli.acts import act
from gateway.cli.database import in_database, team_names, when
from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.cli.options import unfolded
from gateway.cli.output import result_console
from gateway.cli.serve import ConfigFile, read_configuration
from gateway.cli.tables import Form, show_rows
from gateway.clock import SystemClock

COLUMNS = ("job", "team", "route", "status", "crashes", "parked", "held_micros")

app = typer.Typer(no_args_is_help=True, help="Jobs that nobody could drive.")


@app.command("parked")
@unfolded()
def parked(*, config: ConfigFile = None, form: Form) -> None:
    """List the jobs that broke their driver once too often, the one that waits longest first.

    Nobody drives them any more; each keeps its hold until it is sent back to
    work, or until the time of its hold is over and it expires at no charge.

    [bold]Examples[/]
        vidgate jobs parked
        vidgate jobs parked --json
    """
    rows = in_database(read_configuration(config).settings, _parked)
    show_rows(form, rows, title="Parked jobs", columns=COLUMNS)


@app.command("requeue")
def requeue(
    job: Annotated[str, typer.Argument(help="The job's id.", show_default=False)], *, config: ConfigFile = None
) -> None:
    """Send a parked job back to work; a running gateway takes it up within seconds.

    [bold]Example[/]
        vidgate jobs requeue job_0197f2c4a1b2
    """
    settings, now = read_configuration(config).settings, SystemClock().now()
    if not in_database(settings, acted, act("job.requeue", job, now), parking.requeue, job, now):
        raise CommandError(ExitCode.USAGE, f"there is no parked job {job!r}", "vidgate jobs parked")
    result_console().print(f"{job} is sent back to work")


def _parked(connection: Connection) -> list[dict[str, Any]]:
    names = team_names(connection)
    return [
        {
            "job": job.id,
            "team": names[job.team_id],
            "route": job.route,
            "status": job.status.value,
            "crashes": job.crashes,
            "parked": when(job.parked_at),
            "held_micros": job.held_micros,
        }
        for job in parking.list_parked(connection)
    ]
