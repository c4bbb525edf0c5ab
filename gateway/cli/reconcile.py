"""`vidgate reconcile`: our books against a vendor's own list of charges, day by day, and what follows from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from sqlalchemy import Connection

from gateway.audit import note
from gateway.cli.acts import act
from gateway.cli.database import in_database, instant, when
from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.cli.options import AsJson, unfolded
from gateway.cli.output import note_console, print_json, result_console, table, usd
from gateway.cli.serve import ConfigFile, read_configuration
from gateway.clock import SystemClock
from gateway.money.balances import BalanceDay, balance_drift
from gateway.money.mending import Mended, mend
from gateway.money.reconcile import ImportResult, Reconciliation, import_charges
from gateway.money.reconcile import reconcile as compare
from gateway.money.transfers import books_alone
from gateway.money.usage_files import UsageFileError, VendorCharge, read_usage

SHOWN_MAX = 20
OptionalText = Optional[str]  # noqa: UP045 - read at run time


@dataclass(frozen=True)
class Extent:
    """What is compared: a file to take in first, and from when to when."""

    file: Annotated[
        Optional[Path],  # noqa: UP045 - read at run time
        typer.Option("--import", metavar="FILE", help="The vendor's usage file to take in first: JSON rows or CSV."),
    ] = None
    since: Annotated[str, typer.Option(metavar="TIME", help="From here on: a date, or back from now (30d).")] = "31d"
    until: Annotated[OptionalText, typer.Option(metavar="TIME", help="Up to here, not included; now if left out.")] = (
        None
    )
    complete_until: Annotated[
        OptionalText, typer.Option(metavar="TIME", help="Up to here the vendor's list is known to be whole.")
    ] = None


@unfolded()
def reconcile(
    provider: Annotated[str, typer.Argument(help="The provider, as in the configuration.", show_default=False)],
    *,
    extent: Extent,
    book: Annotated[bool, typer.Option(help="Book what the list tells: suspense ends, amounts are corrected.")] = True,
    accept_unmatched: Annotated[
        bool, typer.Option(help="Take the vendor's word for charges that only one side has, too.")
    ] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare a provider's own list of charges with our books and show the drift of every day.

    Charges are matched by the vendor's request id; what waits in suspense is given
    the charge that nothing else explains. Without [bold]--complete-until[/] nothing is
    concluded from a charge that is missing from the list. A CSV has the columns
    request_id, at, amount_usd and, if there is one, status.

    It exits with 7 when drift is left, so that a nightly run can raise an alarm.

    [bold]Examples[/]
        vidgate reconcile PROVIDER --import history.json --complete-until 2026-11-01
        vidgate reconcile PROVIDER --no-book
        vidgate reconcile PROVIDER --import usage.csv --since 2026-10-01 --until 2026-11-01 --json
    """
    configuration = read_configuration(config)
    if provider not in configuration.accounts:
        raise CommandError(
            ExitCode.USAGE, f"no provider {provider!r} is configured", f"one of: {', '.join(configuration.accounts)}"
        )
    now, settings = SystemClock().now(), configuration.settings
    charges = _read(extent.file, provider) if extent.file is not None else None
    taken = in_database(settings, _imported, provider, charges, now) if charges is not None else None
    span = (instant(extent.since, now, "--since"), instant(extent.until, now, "--until") if extent.until else now)
    complete = instant(extent.complete_until, now, "--complete-until") if extent.complete_until else None
    mended = None
    if book:
        mended, found = in_database(settings, _mended, provider, span, complete, now, accept_unmatched=accept_unmatched)
    else:
        found = in_database(settings, _compared, provider, span, complete)
    balances = in_database(settings, _balances, provider, span)
    if as_json:
        print_json(_as_json(found, taken, mended, balances))
    else:
        _show(found, taken, mended, balances)
    if any(day.drift_micros for day in found.days) or found.only_ours or found.only_theirs:
        raise typer.Exit(ExitCode.DRIFT)


def _read(file: Path, provider: str) -> list[VendorCharge]:
    try:
        return read_usage(file.read_text(encoding="utf-8"), provider)
    except (OSError, UnicodeDecodeError, UsageFileError) as error:
        raise CommandError(ExitCode.USAGE, f"{file} cannot be used: {error}") from error


