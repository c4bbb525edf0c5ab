"""`vidgate keys`: API keys of teams, made, rotated and ended straight in the database of a configuration."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Optional

import typer
from pydantic import ValidationError
from sqlalchemy import Connection, select

from gateway.audit import acted, note
from gateway.cli.acts import act
from gateway.cli.database import in_database, span, when
from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.cli.options import AsJson, unfolded
from gateway.cli.output import print_json, result_console, usd
from gateway.cli.serve import ConfigFile, read_configuration
from gateway.cli.tables import Form, show_rows
from gateway.cli.teams import Terms
from gateway.clock import SystemClock
from gateway.ids import Ids
from gateway.keys import KeyGrantError, KeyRow, NewKey, create_key, list_keys, revoke_key, rotate_key
from gateway.limits import COUNT_MAX
from gateway.money.amounts import AmountError, micros_from_usd
from gateway.money.budgets import Budget, set_budget
from gateway.money.grants import Grants
from gateway.money.windows import WindowKind
from gateway.scopes import USUAL, Scope, Scopes, scopes_text
from gateway.store.schema import teams
from gateway.teams import TermsError

DAY_S = 86_400.0
HOUR_S = 3600.0
LIMITS_PANEL = "Limits of the key"
COLUMNS = ("key", "team", "name", "begins_with", "scopes", "limits", "expires", "state")
OptionalText = Optional[str]  # noqa: UP045 - read at run time
OptionalCount = Optional[int]  # noqa: UP045 - read at run time
KeyId = Annotated[str, typer.Argument(help="The key's id.", show_default=False)]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What the key is for and kept to; what is not said is not limited. Names are separated by commas."""

    scope: Annotated[
        Optional[list[Scope]],  # noqa: UP045 - read at run time
        typer.Option(help="What it is for, repeatable; else all but admin.", rich_help_panel=LIMITS_PANEL),
    ] = None
    routes: Annotated[
        OptionalText, typer.Option(metavar="NAMES", help="Only these routes.", rich_help_panel=LIMITS_PANEL)
    ] = None
    providers: Annotated[
        OptionalText, typer.Option(metavar="NAMES", help="Only these providers.", rich_help_panel=LIMITS_PANEL)
    ] = None
    objectives: Annotated[
        OptionalText, typer.Option(metavar="NAMES", help="Only these objectives.", rich_help_panel=LIMITS_PANEL)
    ] = None
    max_cost_usd: Annotated[
        OptionalText, typer.Option(metavar="USD", help="The most a request may cost.", rich_help_panel=LIMITS_PANEL)
    ] = None
    requests_per_minute: Annotated[
        OptionalCount,
        typer.Option(min=1, max=COUNT_MAX, help="Requests a minute.", rich_help_panel=LIMITS_PANEL),
    ] = None
    concurrent_jobs: Annotated[
        OptionalCount,
        typer.Option(min=1, max=COUNT_MAX, help="Jobs queued or running at a time.", rich_help_panel=LIMITS_PANEL),
    ] = None
    spend_usd_per_hour: Annotated[
        OptionalText, typer.Option(metavar="USD", help="The most an hour may cost.", rich_help_panel=LIMITS_PANEL)
    ] = None
    issuer: Annotated[
        OptionalText,
        typer.Option(
            metavar="KEY_ID",
            help="The key that issues it and grants no more than it has.",
            rich_help_panel=LIMITS_PANEL,
        ),
    ] = None

    def scopes(self) -> Scopes:
        """What the key is for."""
        return frozenset(self.scope) if self.scope else USUAL

    def grants(self) -> Grants:
        """The grants. Raises CommandError for an amount that is none."""
        routes, providers, objectives = map(_names, (self.routes, self.providers, self.objectives))
        try:
            return Grants(
                routes=routes,
                providers=providers,
                objectives=objectives,
                max_cost_micros=_micros(self.max_cost_usd, "--max-cost-usd"),
                requests_per_minute=self.requests_per_minute,
                concurrent_jobs=self.concurrent_jobs,
                spend_micros_per_hour=_micros(self.spend_usd_per_hour, "--spend-usd-per-hour"),
            )
        except AmountError as error:
            raise CommandError(ExitCode.USAGE, str(error)) from error
        except ValidationError as error:
            raise CommandError(ExitCode.USAGE, "--spend-usd-per-hour must be above 0") from error


app = typer.Typer(no_args_is_help=True, help="API keys: make, list, rotate and revoke them.")


