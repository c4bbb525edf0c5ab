"""`vidgate usage`, `statement`, `close` and `accounts`: what was used, who owes what, and what is left at vendors."""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer
from sqlalchemy import Connection, func, select

from gateway.audit import note
from gateway.cli.acts import act
from gateway.cli.database import in_database, instant, team_names, team_of, when
from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.cli.options import AsJson, unfolded
from gateway.cli.output import print_json, result_console, table, usd
from gateway.cli.serve import ConfigFile, read_configuration
from gateway.cli.tables import Form, show_rows
from gateway.clock import SystemClock
from gateway.money import reports
from gateway.money.accounts import provider_state
from gateway.money.exports import statement_groups_table, statement_table, usage_table
from gateway.money.periods import AlreadyClosed, Closed, NotOver, close_period
from gateway.money.windows import period_of, period_start
from gateway.store.schema import attempts

OptionalText = Optional[str]  # noqa: UP045 - read at run time
USAGE_COLUMNS = (
    "jobs_billed", "jobs_not_billed", "price_micros", "cost_micros", "margin_micros", "excess_micros", "loss_micros"
)  # fmt: skip
STATEMENT_COLUMNS = ("at", "kind", "job", "key", "route", "tags", "amount_micros", "reason")
STATEMENT_SUMS = ("lines", "amount_micros")
ACCOUNT_COLUMNS = (
    "provider", "balance_micros", "read_at", "in_flight_micros", "available_micros", "burn_per_hour_micros",
    "runway_h", "floor_micros", "state",
)  # fmt: skip


@unfolded()
def usage(
    team: Annotated[OptionalText, typer.Option(help="Only this team.")] = None,
    *,
    by: Annotated[
        str, typer.Option(metavar="NAMES", help="Groups: team, key, route, provider, day, tag:NAME; commas between.")
    ] = "team",
    since: Annotated[str, typer.Option(metavar="TIME", help="From here on: a date, or back from now (30d, 12h).")] = (
        "30d"
    ),
    until: Annotated[str, typer.Option(metavar="TIME", help="Up to here, not included; now when empty.")] = "",
    config: ConfigFile = None,
    form: Form,
) -> None:
    """Show who used what: jobs, price, vendor's cost, margin and losses.

    Settlements and corrections count at the time they were made.

    [bold]Examples[/]
        vidgate usage
        vidgate usage --team film --by day,route --since 2026-10-01 --until 2026-11-01
        vidgate usage --by tag:project --csv > october.csv
    """
    settings = read_configuration(config).settings
    now = SystemClock().now()
    end = instant(until, now, "--until") if until else now
    span = (instant(since, now, "--since"), end)
    groups = tuple(name for name in by.split(",") if name)
    try:
        rows = in_database(settings, _usage, team, groups, span)
    except ValueError as error:
        raise CommandError(ExitCode.USAGE, str(error)) from error
    show_rows(form, rows, title=f"Usage from {when(span[0])} to {when(end)}", columns=(*groups, *USAGE_COLUMNS))


@unfolded()
def statement(
    team: Annotated[str, typer.Argument(help="The team.", show_default=False)] = "",
    period: Annotated[str, typer.Argument(help="The accounting month, YYYY-MM; the present one when left out.")] = "",
    *,
    of_team: Annotated[str, typer.Option("--team", help="The team, where it is not the argument.")] = "",
    by: Annotated[
        str, typer.Option(metavar="NAMES", help="Sum up by: key, route, provider, day, tag:NAME; commas between.")
    ] = "",
    config: ConfigFile = None,
    form: Form,
) -> None:
    """Show a team's bill for an accounting month (UTC); a closed month's never changes.

    [bold]Examples[/]
        vidgate statement film 2026-10
        vidgate statement --team film 2026-10
        vidgate statement film 2026-10 --by tag:cost_centre
        vidgate statement film 2026-10 --csv > film-2026-10.csv
    """
    settings = read_configuration(config).settings
    team, period = _whose(team, period, of_team)
    period = _month(period or period_of(SystemClock().now()))
    bill, timezone = in_database(settings, _statement, team, period)
    groups = tuple(name for name in by.split(",") if name)
    rows = statement_table(bill)
    try:
        sums = statement_groups_table(reports.statement_groups(bill, groups, timezone)) if groups else None
    except ValueError as error:
        raise CommandError(ExitCode.USAGE, str(error)) from error
    state = "closed" if bill.closed else "open: it may change"
    shown = {
        "team": team, "period": period, "closed": bill.closed, "total_micros": bill.total_micros,
        **({"lines": rows} if sums is None else {"groups": sums}),
    }  # fmt: skip
    columns = STATEMENT_COLUMNS if sums is None else (*groups, *STATEMENT_SUMS)
    show_rows(form, rows if sums is None else sums, title=f"{team}, {period} ({state})", columns=columns, shown=shown)
    if not (form.as_json or form.as_csv or form.parquet):
        result_console().print(f"total [bold]{usd(bill.total_micros)}[/] in {len(rows)} lines")


