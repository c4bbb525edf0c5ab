"""The commands for money, run as a person runs them, on a database with a month of bills in it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import Connection, select

from gateway.cli import main
from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.clock import SystemClock
from gateway.events import Event, emit
from gateway.ids import Ids
from gateway.keys import NewKey, create_key, find_caller
from gateway.money import ledger
from gateway.money.accounts import record_balance
from gateway.money.drift import PriceObservation, observe_price
from gateway.money.periods import last_closed
from gateway.money.reconcile import Reconciliation
from gateway.money.reconcile import reconcile as compare
from gateway.money.windows import period_of
from gateway.store.schema_events import webhook_deliveries
from gateway.store.sqlite import SqliteStore

NOW = SystemClock().now()
DAY_S = 86_400.0
SEGMIND_KEY = "SG_0123456789abcdef"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with one team, one key and three jobs: two billed, one lost."""
    path = tmp_path_factory.mktemp("money") / "v.db"
    _in(path, _fill)
    return path


@pytest.fixture
def database(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "v.db"
    path.write_bytes(template.read_bytes())
    config = tmp_path / "vidgate.yaml"
    sections = {
        "security": {"signing_secret": "a-signing-secret-of-enough-bytes"},
        "store": {"url": f"sqlite:///{path}"},
        "artifacts": {"url": str(tmp_path / "artifacts")},
        "providers": {"segmind": {"api_key": SEGMIND_KEY, "floor_micros": 9_000_000, "routes": ["segmind/svd"]}},
    }
    config.write_text(yaml.safe_dump(sections), encoding="utf-8")
    monkeypatch.setenv("VIDGATE_CONFIG", str(config))
    monkeypatch.setenv("COLUMNS", "250")
    return path


@pytest.fixture
def vidgate(database: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line and answer with its exit code, its result and its notes."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        shown = capsys.readouterr()
        code = ended.value.code
        return (0 if code is None else int(code)), shown.out, shown.err

    return run


def _in(path: Path, fn: Callable[[Connection], Any]) -> Any:
    async def once() -> Any:
        store = SqliteStore.open(f"sqlite:///{path}", exclusive=False)
        try:
            return await store.write(fn)
        finally:
            await store.close()

    return asyncio.run(once())


def _fill(connection: Connection) -> None:
    key_id, team_id, _ = create_key(connection, Ids(SystemClock()), NewKey("film", "first", NOW))
    for number, price in enumerate((200_000, 199_080)):
        at, name = NOW - DAY_S - number, f"h{number}"
        tags = {"project": f"p{number}"}
        request = ledger.HoldRequest(name, f"job{number}", team_id, key_id, 300_000, at - 60, at + DAY_S, tags)
        ledger.hold(connection, request)
        bill = ledger.Capture(
            name, price, 165_900, "reported", "segmind", at, "delivered", "segmind/svd", f"a{number}", f"r{number}"
        )
        ledger.capture(connection, bill)
        observe_price(connection, PriceObservation(f"a{number}", "segmind/svd", at, 165_900, 100_000, {}))
    lost = ledger.Suspense("job2", "a2", "segmind", 165_900, NOW - DAY_S, "in doubt", "segmind/svd")
    ledger.suspend(connection, lost)
    record_balance(connection, "segmind", 8_000_000, at=NOW - 60, source="polled")


def read_json(out: str) -> Any:
    return json.loads(out)


def test_usage_in_every_form_says_the_same(vidgate: Run) -> None:
    """A table for people, JSON and CSV for machines."""
    code, shown, _ = vidgate("usage", "--by", "team,tag:project")
    assert (code, "film" in shown, "$0.19908" in shown) == (0, True, True)
    rows = read_json(vidgate("usage", "--by", "team,tag:project", "--json")[1])
    assert {row["tag:project"]: row["price_micros"] for row in rows if row["team"]} == {"p0": 200_000, "p1": 199_080}
    lines = list(csv.DictReader(io.StringIO(vidgate("usage", "--by", "team,tag:project", "--csv")[1])))
    assert [line["price_micros"] for line in lines] == [str(row["price_micros"]) for row in rows]


@pytest.mark.parametrize(
    "arguments",
    [
        ("usage", "--by", "colour"),
        ("usage", "--since", "yesterday"),
        ("usage", "--team", "nobody"),
        ("usage", "--by", "day", "--since", "9999-12-30", "--until", "9999-12-31"),
        ("close", "9999-12"),
        ("statement", "film", "2026-13"),
        ("statement", "nobody"),
        ("budgets", "set", "--team", "film", "--window", "day"),
        ("budgets", "set", "--team", "film", "--window", "day", "--limit-usd", "-3"),
        ("budgets", "set", "--team", "film", "--window", "day", "--limit-usd", "3", "--key", "key_nobody"),
        ("budgets", "retire", "budget_nobody"),
        ("keys", "revoke", "key_nobody"),
        ("keys", "rotate", "key_nobody"),
        ("keys", "create", "--team", "film", "--issuer", "key_nobody"),
        ("reconcile", "nobody"),
        ("reconcile", "segmind", "--import", "/does/not/exist"),
        ("webhooks", "add", "https://example.com/in"),
        ("webhooks", "add", "ftp://example.com/in", "--operator"),
        ("webhooks", "add", "https://example.com/in", "--operator", "--event", "job.failed"),
        ("webhooks", "rotate", "hook_nobody"),
        ("webhooks", "remove", "hook_nobody"),
        ("webhooks", "replay", "evt_nobody"),
        ("close", period_of(NOW)),
    ],
    ids=" ".join,
)
def test_what_cannot_be_is_refused_with_a_sentence(vidgate: Run, arguments: tuple[str, ...]) -> None:
    """Exit code 2, one line on standard error, nothing on standard output."""
    code, out, err = vidgate(*arguments)
    assert (code, out) == (ExitCode.USAGE, "")
    assert err.startswith("error: ")
    assert "Traceback" not in err


def test_a_statement_adds_up(vidgate: Run) -> None:
    """Its total is that of its lines."""
    bill = read_json(vidgate("statement", "film", period_of(NOW - DAY_S), "--json")[1])
    assert bill["total_micros"] == 399_080 == sum(line["amount_micros"] for line in bill["lines"])
    assert "total $0.39908 in 2 lines" in vidgate("statement", "film", period_of(NOW - DAY_S))[1]


def test_budgets_are_set_listed_changed_and_retired(vidgate: Run) -> None:
    """Setting the same window again changes the budget; what was spent counts from the start."""
    made = read_json(
        vidgate("budgets", "set", "--team", "film", "--window", "total", "--limit-usd", "5", "--json")[1]
    )  # fmt: skip
    vidgate("budgets", "set", "--team", "film", "--window", "total", "--limit-usd", "7.50", "--soft-usd", "4")
    (row,) = read_json(vidgate("budgets", "list", "--json")[1])
    assert (row["budget"], row["limit_micros"], row["soft_micros"]) == (made["budget"], 7_500_000, 4_000_000)
    assert (row["spent_micros"], row["held_micros"]) == (399_080, 0)
    assert vidgate("budgets", "retire", made["budget"])[0] == 0
    assert read_json(vidgate("budgets", "list", "--team", "film", "--json")[1]) == []


def test_a_month_is_closed_once(vidgate: Run, database: Path) -> None:
    """The balances it closed with are shown; a second time is refused."""
    period = "2020-01"
    code, out, _ = vidgate("close", period, "--json")
    assert (code, read_json(out)["period"]) == (0, period)
    assert _in(database, last_closed) == period
    assert vidgate("close", period)[0] == ExitCode.USAGE


def test_accounts_show_balance_burn_runway_and_floor(vidgate: Run) -> None:
    """An account under its floor is said to be."""
    (row,) = read_json(vidgate("accounts", "--json")[1])
    assert (row["balance_micros"], row["floor_micros"], row["state"]) == (8_000_000, 9_000_000, "under its floor")
    assert "segmind" in vidgate("accounts")[1]


def test_reconciling_ends_suspense_and_tells_drift_by_its_exit_code(vidgate: Run, tmp_path: Path) -> None:
    """7 while something is unmatched, 0 once the list explains it all; a second time nothing more is booked."""
    at = NOW - DAY_S
    usage = tmp_path / "usage.csv"
    usage.write_text(
        "request_id,at,amount_usd\n" + "".join(f"{name},{at},0.1659\n" for name in ("r0", "r1", "lost", "unknown")),
        encoding="utf-8",
    )
    code, out, _ = vidgate("reconcile", "segmind", "--import", str(usage), "--json")
    found = read_json(out)
    assert (code, found["imported"]["new"], found["booked"]["suspense_charged"]) == (ExitCode.DRIFT, 4, 1)
    assert ([one["amount_micros"] for one in found["only_theirs"]], found["drift_micros"]) == ([165_900], 165_900)
    code, out, _ = vidgate("reconcile", "segmind", "--accept-unmatched")
    assert (code, "drift $0.00" in out, "1 unmatched accepted" in out) == (0, True, True)
    again = read_json(vidgate("reconcile", "segmind", "--json")[1])
    assert set(again["booked"].values()) == {0}


def test_looking_without_booking_changes_nothing(vidgate: Run) -> None:
    """The suspense is still there afterwards."""
    for _ in range(2):
        code, out, _ = vidgate("reconcile", "segmind", "--no-book", "--json")
        assert (code, read_json(out)["booked"], len(read_json(out)["only_ours"])) == (ExitCode.DRIFT, None, 3)


def test_a_reconciliation_is_booked_as_a_whole_or_not_at_all(vidgate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the second look fails, what the first one proposed is not on the books either."""
    looks = iter([compare, None, compare])

    def once(connection: Connection, provider: str, **span: Any) -> Reconciliation:
        look = next(looks)
        if look is None:
            raise CommandError(ExitCode.USAGE, "the second look fails")
        return look(connection, provider, **span)

    before = read_json(vidgate("reconcile", "segmind", "--no-book", "--json")[1])
    monkeypatch.setattr("gateway.cli.reconcile.compare", once)
    assert vidgate("reconcile", "segmind", "--accept-unmatched")[0] == ExitCode.USAGE
    assert read_json(vidgate("reconcile", "segmind", "--no-book", "--json")[1])["only_ours"] == before["only_ours"]


def test_prices_show_their_book_their_drift_and_better_figures(vidgate: Run, database: Path) -> None:
    """Drift beyond the threshold is exit code 7; a suggestion needs ten reported costs."""
    (row,) = read_json(vidgate("prices", "show", "--json")[1])
    assert (row["route"], row["usual_micros"], row["confidence"]) == ("segmind/svd", 165_900, "average")
    code, out, _ = vidgate("prices", "drift", "--json")
    assert (code, read_json(out)[0]["ratio"]) == (ExitCode.DRIFT, pytest.approx(1.659))
    assert vidgate("prices", "suggest")[1] == ""

    def more(connection: Connection) -> None:
        for number in range(10):
            seen = PriceObservation(f"more{number}", "segmind/svd", NOW - 60, 165_900, 100_000, {})
            observe_price(connection, seen)

    _in(database, more)
    suggested = yaml.safe_load(vidgate("prices", "suggest")[1])
    (entry,) = suggested["routes"]["segmind/svd"]
    assert entry["terms"][0]["confidence"] == "measured"


def test_keys_are_made_within_limits_rotated_and_ended(vidgate: Run, database: Path) -> None:
    """The old secret works beside the new one, until the key is revoked with both."""
    made = read_json(vidgate("keys", "create", "--team", "film", "--providers", "segmind", "--json")[1])
    narrow = ("keys", "create", "--team", "film", "--issuer", made["key_id"])
    code, _, err = vidgate(*narrow)
    assert (code, "providers would go beyond" in err) == (ExitCode.USAGE, True)
    assert vidgate(*narrow, "--providers", "segmind", "--max-cost-usd", "0.5")[0] == 0
    rotated = read_json(vidgate("keys", "rotate", made["key_id"], "--overlap", "1", "--json")[1])
    for secret in (made["key"], rotated["key"]):
        assert _in(database, lambda c, s=secret: find_caller(c, s, NOW)) is not None
    listed = {row["key"]: row for row in read_json(vidgate("keys", "list", "--json")[1])}
    assert listed[made["key_id"]]["limits"] == "providers: segmind"
    assert listed[made["key_id"]]["state"].startswith("live, the old secret until")
    assert vidgate("keys", "revoke", made["key_id"])[0] == 0
    for secret in (made["key"], rotated["key"]):
        assert _in(database, lambda c, s=secret: find_caller(c, s, NOW)) is None


def test_no_secret_is_shown_twice(vidgate: Run) -> None:
    """Lists show where a key begins, and nothing of a webhook's secret."""
    key = read_json(vidgate("keys", "create", "--team", "film", "--json")[1])["key"]
    hook = read_json(vidgate("webhooks", "add", "https://example.com/in", "--team", "film", "--json")[1])
    shown = vidgate("keys", "list")[1] + vidgate("webhooks", "list")[1] + vidgate("webhooks", "list", "--json")[1]
    assert hook["webhook"] in shown
    assert key not in shown
    assert hook["secret"] not in shown


def test_webhooks_are_added_rotated_replayed_and_removed(vidgate: Run, database: Path) -> None:
    """A replay puts the delivery back; removing the endpoint takes it away."""
    hook = read_json(vidgate("webhooks", "add", "https://example.com/in", "--team", "film", "--json")[1])

    def happen(connection: Connection) -> str:
        (team_id,) = connection.exec_driver_sql("SELECT id FROM teams").one()
        event = Event("job.failed:j", "job.failed", team_id, NOW, {})
        assert emit(connection, event)
        connection.execute(webhook_deliveries.update().values(state="failed", tries=10))
        return event.id

    event_id = _in(database, happen)
    assert read_json(vidgate("webhooks", "deliveries", "--state", "failed", "--json")[1])[0]["event"] == event_id
    assert "sent again to 1 endpoint" in vidgate("webhooks", "replay", event_id)[1]
    state = _in(database, lambda c: c.execute(select(webhook_deliveries.c.state)).scalar_one())
    assert state == "pending"
    assert vidgate("webhooks", "rotate", hook["webhook"], "--json")[0] == 0
    assert vidgate("webhooks", "remove", hook["webhook"])[0] == 0
    assert read_json(vidgate("webhooks", "list", "--json")[1]) == []


@pytest.mark.parametrize("columns", ["80", "100", ""])
def test_amounts_and_identifiers_are_whole_at_any_width(
    vidgate: Run, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a narrow terminal and in a pipe: an amount that is cut is a wrong amount to whoever copies it."""
    monkeypatch.setenv("COLUMNS", columns)
    assert vidgate("budgets", "set", "--team", "film", "--window", "month", "--limit-usd", "1234.567899")[0] == 0
    (budget,) = read_json(vidgate("budgets", "list", "--json")[1])
    for arguments, whole in (
        (("usage", "--by", "team,route"), {"segmind/svd", "$0.39908", "$0.3318"}),
        (("budgets", "list"), {budget["budget"], "$1234.567899"}),
        (("accounts",), {"segmind", "$8.00"}),
        (("statement", "film", period_of(NOW - DAY_S)), {"$0.19908", "job1", "segmind/svd"}),
        (("reconcile", "segmind", "--no-book"), {"-$0.4977", "r0"}),
    ):
        code, out, err = vidgate(*arguments)
        assert code in {0, ExitCode.DRIFT}, err
        assert whole <= set(out.split()), (arguments, out)
        assert not columns or max(map(len, out.splitlines())) <= int(columns)


def test_a_statements_team_is_named_as_argument_or_as_option(vidgate: Run) -> None:
    """Other commands take --team; both give the same statement, and neither or both is a usage error."""
    period = period_of(NOW - DAY_S)
    by_argument = vidgate("statement", "film", period, "--json")
    assert by_argument[0] == 0
    assert vidgate("statement", "--team", "film", period, "--json") == by_argument
    assert vidgate("statement", period, "--team", "film", "--json") == by_argument
    for arguments in ((), ("film", period, "--team", "film"), ("film", "--team", "film")):
        assert vidgate("statement", *arguments)[0] == ExitCode.USAGE
