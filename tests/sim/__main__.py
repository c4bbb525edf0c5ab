"""`python -m tests.sim --seed N`: the engine, the store and faulty vendors in virtual time, everything from one seed.

--seed N            one run; with --verbose its event log
--seeds A-B         many, with a progress bar and a table of what happened; `--jobs 2` on two cores
--done FILE         keep outcomes there, a line each, and skip the seeds that are in it: an interrupted soak goes on
--json              one line of JSON a run instead of the table
--mutant NAME       with a known fault in the code (tests/sim/mutants.py), to see that it is found
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

BAR_WIDTH = 30
SHOWN_MAX = 20


def main(arguments: list[str]) -> int:
    """Run what is asked for; 1 when a promise was broken."""
    given = _parser().parse_args(arguments)
    if given.mutant:
        from tests.sim.mutants import install

        install(given.mutant)
    if given.seed is not None:
        return _one(given.seed, verbose=given.verbose, as_json=given.json, mutant=given.mutant)
    done = _read(given.done)
    seeds = [seed for seed in _range(given.seeds) if seed not in done]
    outcomes = [done[seed] for seed in _range(given.seeds) if seed in done]
    outcomes += _many(seeds, given)
    if not given.json:
        print(summary(outcomes))
    return 1 if any(one["violations"] for one in outcomes) else 0


def _parser() -> argparse.ArgumentParser:
    assert __doc__ is not None
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__, formatter_class=shape)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seeds", default="1-200", metavar="A-B")
    parser.add_argument("--jobs", type=int, default=1, metavar="PROCESSES")
    parser.add_argument("--done", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--mutant", default="")
    parser.add_argument("--stop", action="store_true", help="end at the first broken promise")
    parser.add_argument("--until", default="", metavar="TEXT", help="end at the first one that says this")
    parser.add_argument("-v", "--verbose", action="store_true")
    return parser


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def command(seed: int, mutant: str = "") -> str:
    """The command line that repeats a run."""
    return f"python -m tests.sim --seed {seed} --verbose" + (f" --mutant {mutant}" if mutant else "")


def _one(seed: int, *, verbose: bool, as_json: bool, mutant: str) -> int:
    from tests.sim.play import play

    outcome = play(seed, verbose=verbose)
    if verbose:
        print("\n".join(outcome.log))
    print(json.dumps(outcome.json()) if as_json else summary([outcome.json()], mutant))
    return 1 if outcome.violations else 0


def _many(seeds: list[int], given: argparse.Namespace) -> list[dict[str, Any]]:
    outcomes = []
    with _played(seeds, given.jobs) as results:
        for outcome in _progress(results, len(seeds)):
            outcomes.append(outcome)
            if given.done is not None:
                with given.done.open("a") as file:
                    file.write(json.dumps(outcome) + "\n")
            if given.json:
                print(json.dumps(outcome), flush=True)
            if outcome["violations"]:
                _line(f"seed {outcome['seed']}: {outcome['violations'][0]}")
                _line(f"    {command(outcome['seed'], given.mutant)}")
                if given.stop or (given.until and any(given.until in rule for rule in outcome["violations"])):
                    break
    return outcomes


class _played:  # noqa: N801 - used as a context manager, like a function
    """The outcomes of seeds as they come, from this process or from several."""

    def __init__(self, seeds: list[int], processes: int) -> None:
        self._seeds = seeds
        self._pool = multiprocessing.Pool(processes) if processes > 1 else None

    def __enter__(self) -> Iterator[dict[str, Any]]:
        if self._pool is None:
            return map(_outcome, self._seeds)
        return self._pool.imap_unordered(_outcome, self._seeds)

    def __exit__(self, *_error: object) -> None:
        if self._pool is not None:
            self._pool.terminate()


def _outcome(seed: int) -> dict[str, Any]:
    from tests.sim.play import play

    return play(seed).json()


def _progress(results: Iterable[dict[str, Any]], count: int) -> Iterator[dict[str, Any]]:
    began = time.monotonic()
    broken = 0
    for number, outcome in enumerate(results, 1):
        broken += bool(outcome["violations"])
        yield outcome
        if sys.stderr.isatty() or number % 100 == 0 or number == count:
            filled = BAR_WIDTH * number // count
            left_s = (time.monotonic() - began) / number * (count - number)
            bar = "#" * filled + "." * (BAR_WIDTH - filled)
            end = "" if sys.stderr.isatty() and number < count else "\n"
            text = f"\r[{bar}] {number}/{count} seeds, {broken} broken, about {left_s:.0f} s left "
            print(text, end=end, file=sys.stderr, flush=True)


def _line(text: str) -> None:
    print(("\r" + " " * 79 + "\r" if sys.stderr.isatty() else "") + text, file=sys.stderr, flush=True)


def _read(path: Path | None) -> dict[int, dict[str, Any]]:
    if path is None or not path.exists():
        return {}
    outcomes = [json.loads(line) for line in path.read_text().splitlines()]
    return {outcome["seed"]: outcome for outcome in outcomes}


def summary(outcomes: list[dict[str, Any]], mutant: str = "") -> str:
    """What happened in these runs, for people."""
    faults: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    for outcome in outcomes:
        faults.update(outcome["faults"])
        ends.update(outcome["ends"])
    virtual_days = sum(outcome["virtual_s"] for outcome in outcomes) / 86_400
    real_s = sum(outcome["real_s"] for outcome in outcomes)
    lines = ["what was injected or answered        times"]
    lines += [f"  {name:<33}{count:>8}" for name, count in sorted(faults.items())]
    lines += ["jobs by end", *(f"  {name:<33}{count:>8}" for name, count in sorted(ends.items()))]
    lines += [f"{len(outcomes)} runs, {virtual_days:.1f} days of virtual time in {real_s:.1f} s of real time"]
    broken = [outcome for outcome in outcomes if outcome["violations"]]
    for outcome in broken[:SHOWN_MAX]:
        lines += [f"seed {outcome['seed']} broke:", *(f"  {rule}" for rule in outcome["violations"][:5])]
        lines.append(f"  again: {command(outcome['seed'], mutant)}")
    lines.append(f"{len(broken)} of {len(outcomes)} runs broke a promise")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
