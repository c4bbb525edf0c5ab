"""What a seed stands for: how much traffic, which vendors, which faults and how often; drawn before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from tests.support.clock import START

REAL_SHARE = 0.12
RARE, SOME, MUCH = 0.03, 0.12, 0.3
# How a vendor may treat a submit; `_accepted` means that it runs the render and the reply is lost or spoiled.
SUBMIT_FAULTS = (
    "refused_connection", "429_seconds", "429_date", "500", "502", "502_accepted", "504", "504_accepted", "reset",
    "reset_accepted", "silence", "silence_accepted", "slow", "401", "moderated", "no_credit",
)  # fmt: skip
CHECK_FAULTS = ("500", "502", "429", "silence", "forgets")
RENDER_FAULTS = ("failed", "failed_charged", "rubbish", "truncated", "wrong_frames", "slow_render", "lost_job", "late")
LOOKUP_FAULTS = ("dark",)
CALLBACK_FAULTS = ("lost", "twice", "delayed", "early")
STORE_FAULTS = ("fails_before_commit", "commit_unknown")
RECEIVER_FAULTS = ("500", "429", "silence", "reply_lost")
# An account that is out is out for all jobs, so it is drawn less often than what passes by itself.
SELDOM = frozenset({"401", "no_credit", "moderated", "lost_job"})


@dataclass(frozen=True, slots=True)
class VendorPlan:
    """One scripted vendor: what it is like, and the odds of each of its faults."""

    name: str
    mode: str
    price_micros: int
    billing: str
    latency_s: float
    looks_up: bool
    cancels: bool | None
    credit_micros: int | None
    reports_cost: bool
    submit: Mapping[str, float]
    check: Mapping[str, float]
    render: Mapping[str, float]
    lookup: Mapping[str, float]
    callback: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TeamPlan:
    """One team: its margin, its budget and whether it wants to be told of events."""

    name: str
    percent: int
    flat_micros: int
    budget_window: str | None
    budget_micros: int
    webhook: bool


@dataclass(frozen=True, slots=True)
class Scenario:
    """A whole run, as far as it is decided beforehand."""

    seed: int
    starts_at: float
    length_s: float
    jobs: int
    replicas: int
    real_vendors: bool
    vendors: tuple[VendorPlan, ...]
    teams: tuple[TeamPlan, ...]
    settings: Mapping[str, Mapping[str, Any]]
    claim_interval_s: float
    store: Mapping[str, float]
    receiver: Mapping[str, float]
    commit_s: float
    crashes: int
    crashes_at_start: float
    pauses: int
    drains: int
    jumps: int
    repeats: float
    cancels: float
    waits: float
    random: Random = field(repr=False)


def draw(seed: int) -> Scenario:
    """The scenario of a seed."""
    random = Random(f"scenario {seed}")
    real = random.random() < REAL_SHARE
    replicas = random.choice((1, 1, 2, 3))
    lease_s = random.choice((15.0, 30.0, 60.0))
    jobs = random.randint(2, 8) if real else random.choice((2, 5, 8, 12, 20))
    return Scenario(
        seed=seed,
        starts_at=START if real else _start(random),
        length_s=random.choice((60.0, 300.0, 900.0)),
        jobs=jobs,
        replicas=replicas,
        real_vendors=real,
        vendors=() if real else tuple(_vendor(random, number) for number in range(random.randint(1, 3))),
        teams=tuple(_team(random, number) for number in range(random.randint(1, 3))),
        settings={
            # Several processes share a database server, one alone has a file: what they believe of each other differs.
            "store": {"url": "sqlite:///in-memory.db" if replicas == 1 else "postgresql://in/memory"},
            "server": {"public_base_url": "http://vidgate.test", "replicas": replicas, "drain_s": 5},
            "jobs": {
                "lease_s": lease_s,
                "heartbeat_s": lease_s / 4,
                "deadline_s": random.choice((120, 300, 900)),
                "give_up_s": random.choice((30, 300)),
                "in_doubt_s": random.choice((120, 600)),
                "attempts_max": random.randint(1, 4),
                "crashes_max": 100,
                "running_max": random.choice((2, 200)),
            },
            "retry": {
                "submits_max": random.randint(1, 3),
                "ambiguous": random.choice(("verify", "verify", "verify", "retry", "never")),
                "budget_ratio": 0.2,
                "budget_reserve_per_s": random.choice((0.0, 1.0)),
            },
            "polling": {"balance_every_s": 120},
            "outbound": {"allow_hosts": ["files.test", "hooks.test", "segmind.test", "modelslab.test"]},
        },
        claim_interval_s=random.choice((5.0, 10.0)),
        store=_rates(random, STORE_FAULTS, (0.0, 0.0, 0.005, 0.02)),
        receiver=_rates(random, RECEIVER_FAULTS, (0.0, RARE, MUCH)),
        commit_s=random.choice((0.0, 0.002, 0.05)),
        crashes=random.choice((0, 1, 2, 5)),
        crashes_at_start=random.choice((0.0, 0.3)),
        pauses=random.choice((0, 0, 1, 3)),
        drains=random.choice((0, 0, 1, 2)),
        jumps=random.choice((0, 0, 0, 2)),
        repeats=random.choice((0.1, 0.5)),
        cancels=random.choice((0.0, 0.1, 0.3)),
        waits=random.choice((0.1, 0.5)),
        random=random,
    )


def _start(random: Random) -> float:
    """Some day; in a third of all runs the minutes before a month ends."""
    day = datetime(2027, 1 + random.randrange(12), 1, tzinfo=UTC)
    if random.random() < 1 / 3:
        return day.timestamp() - random.uniform(10.0, 600.0)
    return (day + timedelta(days=random.uniform(0.0, 27.0))).timestamp()


def _vendor(random: Random, number: int) -> VendorPlan:
    mode = random.choice(("async", "async", "sync"))
    moody = (RARE, SOME, MUCH) if random.random() < 0.85 else (0.0,)
    looks_up = mode == "async" and random.random() < 0.7
    return VendorPlan(
        name=("alpha", "beta", "gamma")[number],
        mode=mode,
        price_micros=random.choice((100_000, 123_457, 150_000)),
        billing=random.choice(("success_only", "may_bill")),
        latency_s=random.choice((2.0, 10.0, 40.0)),
        looks_up=looks_up,
        cancels=random.choice((None, True, False)) if mode == "async" else None,
        credit_micros=random.choice((None, None, 600_000, 50_000_000)),
        reports_cost=random.random() < 0.8,
        submit=_rates(random, SUBMIT_FAULTS, moody),
        check=_rates(random, CHECK_FAULTS, moody),
        render=_rates(random, RENDER_FAULTS, moody),
        lookup=_rates(random, LOOKUP_FAULTS, moody),
        callback=_rates(random, CALLBACK_FAULTS, moody),
    )


def _team(random: Random, number: int) -> TeamPlan:
    flat = random.random() < 0.3
    return TeamPlan(
        name=f"team-{number}",
        percent=0 if flat else random.choice((0, 7, 20)),
        flat_micros=30_000 if flat else 0,
        budget_window=random.choice((None, "day", "month", "total")),
        budget_micros=random.choice((300_000, 1_000_000, 100_000_000)),
        webhook=random.random() < 0.6,
    )


def _rates(random: Random, faults: tuple[str, ...], levels: tuple[float, ...]) -> dict[str, float]:
    """The odds of each fault; a quarter of all faults is in use, so that each run has a character of its own."""
    chosen = {fault: random.choice(levels) for fault in faults if random.random() < 0.3}
    seldom = {fault: min(rate, RARE) for fault, rate in chosen.items() if fault in SELDOM}
    return {fault: rate for fault, rate in {**chosen, **seldom}.items() if rate > 0.0}


def pick(random: Random, rates: Mapping[str, float]) -> str | None:
    """Which fault happens this time, if any."""
    drawn = random.random()
    for fault, rate in rates.items():
        drawn -= rate
        if drawn < 0.0:
            return fault
    return None
