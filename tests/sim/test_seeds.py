"""Two hundred seeds of the simulation, and that a seed is the whole of a run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.sim.__main__ import command
from tests.sim.play import play
from tests.support.time_limit import run_bounded

ROOT = Path(__file__).parents[2]
SEEDS, CHUNK = 200, 10


@pytest.mark.parametrize("first", range(1, SEEDS + 1, CHUNK))
def test_no_promise_is_broken(first: int) -> None:
    """Whatever the seed does to vendors, processes, clocks and the database, every promise holds."""
    broken = [outcome for outcome in map(play, range(first, first + CHUNK)) if outcome.violations]
    assert not broken, "\n".join(f"{command(one.seed)}: {one.violations}" for one in broken)


def test_a_seed_is_the_whole_of_a_run() -> None:
    """Two processes with other hashes play the same events in the same order, down to the last identifier."""
    digests = []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": hash_seed}
        line = [sys.executable, "-m", "tests.sim", "--seeds", "21-26", "--json"]
        child = run_bounded(line, timeout_s=120, cwd=ROOT, env=environment)
        assert child.returncode == 0, child.stderr[-2_000:]
        digests.append([json.loads(one)["digest"] for one in child.stdout.splitlines()])
    assert digests[0] == digests[1]
