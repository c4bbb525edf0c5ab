"""Nobody spends more than they have, however many ask at once, in however many processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine

from gateway.money import budgets, ledger
from gateway.money.windows import WindowKind
from gateway.store.metadata import metadata
from tests.stateful.money_support import add_teams, file_engine
from tests.stateful.spender import PRICE
from tests.support.plain_postgres import plain_postgres

RUNS = int(os.environ.get("VIDGATE_SPENDER_RUNS", "6"))  # twenty and more by hand
RUNS_ON_POSTGRESQL = 2
THREADS = 32
AFFORDABLE = 10
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("run", range(RUNS))
def test_two_processes_admit_exactly_what_the_money_is_for(
    tmp_path: Path, run: int, record_property: Callable[[str, object], None]
) -> None:
    """64 requests at once from two processes with money for 10: exactly 10 are admitted, and the books agree."""
    engine = file_engine(tmp_path / "money.db")
    metadata.create_all(engine)
    limit = AFFORDABLE * PRICE + run % PRICE  # what is left over never buys an eleventh
    with engine.begin() as connection:
        add_teams(connection)
        budgets.set_budget(connection, budgets.Budget("b", "alpha", WindowKind.DAY, limit), 1000.0)
        budgets.set_budget(connection, budgets.Budget("c", "alpha", WindowKind.TOTAL, 10 * limit, key_id="a1"), 1000.0)
    answers = _spend(tmp_path / "money.db")
    assert [asked for _, asked in answers] == [THREADS, THREADS]
    admitted_in_all = sum(admitted for admitted, _ in answers)
    assert admitted_in_all == AFFORDABLE
    record_property("figure", f"{2 * THREADS} at once, money for {AFFORDABLE}: {admitted_in_all} admitted")
    with engine.begin() as connection:
        assert ledger.check(connection) == []
        states = budgets.budget_states(connection, "alpha", 1000.0)
        assert {state.held_micros for state in states} == {AFFORDABLE * PRICE}
    engine.dispose()


@pytest.mark.parametrize("run", range(RUNS_ON_POSTGRESQL))
def test_two_processes_share_the_money_on_postgresql(postgres_url: str, run: int) -> None:
    """The same where all 64 transactions really run at once, and find a budget's window not begun."""
    limit = AFFORDABLE * PRICE + run % PRICE

    def prepare(engine: Engine) -> None:
        with engine.begin() as connection:
            add_teams(connection)
            budgets.set_budget(connection, budgets.Budget("b", "alpha", WindowKind.DAY, limit), 1000.0 - 86_400)
            budgets.set_budget(connection, budgets.Budget("c", "alpha", WindowKind.TOTAL, 10 * limit, key_id="a1"), 1.0)

    def look(engine: Engine) -> None:
        with engine.begin() as connection:
            assert ledger.check(connection) == []
            states = budgets.budget_states(connection, "alpha", 1000.0)
            assert {state.held_micros for state in states} == {AFFORDABLE * PRICE}

    with plain_postgres(postgres_url) as database:
        database.run(prepare, database.engine)
        answers = _spend(postgres_url)
        assert [asked for _, asked in answers] == [THREADS, THREADS]
        assert sum(admitted for admitted, _ in answers) == AFFORDABLE
        database.run(look, database.engine)


def _spend(path: Path | str) -> list[tuple[int, int]]:
    """Start two processes, let them go at the same moment and read (admitted, asked) of each."""
    command = [sys.executable, "-m", "tests.stateful.spender", str(path)]
    processes = [
        subprocess.Popen(
            [*command, name, str(THREADS)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("left", "right")
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        answers = [process.communicate("go\n", timeout=60)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait(60)
    return [(int(admitted), int(asked)) for admitted, asked in (answer.split() for answer in answers)]
