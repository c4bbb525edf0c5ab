"""`vidgate simulate`: a synthetic week on the real router, for questions about capacity and budget."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.cli.options import AsJson
from gateway.cli.output import duration, note_console, print_json, result_console, table, usd
from gateway.cli.plots import PlotFile, dollars, write_plot
from gateway.scenario import ScenarioError, load_scenario
from gateway.simulate import Simulation
from gateway.simulate_report import plot

Json = Mapping[str, Any]


def simulate(
    scenario: Annotated[Path, typer.Argument(metavar="SCENARIO.yaml", help="The scenario; examples/week.yaml is one.")],
    *,
    seed: Annotated[int, typer.Option(min=0, help="Source of all chance: the same seed gives the same week.")] = 1,
    days: Annotated[
        Optional[int],  # noqa: UP045 - read at run time
        typer.Option(min=1, max=92, help="Days to simulate instead of the scenario's."),
    ] = None,
    plot_to: PlotFile = None,
    as_json: AsJson = False,
) -> None:
    """Simulate a week of requests in virtual time: what would it cost, and what would come too late?

    The router and the retry rules are those of the gateway. Vendors behave as
    the scenario says: prices, times, failures, limits, credit, outages. No
    gateway is asked and nothing is sent anywhere.

    [bold]Limits[/]
    The answer is as good as the scenario. Arrivals are independent of each
    other and of how long jobs take, balances are known at once, submits are
    never in doubt, and a job has one attempt at a time, as in the gateway.

    [bold]Examples[/]
        vidgate simulate examples/week.yaml
        vidgate simulate examples/week.yaml --seed 7 --plot week.html
        vidgate simulate examples/week.yaml --json | jq .providers
    """
    try:
        read = load_scenario(scenario)
    except ScenarioError as error:
        raise CommandError(ExitCode.USAGE, str(error)) from error
    if days is not None:
        read = read.model_copy(update={"days": days})
    simulation = Simulation(read, seed)
    columns = (TextColumn("simulating"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn())
    with Progress(*columns, console=note_console(), transient=True) as progress:
        task = progress.add_task("simulating", total=1.0)
        for share in simulation.run():
            progress.update(task, completed=share)
    report = simulation.figures.report(read.name, seed)
    if plot_to is not None:
        write_plot(plot_to, plot(report))
    if as_json:
        print_json(report)
    else:
        _show(result_console(), report)


def _show(console: Console, report: Json) -> None:
    jobs = max(1, report["jobs"])
    each = usd(report["spend_micros"] // jobs)
    console.print(f"[bold]{report['scenario']}[/]  {report['days']} days, seed {report['seed']}\n")
    console.print(
        f"{report['jobs']:,} jobs, {dollars(report['spend_micros'])} in all, {each} each; "
        f"{100 * report['in_time'] / jobs:.2f} % in time, {report['late']:,} late, {report['lost']:,} without a video"
    )
    console.print(
        f"at most {report['peak_in_flight']} renders at a time and {report['peak_waiting']} jobs waiting; "
        f"wait to start p50 {duration(report['wait_p50_s'])}, p95 {duration(report['wait_p95_s'])}\n"
    )
    _show_kinds(console, report["kinds"])
    _show_routes(console, report["routes"])
    _show_providers(console, report["providers"])


def _show_kinds(console: Console, kinds: Json) -> None:
    rows = table("requests", ">jobs", ">in time", ">late", ">no video", ">p50", ">p95")
    for name, one in sorted(kinds.items()):
        lost = ", ".join(f"{count} {why}" for why, count in one["lost"].items()) or "0"
        rows.add_row(
            name,
            f"{one['jobs']:,}",
            f"{100 * one['in_time'] / max(1, one['jobs']):.2f} %",
            f"{one['late']:,}",
            lost,
            duration(one["p50_s"]),
            duration(one["p95_s"]),
        )
    console.print(rows, "")


def _show_routes(console: Console, routes: Json) -> None:
    rows = table("route", ">delivered", ">calls", ">refused", ">failed", ">most at a time", ">spend")
    for name, one in routes.items():
        counts = (f"{one[column]:,}" for column in ("delivered", "calls", "refused", "failed", "peak_in_flight"))
        rows.add_row(name, *counts, dollars(one["spend_micros"]))
    console.print(rows, "")


def _show_providers(console: Console, providers: Json) -> None:
    rows = table("provider", ">spend", ">busiest day", ">bought", ">credit left", ">lasts", "first empty")
    for name, one in providers.items():
        dry = one["dry_at_h"]
        rows.add_row(
            name,
            dollars(one["spend_micros"]),
            dollars(one["busiest_day_micros"]),
            dollars(one["topped_up_micros"]),
            dollars(one["credit_left_micros"]),
            "-" if one["runway_h"] is None else f"{one['runway_h'] / 24:.1f} days",
            "never" if dry is None else f"day {int(dry // 24) + 1}, {int(dry % 24):02d}:{int(dry * 60 % 60):02d}",
        )
    console.print(rows)
