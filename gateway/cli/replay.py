"""`vidgate replay`: recorded jobs under another objective, price book or set of providers."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.cli.options import AsJson, unfolded
from gateway.cli.output import duration, note_console, print_json, result_console, table
from gateway.cli.plots import PlotFile, dollars, write_plot
from gateway.cli.serve import CONFIG_VARIABLE
from gateway.cli.servers import run
from gateway.clock import SystemClock
from gateway.config import load as load_configuration
from gateway.money.prices import PriceBook, PriceBookError
from gateway.replay import Recorded, Replay, WhatIf, comparable, load
from gateway.replay_report import plot, report
from gateway.settings import StoreSection
from gateway.settings_routing import RoutingSection
from gateway.store.database import POSTGRES_SCHEMES, Patience, StoreError, postgres_store
from policies.values import Objective
from providers.registry import plugins

UNITS_S = {"h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
SINCE = re.compile(r"^(\d{1,4})([hdw])$")
SQLITE = "sqlite:///"
PATIENCE_S = 2.0  # somebody waits at a prompt: an address that nobody answers at is told at once
Json = Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """What is to be otherwise, and over which records."""

    since: Annotated[str, typer.Option(metavar="30d", help="How far back: hours (h), days (d) or weeks (w).")] = "30d"
    objective: Annotated[
        Optional[Objective],  # noqa: UP045 - read at run time
        typer.Option(help="Objective of every job, whatever its caller asked for."),
    ] = None
    price_book: Annotated[
        Optional[Path],  # noqa: UP045 - read at run time
        typer.Option(metavar="FILE", help="Prices to count with, over those in force."),
    ] = None
    without: Annotated[
        Optional[list[str]],  # noqa: UP045 - read at run time
        typer.Option(metavar="ROUTE", help="A route or provider to leave out; repeatable."),
    ] = None
    config: Annotated[
        Optional[Path],  # noqa: UP045 - read at run time
        typer.Option("--config", "-c", envvar=CONFIG_VARIABLE, metavar="FILE", help="Configuration to decide under."),
    ] = None
    store: Annotated[
        Optional[str],  # noqa: UP045 - read at run time
        typer.Option(metavar="URL", help="Database to read; else the configuration's, else that of `vidgate dev`."),
    ] = None


@unfolded()
def replay(asked: Asked, *, plot_to: PlotFile = None, as_json: AsJson = False) -> None:
    """Decide recorded jobs again: what would another objective or price have cost?

    The real router walks through the recorded time, is told every recorded
    fact when it happened, and decides each job anew. Nothing is written.

    [bold]Limits[/]
    Where the new decision is the old one, what really happened is kept.
    Elsewhere it is an estimate: the book's price, and the odds and time that
    the router had learned of that route by then. A route that was hardly used
    is known only by its published figures. Vendors' limits are felt only as
    far as the recorded traffic met them, and failures of moved jobs count as
    lateness, not as a second route's price. Jobs that were canceled, or
    refused for their content, are left out.

    [bold]Examples[/]
        vidgate replay --since 30d --objective fastest
        vidgate replay --without dear/route --plot replay.html
        vidgate replay --price-book new-prices.yaml --json
    """
    now = SystemClock().now()
    what_if, url = _what_if(asked, now)
    recorded = _read(url, now - _seconds(asked.since))
    what_if = what_if if what_if.routes else _with_recorded_routes(what_if, recorded)
    kept = comparable(recorded)
    with Progress(TextColumn("replaying"), BarColumn(), console=note_console(), transient=True) as progress:
        task = progress.add_task("replaying", total=1.0)
        lines = Replay(kept, what_if).run(lambda share: progress.update(task, completed=share))
    options = {
        "since": asked.since,
        "objective": asked.objective,
        "without": list(what_if.without),
        "repriced": what_if.repriced,
    }
    told = report(lines, left_out=len(recorded.jobs) - len(kept.jobs), asked=options)
    if plot_to is not None:
        write_plot(plot_to, plot(told))
    if as_json:
        print_json(told)
    else:
        _show(result_console(), told)


def _seconds(since: str) -> float:
    read = SINCE.match(since)
    if read is None:
        raise CommandError(ExitCode.USAGE, f"--since {since!r} is not a time such as 12h, 30d or 4w")
    return int(read[1]) * UNITS_S[read[2]]


def _what_if(asked: Asked, now: float) -> tuple[WhatIf, str]:
    """What is to be otherwise, and where the records are. Without a configuration the routes are the recorded ones."""
    own = [asked.price_book] if asked.price_book is not None else []
    try:
        if asked.config is None:
            what_if = WhatIf(RoutingSection(), PriceBook.seeded(*own), (), {})
            return _asked(what_if, asked), asked.store or StoreSection().url
        read = load_configuration(asked.config, environment=os.environ, plugins=plugins(), at=now)
        settings = read.settings
        book = [settings.money.price_book] if settings.money.price_book is not None else []
        prices = PriceBook.seeded(*book, *own)
    except PriceBookError as error:
        raise CommandError(ExitCode.USAGE, str(error)) from error
    what_if = WhatIf(settings.routing, prices, read.routes, read.accounts)
    return _asked(what_if, asked), asked.store or settings.store.url


def _asked(what_if: WhatIf, asked: Asked) -> WhatIf:
    return replace(
        what_if, objective=asked.objective, without=tuple(asked.without or ()), repriced=asked.price_book is not None
    )


def _with_recorded_routes(what_if: WhatIf, recorded: Recorded) -> WhatIf:
    """The routes that the recorded plans name, as the installed providers describe them."""
    named = recorded.route_names()
    routes = [route for plugin in plugins().values() for route in plugin.catalogue if route.name in named]
    return replace(what_if, routes=routes)


def _read(url: str, since: float) -> Recorded:
    """Read the records without writing a byte. Raises CommandError when they cannot be read."""
    scheme = url.partition(":")[0]
    if scheme in POSTGRES_SCHEMES:
        return run(_read_shared(StoreSection(url=url, retry_s=PATIENCE_S), since))
    if not url.startswith(SQLITE):
        known = f"{SQLITE}path or postgresql://user@host/database"
        raise CommandError(ExitCode.USAGE, f"records are read from {known}, not from {scheme}")
    path = Path(url.removeprefix(SQLITE))
    if not path.exists():
        mend = "name the database with --store sqlite:///path, or the configuration with --config"
        raise CommandError(ExitCode.USAGE, f"there is no database at {path}", mend)
    engine = create_engine(f"{SQLITE}file:{path.resolve()}?mode=ro&uri=true")
    try:
        with engine.connect() as connection:
            return load(connection, since)
    except SQLAlchemyError as error:
        raise CommandError(ExitCode.USAGE, f"{path} cannot be read: {error}") from error
    finally:
        engine.dispose()


async def _read_shared(settings: StoreSection, since: float) -> Recorded:
    try:
        store = postgres_store()(settings, Patience())  # as it is: not opened as a server would, which migrates
        try:
            return await store.read(load, since)
        finally:
            await store.close()
    except (StoreError, SQLAlchemyError) as error:
        raise CommandError(ExitCode.USAGE, f"the database cannot be read: {error}") from error


def _show(console: Console, told: Json) -> None:
    jobs = told["jobs"]
    if not jobs:
        console.print(f"no job has ended in the last {told['asked']['since']}; {told['left_out']} were left out")
        return
    was, would = told["was"], told["would"]
    rows = table(f"{jobs:,} jobs in {told['asked']['since']}", ">was", ">would have been")
    rows.add_row("cost, as vendors charge", dollars(was["cost_micros"]), dollars(would["cost_micros"]))
    rows.add_row("in time", _share(was["in_time"], jobs), _share(would["in_time"], jobs))
    rows.add_row("without a video or a route", str(was["lost"]), str(would["lost"]))
    rows.add_row("time, p50", duration(was["p50_s"]), duration(would["p50_s"]))
    for route in sorted(was["mix"].keys() | would["mix"].keys()):
        rows.add_row(f"  {route}", f"{was['mix'].get(route, 0):,}", f"{would['mix'].get(route, 0):,}")
    console.print(rows, "")
    counts = told["decisions"]
    console.print(
        f"{counts.get('kept', 0):,} decisions stay as they were and keep what really happened; "
        f"{counts.get('moved', 0):,} are estimates; {told['left_out']:,} jobs were left out as the caller's doing."
    )
    for move in told["moves"][:5]:
        console.print(f"  {move['jobs']:>6,}  {move['from']} → {move['to']}", style="dim")


def _share(count: float, jobs: int) -> str:
    return f"{count:,.1f} ({100 * count / jobs:.1f} %)"
