"""Routing, measured: the time of one decision, and the cost per job on simulated weeks against bounds and a reference.

Run: python bench/routing.py [--sim PATH_OF_ROUTING_SIM] [--seeds 0-9] [--scenarios a,b] [--cache FILE]
Without --sim only the decision is timed. The simulator needs numpy.
"""

from __future__ import annotations

import argparse
import base64
import importlib
import importlib.util
import itertools
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import policies.simulation  # before the simulator's own module of the same package name is on the path
from policies.router import Router
from policies.settings import RoutingSettings
from policies.values import Candidate, InFlight, JobFacts, Observation

ROUTES = 20
DECISION_TARGET_MICROS = 200.0
MEAN_TARGET = 1.25
T_975 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)  # Student's t for 1, 2, 3 ... degrees of freedom


def warm_router() -> Router:
    """A router that has seen thirty renders on each of the routes."""
    router, random = Router(RoutingSettings(), Random(1)), Random(2)
    for step in range(30 * ROUTES):
        i = step % ROUTES
        elapsed_s = (10.0 + 5.0 * i) * random.lognormvariate(0.0, 0.25)
        router.observe(
            Observation("succeeded", float(step), f"p{i // 4}/m{i}", f"p{i // 4}", job=str(step), elapsed_s=elapsed_s)
        )
    return router


def candidates(now: float) -> list[Candidate]:
    """Twenty routes of five accounts, each with two renders in flight."""
    flights = (InFlight("a", now - 5.0), InFlight("b", now - 12.0))
    return [
        Candidate(
            f"p{i // 4}/m{i}",
            f"p{i // 4}",
            "async",
            price_micros=150_000 - 5_000 * i,
            nominal_latency_s=10.0 + 5.0 * i,
            balance_micros=50_000_000,
            in_flight=flights,
            requests_per_minute=120,
        )
        for i in range(ROUTES)
    ]


