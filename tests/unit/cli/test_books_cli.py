"""The commands for teams and for the ledger, run as a person runs them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.exit_codes import ExitCode
from gateway.money.windows import period_of
from tests.unit.cli.test_money_cli import DAY_S, NOW, Run, database, template, vidgate

__all__ = ["database", "template", "vidgate"]


def told(vidgate: Run, *arguments: str) -> Any:
    """What a command that works says as JSON."""
    code, out, err = vidgate(*arguments, "--json")
    assert code == ExitCode.OK, err
    return json.loads(out)


def balances(vidgate: Run) -> dict[str, int]:
    found: dict[str, int] = told(vidgate, "balance")["accounts_micros"]
    return found


def test_a_teams_terms_are_set_and_listed(vidgate: Run, tmp_path: Path) -> None:
    """Zone and plan, from text or a file; what is not said stays; {} goes back to the usual margin."""
    assert told(vidgate, "teams", "set", "film", "--timezone", "Europe/Berlin")["timezone"] == "Europe/Berlin"
    plan = {"percent": "0", "routing": {"only": ["segmind"]}}
    assert told(vidgate, "teams", "set", "film", "--plan", json.dumps(plan))["plan"] == plan
    (listed,) = told(vidgate, "teams", "list")
    assert (listed["team"], listed["timezone"], json.loads(listed["plan"])) == ("film", "Europe/Berlin", plan)
    file = tmp_path / "plan.yaml"
    file.write_text('kind: flat\nflat_usd: "0.02"\n', encoding="utf-8")
    assert told(vidgate, "teams", "set", "film", "--plan", str(file))["plan"] == {"kind": "flat", "flat_usd": "0.02"}
    assert told(vidgate, "teams", "set", "film", "--plan", "{}")["plan"] == {}
    assert "Europe/Berlin" in vidgate("teams", "list")[1]


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        (("--timezone", "Mars/Olympus"), "no time zone"),
        (("--timezone", "../etc/passwd"), "no time zone"),
        (("--plan", '{"percent": 12.5}'), "plan.percent"),
        (("--plan", '{"percnt": "1"}'), "plan.percnt"),
        (("--plan", '{"routing": {"objective": "nicest"}}'), "plan.objective"),
        (("--plan", "[1"), "cannot be read"),
        ((), "nothing to set"),
    ],
)
def test_terms_that_are_none_are_refused_and_change_nothing(vidgate: Run, terms: tuple[str, ...], said: str) -> None:
    """The sentence names the member; a bad plan would otherwise break every request of the team."""
    before = told(vidgate, "teams", "list")
    code, _, err = vidgate("teams", "set", "film", *terms)
    assert (code, said in err) == (ExitCode.USAGE, True), err
    assert told(vidgate, "teams", "list") == before
    assert vidgate("teams", "set", "nobody", "--timezone", "UTC")[0] == ExitCode.USAGE


def test_a_new_team_is_made_with_its_terms_and_an_old_one_keeps_its_own(vidgate: Run) -> None:
    """`keys create` names them for the team that it makes."""
    terms = ("--timezone", "Asia/Tokyo", "--plan", '{"percent": "5"}')
    told(vidgate, "keys", "create", "--team", "news", *terms)
    row = next(one for one in told(vidgate, "teams", "list") if one["team"] == "news")
    assert (row["timezone"], json.loads(row["plan"])) == ("Asia/Tokyo", {"percent": "5"})
    code, _, err = vidgate("keys", "create", "--team", "film", *terms)
    assert (code, "keeps its terms" in err) == (ExitCode.USAGE, True)


def test_limits_of_a_key_and_of_a_plan_are_kept_and_shown(vidgate: Run) -> None:
    """What a key and a team may ask for is stored as it was said; a limit of nothing is refused."""
    limits = ("--requests-per-minute", "30", "--concurrent-jobs", "2", "--spend-usd-per-hour", "5")
    made = told(vidgate, "keys", "create", "--team", "film", *limits)
    row = next(one for one in told(vidgate, "keys", "list") if one["key"] == made["key_id"])
    assert row["limits"] == "30 requests a minute; 2 jobs at a time; $5.00 an hour"
    told(vidgate, "teams", "set", "film", "--plan", '{"percent": "5", "limits": {"concurrent_jobs": 10}}')
    (team,) = (one for one in told(vidgate, "teams", "list") if one["team"] == "film")
    assert json.loads(team["plan"]) == {"percent": "5", "limits": {"concurrent_jobs": 10}}
    for refused in (
        ("keys", "create", "--team", "film", "--spend-usd-per-hour", "0"),
        ("keys", "create", "--team", "film", "--concurrent-jobs", "0"),
        ("keys", "create", "--team", "film", "--issuer", made["key_id"], "--concurrent-jobs", "3"),
        ("teams", "set", "film", "--plan", '{"limits": {"concurrent_job": 1}}'),
    ):
        assert vidgate(*refused)[0] == ExitCode.USAGE, refused


def test_a_deleted_team_keeps_its_books_and_its_name(vidgate: Run) -> None:
    """It is listed as deleted; reports go on, terms, budgets and keys do not; a second time there is nothing to do."""
    told(vidgate, "budgets", "set", "--team", "film", "--window", "month", "--limit-usd", "5")
    bill = told(vidgate, "usage", "--team", "film")
    gone = told(vidgate, "teams", "delete", "film")
    assert (gone["team"], gone["budgets"]) == ("film", 1)
    (listed,) = told(vidgate, "teams", "list")
    assert listed["state"].startswith("deleted ")
    assert told(vidgate, "usage", "--team", "film") == bill
    assert told(vidgate, "budgets", "list") == []
    for refused in (
        ("teams", "delete", "film"),
        ("teams", "set", "film", "--timezone", "UTC"),
        ("budgets", "set", "--team", "film", "--window", "day", "--limit-usd", "1"),
        ("keys", "create", "--team", "film"),
        ("webhooks", "add", "https://example.com/hook", "--team", "film"),
    ):
        code, _, err = vidgate(*refused)
        assert (code, "was deleted" in err) == (ExitCode.USAGE, True), (refused, err)


def test_credit_is_booked_once_by_its_name(vidgate: Run) -> None:
    """A top-up under a name and an opening balance do not repeat; two without a name are two."""
    before = balances(vidgate)["provider:segmind"]
    assert told(vidgate, "book", "opening", "segmind", "83.20") == {"booked": True, "amount_micros": 83_200_000}
    assert vidgate("book", "opening", "segmind", "83.20")[0] == ExitCode.USAGE
    told(vidgate, "book", "top-up", "segmind", "10", "--id", "invoice-1")
    code, _, err = vidgate("book", "top-up", "segmind", "10", "--id", "invoice-1")
    assert (code, "booked already" in err) == (ExitCode.USAGE, True)
    told(vidgate, "book", "top-up", "segmind", "1")
    told(vidgate, "book", "top-up", "segmind", "1")
    assert balances(vidgate)["provider:segmind"] == before + 95_200_000


@pytest.mark.parametrize("length", ["nan", "inf", "1e300", "-1"])
def test_a_length_of_time_that_is_none_makes_no_key(vidgate: Run, length: str) -> None:
    """A database would keep NaN as no end at all, and no date can show the others."""
    (key,) = (one["key"] for one in told(vidgate, "keys", "list"))
    for arguments in (
        ("keys", "create", "--team", "film", f"--expires-days={length}"),
        ("keys", "rotate", key, f"--overlap={length}"),
        ("webhooks", "rotate", "hook_1", f"--overlap={length}"),
    ):
        code, _, err = vidgate(*arguments)
        assert (code, "Traceback" in err) == (ExitCode.USAGE, False), (arguments, err)
        assert "no endpoint" not in err
    assert len(told(vidgate, "keys", "list")) == 1


def test_a_refund_is_told_to_the_metering_service(vidgate: Run, database: Path) -> None:
    """In the transaction that books it; a refund that is refused is not told."""
    with sqlite3.connect(database) as raw:
        raw.execute(
            "INSERT INTO webhooks (id, kind, url, secret, source, created_at) "
            "VALUES ('usage', 'usage', 'https://meter.test/', 'x', 'urn:here', 1.0)"
        )
    raw.close()
    told(vidgate, "book", "refund", "job0", "0.10", "--reason", "blurred", "--id", "ticket-1")
    assert vidgate("book", "refund", "job0", "500", "--reason", "all of it")[0] == ExitCode.USAGE
    with sqlite3.connect(database) as raw:
        (body,) = (json.loads(row[0]) for row in raw.execute("SELECT body FROM events"))
    raw.close()
    assert (body["type"], body["data"]["price_micros"]) == ("vidgate.job.corrected.v1", -100_000)


def test_a_statement_is_summed_up_by_what_is_asked(vidgate: Run) -> None:
    """The groups come to the total."""
    bill = told(vidgate, "statement", "film", period_of(NOW - DAY_S), "--by", "route")
    assert bill["total_micros"] == sum(one["amount_micros"] for one in bill["groups"]) > 0
    assert all(one["route"] for one in bill["groups"])
    assert vidgate("statement", "film", "--by", "colour")[0] == ExitCode.USAGE


def test_a_refund_goes_back_to_the_team_and_never_above_its_bill(vidgate: Run) -> None:
    """The margin bears it, the statement shows it, a repetition under its name changes nothing."""
    (team,) = told(vidgate, "balance")["teams"]
    before = balances(vidgate)
    told(vidgate, "book", "refund", "job0", "0.10", "--reason", "blurred", "--id", "ticket-1")
    after = balances(vidgate)
    assert (after[team] - before[team], after["margin"] - before["margin"]) == (-100_000, 100_000)
    assert vidgate("book", "refund", "job0", "0.10", "--reason", "blurred", "--id", "ticket-1")[0] == ExitCode.USAGE
    code, _, err = vidgate("book", "refund", "job0", "0.15", "--reason", "all of it")
    assert (code, "no more can go back" in err) == (ExitCode.USAGE, True)
    assert balances(vidgate) == after
    assert "blurred" in vidgate("statement", "film")[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("top-up", "nobody", "5"),
        ("top-up", "segmind", "0"),
        ("top-up", "segmind", "1e-7"),
        ("top-up", "segmind", "much"),
        ("top-up", "segmind", "5", "--reason", " "),
        ("refund", "job_nobody", "1", "--reason", "x"),
        ("refund", "job0", "1"),
        ("refund", "job0", "0.1", "--reason", " "),
    ],
    ids=" ".join,
)
def test_a_booking_that_cannot_be_is_a_usage_error(vidgate: Run, arguments: tuple[str, ...]) -> None:
    """No traceback, and the books are what they were."""
    before = balances(vidgate)
    code, _, err = vidgate("book", *arguments)
    assert (code, "Traceback" in err) == (ExitCode.USAGE, False)
    assert balances(vidgate) == before


def test_the_balance_adds_up_and_an_unsound_ledger_exits_with_7(vidgate: Run, database: Path) -> None:
    """A budget's count that its bills do not explain is named; before that everything is kept."""
    sound = told(vidgate, "balance")
    assert (sound["sum_micros"], sum(sound["accounts_micros"].values()), sound["violations"]) == (0, 0, [])
    assert (sound["suspense_micros"], sound["open_holds"]) == (165_900, {"count": 0, "amount_micros": 0})
    code, out, _ = vidgate("balance")
    assert (code, "every rule of the books is kept" in out) == (ExitCode.OK, True)
    told(vidgate, "budgets", "set", "--team", "film", "--window", "total", "--limit-usd", "3")
    with sqlite3.connect(database) as raw:
        raw.execute("UPDATE budget_windows SET spent_micros = spent_micros + 5")
    raw.close()
    code, out, _ = vidgate("balance")
    assert (code, "broken: budget" in out) == (ExitCode.DRIFT, True)
    code, out, _ = vidgate("balance", "--json")
    assert (code, len(json.loads(out)["violations"])) == (ExitCode.DRIFT, 1)
