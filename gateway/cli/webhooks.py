"""`vidgate webhooks`: who is told of what, the secrets that sign it, and sending again."""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer
from sqlalchemy import Connection

from gateway import outbox
from gateway import webhooks as store
from gateway.audit import acted
from gateway.cli.acts import act
from gateway.cli.database import in_database, span, team_names, team_of, when
from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.cli.options import AsJson, unfolded
from gateway.cli.output import note_console, print_json, result_console
from gateway.cli.serve import ConfigFile, read_configuration
from gateway.cli.tables import Form, show_rows
from gateway.clock import SystemClock
from gateway.ids import Ids
from gateway.webhook_urls import WebhookError, check_url

HOUR_S = 3600.0
COLUMNS = ("webhook", "team", "url", "events", "state")
DELIVERY_COLUMNS = ("event", "type", "at", "webhook", "state", "tries", "last")
OptionalText = Optional[str]  # noqa: UP045 - read at run time
WebhookId = Annotated[str, typer.Argument(help="The webhook's id.", show_default=False)]

app = typer.Typer(no_args_is_help=True, help="Who is told of what happens.")


@app.command("add")
def add(
    url: Annotated[str, typer.Argument(help="Where events are sent, https.", show_default=False)],
    *,
    team: Annotated[OptionalText, typer.Option(help="The team whose events they are.")] = None,
    operator: Annotated[
        bool, typer.Option("--operator", help="The operator's: accounts, prices, parked jobs.")
    ] = False,
    event: Annotated[
        Optional[list[str]],  # noqa: UP045 - read at run time
        typer.Option(metavar="TYPE", help="Only this type, such as job.succeeded; repeatable."),
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Add an endpoint and show its secret, once.

    Requests are signed by Standard Webhooks (webhook-id, webhook-timestamp,
    webhook-signature) and repeated for three days until the endpoint answers 2xx.

    [bold]Examples[/]
        vidgate webhooks add https://example.com/hook --team film
        vidgate webhooks add https://example.com/hook --team film --event job.succeeded
        vidgate webhooks add https://ops.example.com/vidgate --operator
    """
    if operator == (team is not None):
        raise CommandError(ExitCode.USAGE, "name either --team or --operator")
    settings = read_configuration(config).settings
    clock = SystemClock()
    try:
        check_url(url)
        webhook_id = Ids(clock).new("hook")
        chosen = None if event is None else tuple(event)
        secret = in_database(settings, _add, team, store.NewWebhook(webhook_id, team, url, clock.now(), chosen))
    except WebhookError as error:
        raise CommandError(ExitCode.USAGE, str(error)) from error
    _show_secret(webhook_id, secret, as_json)


@app.command("list")
@unfolded()
def list_(
    team: Annotated[OptionalText, typer.Option(help="Only this team's.")] = None,
    *,
    config: ConfigFile = None,
    form: Form,
) -> None:
    """List the endpoints; secrets are not shown.

    [bold]Example[/]
        vidgate webhooks list --json
    """
    rows = in_database(read_configuration(config).settings, _listed, team)
    show_rows(form, rows, title="Webhooks", columns=COLUMNS)


@app.command("rotate")
def rotate(
    webhook: WebhookId,
    *,
    overlap: Annotated[float, typer.Option(min=0, metavar="HOURS", help="How long the old one signs too.")] = 24.0,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Give an endpoint a new secret and show it, once; an endpoint that was disabled is used again.

    [bold]Example[/]
        vidgate webhooks rotate hook_0197f2c4a1b2 --overlap 48
    """
    settings, now = read_configuration(config).settings, SystemClock().now()
    overlap_s = span(overlap, HOUR_S, "--overlap")
    done = act("webhook.rotate", webhook, now)
    secret = in_database(settings, acted, done, store.rotate_webhook, webhook, now, overlap_s)
    if secret is None:
        raise _unknown(webhook)
    _show_secret(webhook, secret, as_json)


@app.command("enable")
def enable(webhook: WebhookId, *, config: ConfigFile = None) -> None:
    """Use an endpoint again that was disabled or is left alone for a while; what waits for it is sent.

    [bold]Example[/]
        vidgate webhooks enable hook_0197f2c4a1b2
    """
    done = act("webhook.enable", webhook, SystemClock().now())
    if not in_database(read_configuration(config).settings, acted, done, store.enable_webhook, webhook):
        raise _unknown(webhook)
    result_console().print(f"{webhook} is in use")


@app.command("remove")
def remove(webhook: WebhookId, *, config: ConfigFile = None) -> None:
    """Forget an endpoint, and what was still to be sent to it.

    [bold]Example[/]
        vidgate webhooks remove hook_0197f2c4a1b2
    """
    done = act("webhook.remove", webhook, SystemClock().now())
    if not in_database(read_configuration(config).settings, acted, done, store.remove_webhook, webhook):
        raise _unknown(webhook)
    result_console().print(f"{webhook} is removed")


@app.command("deliveries")
@unfolded()
def deliveries(
    *,
    state: Annotated[OptionalText, typer.Option(help="Only these: pending, delivered or failed.")] = None,
    config: ConfigFile = None,
    form: Form,
) -> None:
    """Show the latest deliveries of all endpoints, and how the last try of each ended.

    [bold]Examples[/]
        vidgate webhooks deliveries
        vidgate webhooks deliveries --state failed --json
    """
    rows = in_database(read_configuration(config).settings, _deliveries, state)
    show_rows(form, rows, title="Deliveries", columns=DELIVERY_COLUMNS)


@app.command("replay")
def replay(
    event: Annotated[str, typer.Argument(help="The event's id, evt_...", show_default=False)],
    *,
    webhook: Annotated[OptionalText, typer.Option(metavar="WEBHOOK_ID", help="Only to this endpoint.")] = None,
    config: ConfigFile = None,
) -> None:
    """Send an event again, under its old id, to every endpoint that was to have it.

    A running gateway sends it within seconds.

    [bold]Example[/]
        vidgate webhooks replay evt_5f1d0c3e9a7b4c62
    """
    settings, now = read_configuration(config).settings, SystemClock().now()
    count = in_database(settings, acted, act("event.replay", event, now), outbox.replay, event, now, webhook)
    if not count:
        raise CommandError(ExitCode.USAGE, f"no delivery of {event!r} is known", "vidgate webhooks deliveries")
    for name in in_database(settings, outbox.disabled_targets, event):
        note_console().print(
            f"[yellow]warning:[/] {name} is disabled and gets it after: vidgate webhooks enable {name}"
        )
    result_console().print(f"{event} will be sent again to {count} endpoint{'s' * (count != 1)}")


def _add(connection: Connection, team: str | None, new: store.NewWebhook) -> str:
    team_id = None if team is None else team_of(connection, team, live=True)[0]
    wanted = store.NewWebhook(new.webhook_id, team_id, new.url, new.at, new.events)
    return acted(connection, act("webhook.add", new.webhook_id, new.at), store.add_webhook, wanted)


def _listed(connection: Connection, team: str | None) -> list[dict[str, Any]]:
    names = team_names(connection)
    team_id = None if team is None else team_of(connection, team)[0]
    return [
        {
            "webhook": one.id,
            "team": "(operator)" if one.team_id is None else names[one.team_id],
            "url": one.url,
            "events": "usage" if one.kind == "usage" else "all" if one.events is None else ", ".join(one.events),
            "state": _state(one),
        }
        for one in store.list_webhooks(connection, team_id)
    ]


def _state(one: store.Webhook) -> str:
    if one.disabled_at is not None:
        return f"disabled: {one.disabled_why}"
    return "in use" if one.failing_since is None else f"in use, failing since {when(one.failing_since)}"


def _deliveries(connection: Connection, state: str | None) -> list[dict[str, Any]]:
    return [
        {
            "event": one["event_id"],
            "type": one["type"],
            "at": when(one["at"]),
            "webhook": one["webhook_id"],
            "state": one["state"],
            "tries": len(one["log"]),
            "last": (one["log"][-1]["fault"] or f"HTTP {one['log'][-1]['status']}") if one["log"] else None,
        }
        for one in outbox.deliveries(connection, state=state)
    ]


def _show_secret(webhook_id: str, secret: str, as_json: bool) -> None:
    if as_json:
        print_json({"webhook": webhook_id, "secret": secret})
        return
    result_console().print(f"[bold]{secret}[/]")
    result_console().print(f"signs what {webhook_id} is sent; it is not shown again", style="dim")


def _unknown(webhook: str) -> CommandError:
    return CommandError(ExitCode.USAGE, f"there is no webhook {webhook!r} to change", "vidgate webhooks list")
