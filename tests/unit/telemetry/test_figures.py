"""Figures of the store: the quick ones read by index, the ledger's by one scan of each of its tables."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import create_engine, event, insert

from gateway.money.audit import ledger_sums, trial_balance
from gateway.store.migrate import migrate
from gateway.store.schema_money import entries
from gateway.telemetry.figures import read_figures, read_ledger

HISTORY = ("jobs", "attempts", "holds", "entries", "settlements", "webhook_deliveries")


def scans(read: Any) -> list[str]:
    """The tables of history that SQLite walks from one end to the other, once for each time it does."""
    engine, asked = create_engine("sqlite://"), []
    with engine.begin() as connection:
        migrate(connection)
        event.listen(engine, "before_cursor_execute", lambda *told: asked.append((told[2], told[3])))
        read(connection, ("alpha",), 1_800_000_000.0)
        driver: Any = connection.connection.driver_connection
        plans = [row[3] for text, given in asked for row in driver.execute(f"EXPLAIN QUERY PLAN {text}", given)]
    engine.dispose()
    partial = ("ix_jobs_active", "uq_attempts_one_open", "ix_holds_open_expiry", "ix_webhook_deliveries_due")
    walked = [plan.split() for plan in plans if plan.startswith("SCAN") and not plan.endswith(partial)]
    return sorted(words[1] for words in walked if words[1] in HISTORY)


@pytest.mark.parametrize(("read", "walked"), [(read_figures, []), (read_ledger, ["entries", "settlements"])])
def test_only_the_ledgers_figures_walk_the_history(read: Any, walked: list[str]) -> None:
    """What is looked at every five seconds costs what is open, not what ever was."""
    assert scans(read) == walked


def test_the_scan_of_the_ledger_tells_what_its_accounts_say() -> None:
    """Losses and suspense on either side of an entry, and a capture that no settlement explains, on both sides."""
    booked = (
        ("loss", "loss", "provider:alpha", 7),
        ("suspend", "suspense", "provider:alpha", 50),
        ("clear", "loss", "suspense", 20),
        ("correct", "margin", "loss", 4),
        ("capture", "team:one", "provider:alpha", 100),
        ("capture", "team:one", "margin", 10),
    )
    names = ("kind", "debit", "credit", "amount_micros")
    same = {"at": 1.0, "period": "2026-01", "reason": "a test"}
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        migrate(connection)
        for number, row in enumerate(booked):
            connection.execute(
                insert(entries).values(**dict(zip(names, row, strict=True)), reference=str(number), **same)
            )
        balances, sums = trial_balance(connection), ledger_sums(connection)
    engine.dispose()
    assert sums.loss_micros == balances["loss"] == 23
    assert sums.suspense_micros == balances["suspense"] == 30
    assert sums.imbalance_micros == 110 + 100
