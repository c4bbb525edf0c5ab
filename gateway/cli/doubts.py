"""`vidgate doubts`: submits whose outcome nobody knows, what is known of each, and the word that settles one."""

from __future__ import annotations

import getpass
import json
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Optional

import typer
from rich.text import Text
from sqlalchemy import Connection, select

from gateway.api.shown import rfc3339
from gateway.audit import note
from gateway.cli.acts import act
from gateway.cli.database import in_database, team_names, when
from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.cli.options import AsJson, unfolded
from gateway.cli.output import print_json, result_console, state, table, usd
from gateway.cli.serve import ConfigFile, read_configuration
from gateway.cli.tables import Form, show_rows
from gateway.clock import SystemClock
from gateway.doubts import Ruling, Verdict, doubt_of, give_ruling, open_doubts, ruling_of, rulings_on
from gateway.money.amounts import AmountError, micros_from_usd
from gateway.money.losses import InSuspense, clear_suspense, in_suspense
from gateway.store.jobs import Attempt, load_attempt
from gateway.store.schema import attempts, jobs
from gateway.store.schema_money import entries

COLUMNS = ("attempt", "job", "team", "route", "state", "amount_micros", "since", "until", "known")
OptionalText = Optional[str]  # noqa: UP045 - read at run time
AttemptName = Annotated[
    str, typer.Argument(metavar="ATTEMPT", help="The attempt, as `list` names it.", show_default=False)
]

app = typer.Typer(no_args_is_help=True, help="Submits whose outcome nobody knows: look at them, settle them.")


@dataclass(frozen=True)
class Word:
    """What became of the submit: exactly one of these."""

    accepted: Annotated[
        OptionalText, typer.Option(metavar="TOKEN", help="The vendor runs it, or ran it: follow this token (JSON).")
    ] = None
    not_accepted: Annotated[
        bool, typer.Option("--not-accepted", help="The vendor never took it and charged nothing.")
    ] = False
    charged: Annotated[
        OptionalText, typer.Option(metavar="USD", help="The vendor charged this, and there is no result to be had.")
    ] = None
    lost: Annotated[bool, typer.Option("--lost", help="Nobody will ever know: book the price as a loss.")] = False

    def ruling(self, at: float, who: str, why: str) -> Ruling:
        """The word as a ruling. Raises CommandError for none, for two, and for one that cannot be read."""
        said = [self.accepted is not None, self.not_accepted, self.charged is not None, self.lost]
        if sum(said) != 1:
            what = "say what became of it, one way: --accepted TOKEN, --not-accepted, --charged USD or --lost"
            raise CommandError(ExitCode.USAGE, what, "vidgate doubts settle --help")
        verdicts: tuple[Verdict, ...] = ("accepted", "not_accepted", "charged", "lost")
        token = None if self.accepted is None else _token(self.accepted)
        charged = None if self.charged is None else _micros(self.charged)
        return Ruling(verdicts[said.index(True)], at, who, why, token, charged)


@app.command("list")
@unfolded()
def list_(*, config: ConfigFile = None, form: Form) -> None:
    """List what is in doubt: attempts that are still looked up, and charges of given-up ones that wait in suspense.

    [bold]in doubt[/] has a job that waits: the gateway goes on asking until the time
    under [bold]until[/]. [bold]given up[/] has none any more; only the possible charge is open,
    and `vidgate reconcile` with the vendor's own list settles those by themselves.

    [bold]Examples[/]
        vidgate doubts list
        vidgate doubts list --json
    """
    rows = in_database(read_configuration(config).settings, _listed)
    show_rows(form, rows, title="In doubt", columns=COLUMNS)


