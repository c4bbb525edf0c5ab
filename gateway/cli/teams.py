"""`vidgate teams`: the calendar and the plan of the teams that pay."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
import yaml
from sqlalchemy import Connection, select, update

from gateway.audit import note, seen
from gateway.cli.acts import act
from gateway.cli.database import in_database, team_of, when
from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.cli.options import AsJson, unfolded
from gateway.cli.output import print_json, result_console, usd
from gateway.cli.serve import ConfigFile, read_configuration
from gateway.cli.tables import Form, show_rows
from gateway.clock import SystemClock
from gateway.store.schema import teams
from gateway.teams import Deleted, StillBusy, TermsError, delete_team, plan_of, zone_of

COLUMNS = ("team", "timezone", "plan", "since", "state", "id")
TERMS_PANEL = "Terms of the team"
OptionalText = Optional[str]  # noqa: UP045 - read at run time

app = typer.Typer(no_args_is_help=True, help="Teams: their time zone and what they pay above the cost.")


@dataclasses.dataclass(frozen=True)
class Terms:
    """A team's calendar and plan; what is not said stays as it is."""

    timezone: Annotated[
        OptionalText,
        typer.Option(metavar="ZONE", help="Whose days and months its budgets keep.", rich_help_panel=TERMS_PANEL),
    ] = None
    plan: Annotated[
        OptionalText,
        typer.Option(metavar="FILE|JSON", help="What it pays; {} is the usual margin.", rich_help_panel=TERMS_PANEL),
    ] = None

    def changes(self) -> dict[str, Any]:
        """The columns of the team that these terms set. Raises CommandError for a zone or a plan that is none."""
        zone = {} if self.timezone is None else {"timezone": _zone(self.timezone)}
        return zone if self.plan is None else {**zone, "plan": _plan(self.plan)}


@app.command("list")
@unfolded()
def list_(*, config: ConfigFile = None, form: Form) -> None:
    """List the teams with their time zone and plan.

    [bold]Examples[/]
        vidgate teams list
        vidgate teams list --json
    """
    show_rows(form, in_database(read_configuration(config).settings, _listed), title="Teams", columns=COLUMNS)


@app.command("set")
@unfolded()
def set_(
    name: Annotated[str, typer.Argument(help="The team.", show_default=False)],
    *,
    terms: Terms,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Set a team's time zone or plan; requests from now on are priced by it.

    A plan is a percentage on top of the cost, a flat fee a job, or a price list;
    [bold]routing[/] in it says what the team usually wants and what it is kept to,
    [bold]limits[/] how much it may ask for (docs/limits.md).

    [bold]Examples[/]
        vidgate teams set film --timezone Europe/Berlin
        vidgate teams set film --plan '{"percent": "12.5"}'
        vidgate teams set film --plan film-plan.yaml
    """
    changes = terms.changes()
    if not changes:
        raise CommandError(ExitCode.USAGE, "nothing to set", "--timezone or --plan")
    team = in_database(read_configuration(config).settings, _set, name, changes)
    if as_json:
        print_json(team)
        return
    result_console().print(f"[bold]{name}[/]  {team['timezone']}, plan: {team['plan'] or 'the usual margin'}")


@app.command("delete")
def delete(
    name: Annotated[str, typer.Argument(help="The team.", show_default=False)],
    *,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Delete a team for good: its keys end, its budgets and webhooks too.

    Its jobs, bills and statements stay, and so does its name: it is not given to
    another team. A team with running jobs is not deleted: cancel them, or wait.

    [bold]Example[/]
        vidgate teams delete film
    """
    found = in_database(read_configuration(config).settings, _delete, name, SystemClock().now())
    if isinstance(found, StillBusy):
        raise CommandError(
            ExitCode.USAGE,
            f"team {name} has {found.open_holds} open holds ({usd(found.held_micros)}) and {found.active_jobs} running "
            "jobs: cancel them or wait for their end, then delete it",
        )
    if as_json:
        print_json({"team": name, **dataclasses.asdict(found)})
        return
    result_console().print(
        f"team {name} is deleted, with {found.keys} keys, {found.budgets} budgets and {found.webhooks} webhooks; "
        "its books stay",
        markup=False,
    )


def _zone(text: str) -> str:
    try:
        return zone_of(text)
    except TermsError as error:
        raise CommandError(ExitCode.USAGE, str(error), "Europe/Berlin, America/New_York, UTC") from None


def _plan(text: str) -> dict[str, Any]:
    """A plan, written out or in a file, checked."""
    try:
        given = yaml.safe_load(text if text.lstrip().startswith("{") else Path(text).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise CommandError(ExitCode.USAGE, f"the plan cannot be read: {error}") from error
    try:
        return plan_of(given)
    except TermsError as error:
        raise CommandError(ExitCode.USAGE, str(error), '{"percent": "12.5"}') from error


def _set(connection: Connection, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    team_id, _ = team_of(connection, name, live=True)
    done = act("team.set", team_id, SystemClock().now())
    before = seen(connection, done)
    connection.execute(update(teams).where(teams.c.id == team_id).values(dict(changes)))
    note(connection, done, before=before)
    row = connection.execute(select(teams.c.timezone, teams.c.plan).where(teams.c.id == team_id)).one()
    return {"team": name, "id": team_id, "timezone": row.timezone, "plan": row.plan}


def _delete(connection: Connection, name: str, at: float) -> Deleted | StillBusy:
    done = act("team.delete", team_of(connection, name, live=True)[0], at)
    before = seen(connection, done)
    found = delete_team(connection, done.target, at)
    if isinstance(found, Deleted):
        note(connection, done, before=before)
    return found


def _listed(connection: Connection) -> list[dict[str, Any]]:
    return [
        {
            "team": row.name,
            "timezone": row.timezone,
            "plan": json.dumps(row.plan) if row.plan else "the usual margin",
            "since": when(row.created_at),
            "state": "live" if row.deleted_at is None else f"deleted {when(row.deleted_at)}",
            "id": row.id,
        }
        for row in connection.execute(select(teams).order_by(teams.c.name))
    ]
