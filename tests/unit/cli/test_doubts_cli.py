"""The command for attempts in doubt, run as a person runs it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select

from gateway.cli.exit_codes import ExitCode
from gateway.doubts import rulings_on
from gateway.jobs import AttemptState, JobStatus
from gateway.money import ledger
from gateway.money.losses import in_suspense
from gateway.money.mending import mend
from gateway.money.reconcile import import_charges, reconcile
from gateway.money.usage_files import VendorCharge
from gateway.store.jobs import insert_job
from gateway.store.schema import attempts, keys
from gateway.store.schema_money import entries
from tests.unit.cli.test_money_cli import DAY_S, NOW, Run, _in, database, template, vidgate
from tests.unit.store.builders import a_job, an_attempt

__all__ = ["database", "template", "vidgate"]

PRICE = 165_900
WHY = ("--reason", "seen in the dashboard", "--by", "mara")


def fill(connection: Connection) -> None:
    """One attempt in doubt, one that was given up with two suspected submits, one that succeeded."""
    key = connection.execute(select(keys)).one()
    for number in (1, 2, 3):
        insert_job(connection, a_job(number, team_id=key.team_id, key_id=key.id, status=JobStatus.RUNNING))
    at = NOW - 600
    story = [
        {"at": at, "what": "submit", "detail": "first submit"},
        {"at": at + 1, "what": "in_doubt", "detail": "HTTP 502: it may have been accepted", "until": at + DAY_S},
        {"at": at + 4, "what": "looked_up", "detail": "the history [cannot] be read", "times": 7, "last_at": NOW},
    ]
    usual: dict[str, Any] = {"account": "segmind", "route": "segmind/svd", "prepared_at": at, "price_micros": PRICE}
    doubted = an_attempt(a_job(1), id="att_1", state=AttemptState.IN_DOUBT, events=story, sent_at=at, **usual)
    ended = {"state": AttemptState.FAILED, "finished_at": at + 9, "failure_kind": "unavailable"}
    given_up = an_attempt(a_job(2), id="att_2", events=story, submits=2, **ended, **usual)
    token = {"token": {"request_id": "4711"}, "accepted_at": at, "state": AttemptState.ACCEPTED}
    running = an_attempt(a_job(3), id="att_3", **token, **usual)
    connection.execute(insert(attempts), [asdict(one) for one in (doubted, given_up, running)])
    for name in ("att_2", "att_2/2"):
        lost = ledger.Suspense(
            "job_002", name, "segmind", PRICE, at, "the outcome of a submit is not known", "segmind/svd"
        )
        ledger.suspend(connection, lost)


@pytest.fixture
def books(database: Path) -> Path:
    _in(database, fill)
    return database


def cleared(connection: Connection) -> list[tuple[str, str, int, str]]:
    rows = connection.execute(select(entries).where(entries.c.kind == "clear").order_by(entries.c.id))
    return [(row.debit, row.credit, row.amount_micros, row.reason) for row in rows]


def test_what_is_in_doubt_and_what_was_given_up_are_listed_apart(vidgate: Run, books: Path) -> None:
    """Attempts that a job still waits for come with their deadline; suspected charges with their amount."""
    rows = {row["attempt"]: row for row in json.loads(vidgate("doubts", "list", "--json")[1])}
    assert set(rows) == {"a2", "att_1", "att_2", "att_2/2"}
    assert {row["state"] for row in rows.values()} == {"in doubt", "given up"}
    assert (rows["att_1"]["team"], rows["att_1"]["job"]) == ("film", "job_001")
    assert (rows["att_1"]["known"], rows["att_1"]["amount_micros"]) == ("the history [cannot] be read", PRICE)
    assert rows["att_1"]["until"] > rows["att_1"]["since"]
    assert rows["att_2/2"]["until"] is None
    assert "the history [cannot] be read" in vidgate("doubts", "list")[1]


def test_one_is_shown_with_all_that_is_known_of_it(vidgate: Run, books: Path) -> None:
    """What was sent, what was looked at, until when, and the form of a token of that vendor."""
    told = json.loads(vidgate("doubts", "show", "att_1", "--json")[1])
    assert (told["doubt"]["looks"], told["token_form"], told["sent"]) == (7, {"request_id": "…"}, {"frames": "14"})
    assert [one["what"] for one in told["story"]] == ["submit", "in_doubt", "looked_up"]
    shown = vidgate("doubts", "show", "att_2")[1]
    assert "att_2/2: $0.1659" in shown
    assert "(7 times)" in shown
    code, _, err = vidgate("doubts", "show", "att_9")
    assert (code, "no attempt 'att_9'" in err) == (ExitCode.USAGE, True)


def test_a_word_on_an_open_doubt_is_a_row_for_whoever_drives_the_job(vidgate: Run, books: Path) -> None:
    """Nothing is booked by the command itself; the second word finds the first one, and the list shows it."""
    code, out, _ = vidgate("doubts", "settle", "att_1", "--accepted", '{"request_id": "4711"}', *WHY)
    assert (code, "within its heartbeat" in out) == (ExitCode.OK, True)
    (ruling,) = _in(books, lambda connection: rulings_on(connection, "att_1"))
    assert (ruling.verdict, ruling.token, ruling.told) == (
        "accepted",
        {"request_id": "4711"},
        "settled by mara: seen in the dashboard",
    )
    code, _, err = vidgate("doubts", "settle", "att_1", "--lost", *WHY)
    assert (code, "already settled; settled by mara: seen in" in err) == (ExitCode.USAGE, True)
    rows = {row["attempt"]: row for row in json.loads(vidgate("doubts", "list", "--json")[1])}
    assert rows["att_1"]["state"] == "accepted, not taken in yet"
    assert "accepted by mara" in vidgate("doubts", "show", "att_1")[1]
    assert _in(books, cleared) == []


@pytest.mark.parametrize(
    ("word", "lost", "returned"),
    [(("--charged", "0.10"), 100_000, 65_900), (("--not-accepted",), 0, PRICE), (("--lost",), PRICE, 0)],
    ids=str,
)
def test_a_suspected_charge_is_ended_by_a_new_entry_that_names_who_and_why(
    vidgate: Run, books: Path, word: tuple[str, ...], lost: int, returned: int
) -> None:
    """Once, and only that submit's; reconciling afterwards finds nothing left of it to end."""
    told = json.loads(vidgate("doubts", "settle", "att_2/2", *word, *WHY, "--json")[1])
    assert (told["charged_micros"], told["returned_micros"]) == (lost, returned)
    why = "settled by mara: seen in the dashboard"
    wanted = [("loss", "suspense", lost, why), ("provider:segmind", "suspense", returned, why)]
    assert _in(books, cleared) == [entry for entry in wanted if entry[2]]
    assert {one.name for one in _in(books, in_suspense)} == {"a2", "att_2"}
    code, _, err = vidgate("doubts", "settle", "att_2/2", "--lost", *WHY)
    assert (code, "already settled" in err) == (ExitCode.USAGE, True)
    assert vidgate("balance")[0] == ExitCode.OK


