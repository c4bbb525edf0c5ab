"""`vidgate keys`: API keys of teams, made straight in the database of a configuration."""

from __future__ import annotations

from typing import Annotated

import typer
from sqlalchemy import Connection, select

from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.cli.options import AsJson
from gateway.cli.output import print_json, result_console, usd
from gateway.cli.serve import ConfigFile, read_configuration
from gateway.cli.servers import run
from gateway.clock import SystemClock
from gateway.ids import Ids
from gateway.keys import NewKey, create_key
from gateway.money.budgets import Budget, set_budget
from gateway.money.windows import WindowKind
from gateway.settings import Settings
from gateway.store.database import StoreError
from gateway.store.schema import teams
from gateway.store.sqlite import SqliteStore

DAY_S = 86_400.0

app = typer.Typer(no_args_is_help=True, help="Make API keys.")


@app.command("create")
def create(
    team: Annotated[str, typer.Option(help="The team that pays; it is made when it does not exist.")],
    *,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "default",
    expires_days: Annotated[float, typer.Option(min=0, help="Days until it ends; 0 means never.")] = 0,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key and show it, once: only its hash is kept.

    It works while the gateway runs. A team that is made here starts with the
    budget `money.default_budget_micros` of the configuration, when that is set.

    [bold]Examples[/]
        vidgate keys create --team film --config vidgate.yaml
        vidgate keys create --team film --name ci --expires-days 90 --json
    """
    settings = read_configuration(config).settings
    now = SystemClock().now()
    new = NewKey(team, name, now, now + expires_days * DAY_S if expires_days else None)
    made = run(_create(settings, new))
    if as_json:
        print_json(made)
        return
    console = result_console()
    console.print(f"[bold]{made['key']}[/]")
    budget = made["budget_micros"]
    limit = f", with a budget of {usd(budget)} a month" if isinstance(budget, int) else ""
    console.print(f"key {made['key_id']} of team {team}{limit}; it is not shown again", style="dim")


async def _create(settings: Settings, new: NewKey) -> dict[str, str | int | None]:
    try:
        # Beside a running gateway: the database is shared for one short transaction.
        store = SqliteStore.open(settings.store.url, exclusive=False)
    except StoreError as error:
        raise CommandError(ExitCode.USAGE, str(error)) from error
    try:
        return await store.write(new_key, new, settings.money.default_budget_micros)
    finally:
        await store.close()


def new_key(connection: Connection, new: NewKey, budget_micros: int | None) -> dict[str, str | int | None]:
    """Make a key; a team made with it starts with this monthly budget, when there is one. Money is micro-USD."""
    ids = Ids(SystemClock())
    known = connection.execute(select(teams.c.id).where(teams.c.name == new.team_name)).scalar_one_or_none()
    key_id, team_id, secret = create_key(connection, ids, new)
    if known is None and budget_micros is not None:
        set_budget(connection, Budget(ids.new("budget"), team_id, WindowKind.MONTH, limit_micros=budget_micros), new.at)
    made: dict[str, str | int | None] = {"key": secret, "key_id": key_id, "team_id": team_id}
    return made | {"budget_micros": budget_micros if known is None else None}