@app.command("create")
@unfolded()
def create(
    team: Annotated[str, typer.Option(help="The team that pays; it is made when it does not exist.")],
    *,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "default",
    expires_days: Annotated[float, typer.Option(min=0, help="Days until it ends; 0 means never.")] = 0,
    limits: Limits,
    terms: Terms,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key and show it, once: only its hash is kept.

    It works while the gateway runs. A team that is made here starts with the
    budget `money.default_budget_micros` of the configuration, when that is set.
    With [bold]--issuer[/] the new key may do no more than that key may. The scope
    admin manages teams and keys over HTTP: docs/auth.md.

    [bold]Examples[/]
        vidgate keys create --team film --config vidgate.yaml
        vidgate keys create --team film --name ci --expires-days 90 --json
        vidgate keys create --team film --name demo --providers preview --max-cost-usd 0.10
        vidgate keys create --team film --name dashboards --scope read --scope billing
        vidgate keys create --team news --timezone Europe/Berlin --plan '{"percent": "12.5"}'
    """
    settings = read_configuration(config).settings
    now = SystemClock().now()
    expires_at = now + span(expires_days, DAY_S, "--expires-days") if expires_days else None
    new = NewKey(team, name, now, expires_at, limits.grants(), limits.issuer, **terms.changes())
    new = dataclasses.replace(new, scopes=limits.scopes())
    try:
        made = in_database(settings, new_key, new, settings.money.default_budget_micros)
    except (KeyGrantError, TermsError) as error:
        raise CommandError(ExitCode.USAGE, str(error), "vidgate keys list") from error
    if as_json:
        print_json(made)
        return
    console = result_console()
    console.print(f"[bold]{made['key']}[/]")
    budget = made["budget_micros"]
    limit = f", with a budget of {usd(budget)} a month" if isinstance(budget, int) else ""
    console.print(f"key {made['key_id']} of team {team}{limit}; it is not shown again", style="dim")


@app.command("list")
@unfolded()
def list_(
    team: Annotated[OptionalText, typer.Option(help="Only this team's.")] = None,
    *,
    config: ConfigFile = None,
    form: Form,
) -> None:
    """List the keys with their limits; a key itself is never shown again.

    [bold]Examples[/]
        vidgate keys list
        vidgate keys list --team film --json
    """
    now = SystemClock().now()
    rows = in_database(read_configuration(config).settings, list_keys, team)
    show_rows(form, [_row(one, now) for one in rows], title="Keys", columns=COLUMNS)


@app.command("rotate")
def rotate(
    key: KeyId,
    *,
    overlap: Annotated[float, typer.Option(min=0, metavar="HOURS", help="How long the old one works too.")] = 24.0,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Give a key a new secret and show it, once; id, limits and budgets stay.

    [bold]Examples[/]
        vidgate keys rotate key_0197f2c4a1b2
        vidgate keys rotate key_0197f2c4a1b2 --overlap 0     the old one ends now
    """
    settings = read_configuration(config).settings
    overlap_s, now = span(overlap, HOUR_S, "--overlap"), SystemClock().now()
    secret = in_database(settings, acted, act("key.rotate", key, now), rotate_key, key, now, overlap_s)
    if secret is None:
        raise _unknown(key)
    if as_json:
        print_json({"key": secret, "key_id": key, "old_works_for_s": overlap_s})
        return
    result_console().print(f"[bold]{secret}[/]")
    result_console().print(f"key {key}; the old one works for {overlap:g} h; it is not shown again", style="dim")


@app.command("revoke")
def revoke(key: KeyId, *, config: ConfigFile = None) -> None:
    """End a key at once and for good; its jobs run to their end.

    [bold]Example[/]
        vidgate keys revoke key_0197f2c4a1b2
    """
    settings, now = read_configuration(config).settings, SystemClock().now()
    if not in_database(settings, acted, act("key.revoke", key, now), revoke_key, key, now):
        raise _unknown(key)
    result_console().print(f"{key} is revoked")


def new_key(connection: Connection, new: NewKey, budget_micros: int | None) -> dict[str, str | int | None]:
    """Make a key; a team made with it starts with this monthly budget, when there is one. Money is micro-USD."""
    ids = Ids(SystemClock())
    known = connection.execute(select(teams.c.id).where(teams.c.name == new.team_name)).scalar_one_or_none()
    if known is not None and (new.timezone is not None or new.plan is not None):
        raise CommandError(ExitCode.USAGE, f"team {new.team_name} exists and keeps its terms", "vidgate teams set")
    key_id, team_id, secret = create_key(connection, ids, new)
    if known is None:
        note(connection, act("team.create", team_id, new.at))
    note(connection, act("key.create", key_id, new.at))
    if known is None and budget_micros is not None:
        budget = Budget(ids.new("budget"), team_id, WindowKind.MONTH, limit_micros=budget_micros)
        set_budget(connection, budget, new.at)
        note(connection, act("budget.set", budget.budget_id, new.at))
    made: dict[str, str | int | None] = {"key": secret, "key_id": key_id, "team_id": team_id}
    return made | {"budget_micros": budget_micros if known is None else None}


def _micros(usd: str | None, option: str) -> int | None:
    return None if usd is None else micros_from_usd(usd, option)


def _names(text: str | None) -> frozenset[str] | None:
    return None if text is None else frozenset(name.strip() for name in text.split(",") if name.strip())


def _row(one: KeyRow, now: float) -> dict[str, Any]:
    ended = one.expires_at is not None and one.expires_at <= now
    state = "revoked" if one.revoked_at is not None else "expired" if ended else "live"
    if state == "live" and one.old_until is not None and one.old_until > now:
        state = f"live, the old secret until {when(one.old_until)}"
    return {
        "key": one.id,
        "team": one.team_name,
        "name": one.name,
        "begins_with": one.prefix,
        "scopes": scopes_text(one.scopes) or "none",
        "limits": _limits(one.grants) or "none",
        "expires": when(one.expires_at),
        "state": state,
    }


def _limits(grants: Any) -> str:
    parts = [
        f"{name}: {', '.join(sorted(grants[name])) or 'nothing'}"
        for name in ("routes", "providers", "objectives")
        if grants.get(name) is not None
    ]
    if grants.get("max_cost_micros") is not None:
        parts.append(f"{usd(grants['max_cost_micros'])} a request")
    if grants.get("requests_per_minute") is not None:
        parts.append(f"{grants['requests_per_minute']} requests a minute")
    if grants.get("concurrent_jobs") is not None:
        parts.append(f"{grants['concurrent_jobs']} jobs at a time")
    if grants.get("spend_micros_per_hour") is not None:
        parts.append(f"{usd(grants['spend_micros_per_hour'])} an hour")
    return "; ".join(parts)


def _unknown(key: str) -> CommandError:
    return CommandError(ExitCode.USAGE, f"there is no live key {key!r}", "vidgate keys list")