def test_what_a_reconciliation_has_settled_is_settled(vidgate: Run, books: Path) -> None:
    """The two ways end the same suspense, whichever comes first."""

    def reconciled(connection: Connection) -> None:
        import_charges(connection, [VendorCharge("segmind", "r77", PRICE, NOW - 590)], NOW)
        mend(connection, reconcile(connection, "segmind", since=0.0, until=NOW, complete_until=NOW + DAY_S), NOW)

    _in(books, reconciled)
    assert _in(books, in_suspense) == []
    code, _, err = vidgate("doubts", "settle", "att_2", "--not-accepted", *WHY)
    assert (code, "already settled; on the vendor's list" in err) == (ExitCode.USAGE, True), err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("att_1",), "one way"),
        (("att_1", "--lost", "--not-accepted"), "one way"),
        (("att_1", "--accepted", "4711"), "no JSON object"),
        (("att_1", "--accepted", "{}"), "no JSON object"),
        (("att_1", "--charged", "much"), "--charged"),
        (("att_1", "--charged", "-1"), "--charged"),
        (("att_2", "--accepted", '{"id": "1"}'), "given up"),
        (("att_3", "--lost"), "not in doubt: it is accepted"),
        (("att_9", "--lost"), "no attempt 'att_9'"),
    ],
    ids=" ".join,
)
def test_a_word_that_cannot_be_changes_nothing(
    vidgate: Run, books: Path, arguments: tuple[str, ...], said: str
) -> None:
    """One way or another the sentence says what to do, and the books stay."""
    code, _, err = vidgate("doubts", "settle", *arguments, *WHY)
    assert (code, said in err) == (ExitCode.USAGE, True), err
    assert _in(books, cleared) == _in(books, lambda connection: rulings_on(connection, "att_1")) == []


@pytest.mark.parametrize(("reason", "by"), [(" ", "mara"), ("seen", " ")])
def test_a_settlement_names_who_and_why(vidgate: Run, books: Path, reason: str, by: str) -> None:
    """Empty words are none."""
    assert vidgate("doubts", "settle", "att_1", "--lost", "--reason", reason, "--by", by)[0] == ExitCode.USAGE
