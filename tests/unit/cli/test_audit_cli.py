"""Every command that writes leaves an entry of who did it, and a new command must say whether it writes."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from gateway.cli.exit_codes import ExitCode
from gateway.cli.main import COMMANDS, program
from tests.unit.cli.test_jobs_cli import ROW
from tests.unit.cli.test_money_cli import Run, database, template, vidgate

__all__ = ["database", "template", "vidgate"]

# Commands that change what the gateway keeps, with a command line that does so and the acts it is written down as.
# KEY, TEAM, BUDGET, HOOK, JOB and EVENT stand for what the test makes before, FILE for a vendor's list of charges.
WRITES: dict[str, tuple[str, list[str]]] = {
    "keys create": ("keys create --team fresh --name ci", ["team.create", "key.create", "budget.set"]),
    "keys rotate": ("keys rotate KEY", ["key.rotate"]),
    "keys revoke": ("keys revoke KEY", ["key.revoke"]),
    "teams set": ("teams set film --timezone Europe/Berlin", ["team.set"]),
    "teams delete": ("teams delete idle", ["team.delete"]),
    "budgets set": ("budgets set --team film --window month --limit-usd 7", ["budget.set"]),
    "budgets retire": ("budgets retire BUDGET", ["budget.retire"]),
    "webhooks add": ("webhooks add https://example.com/in?token=hush --team film", ["webhook.add"]),
    "webhooks rotate": ("webhooks rotate HOOK", ["webhook.rotate"]),
    "webhooks enable": ("webhooks enable HOOK", ["webhook.enable"]),
    "webhooks replay": ("webhooks replay EVENT", ["event.replay"]),
    "webhooks remove": ("webhooks remove HOOK", ["webhook.remove"]),
    "jobs requeue": ("jobs requeue job_broken", ["job.requeue"]),
    "book top-up": ("book top-up segmind 10 --id invoice-1", ["book.credit"]),
    "book opening": ("book opening segmind 10", ["book.credit"]),
    "book refund": ("book refund JOB 0.01 --reason blurred", ["book.refund"]),
    "close": ("close 2020-01", ["month.close"]),
    "reconcile": (
        "reconcile segmind --import FILE --since 2020-01-01 --accept-unmatched",
        ["reconcile.import", "reconcile.book"],
    ),
    "doubts settle": ("doubts settle ATTEMPT --lost --reason gone", ["doubt.settle"]),
}  # fmt: skip
# Commands that only look, or that act over HTTP as a caller, or on files and processes of their own.
READS = {
    "accounts", "audit list", "balance", "budgets list", "config check", "config reference",
    "database migrate", "demo", "dev", "doubts list", "doubts show", "generate", "jobs parked", "keys list",
    "prices drift", "prices show", "prices suggest", "replay", "routes", "serve", "simulate", "statement",
    "teams list", "usage", "wait", "webhooks deliveries", "webhooks list",
}  # fmt: skip
OWN_PROCESSES = ("sandbox", "gpu")


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Every command by its whole name."""
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            yield from leaves(below, (*path, name))
    else:
        yield " ".join(path)


def test_every_command_says_whether_it_writes() -> None:
    """A new command fails here until it stands in one of the two tables; no row outlives its command."""
    found = {name for name in leaves(typer.main.get_command(program(COMMANDS))) if not name.startswith(OWN_PROCESSES)}
    assert found == READS | set(WRITES)
    assert not READS & set(WRITES)


def log(vidgate: Run) -> list[dict[str, Any]]:
    """The entries, the first first."""
    return list(reversed(json.loads(vidgate("audit", "list", "--json")[1])))


@pytest.fixture
def known(vidgate: Run, database: Path, tmp_path: Path) -> dict[str, str]:
    """What the command lines of the table are about, and a vendor's list that tells of a charge more."""
    with sqlite3.connect(database) as connection:
        connection.execute(ROW)
        job = connection.execute("SELECT job_id FROM holds WHERE state = 'captured' LIMIT 1").fetchone()[0]
    key = json.loads(vidgate("keys", "create", "--team", "film", "--json")[1])["key_id"]
    vidgate("keys", "create", "--team", "idle")
    budget = json.loads(
        vidgate("budgets", "set", "--team", "film", "--window", "month", "--limit-usd", "5", "--json")[1]
    )["budget"]
    hook = json.loads(vidgate("webhooks", "add", "https://example.com/in", "--team", "film", "--json")[1])["webhook"]
    charges = tmp_path / "charges.csv"
    charges.write_text("request_id,at,amount_usd\nunheard-of,2026-01-05T00:00:00Z,0.2\n")
    return {"KEY": key, "BUDGET": budget, "HOOK": hook, "JOB": job, "FILE": str(charges)}


