"""How fast jobs are admitted on SQLite, beside the bare three-statement transaction on the same file.

The bare one is what no gateway can do without: one conditional UPDATE of a budget, an INSERT of a hold and an INSERT
of a job, through the driver alone, one after the other. An admission of vidgate adds the idempotency claim with its
stored answer, windows in the team's time zone, a budget of the team and one of the key, and every rule of the schema.

Prints rates and p50/p99 for one caller, who waits for the disk each time, and for many, whose commits the store groups.
Fails when the rate with many callers is below `RATIO_MIN` of the bare one. The cost of a commit differs widely between
disks: the dearer it is, the better vidgate looks, so the ratio that counts is the one on a disk where it is cheap.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy import Connection, insert

from gateway.admission import Admission, Answer, IdempotencyKey, admit
from gateway.jobs import JobStatus
from gateway.money.budgets import Budget, set_budget
from gateway.money.windows import WindowKind
from gateway.store import schema
from gateway.store.jobs import Job
from gateway.store.sqlite import SqliteStore

ROUND = 250
ROUNDS = 6
CALLERS = 64
RATIO_MIN = 0.4
AT = 1_790_856_000.0
LIMIT_MICROS = 10**14
BARE_TABLES = """
CREATE TABLE bare_budget (id TEXT PRIMARY KEY, limit_micros INTEGER NOT NULL, held_micros INTEGER NOT NULL);
CREATE TABLE bare_hold (id TEXT PRIMARY KEY, job_id TEXT NOT NULL, team_id TEXT NOT NULL, amount_micros INTEGER);
CREATE TABLE bare_job (id TEXT PRIMARY KEY, team_id TEXT NOT NULL, status TEXT NOT NULL, request TEXT NOT NULL);
INSERT INTO bare_budget VALUES ('budget', 100000000000000, 0);
"""
BARE_UPDATE = """
UPDATE bare_budget SET held_micros = held_micros + 165900
WHERE id = 'budget' AND held_micros + 165900 <= limit_micros
"""
REQUEST = {"metadata": {"project": "bench"}, "parameters": {"num_frames": 14, "fps": 7, "seed": 42}}


def prepare(connection: Connection) -> None:
    """A team with a key, a monthly budget of the team and a daily one of the key."""
    team = {"id": "team", "name": "team", "timezone": "Europe/Berlin", "plan": {}, "created_at": AT}
    connection.execute(insert(schema.teams).values(**team))
    key = {"id": "key", "team_id": "team", "name": "key", "prefix": "vg", "hash": "0", "grants": {}, "created_at": AT}
    connection.execute(insert(schema.keys).values(**key))
    set_budget(connection, Budget("budget-1", "team", WindowKind.MONTH, LIMIT_MICROS), AT)
    set_budget(connection, Budget("budget-2", "team", WindowKind.DAY, LIMIT_MICROS, key_id="key"), AT)


def admission(name: str) -> Admission:
    """A job as it stands when it is admitted, with an Idempotency-Key."""
    job = Job(
        id=f"job_{name}",
        team_id="team",
        key_id="key",
        media="video",
        status=JobStatus.QUEUED,
        created_at=AT,
        deadline_at=AT + 600,
        give_up_at=AT + 3600,
        hold_id=f"hold_{name}",
        held_micros=165_900,
        request=REQUEST,
        input={"sha256": "0" * 64},
        due_at=AT,
    )
    return Admission(job, AT + 7200, IdempotencyKey(f"key-{name}", "f" * 64), _answer)


def _answer(job: Job) -> Answer:
    return Answer(202, b'{"id": "' + job.id.encode() + b'"}', {"location": f"/jobs/{job.id}"})


class Bare:
    """The bare transaction, on its own connection to the same file."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
            self.connection.execute(f"PRAGMA {pragma}")
        self.connection.executescript(BARE_TABLES)

    def run(self, name: str) -> list[float]:
        """Seconds of each transaction of one round."""
        durations = []
        for number in range(ROUND):
            began = time.perf_counter()
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.execute(BARE_UPDATE)
            hold = (f"hold_{name}-{number}", f"job_{name}-{number}")
            self.connection.execute("INSERT INTO bare_hold VALUES (?, ?, 'team', 165900)", hold)
            job = (f"job_{name}-{number}", json.dumps(REQUEST))
            self.connection.execute("INSERT INTO bare_job VALUES (?, 'team', 'queued', ?)", job)
            self.connection.execute("COMMIT")
            durations.append(time.perf_counter() - began)
        return durations


async def ours(store: SqliteStore, callers: int, name: str) -> tuple[list[float], float]:
    """Seconds of each admission of one round with so many callers at a time, and of the whole round."""
    durations: list[float] = []
    numbers = iter(range(ROUND))

    async def call() -> None:
        for number in numbers:
            asked = admission(f"{name}-{number}")
            began = time.perf_counter()
            answer = await store.write(admit, asked)
            durations.append(time.perf_counter() - began)
            assert answer.status == 202

    began = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(callers)))
    return durations, time.perf_counter() - began


def show(name: str, durations: list[float], total_s: float) -> float:
    """Print a line and return the rate a second."""
    cuts = statistics.quantiles(durations, n=100)
    rate = len(durations) / total_s
    print(f"{name:28} {rate:7.0f}/s   p50 {cuts[49] * 1e3:6.2f} ms   p99 {cuts[98] * 1e3:6.2f} ms")
    return rate


async def measure(path: Path) -> dict[str, tuple[list[float], float]]:
    """Durations and total seconds of each way, in rounds that take turns so that a slow minute hits all of them."""
    store = SqliteStore.open(f"sqlite:///{path}")
    await store.write(prepare)
    bare = Bare(path)
    await ours(store, 1, "warm")  # the first calls compile the statements
    measured: dict[str, tuple[list[float], float]] = {}
    for number in range(ROUNDS):
        alone = bare.run(str(number))
        rounds = {
            "bare": (alone, sum(alone)),
            "one": await ours(store, 1, f"one-{number}"),
            "many": await ours(store, CALLERS, f"many-{number}"),
        }
        for way, (durations, total_s) in rounds.items():
            before, before_s = measured.get(way, ([], 0.0))
            measured[way] = (before + durations, before_s + total_s)
    await store.close()
    bare.connection.close()
    return measured


def main() -> int:
    """Measure, print, and return 1 when admissions are too slow beside the bare transaction."""
    with tempfile.TemporaryDirectory() as folder:
        measured = asyncio.run(measure(Path(folder) / "bench.db"))
    bare_rate = show("bare, one caller", *measured["bare"])
    one_rate = show("vidgate, one caller", *measured["one"])
    many_rate = show(f"vidgate, {CALLERS} callers", *measured["many"])
    one_ratio, many_ratio = one_rate / bare_rate, many_rate / bare_rate
    print(f"of the bare rate: {one_ratio:.2f} with one caller, {many_ratio:.2f} with {CALLERS} (at least {RATIO_MIN})")
    return 0 if many_ratio >= RATIO_MIN else 1


if __name__ == "__main__":
    sys.exit(main())
