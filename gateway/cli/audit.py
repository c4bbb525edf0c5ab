"""`vidgate audit`: what administrators did, by command and over HTTP."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Optional

import typer

from gateway import audit
from gateway.api.shown import rfc3339
from gateway.cli.database import in_database, when
from gateway.cli.options import unfolded
from gateway.cli.serve import ConfigFile, read_configuration
from gateway.cli.tables import Form, show_rows

COLUMNS = ("at", "who", "via", "act", "target", "before", "after")
OptionalText = Optional[str]  # noqa: UP045 - read at run time

app = typer.Typer(no_args_is_help=True)


@app.callback()
def audit_() -> None:
    """What administrators did: teams, keys, budgets, webhooks, rulings, parked jobs, bookings.

    [bold]Example[/]
        vidgate audit list --act key.create
    """


@app.command("list")
@unfolded()
def list_(
    *,
    act: Annotated[OptionalText, typer.Option(help="Only this act, such as key.revoke.")] = None,
    target: Annotated[OptionalText, typer.Option(metavar="ID", help="Only what was done to this.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 100,
    config: ConfigFile = None,
    form: Form,
) -> None:
    """List the latest acts: who did what to what, and what it changed. Secrets are not in it.

    [bold]Examples[/]
        vidgate audit list
        vidgate audit list --act key.create --limit 20
        vidgate audit list --target team_0197f2c4a1b2 --json
    """
    found = in_database(read_configuration(config).settings, audit.entries, act=act, target=target, count_max=limit)
    facts = [dataclasses.asdict(one) for one in found]
    texts = [{name: json.dumps(one[name]) for name in ("before", "after")} for one in facts]
    rows = [{**one, **text, "at": when(one["at"])} for one, text in zip(facts, texts, strict=True)]
    shown = [{**one, "at": rfc3339(one["at"])} for one in facts]
    show_rows(form, rows, title="What administrators did", columns=COLUMNS, shown=shown)
