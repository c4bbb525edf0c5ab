"""How fast jobs are admitted on SQLite, beside the bare three-statement transaction on the same file.

The bare one is what no gateway can do without, as text through the driver, on the very same tables: one conditional
UPDATE of a budget's window, an INSERT of the hold and an INSERT of the job. An admission adds the idempotency claim
with its stored answer, the team and its budgets with their windows in its time zone, a second budget (of the key), and
the record of which windows the hold counts in.

Like is compared with like. Both are handed to the same store by the same number of callers: one file and schema, the
same pragmas (WAL, synchronous=FULL), the same thread, commits grouped alike. Short rounds of the two take turns (A B,
B A, ...) and each pair gives one ratio, so that a slow minute of the machine or its disk hits both sides of it; what is
told is the median over the pairs with its quartiles. It is told of the rates, and of the processor time a transaction,
which does not depend on the disk. The last lines have one caller beside a loop over the driver alone, on three small
tables without indexes, checks or keys, without a store or an event loop: the least that SQLite can be asked to do.

Fails when a ratio of the rates through the store is below `RATIO_MIN`.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert

from gateway.admission import Admission, Answer, IdempotencyKey, admit
from gateway.jobs import JobStatus
from gateway.money.budgets import Budget, set_budget
from gateway.money.windows import WindowKind, window_at
from gateway.store import schema
from gateway.store.jobs import Job
from gateway.store.sqlite import PRAGMAS, SqliteStore

PAIRS = 40
ROUND = {1: 60, 64: 256}  # transactions of a round, by the number of callers
RATIO_MIN = 0.4
AT = 1_790_856_000.0
LIMIT_MICROS = 10**14
BARE_TABLES = """
CREATE TABLE bare_budget (id TEXT PRIMARY KEY, limit_micros INTEGER NOT NULL, held_micros INTEGER NOT NULL);
CREATE TABLE bare_hold (id TEXT PRIMARY KEY, job_id TEXT NOT NULL, team_id TEXT NOT NULL, amount_micros INTEGER);
CREATE TABLE bare_job (id TEXT PRIMARY KEY, team_id TEXT NOT NULL, status TEXT NOT NULL, request TEXT NOT NULL);
INSERT INTO bare_budget VALUES ('budget', 100000000000000, 0);
"""
BARE_TAKE = """
UPDATE bare_budget SET held_micros = held_micros + 165900
WHERE id = 'budget' AND held_micros + 165900 <= limit_micros
"""
TAKE = """
UPDATE budget_windows SET held_micros = held_micros + 165900 WHERE budget_id = 'budget-1' AND starts_at = ?
AND spent_micros + held_micros + 165900 <= (SELECT limit_micros FROM budgets WHERE id = 'budget-1')
"""
HOLD = """
INSERT INTO holds (id, job_id, team_id, key_id, amount_micros, tags, created_at, expires_at)
VALUES (?, ?, 'team', 'key', 165900, ?, ?, ?)
"""
JOB = """
INSERT INTO jobs (id, team_id, key_id, media, status, created_at, deadline_at, give_up_at, hold_id, held_micros,
request, input, due_at, parameters, plan, replans, receipt, fence, crashes)
VALUES (?, 'team', 'key', 'video', 'queued', ?, ?, ?, ?, 165900, ?, ?, ?, '{}', '{}', '[]', '[]', 0, 0)
"""
REQUEST = {"metadata": {"project": "bench"}, "parameters": {"num_frames": 14, "fps": 7, "seed": 42}}
PICTURE = {"sha256": "0" * 64}
MONTH_STARTS_AT = window_at(WindowKind.MONTH, AT, "Europe/Berlin").starts_at


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
        input=PICTURE,
        due_at=AT,
    )
    return Admission(job, AT + 7200, IdempotencyKey(f"key-{name}", "f" * 64), _answer)


def _answer(job: Job) -> Answer:
    return Answer(202, b'{"id": "' + job.id.encode() + b'"}', {"location": f"/jobs/{job.id}"})


def bare(connection: Connection, name: str) -> bool:
    """The three statements on the tables of the service, with the values that an admission writes there."""
    driver: Any = connection.connection.driver_connection
    hold, job = f"hold_{name}", f"job_{name}"
    if driver.execute(TAKE, (MONTH_STARTS_AT,)).rowcount != 1:
        return False
    driver.execute(HOLD, (hold, job, json.dumps(REQUEST["metadata"]), AT, AT + 7200))
    times = (AT, AT + 600, AT + 3600)
    driver.execute(JOB, (job, *times, hold, json.dumps(REQUEST), json.dumps(PICTURE), AT))
    return True


def barest(driver: sqlite3.Connection, name: str) -> bool:
    """The three statements on tables of their own, which have no rules."""
    if driver.execute(BARE_TAKE).rowcount != 1:
        return False
    driver.execute("INSERT INTO bare_hold VALUES (?, ?, 'team', 165900)", (f"hold_{name}", f"job_{name}"))
    driver.execute("INSERT INTO bare_job VALUES (?, 'team', 'queued', ?)", (f"job_{name}", json.dumps(REQUEST)))
    return True


def admitted(connection: Connection, asked: Admission) -> bool:
    """A whole admission as the store runs it."""
    return admit(connection, asked).status == 202


@dataclass(frozen=True, slots=True)
class Way:
    """A transaction: what its caller hands over, made beforehand, and what the store then runs."""

    name: str
    make: Callable[[str], Any]
    run: Callable[[Connection, Any], bool]


BARE = Way("bare", str, bare)
ADMISSION = Way("admission", admission, admitted)


@dataclass(frozen=True, slots=True)
class Round:
    """One round: seconds of each transaction as its caller waited, of all, and of the processor."""

    waits_s: list[float]
    took_s: float
    cpu_s: float

    @property
    def rate(self) -> float:
        """Transactions a second."""
        return len(self.waits_s) / self.took_s

    @property
    def cpu_each_s(self) -> float:
        """Processor time a transaction."""
        return self.cpu_s / len(self.waits_s)


async def play(store: SqliteStore, way: Way, callers: int, name: str) -> Round:
    """One round of a transaction through the store."""
    waits_s: list[float] = []
    asked = iter([way.make(f"{way.name}-{callers}-{name}-{number}") for number in range(ROUND[callers])])

    async def call() -> None:
        for one in asked:
            began = time.perf_counter()
            assert await store.write(way.run, one)
            waits_s.append(time.perf_counter() - began)

    cpu_began, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*(call() for _ in range(callers)))
    return Round(waits_s, time.perf_counter() - began, time.process_time() - cpu_began)


def play_driver(path: Path, name: str) -> Round:
    """One round of the bare transaction in a loop over the driver alone."""
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in PRAGMAS:
        connection.execute(pragma)
    waits_s = []
    cpu_began = time.process_time()
    for number in range(ROUND[1]):
        began = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        assert barest(connection, f"{name}-{number}")
        connection.execute("COMMIT")
        waits_s.append(time.perf_counter() - began)
    cpu_s = time.process_time() - cpu_began
    connection.close()
    return Round(waits_s, sum(waits_s), cpu_s)


@dataclass(frozen=True, slots=True)
class Compared:
    """Rounds of an admission beside rounds of the bare transaction, pair by pair."""

    title: str
    ours: list[Round]
    bares: list[Round]

    def ratios(self, of: Callable[[Round], float]) -> tuple[float, float, float]:
        """Quartiles of the ratio over the pairs."""
        each = [of(mine) / of(other) for mine, other in zip(self.ours, self.bares, strict=True)]
        low, middle, high = statistics.quantiles(each, n=4)
        return low, middle, high


async def compare(path: Path) -> list[Compared]:
    """Play all rounds, taking turns."""
    store = SqliteStore.open(f"sqlite:///{path}")
    await store.write(prepare)
    await store.write(lambda connection: connection.connection.dbapi_connection.executescript(BARE_TABLES))
    for callers in ROUND:  # the first calls compile the statements
        await play(store, ADMISSION, callers, "warm")
    found = []
    for callers in ROUND:
        one = Compared(f"{callers} caller{'s' * (callers > 1)}", [], [])
        for pair in range(PAIRS):
            turns = [(one.ours, ADMISSION), (one.bares, BARE)]
            for rounds, way in turns if pair % 2 else reversed(turns):
                rounds.append(await play(store, way, callers, str(pair)))
        found.append(one)
    alone = Compared("1 caller, beside the driver alone", [], [])
    for pair in range(PAIRS):
        if pair % 2:
            alone.bares.append(play_driver(path, f"driver-{pair}"))
        alone.ours.append(await play(store, ADMISSION, 1, f"alone-{pair}"))
        if not pair % 2:
            alone.bares.append(play_driver(path, f"driver-{pair}"))
    await store.close()
    return [*found, alone]


def show(one: Compared) -> None:
    """Print a comparison: each side, then the ratios."""
    print(one.title)
    for name, rounds in (("bare", one.bares), ("admission", one.ours)):
        waits_ms = [1e3 * wait_s for played in rounds for wait_s in played.waits_s]
        cuts = statistics.quantiles(waits_ms, n=100)
        rate = statistics.median(played.rate for played in rounds)
        cpu_us = 1e6 * statistics.median(played.cpu_each_s for played in rounds)
        print(f"  {name:10} {rate:7.0f}/s   p50 {cuts[49]:6.2f} ms   p99 {cuts[98]:6.2f} ms   cpu {cpu_us:4.0f} us")
    rates = one.ratios(lambda played: played.rate)
    cpu = one.ratios(lambda played: 1 / played.cpu_each_s)
    print("  of the bare rate {1:.2f} ({0:.2f} to {2:.2f})".format(*rates), end=", ")
    print("of its rate a second of processor time {1:.2f} ({0:.2f} to {2:.2f})".format(*cpu))


def main() -> int:
    """Measure, print, and return 1 when admissions are too slow beside the bare transaction."""
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(compare(Path(folder) / "bench.db"))
    for one in found:
        show(one)
    judged = [one.ratios(lambda played: played.rate)[1] for one in found[:2]]
    print(f"lowest {min(judged):.2f}, at least {RATIO_MIN} is wanted")
    return 0 if min(judged) >= RATIO_MIN else 1


if __name__ == "__main__":
    sys.exit(main())
