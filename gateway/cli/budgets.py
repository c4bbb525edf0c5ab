"""`vidgate budgets`: what teams and keys may spend, by day, week, month or in all."""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer
from sqlalchemy import Connection, select

from gateway.audit import acted
from gateway.cli.acts import act
from gateway.cli.database import in_database, team_names, team_of, when
from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.cli.options import AsJson, unfolded
from gateway.cli.output import print_json, result_console, usd
from gateway.cli.serve import ConfigFile, read_configuration
from gateway.cli.tables import Form, show_rows
from gateway.clock import SystemClock
from gateway.ids import Ids
from gateway.money.amounts import AmountError, micros_from_usd
from gateway.money.budgets import Budget, budget_states, retire_budget, set_budget
from gateway.money.windows import WindowKind
from gateway.store.schema import keys
from gateway.store.schema_money import budgets

COLUMNS = (
    "budget", "team", "key", "window", "limit_micros", "soft_micros", "spent_micros", "held_micros", "over_soft",
    "resets_at",
)  # fmt: skip
OptionalText = Optional[str]  # noqa: UP045 - read at run time

app = typer.Typer(no_args_is_help=True, help="What teams and keys may spend.")


@app.command("set")
def set_(
    team: Annotated[str, typer.Option(help="The team.")],
    *,
    window: Annotated[WindowKind, typer.Option(help="How often it starts anew, by the team's calendar.")],
    limit_usd: Annotated[OptionalText, typer.Option(metavar="USD", help="Refuse what goes beyond (HTTP 402).")] = None,
    soft_usd: Annotated[OptionalText, typer.Option(metavar="USD", help="Warn from here on: header and event.")] = None,
    key: Annotated[OptionalText, typer.Option(metavar="KEY_ID", help="Only for this key of the team.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Set the budget of a team, or of one of its keys, for a window; in force at once.

    What was spent in the present window counts. A budget that exists takes the
    new limits; one that was not named is taken away.

    [bold]Examples[/]
        vidgate budgets set --team film --window month --limit-usd 500 --soft-usd 400
        vidgate budgets set --team film --window day --limit-usd 20 --key key_0197f2c4
    """
    settings = read_configuration(config).settings
    clock = SystemClock()
    try:
        limits = [None if text is None else micros_from_usd(text) for text in (limit_usd, soft_usd)]
        wanted = Budget(Ids(clock).new("budget"), "", window, limit_micros=limits[0], soft_micros=limits[1], key_id=key)
    except (AmountError, ValueError) as error:
        raise CommandError(ExitCode.USAGE, str(error)) from error
    budget_id = in_database(settings, _set, wanted, team, clock.now())
    if as_json:
        print_json({"budget": budget_id})
        return
    parts = [f"limit {usd(limits[0])}"] * (limits[0] is not None) + [f"warning at {usd(limits[1])}"] * (
        limits[1] is not None
    )
    result_console().print(f"[bold]{budget_id}[/]  {team}, {key or 'whole team'}, {window}: {', '.join(parts)}")


@app.command("list")
@unfolded()
def list_(
    team: Annotated[OptionalText, typer.Option(help="Only this team.")] = None,
    *,
    config: ConfigFile = None,
    form: Form,
) -> None:
    """List the budgets in force, with what is spent and held in their present window.

    [bold]Examples[/]
        vidgate budgets list
        vidgate budgets list --team film --json
    """
    rows = in_database(read_configuration(config).settings, _states, team, SystemClock().now())
    show_rows(form, rows, title="Budgets", columns=COLUMNS)


@app.command("retire")
def retire(
    budget: Annotated[str, typer.Argument(help="The budget's id.", show_default=False)],
    *,
    config: ConfigFile = None,
) -> None:
    """End a budget; holds that count in it settle in it still.

    [bold]Example[/]
        vidgate budgets retire budget_0197f2c4a1b2
    """
    settings, now = read_configuration(config).settings, SystemClock().now()
    if not in_database(settings, acted, act("budget.retire", budget, now), retire_budget, budget, now):
        raise CommandError(ExitCode.USAGE, f"there is no budget {budget!r} in force", "vidgate budgets list")
    result_console().print(f"{budget} is retired")


def _set(connection: Connection, wanted: Budget, team: str, at: float) -> str:
    team_id, _ = team_of(connection, team, live=True)
    if wanted.key_id is not None:
        owner = connection.execute(select(keys.c.team_id).where(keys.c.id == wanted.key_id)).scalar_one_or_none()
        if owner != team_id:
            raise CommandError(ExitCode.USAGE, f"team {team} has no key {wanted.key_id!r}", "vidgate keys list")
    mine = Budget(wanted.budget_id, team_id, wanted.window, wanted.limit_micros, wanted.soft_micros, wanted.key_id)
    known = select(budgets.c.id).where(
        budgets.c.team_id == team_id,
        budgets.c.key_id.is_not_distinct_from(mine.key_id),
        budgets.c.window == mine.window,
        budgets.c.retired_at.is_(None),
    )
    done = act("budget.set", connection.execute(known).scalar() or mine.budget_id, at)
    return acted(connection, done, set_budget, mine, at)


def _states(connection: Connection, team: str | None, at: float) -> list[dict[str, Any]]:
    names = team_names(connection)
    chosen = [team_of(connection, team)[0]] if team is not None else list(names)
    return [
        {
            "budget": state.budget.budget_id,
            "team": names[team_id],
            "key": state.budget.key_id,
            "window": str(state.budget.window),
            "limit_micros": state.budget.limit_micros,
            "soft_micros": state.budget.soft_micros,
            "spent_micros": state.spent_micros,
            "held_micros": state.held_micros,
            "over_soft": "yes" if state.is_over_soft else "no",
            "resets_at": when(state.window.ends_at),
        }
        for team_id in chosen
        for state in budget_states(connection, team_id, at)
    ]
