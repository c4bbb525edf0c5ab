"""Put each known fault into the code, run the tests that must see it, and print which were caught.

`python -m tests.mutants` runs all of them, `python -m tests.mutants double` those whose name has the word. The faulty
source exists in the memory of one child process only; no file is changed.
"""

from __future__ import annotations

import os
import sys
import time
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

import pytest

from tests.mutants.catalogue import MUTANTS, Mutant
from tests.support.time_limit import run_bounded

MACHINE_RUNS = "150"
CHILD_TIMEOUT_S = 600
ROOT = Path(__file__).parents[2]
CAUGHT, SURVIVED, BROKEN = "caught", "SURVIVED", "BROKEN"
_VERDICTS = {int(pytest.ExitCode.TESTS_FAILED): CAUGHT, int(pytest.ExitCode.OK): SURVIVED}


def main(word: str = "") -> int:
    """Run the mutants that match, print the table, and return 1 when one was not caught."""
    chosen = [number for number, mutant in enumerate(MUTANTS) if word in mutant.name]
    baseline = _run_child("-1", sorted({test for number in chosen for test in MUTANTS[number].tests}))
    if baseline != SURVIVED:
        print(f"the tests do not pass without any fault: {baseline}")
        return 1
    verdicts = []
    for number in chosen:
        began = time.monotonic()
        verdicts.append(_run_child(str(number), MUTANTS[number].tests))
        print(f"{verdicts[-1]:9} {time.monotonic() - began:5.1f} s  {MUTANTS[number].name}", flush=True)
    print(f"{verdicts.count(CAUGHT)} of {len(verdicts)} faults caught")
    return 0 if all(verdict == CAUGHT for verdict in verdicts) else 1


def _run_child(number: str, tests: list[str] | tuple[str, ...]) -> str:
    command = [sys.executable, "-m", "tests.mutants", "--child", number, *tests]
    environment = {**os.environ, "VIDGATE_MACHINE_RUNS": MACHINE_RUNS}
    try:
        child = run_bounded(command, timeout_s=CHILD_TIMEOUT_S, cwd=ROOT, env=environment)
    except AssertionError:
        return f"{BROKEN} (time)"
    verdict = _VERDICTS.get(child.returncode, BROKEN)
    if verdict == BROKEN:
        print(child.stdout[-2_000:], child.stderr[-2_000:])
    return verdict


def _child(number: int, tests: list[str]) -> int:
    if number >= 0:
        _install(MUTANTS[number])
    return int(pytest.main(["-x", "-q", "--no-header", "-p", "no:cacheprovider", *tests]))


def _install(mutant: Mutant) -> None:
    """Make the import of the mutant's module compile the faulty source. Raises ValueError when it does not fit."""
    whole = SourceFileLoader.get_code

    def get_code(loader: SourceFileLoader, fullname: str) -> CodeType | None:
        if fullname != mutant.module:
            return whole(loader, fullname)
        path = loader.get_filename(fullname)
        source = Path(path).read_text(encoding="utf-8")
        if source.count(mutant.good) != 1:
            raise ValueError(f"{mutant.name}: the code it changes is there {source.count(mutant.good)} times")
        return compile(source.replace(mutant.good, mutant.bad), path, "exec", dont_inherit=True)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        sys.exit(_child(int(sys.argv[2]), sys.argv[3:]))
    sys.exit(main(*sys.argv[1:2]))
