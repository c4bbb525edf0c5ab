"""`vidgate prices`: the price book in force, how far vendors' reported costs are from it, and better figures."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.cli.database import in_database, instant
from gateway.cli.exit_codes import ExitCode
from gateway.cli.options import unfolded
from gateway.cli.output import note_console, result_console
from gateway.cli.serve import ConfigFile, read_configuration
from gateway.cli.tables import Form, show_rows
from gateway.clock import SystemClock
from gateway.config import Configuration
from gateway.money.drift import price_drift, suggest_prices
from gateway.money.prices import PriceBook
from policies.fit import fit
from providers.capability import Route

USUAL_SIZE = (1024, 576)
SHOW_COLUMNS = ("route", "usual_micros", "worst_micros", "confidence", "in_force", "figures")
DRIFT_COLUMNS = ("route", "observations", "reported_micros", "book_micros", "ratio", "highest_ratio", "state")
Since = Annotated[str, typer.Option(metavar="TIME", help="From here on: a date, or back from now (30d).")]

app = typer.Typer(no_args_is_help=True, help="The price book, and how it compares with what vendors charge.")


@app.command("show")
@unfolded()
def show(*, config: ConfigFile = None, form: Form) -> None:
    """Show the price in force of every route, for a request that names no parameter.

    The worst case is what is held for it. Prices are the vendor's, before margin.

    [bold]Examples[/]
        vidgate prices show
        vidgate prices show --json
    """
    configuration = read_configuration(config)
    book, now = _book(configuration), SystemClock().now()
    rows = [_price(book, route, now) for route in configuration.routes]
    show_rows(form, rows, title="Price book", columns=SHOW_COLUMNS)


@app.command("drift")
@unfolded()
def drift(since: Since = "7d", *, config: ConfigFile = None, form: Form) -> None:
    """Show how far the costs that vendors reported are from the price book.

    It exits with 7 when a route is off by more than money.price_drift_threshold.

    [bold]Examples[/]
        vidgate prices drift
        vidgate prices drift --since 30d --json
    """
    settings = read_configuration(config).settings
    start = instant(since, SystemClock().now(), "--since")
    found = in_database(settings, price_drift, start, settings.money.price_drift_threshold)
    rows = [
        {
            "route": one.route,
            "observations": one.observations,
            "reported_micros": one.reported_micros,
            "book_micros": one.book_micros,
            "ratio": one.ratio,
            "highest_ratio": one.highest_ratio,
            "state": "drifted" if one.is_beyond else "fine",
        }
        for one in found
    ]
    show_rows(form, rows, title=f"Reported costs against the price book since {since}", columns=DRIFT_COLUMNS)
    if any(one.is_beyond for one in found):
        raise typer.Exit(ExitCode.DRIFT)


@app.command("suggest")
def suggest(since: Since = "30d", *, config: ConfigFile = None) -> None:
    """Propose figures for the price book from what vendors reported, as YAML to look through and take over.

    A route needs ten reported costs. Save it as a file of your own and name that
    in money.price_book.

    [bold]Example[/]
        vidgate prices suggest --since 30d > prices.yaml
    """
    configuration = read_configuration(config)
    now = SystemClock().now()
    start = instant(since, now, "--since")
    text = in_database(configuration.settings, suggest_prices, _book(configuration), since=start, at=now)
    if not text:
        note_console().print("no route has enough reported costs in that time: the price book stays as it is")
        return
    result_console().print(text, markup=False, soft_wrap=True, end="")


def _book(configuration: Configuration) -> PriceBook:
    own = configuration.settings.money.price_book
    return PriceBook.seeded(own) if own is not None else PriceBook.seeded()


def _price(book: PriceBook, route: Route, now: float) -> dict[str, Any]:
    usual = fit(route, {}, mode="nearest", image_size=USUAL_SIZE)
    price, formula = book.price(route.name, usual.values, now), book.formula(route.name, now)
    terms = formula.terms if formula is not None else ()
    return {
        "route": route.name,
        "usual_micros": price.cost_micros if price is not None else None,
        "worst_micros": price.worst_micros if price is not None else None,
        "confidence": str(price.confidence) if price is not None else None,
        "in_force": price.source.rpartition("@")[2] if price is not None else None,
        "figures": ", ".join(f"${term.usd:f} a {term.per.replace('_', ' ')}" for term in terms) or "free",
    }