def _imported(connection: Connection, provider: str, charges: list[VendorCharge], at: float) -> ImportResult:
    taken = import_charges(connection, charges, at)
    note(connection, act("reconcile.import", provider, at), after={"new": taken.new, "known": taken.known})
    return taken


def _compared(
    connection: Connection, provider: str, span: tuple[float, float], complete_until: float | None
) -> Reconciliation:
    return compare(connection, provider, since=span[0], until=span[1], complete_until=complete_until)


def _mended(
    connection: Connection,
    provider: str,
    span: tuple[float, float],
    complete_until: float | None,
    at: float,
    *,
    accept_unmatched: bool,
) -> tuple[Mended, Reconciliation]:
    """Compare, book and compare again as one: what is shown is what was booked, also beside a running gateway."""
    books_alone(connection)
    found = _compared(connection, provider, span, complete_until)
    mended = mend(connection, found, at, accept_unmatched=accept_unmatched)
    if any(asdict(mended).values()):
        note(connection, act("reconcile.book", provider, at), after=asdict(mended))
    return mended, _compared(connection, provider, span, complete_until)


def _balances(connection: Connection, provider: str, span: tuple[float, float]) -> list[BalanceDay]:
    return balance_drift(connection, provider, since=span[0], until=span[1])


def _show(found: Reconciliation, taken: ImportResult | None, mended: Mended | None, balances: list[BalanceDay]) -> None:
    console = result_console()
    if taken is not None:
        note_console().print(f"imported {taken.new} charges, {taken.known} were known")
        for request_id in taken.conflicting:
            note_console().print(f"[yellow]warning:[/] {request_id} was known with another amount, which stays")
    by_balance = {day.day: day for day in balances}
    days = table("day", ">ours", ">theirs", ">drift", ">only ours", ">only theirs", ">balance drift")
    days.title = f"{found.provider}: our books against the vendor's list"
    for day in found.days:
        style = "red" if day.drift_micros else ""
        seen = by_balance.get(day.day)
        days.add_row(
            day.day,
            usd(day.ours_micros),
            usd(day.theirs_micros),
            usd(day.drift_micros),
            str(day.only_ours),
            str(day.only_theirs),
            usd(seen.drift_micros) if seen is not None else "-",
            style=style,
        )
    console.print(days)
    _show_unmatched("only in our books", [(one.request_id, one.amount_micros, one.at) for one in found.only_ours])
    _show_unmatched("only on the vendor's list", [(c.request_id, c.amount_micros, c.at) for c in found.only_theirs])
    if mended is not None:
        console.print(
            f"suspense ended: {mended.suspense_charged} charged, {mended.suspense_returned} not; "
            f"{mended.corrected} amounts corrected, {mended.accepted} unmatched accepted"
        )
    style = "green" if not found.drift_micros else "red"
    console.print(f"charges that agree: {found.agreed}; drift [bold {style}]{usd(found.drift_micros)}[/]")


def _show_unmatched(title: str, rows: list[tuple[str | None, int, float]]) -> None:
    if not rows:
        return
    made = table("request", ">amount", "at", title=f"{len(rows)} {title}")
    for request_id, micros, at in rows[:SHOWN_MAX]:
        made.add_row(request_id or "(not known)", usd(micros), when(at))
    if len(rows) > SHOWN_MAX:
        made.add_row("…", "", "all of them with --json")
    result_console().print(made)


def _as_json(
    found: Reconciliation, taken: ImportResult | None, mended: Mended | None, balances: list[BalanceDay]
) -> dict[str, Any]:
    return {
        "provider": found.provider,
        "imported": None if taken is None else asdict(taken),
        "booked": None if mended is None else asdict(mended),
        "agreed": found.agreed,
        "drift_micros": found.drift_micros,
        "days": [asdict(day) | {"drift_micros": day.drift_micros} for day in found.days],
        "only_ours": [asdict(one) for one in found.only_ours],
        "only_theirs": [asdict(one) for one in found.only_theirs],
        "differences": [asdict(one) for one in found.differences],
        "in_suspense": [asdict(one) for one in found.verdicts],
        "balances": [asdict(day) | {"drift_micros": day.drift_micros} for day in balances],
    }
