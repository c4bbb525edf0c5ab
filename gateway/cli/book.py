"""`vidgate book` and `vidgate balance`: what an operator writes into the ledger, and how all of it adds up."""

from __future__ import annotations

from typing import Annotated, Any, Optional

import typer
from sqlalchemy import Connection, func, select

from gateway import events
from gateway.audit import note
from gateway.cli.acts import act
from gateway.cli.database import in_database, team_names
from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.cli.options import AsJson
from gateway.cli.output import print_json, result_console, table, usd
from gateway.cli.serve import ConfigFile, read_configuration
from gateway.clock import SystemClock
from gateway.ids import Ids
from gateway.money import ledger
from gateway.money.amounts import AmountError, micros_from_usd
from gateway.money.transfers import LOSS, MARGIN, SUSPENSE, team_account
from gateway.store.schema_money import holds

app = typer.Typer(no_args_is_help=True, help="Write into the ledger what no job books: credit bought, refunds.")

Amount = Annotated[str, typer.Argument(metavar="USD", help="Dollars, such as 12.50.", show_default=False)]
Provider = Annotated[str, typer.Argument(help="The provider.", show_default=False)]
BookingName = Annotated[
    Optional[str],  # noqa: UP045 - read at run time
    typer.Option("--id", metavar="NAME", help="The booking's own name, such as the invoice's; booked once."),
]