def fastest_micros(call: Callable[[], object], *, repeats: int = 1000, batch: int = 1) -> float:
    """The median of the fastest tenth of many calls, in microseconds of processor time: as on a quiet machine."""
    took = []
    for _ in range(repeats):
        start = time.process_time()
        for _ in range(batch):
            call()
        took.append(1e6 * (time.process_time() - start) / batch)
    return statistics.median(sorted(took)[: max(1, repeats // 10)])


def time_decisions() -> bool:
    """Print the time of a decision over twenty routes, and as a ratio to parsing the same request."""
    now, router = 600.0, warm_router()
    choices = candidates(now)
    job = JobFacts("job", now, now + 180.0, now + 360.0, 500_000, 400_000, 0.5)
    moments = itertools.count(now, 0.001)  # no two decisions are made at the same moment
    image = base64.b64encode(Random(3).randbytes(1_000_000)).decode()
    small = json.dumps({"image": "https://example.com/still.jpg", "motion_bucket_id": 127, "fps": 7, "seed": 1})
    large = json.dumps({"image": image, "motion_bucket_id": 127, "fps": 7, "seed": 1})
    decision = fastest_micros(lambda: router.rank(job, choices, next(moments)))
    parse_small = fastest_micros(lambda: json.loads(small), batch=100)
    parse_large = fastest_micros(lambda: json.loads(large))
    print(f"one decision over {ROUTES} routes: {decision:.0f} us (target {DECISION_TARGET_MICROS:.0f})")
    print(
        f"  {decision / parse_small:.1f} times the JSON parse of the request with an image link ({parse_small:.1f} us)"
    )
    print(f"  {decision / parse_large:.2f} times that with a 1 MB image inside ({parse_large:.0f} us)")
    return decision < DECISION_TARGET_MICROS


class Simulator:
    """The routing simulator in a folder, driven with this project's router."""

    def __init__(self, folder: Path) -> None:
        sys.path.insert(0, str(folder))
        self._scenarios = importlib.import_module("scenarios").SCENARIOS
        self._sim = importlib.import_module("world").Sim
        self._oracle = importlib.import_module("oracle")
        self._reference = importlib.import_module("candidate").Candidate

    @property
    def names(self) -> list[str]:
        """The scenarios, in the simulator's order."""
        return list(self._scenarios)

    def run(self, policy: str, name: str, seed: int) -> dict[str, float]:
        """One simulated day; the bound is a lower limit of the cost of every policy."""
        build = self._scenarios[name]
        if policy == "bound":
            return {"J": float(self._oracle.lower_bound(build(seed))[0])}
        chosen = policies.simulation.Policy(seed) if policy == "vidgate" else self._reference(seed)
        measured = self._sim(build(seed), chosen).run()
        return {key: float(measured[key]) for key in ("J", "hit", "cost_per_done", "wasted")}


def interval(values: list[float]) -> tuple[float, float]:
    """The mean and the half width of its 95 % confidence interval."""
    if len(values) < 2:
        return statistics.fmean(values), 0.0
    t = T_975[min(len(values) - 2, len(T_975) - 1)]
    return statistics.fmean(values), t * statistics.stdev(values) / math.sqrt(len(values))


def table(rows: dict[str, dict[str, float]], names: list[str], seeds: range) -> bool:
    """Print cost over the lower bound; true when the targets are held."""
    print("| policy | " + " | ".join(names) + " | mean | on time | $ per video |")
    print("|---" * (len(names) + 4) + "|")
    means: dict[str, float] = {}
    worse = []
    ratio = {key: rows[key]["J"] / rows[f"bound/{key.split('/', 1)[1]}"]["J"] for key in rows}
    for policy in ("vidgate", "candidate"):
        cells = [interval([ratio[f"{policy}/{name}/{seed}"] for seed in seeds]) for name in names]
        means[policy] = statistics.fmean(mean for mean, _ in cells)
        mine = [rows[f"{policy}/{name}/{seed}"] for name in names for seed in seeds]
        on_time = 100.0 * statistics.fmean(row["hit"] for row in mine)
        per_video = statistics.fmean(row["cost_per_done"] for row in mine)
        text = " | ".join(f"{mean:.2f}±{half:.2f}" for mean, half in cells)
        print(f"| {policy} | {text} | {means[policy]:.3f} | {on_time:.1f} % | {per_video:.4f} |")
    for name in names:
        gaps = [ratio[f"vidgate/{name}/{seed}"] - ratio[f"candidate/{name}/{seed}"] for seed in seeds]
        mean, half = interval(gaps)
        if mean - half > 0.0:
            worse.append(name)
    print(f"mean over the lower bound {means['vidgate']:.3f}, target {MEAN_TARGET}; reference {means['candidate']:.3f}")
    print(f"worse than the reference beyond the 95 % interval of the paired difference: {', '.join(worse) or 'none'}")
    return means["vidgate"] <= MEAN_TARGET and not worse


def simulate(options: argparse.Namespace) -> bool:
    """Run every policy on every scenario and seed, from the cache where it knows them."""
    simulator = Simulator(options.sim)
    names = options.scenarios.split(",") if options.scenarios else simulator.names
    low, _, high = options.seeds.partition("-")
    seeds = range(int(low), int(high or low) + 1)
    known = json.loads(options.cache.read_text()) if options.cache and options.cache.exists() else {}
    rows = {}
    for policy in ("bound", "candidate", "vidgate"):
        for name in names:
            for seed in seeds:
                key = f"{policy}/{name}/{seed}"
                rows[key] = known[key] if key in known and policy != "vidgate" else simulator.run(policy, name, seed)
        if options.cache:
            options.cache.write_text(json.dumps({**known, **rows}))
    return table(rows, names, seeds)


def main() -> int:
    """Print what was measured; exit 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sim", type=Path)
    parser.add_argument("--seeds", default="0-9")
    parser.add_argument("--scenarios", default="")
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    held = time_decisions()
    if options.sim is not None:
        held = simulate(options) and held
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
