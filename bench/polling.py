"""Poll schedules on the simulator's latency streams: seconds of lag and polls per job, against fixed intervals.

Run: python bench/polling.py --sim PATH_OF_ROUTING_SIM
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np

from policies.router import Router
from policies.settings import RoutingSettings
from policies.values import Observation

NOMINAL_S = {
    "modelslab": 8.5,
    "segmind_v2": 29.6,
    "motionctrl": 62.7,
    "modelslab_queue": 20.0,
    "drift": 29.6,
    "regime": 29.6,
    "bimodal_cold": 29.6,
}
STATIONARY = ("modelslab", "segmind_v2", "motionctrl", "bimodal_cold")
LAG_TARGET, COST_TARGET = 0.6, 1.25
POLL_COSTS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0)


class Poller:
    """The router's poll schedule behind the stream's interface."""

    def __init__(self, nominal_s: float, poll_cost_s: float) -> None:
        settings = replace(RoutingSettings(), poll_cost_s=poll_cost_s, poll_gap_min_s=0.25)
        self._router = Router(settings, random.Random(0))
        self._nominal_s = nominal_s
        self._count = 0
        self._last_s = 0.0

    def next(self, age: float, n: int, eta: float) -> float:
        """The age of the next poll."""
        eta_s = None if np.isnan(eta) else float(eta)
        delay_s = self._router.next_poll_delay_s(
            "r", "default", elapsed_s=age, eta_s=eta_s, nominal_latency_s=self._nominal_s
        )
        self._last_s = max(age + delay_s, age + 0.25)
        return self._last_s

    def learn(self, lat: float, eta: float) -> None:
        """Tell the router that a render was seen finished at the last poll."""
        self._count += 1
        attempt, at = str(self._count), 60.0 * self._count
        if not np.isnan(eta):
            self._router.observe(Observation("accepted", at, "r", "a", attempt=attempt, eta_s=float(eta)))
        self._router.observe(Observation("succeeded", at, "r", "a", attempt=attempt, elapsed_s=self._last_s))


def load(sim: Path) -> ModuleType:
    """The simulator's module of streams and reference schedules."""
    spec = importlib.util.spec_from_file_location("routing_sim_polls", sim / "polls.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def measure(polls: ModuleType, kind: str, jobs: int, seed: int) -> tuple[float, float, float, float | None]:
    """Fixed 2 s lag and polls, our lag at as many polls, and our cost over the optimum for the known law."""
    lat, eta = polls.stream(kind, jobs, np.random.default_rng([seed, 31]))
    burn = jobs // 10
    fixed_lag, fixed_polls = polls.evaluate(polls.Fixed(2.0), lat, eta, burn)
    sweep = [polls.evaluate(Poller(NOMINAL_S[kind], cost), lat, eta, burn) for cost in POLL_COSTS_S]
    by_polls = sorted((count, lag) for lag, count in sweep)
    lag = float(np.interp(fixed_polls, [count for count, _ in by_polls], [lag for _, lag in by_polls]))
    if kind not in STATIONARY:
        return fixed_lag, fixed_polls, lag, None
    ours = sum(polls.evaluate(Poller(NOMINAL_S[kind], 1.0), lat, eta, burn))
    optimum = sum(polls.evaluate(polls.Sched(polls.dp_optimal(lat, 1.0, 1.0)), lat, eta, burn))
    return fixed_lag, fixed_polls, lag, ours / optimum


def main() -> int:
    """Print the table; exit 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sim", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    polls = load(options.sim)
    missed = False
    print("| stream | polls per job | lag of fixed 2 s | our lag at as many polls | ratio | cost over optimum |")
    print("|---|---|---|---|---|---|")
    for kind in polls.KINDS:
        fixed_lag, count, lag, over = measure(polls, kind, options.jobs, options.seed)
        ratio = lag / fixed_lag
        missed = missed or ratio > LAG_TARGET or (over is not None and over > COST_TARGET)
        cost = "-" if over is None else f"{over:.2f}"
        print(f"| {kind} | {count:.1f} | {fixed_lag:.2f} s | {lag:.2f} s | {ratio:.2f} | {cost} |", flush=True)
    print(
        f"targets, ratio at most {LAG_TARGET} and cost at most {COST_TARGET} of the optimum: "
        f"{'missed' if missed else 'held'}"
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