@app.command("top-up")
def top_up(
    provider: Provider,
    amount: Amount,
    *,
    reason: Annotated[str, typer.Option(help="Why, for the books.")] = "credit bought",
    name: BookingName = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Book credit that was bought at a provider.

    [bold]Examples[/]
        vidgate book top-up PROVIDER 100
        vidgate book top-up PROVIDER 100 --id invoice-2026-117 --reason "invoice 117"
    """
    at, micros = SystemClock().now(), _micros(amount)
    bought = ledger.TopUp(name or Ids(SystemClock()).new("topup"), provider, micros, at, _reason(reason))
    _book_credit(bought, config, as_json)


@app.command("opening")
def opening(provider: Provider, amount: Amount, *, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Book the credit that a provider's account had when vidgate began to count; once a provider.

    [bold]Example[/]
        vidgate book opening PROVIDER 83.20
    """
    at, micros = SystemClock().now(), _micros(amount)
    _book_credit(ledger.TopUp(f"opening:{provider}", provider, micros, at, "opening balance"), config, as_json)


@app.command("refund")
def refund(
    job: Annotated[str, typer.Argument(help="The job's id.", show_default=False)],
    amount: Amount,
    *,
    reason: Annotated[str, typer.Option(help="Why, for the team's statement.", show_default=False)],
    name: BookingName = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Give a team back part or all of what a job was billed; the margin bears it.

    [bold]Examples[/]
        vidgate book refund job_0197f2c4a1b2 0.10 --reason "blurred, by agreement"
        vidgate book refund job_0197f2c4a1b2 0.10 --reason "blurred" --id ticket-88
    """
    at, micros = SystemClock().now(), _micros(amount)
    booking = name or Ids(SystemClock()).new("refund")
    wanted = (f"refund:{booking}", job, micros, _reason(reason), at)
    booked = in_database(read_configuration(config).settings, _refund, wanted)
    _show_booked(booked, f"{usd(micros)} of {job} given back", micros, as_json)


def balance(*, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show the balance of every account, their sum, and whether the books keep all their rules.

    It exits with 7 when a rule is broken, naming the rows.

    [bold]Examples[/]
        vidgate balance
        vidgate balance --json
    """
    told = in_database(read_configuration(config).settings, _balance)
    if as_json:
        print_json(told)
    else:
        _show_balance(told)
    if told["violations"]:
        raise typer.Exit(ExitCode.DRIFT)


def _micros(text: str) -> int:
    try:
        micros = micros_from_usd(text, "the amount")
    except AmountError as error:
        raise CommandError(ExitCode.USAGE, str(error)) from error
    if micros == 0:
        raise CommandError(ExitCode.USAGE, "the amount must be above 0")
    return micros


def _reason(text: str) -> str:
    if not text.strip():
        raise CommandError(ExitCode.USAGE, "a booking needs a reason", '--reason "..."')
    return text


def _book_credit(bought: ledger.TopUp, config: ConfigFile, as_json: bool) -> None:
    configuration = read_configuration(config)
    if bought.provider not in configuration.accounts:
        known = ", ".join(sorted(configuration.accounts))
        raise CommandError(ExitCode.USAGE, f"no provider {bought.provider!r} is configured", f"one of: {known}")
    booked = in_database(configuration.settings, _top_up, bought)
    _show_booked(booked, f"{usd(bought.amount_micros)} at {bought.provider}", bought.amount_micros, as_json)


def _show_booked(booked: ledger.Booked | ledger.AlreadyBooked, what: str, micros: int, as_json: bool) -> None:
    if isinstance(booked, ledger.AlreadyBooked):
        raise CommandError(ExitCode.USAGE, f"{booked.reference} is booked already; nothing changed", "another --id")
    if as_json:
        print_json({"booked": True, "amount_micros": micros})
        return
    result_console().print(f"booked: {what}", markup=False)


def _top_up(connection: Connection, bought: ledger.TopUp) -> ledger.Booked | ledger.AlreadyBooked:
    booked = ledger.top_up(connection, bought)
    if isinstance(booked, ledger.Booked):
        facts = {"booking": bought.top_up_id, "amount_micros": bought.amount_micros, "reason": bought.reason}
        note(connection, act("book.credit", bought.provider, bought.at), after=facts)
    return booked


def _refund(connection: Connection, wanted: tuple[str, str, int, str, float]) -> ledger.Booked | ledger.AlreadyBooked:
    booking, job_id, micros, reason, at = wanted
    hold = connection.execute(select(holds.c.id, holds.c.team_id).where(holds.c.job_id == job_id)).one_or_none()
    if hold is None:
        raise CommandError(ExitCode.USAGE, f"there is no job {job_id!r} on the books")
    correction = ledger.Correction(
        booking, debit=MARGIN, credit=team_account(hold.team_id), amount_micros=micros, at=at, reason=reason,
        hold_id=hold.id,
    )  # fmt: skip
    try:
        booked = ledger.correct(connection, correction)
    except ledger.CorrectionError as error:
        raise CommandError(ExitCode.USAGE, str(error)) from error
    events.emit_correction(connection, f"correct:{booking}", at)
    if isinstance(booked, ledger.Booked):
        facts = {"booking": booking, "amount_micros": micros, "reason": reason}
        note(connection, act("book.refund", job_id, at), after=facts)
    return booked


def _balance(connection: Connection) -> dict[str, Any]:
    """The trial balance with its sum, what stands out of it, and every broken rule. Money is micro-USD."""
    accounts = ledger.trial_balance(connection)
    is_open = holds.c.state == "open"
    count, held = connection.execute(select(func.count(), func.sum(holds.c.amount_micros)).where(is_open)).one()
    names = team_names(connection)
    total = sum(accounts.values())
    violations = ledger.check(connection) + ([] if total == 0 else [f"the accounts sum to {total}, not to 0"])
    return {
        "accounts_micros": accounts,
        "teams": {team_account(team_id): name for team_id, name in names.items() if team_account(team_id) in accounts},
        "sum_micros": total,
        "open_holds": {"count": count, "amount_micros": int(held or 0)},
        "suspense_micros": accounts.get(SUSPENSE, 0),
        "loss_micros": accounts.get(LOSS, 0),
        "margin_micros": -accounts.get(MARGIN, 0),
        "violations": violations,
    }


def _show_balance(told: dict[str, Any]) -> None:
    shown = table("account", "team", ">balance", title="Trial balance: debits less credits")
    for account, micros in told["accounts_micros"].items():
        shown.add_row(account, told["teams"].get(account, ""), usd(micros))
    shown.add_row("sum", "", usd(told["sum_micros"]), style="bold")
    console, held = result_console(), told["open_holds"]
    console.print(shown)
    console.print(f"open holds: {held['count']}, {usd(held['amount_micros'])} in all")
    console.print(
        f"suspense {usd(told['suspense_micros'])}, loss {usd(told['loss_micros'])}, margin {usd(told['margin_micros'])}"
    )
    for sentence in told["violations"]:
        console.print(f"broken: {sentence}", style="red", markup=False)
    if not told["violations"]:
        console.print("every rule of the books is kept", style="green")