def test_a_command_that_writes_leaves_its_entry(
    vidgate: Run, database: Path, known: dict[str, str], tmp_path: Path
) -> None:
    """Who, by which way, what and on what, of every command in the order of the table, on one database."""
    config = tmp_path / "vidgate.yaml"
    config.write_text(config.read_text() + "money: {default_budget_micros: 1000000}\n")
    known |= prepared(database, known["HOOK"])
    user, before = pwd.getpwuid(os.getuid()).pw_name, len(log(vidgate))
    for name, (line, acts) in WRITES.items():
        code, _, err = vidgate(*(known.get(word, word) for word in shlex.split(line)))
        assert code in {ExitCode.OK, ExitCode.DRIFT}, (name, err)
        entries = log(vidgate)[before:]
        before += len(entries)
        assert [one["act"] for one in entries] == acts, name
        for one in entries:
            assert one["who"].startswith(f"user {user}@")
            assert (one["via"], bool(one["target"])) == ("command", True)
            assert one["after"] or one["before"] or one["act"] in {"event.replay", "webhook.enable"}
        assert "hush" not in json.dumps(entries)


def prepared(database: Path, hook: str) -> dict[str, str]:
    """An event that was sent, and an attempt whose charge is in suspense."""
    with sqlite3.connect(database) as connection:
        connection.execute(
            "INSERT INTO events (id, type, at, content_type, body) VALUES ('evt_1', 'job.failed', 1.0, 'x', '{}')"
        )
        connection.execute(
            "INSERT INTO webhook_deliveries (event_id, webhook_id, state, due_at) VALUES ('evt_1', ?, 'failed', 1.0)",
            (hook,),
        )
        suspended = connection.execute("SELECT reference FROM entries WHERE debit = 'suspense' LIMIT 1").fetchone()
    return {"EVENT": "evt_1", "ATTEMPT": suspended[0].partition(":")[2] if suspended else "none"}


REFUSED = (
    "keys revoke key_none", "budgets retire none", "webhooks remove none", "jobs requeue none", "close 2999-01",
    "teams delete none", "webhooks replay none", "book refund none 1 --reason x",
    "doubts settle none --lost --reason x",
)  # fmt: skip


def test_what_was_not_done_is_not_written_down(vidgate: Run) -> None:
    """A refused command leaves no entry."""
    for line in REFUSED:
        assert vidgate(*shlex.split(line))[0] == ExitCode.USAGE, line
    assert log(vidgate) == []


def test_the_log_tells_old_and_new_without_secrets(vidgate: Run, database: Path) -> None:
    """Figures that changed and no others; nothing that opens a door, in no form of the list."""
    made = json.loads(vidgate("keys", "create", "--team", "film", "--scope", "read", "--json")[1])
    hook = json.loads(vidgate("webhooks", "add", "https://example.com/in", "--team", "film", "--json")[1])
    for limit in ("5", "9"):
        vidgate("budgets", "set", "--team", "film", "--window", "day", "--limit-usd", limit, "--soft-usd", "1")
    entries = log(vidgate)
    assert entries[-1]["before"] == {"limit_micros": 5_000_000}
    assert entries[-1]["after"] == {"limit_micros": 9_000_000}
    assert entries[-1]["target"] == entries[-2]["target"]
    (created,) = [one for one in entries if one["target"] == made["key_id"]]
    assert (created["act"], created["after"]["scopes"], created["before"]) == ("key.create", "read", {})
    with sqlite3.connect(database) as connection:
        written = str(connection.execute("SELECT * FROM audit").fetchall())
        hashes = [row[0] for row in connection.execute("SELECT hash FROM keys")]
    told = written + vidgate("audit", "list")[1] + vidgate("audit", "list", "--csv")[1]
    assert not [one for one in (made["key"], hook["secret"], *hashes) if one in told]
    assert "key.create" in told
    narrowed = json.loads(vidgate("audit", "list", "--target", made["key_id"], "--act", "key.create", "--json")[1])
    assert narrowed == [created]
    assert json.loads(vidgate("audit", "list", "--limit", "1", "--json")[1]) == [entries[-1]]