def close(
    period: Annotated[str, typer.Argument(help="The accounting month, YYYY-MM.", show_default=False)],
    *,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Close an accounting month (UTC), and all before it, for good.

    Corrections that come later land in the next open month. Reconcile first.

    [bold]Example[/]
        vidgate close 2026-10
    """
    settings = read_configuration(config).settings
    closed = in_database(settings, _close, _month(period), SystemClock().now())
    match closed:
        case NotOver():
            raise CommandError(ExitCode.USAGE, f"{period} is not over until {when(closed.ends_at)} UTC")
        case AlreadyClosed():
            raise CommandError(ExitCode.USAGE, f"{period} is closed already: all through {closed.closed_through} is")
        case Closed():
            _show_closed(closed, as_json)


def _close(connection: Connection, period: str, at: float) -> Closed | AlreadyClosed | NotOver:
    closed = close_period(connection, period, at)
    if isinstance(closed, Closed):
        note(connection, act("month.close", period, at), after={"entries": closed.entries_count})
    return closed


@unfolded()
def accounts(*, config: ConfigFile = None, form: Form) -> None:
    """Show the provider accounts: balance, renders in flight, burn rate, runway and floor.

    The balance is the vendor's last word; available is that less what our books
    have charged since and what is in flight. The burn rate is of the last day.

    [bold]Examples[/]
        vidgate accounts
        vidgate accounts --json
    """
    configuration = read_configuration(config)
    floors = {name: account.floor_micros for name, account in configuration.accounts.items()}
    rows = in_database(configuration.settings, _accounts, floors, SystemClock().now())
    show_rows(form, rows, title="Provider accounts", columns=ACCOUNT_COLUMNS)


def _usage(
    connection: Connection, team: str | None, groups: tuple[str, ...], span: tuple[float, float]
) -> list[dict[str, Any]]:
    team_id, timezone = (None, "UTC") if team is None else team_of(connection, team)
    query = reports.UsageQuery(*span, team_id=team_id, group_by=groups, timezone=timezone)
    names = team_names(connection)
    rows: list[dict[str, Any]] = usage_table(reports.usage(connection, query))
    for row in rows:
        if row.get("team") is not None:
            row["team"] = names.get(row["team"], row["team"])
    return rows


def _statement(connection: Connection, team: str, period: str) -> tuple[reports.Statement, str]:
    team_id, timezone = team_of(connection, team)
    return reports.statement(connection, team_id, period), timezone


def _whose(team: str, period: str, of_team: str) -> tuple[str, str]:
    """The team and the month: with --team the one argument is the month."""
    if of_team and period:
        raise CommandError(ExitCode.USAGE, f"the team is named twice: {team} and --team {of_team}")
    if not (team or of_team):
        raise CommandError(ExitCode.USAGE, "whose statement?", "vidgate statement TEAM, or --team TEAM")
    return (of_team, team) if of_team else (team, period)


def _month(text: str) -> str:
    try:
        period_start(text)
    except ValueError as error:
        raise CommandError(ExitCode.USAGE, str(error)) from error
    return text


def _show_closed(closed: Closed, as_json: bool) -> None:
    if as_json:
        print_json({"period": closed.period, "entries": closed.entries_count, "balances_micros": dict(closed.balances)})
        return
    balances = table("account", ">balance", title=f"{closed.period} is closed with {closed.entries_count} entries")
    for name, micros in sorted(closed.balances.items()):
        balances.add_row(name, usd(micros))
    result_console().print(balances)


def _accounts(connection: Connection, floors: dict[str, int], at: float) -> list[dict[str, Any]]:
    under_way = (
        select(attempts.c.account, func.sum(attempts.c.price_micros))
        .where(attempts.c.finished_at.is_(None))
        .group_by(attempts.c.account)
    )
    in_flight = {row[0]: int(row[1]) for row in connection.execute(under_way)}
    states = [
        provider_state(connection, name, at=at, in_flight_micros=in_flight.get(name, 0), floor_micros=floor)
        for name, floor in floors.items()
    ]
    return [
        {
            "provider": one.provider,
            "balance_micros": one.balance_micros,
            "read_at": when(one.balance_at),
            "in_flight_micros": one.in_flight_micros,
            "available_micros": one.available_micros,
            "burn_per_hour_micros": one.burn_micros_per_hour,
            "runway_h": one.runway_h,
            "floor_micros": one.floor_micros,
            "state": "under its floor" if one.is_low else "unknown" if one.balance_micros is None else "fine",
        }
        for one in states
    ]
