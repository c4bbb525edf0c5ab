"""The simulation finds known faults: a run without violations means something only then."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.sim.mutants import MUTANTS
from tests.support.time_limit import run_bounded

ROOT = Path(__file__).parents[2]
RUNS = 150
CHILD_S = 240.0
# Where to begin, so that it does not take long: the first seed that found it when this was written.
BEGINS = {"no-fence": 154, "submits-again-without-evidence": 48, "retry-after-ignored": 66}
# What some seed must say when the fault is in the code.
SAID = {
    "submits-again-without-evidence": "are accounted for",
    "a-silent-vendor-has-failed": "that nobody booked",
    "no-fence": "a zombie wrote",
    "captured-twice": "which should be None",
    "token-not-committed": "has no token",
    "event-dropped": "is written as 0 events",
    "key-forgotten-after-a-minute": "the same key was answered otherwise",
    "retry-after-ignored": "before the Retry-After",
    "hold-kept-at-a-failure": "its hold is open",
    "suspense-forgotten": "that nobody booked",
}


@pytest.mark.parametrize("name", [mutant.name for mutant in MUTANTS])
def test_a_known_fault_is_found_by_its_own_words(name: str) -> None:
    """Some seed among the first ones breaks the very promise that the fault is against."""
    first = BEGINS.get(name, 1)
    seeds = f"{first}-{first + RUNS}"
    command = [sys.executable, "-m", "tests.sim", "--seeds", seeds, "--until", SAID[name], "--json", "--mutant", name]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = run_bounded(command, timeout_s=CHILD_S, cwd=ROOT, env=environment)
    outcomes = [json.loads(line) for line in child.stdout.splitlines() if line.startswith("{")]
    said = [rule for outcome in outcomes for rule in outcome["violations"]]
    assert any(SAID[name] in rule for rule in said), (len(outcomes), said[-5:], child.stderr[-2_000:])