@app.command("show")
def show(attempt: AttemptName, *, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show all that is known of one attempt: what was sent, what was looked at, what is next.

    With it at hand, look into the vendor's dashboard at the time of the submit.

    [bold]Example[/]
        vidgate doubts show att_0197f2c4a1b2
    """
    told = in_database(read_configuration(config).settings, _told, attempt)
    if as_json:
        print_json(told)
    else:
        _show(told)


@app.command("settle")
@unfolded()
def settle(
    attempt: AttemptName,
    *,
    word: Word,
    reason: Annotated[str, typer.Option(help="How you know, for the books.", show_default=False)],
    by: Annotated[
        OptionalText, typer.Option(metavar="NAME", help="Who says so; else the user of this machine.")
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Say what became of a submit, once you know it: from the vendor's dashboard, invoice or support.

    While the attempt is [bold]in doubt[/] the gateway that drives its job acts within its heartbeat
    (jobs.heartbeat_s), whichever process that is:

        --accepted TOKEN   follows the render; its result is delivered and billed as ever
        --not-accepted     nothing is charged; it is submitted again or tried elsewhere
        --charged USD      books the loss to the operator; the next route is tried
        --lost             books the price as a loss; the job expires, the team pays nothing

    Of an attempt that was [bold]given up[/] only the possible charge is open: the last three end it,
    and a new entry in the books says who settled it and why. Nothing is settled twice.

    [bold]Examples[/]
        vidgate doubts settle att_0197f2c4a1b2 --not-accepted --reason "not in the dashboard"
        vidgate doubts settle att_0197f2c4a1b2 --accepted '{"id": "4711"}' --reason "found in the dashboard"
        vidgate doubts settle att_0197f2c4a1b2/2 --charged 0.16 --reason "invoice 117" --by mara
    """
    if not reason.strip():
        raise CommandError(ExitCode.USAGE, "a settlement needs a reason", '--reason "..."')
    ruling = word.ruling(SystemClock().now(), _who(by), reason.strip()[:400])
    told = in_database(read_configuration(config).settings, _settled_and_noted, attempt, ruling)
    if as_json:
        print_json(told)
    else:
        result_console().print(told["done"], markup=False)


def _token(text: str) -> dict[str, Any]:
    try:
        token = json.loads(text)
    except ValueError:
        token = None
    if not isinstance(token, dict) or not token:
        raise CommandError(
            ExitCode.USAGE, f"--accepted {text!r} is no JSON object", "`vidgate doubts show` tells a token's form"
        )
    return token


def _micros(text: str) -> int:
    try:
        return micros_from_usd(text, "--charged")
    except AmountError as error:
        raise CommandError(ExitCode.USAGE, str(error)) from error


def _who(by: str | None) -> str:
    try:
        who = (by if by is not None else getpass.getuser()).strip()
    except (KeyError, OSError):
        who = ""
    if not who:
        raise CommandError(ExitCode.USAGE, "it is not known who says so", "--by NAME")
    return who[:120]


def _listed(connection: Connection) -> list[dict[str, Any]]:
    doubted, suspended, names = open_doubts(connection), in_suspense(connection), team_names(connection)
    of_interest = jobs.c.id.in_({one.job_id for one in doubted} | {one.job_id for one in suspended})
    found = connection.execute(select(jobs.c.id, jobs.c.team_id).where(of_interest))
    teams = {row.id: names[row.team_id] for row in found}
    return [_in_doubt_row(connection, attempt, teams) for attempt in doubted] + [
        {
            "attempt": one.name,
            "job": one.job_id,
            "team": teams.get(one.job_id),
            "route": one.route,
            "state": "cost in dispute" if one.is_cost else "given up",
            "amount_micros": one.amount_micros,
            "since": when(one.at),
            "until": None,
            "known": one.reason,
        }
        for one in suspended
    ]


def _in_doubt_row(connection: Connection, attempt: Attempt, teams: dict[str, str]) -> dict[str, Any]:
    doubt, ruling = doubt_of(attempt), ruling_of(connection, attempt)
    assert doubt is not None
    return {
        "attempt": attempt.id,
        "job": attempt.job_id,
        "team": teams.get(attempt.job_id),
        "route": attempt.route,
        "state": "in doubt" if ruling is None else f"{ruling.verdict.replace('_', ' ')}, not taken in yet",
        "amount_micros": attempt.price_micros,
        "since": when(doubt.since),
        "until": when(doubt.until),
        "known": doubt.found or doubt.why,
    }


def _told(connection: Connection, name: str) -> dict[str, Any]:
    attempt = load_attempt(connection, name.partition("/")[0])
    if attempt is None:
        raise _unknown(name)
    doubt = doubt_of(attempt)
    suspended = [one for one in in_suspense(connection, job_id=attempt.job_id) if one.attempt_id == attempt.id]
    return {
        "attempt": attempt.id,
        "job": attempt.job_id,
        "route": attempt.route,
        "state": attempt.state,
        "price_micros": attempt.price_micros,
        "credits_before_micros": attempt.credits_before_micros,
        "submits": attempt.submits,
        "sent": attempt.wire,
        "doubt": None if doubt is None else asdict(doubt),
        "in_suspense": [asdict(one) for one in suspended],
        "rulings": [asdict(one) for one in rulings_on(connection, attempt.id)],
        "token_form": _token_form(connection, attempt),
        "story": [
            {key: rfc3339(value) if key in {"at", "until", "last_at"} else value for key, value in event.items()}
            for event in attempt.events
        ],
    }


def _token_form(connection: Connection, attempt: Attempt) -> dict[str, str] | None:
    """The names in the latest token of the same account: what a token looks like there."""
    query = select(attempts.c.token).where(attempts.c.account == attempt.account, attempts.c.accepted_at.is_not(None))
    token = connection.execute(query.order_by(attempts.c.accepted_at.desc()).limit(1)).scalar_one_or_none()
    return None if token is None else dict.fromkeys(token, "…")


def _show(told: dict[str, Any]) -> None:
    console = result_console()
    facts, doubt = table("attempt", told["attempt"]), told["doubt"]
    facts.add_row("job", told["job"])
    facts.add_row("route", told["route"])
    facts.add_row("state", state(told["state"]))
    facts.add_row("price", usd(told["price_micros"]))
    facts.add_row("credit before it", usd(told["credits_before_micros"]))
    facts.add_row("sent", json.dumps(told["sent"], ensure_ascii=False))
    if doubt is not None:
        facts.add_row("in doubt since", when(doubt["since"]))
        facts.add_row("looked up", f"{doubt['looks']} times: {doubt['found'] or 'nothing to look at'}")
        facts.add_row("asked until", when(doubt["until"]))
        facts.add_row("a token has the form", json.dumps(told["token_form"], ensure_ascii=False))
    for one in told["in_suspense"]:
        facts.add_row("in suspense", f"{one['name']}: {usd(one['amount_micros'])}, {one['reason']}")
    for one in told["rulings"]:
        facts.add_row("settled", f"{when(one['at'])} {one['verdict']} by {one['who']}: {one['why']}")
    story = table("at", "what", "detail", title="Its story")
    for event in told["story"]:
        times = f" ({event['times']} times)" if event.get("times", 1) > 1 else ""
        story.add_row(event["at"][:19], event["what"], Text(f"{event['detail']}{times}"))
    console.print(facts, "", story)


def _settled_and_noted(connection: Connection, name: str, ruling: Ruling) -> dict[str, Any]:
    told = _settle(connection, name, ruling)
    given = {"verdict": ruling.verdict, "by": ruling.who, "why": ruling.why, "charged_micros": ruling.charged_micros}
    note(connection, act("doubt.settle", name, ruling.at), after=given)
    return told


def _settle(connection: Connection, name: str, ruling: Ruling) -> dict[str, Any]:
    """Give the word to whoever drives the job, or end the suspense of an attempt that nobody drives any more."""
    attempt = load_attempt(connection, name)
    if attempt is not None and doubt_of(attempt) is not None:
        if not give_ruling(connection, attempt, ruling):
            raise _settled(name, *(one.told for one in rulings_on(connection, name)[-1:]))
        done = f"{name}: {ruling.verdict.replace('_', ' ')}; the gateway acts on it within its heartbeat"
        return {"attempt": name, "settled": ruling.verdict, "open_until_taken_in": True, "done": done}
    suspense = next((one for one in in_suspense(connection) if one.name == name), None)
    if suspense is None:
        raise _nothing_open(connection, name, attempt)
    if ruling.verdict == "accepted":
        gone = "its render is known" if suspense.is_cost else "it was given up and its job has moved on"
        what = f"{name}: {gone}; a token cannot be followed any more"
        raise CommandError(ExitCode.USAGE, what, "--charged USD, --not-accepted or --lost settle its charge")
    return _end_suspense(connection, suspense, ruling)


def _end_suspense(connection: Connection, suspense: InSuspense, ruling: Ruling) -> dict[str, Any]:
    charged = {"not_accepted": 0, "lost": suspense.amount_micros}.get(ruling.verdict, ruling.charged_micros or 0)
    clear_suspense(connection, suspense.name, charged_micros=charged, at=ruling.at, reason=ruling.told)
    return {
        "attempt": suspense.name,
        "settled": ruling.verdict,
        "charged_micros": charged,
        "returned_micros": max(0, suspense.amount_micros - charged),
        "done": f"{suspense.name}: {usd(suspense.amount_micros)} in suspense ended, {usd(charged)} of it a loss",
    }


def _nothing_open(connection: Connection, name: str, attempt: Attempt | None) -> CommandError:
    clearing = select(entries.c.reason).where(entries.c.reference == f"clear:{name}")
    cleared = connection.execute(clearing).scalar_one_or_none()
    if cleared is not None:
        return _settled(name, cleared)
    if attempt is None:
        return _unknown(name)
    given = rulings_on(connection, name)
    if given:
        return _settled(name, given[-1].told)
    return CommandError(ExitCode.USAGE, f"{name} is not in doubt: it is {attempt.state}", "vidgate doubts list")


def _settled(name: str, *told: str) -> CommandError:
    return CommandError(ExitCode.USAGE, "; ".join((f"{name} is already settled", *told)), f"vidgate doubts show {name}")


def _unknown(name: str) -> CommandError:
    return CommandError(ExitCode.USAGE, f"there is no attempt {name!r}", "vidgate doubts list")
