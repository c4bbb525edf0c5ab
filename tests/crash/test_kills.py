"""Killed at random moments under load: a few of each in every run, the whole figure by `make kills`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.kills import VICTIMS, broken, run

# VIDGATE_KILLS_GATEWAY=100 and so on for more.
USUAL = {"gateway": 15, "replica": 8, "postgres": 3, "redis": 3}
WHAT = {"gateway": "the gateway on SQLite", "replica": "a replica", "postgres": "PostgreSQL", "redis": "Redis"}


@pytest.fixture
def said() -> Callable[[str], None]:
    """Where progress goes: shown only when a test fails."""
    return print


@pytest.mark.parametrize("victim", USUAL)
def test_kills_under_load_lose_nothing_and_pay_nothing_twice(
    victim: str, tmp_path: Path, said: Callable[[str], None], record_property: Callable[[str, object], None]
) -> None:
    """Every acknowledged job is there and ends, is rendered once an attempt and billed once, and the books add up."""
    kills = int(os.environ.get(f"VIDGATE_KILLS_{victim.upper()}", USUAL[victim]))
    outcome = run(victim, kills, tmp_path, said)
    assert broken(outcome) == [], outcome
    assert sum(outcome.ended.values()) == outcome.acknowledged
    record_property("figure", f"{kills} kills of {WHAT[victim]}")


def test_every_victim_is_killed() -> None:
    """What can be killed is killed in every run."""
    assert set(USUAL) == set(VICTIMS)
