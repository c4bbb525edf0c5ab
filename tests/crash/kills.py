"""Killing at random under load: gateways, replicas, PostgreSQL and Redis, by SIGKILL, while a team posts jobs.

    python -m tests.crash.kills            the whole figure: 100 gateways, 60 replicas, 20 PostgreSQL, 20 Redis
    python -m tests.crash.kills redis=5    so many of what is named

What counts is what the vendor's simulator, the caller and the ledger say afterwards, each on its own.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
from sqlalchemy import Connection, func, select

from gateway.jobs import ACTIVE
from gateway.money import ledger
from gateway.store.schema import attempts, jobs
from gateway.store.schema_money import entries
from tests.support.gateway import unsound
from tests.support.pictures import picture_base64
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.processes import Child, Stand, database, stand
from tests.support.redis_server import RedisServer, redis_server

WHOLE = {"gateway": 100, "replica": 60, "postgres": 20, "redis": 20}
SEED = 20_261_125
POSTERS = 2
JOBS_A_KILL = 4
LEASE_S, HEARTBEAT_S, CLAIM_S = 2.0, 0.6, 1.0
PICK_UP_S = LEASE_S + CLAIM_S + 1.0
END_TIMEOUT_S = 90.0
VENDOR_KEY = {"x-api-key": "SG_5a4db0c0ffee0000"}
FAULTS = {
    # No 429: the router would rightly hold calls back for minutes, and the load is what is wanted here.
    "submit": {"502_after_accept": 0.05, "502_before_accept": 0.05, "reset_before_reply": 0.05},
    "status": {"502_before_accept": 0.05, "500": 0.05},
    "result": {"504_before_accept": 0.05},
    "file": {"502_before_accept": 0.05},
}


@dataclass(slots=True)
class Yard:
    """Everything that may be killed, and the load on it."""

    stand: Stand
    transact: Callable[..., Any]
    random: Random
    gateways: list[Child]
    postgres: PostgresServer | None = None
    redis: RedisServer | None = None
    pick_ups_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is left when every job has ended. Each of the faults must be none."""

    victim: str
    kills: int
    acknowledged: int
    ended: Counter[str]
    lost: int
    accepted_max: int
    strangers: int
    billed_twice: int
    ledger_sum_micros: int
    pick_up_max_s: float
    took_s: float
    faults: list[str]

    def row(self) -> list[str]:
        """A line of the table."""
        ended = ", ".join(f"{count} {status}" for status, count in sorted(self.ended.items()))
        pick_up = f"{self.pick_up_max_s:.1f} s" if self.pick_up_max_s else "-"
        numbers = (self.kills, self.acknowledged, self.lost, self.accepted_max, self.billed_twice)
        return [self.victim, *map(str, numbers), str(self.ledger_sum_micros), pick_up, f"{self.took_s:.0f} s", ended]


HEADINGS = ["killed", "kills", "jobs", "lost", "accepted", "twice", "ledger", "pick-up", "took", "ended"]


class Load:
    """A team that posts jobs until it is told to stop, and repeats under the same key what was not answered."""

    def __init__(self, yard: Yard) -> None:
        self._yard = yard
        self._stop = threading.Event()
        self._allowed = JOBS_A_KILL
        self._lock = threading.Lock()
        self.keys: list[str] = []
        self.told: dict[str, str] = {}
        self.wrong: list[str] = []

    @contextlib.contextmanager
    def posting(self) -> Iterator[None]:
        """Post for the length of the block, and at its end until every job is acknowledged."""
        with ThreadPoolExecutor(POSTERS) as pool:
            posters = [pool.submit(self._post_many) for _ in range(POSTERS)]
            try:
                yield
            finally:
                self._stop.set()
                for poster in posters:
                    poster.result()
        until = time.monotonic() + END_TIMEOUT_S
        while missing := [key for key in self.keys if key not in self.told]:
            assert time.monotonic() < until, f"not acknowledged: {missing}"
            self._post(missing[0])

    def flows(self) -> None:
        """Let a few more jobs be posted, and wait until some are: a kill is to hit a process that has work."""
        self._allowed += JOBS_A_KILL
        enough, until = len(self.told) + POSTERS, time.monotonic() + END_TIMEOUT_S
        while len(self.told) < enough:
            assert time.monotonic() < until, f"nothing is acknowledged any more: {self.wrong}"
            time.sleep(0.01)

    def _post_many(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                if len(self.keys) >= self._allowed:
                    self._stop.wait(0.02)
                    continue
                key = f"take-{len(self.keys) + 1}"
                self.keys.append(key)
            for _ in range(3):
                if key not in self.told:
                    self._post(key)
            self._stop.wait(0.1)

    def _post(self, key: str) -> None:
        gateway = self._yard.gateways[hash(key) % len(self._yard.gateways)]
        headers = {**self._yard.stand.client.headers, "idempotency-key": key}
        try:
            response = httpx.post(
                f"{gateway.url}/generate/video", json={"image": picture_base64()}, headers=headers, timeout=30.0
            )
        except httpx.TransportError:
            time.sleep(0.05)
            return
        if response.status_code in {409, 503}:  # the first try is not over, or the database is away: again later
            time.sleep(0.2)
            return
        if response.status_code != 202 or self.told.setdefault(key, response.json()["id"]) != response.json()["id"]:
            self.wrong.append(f"{key}: {response.status_code} {response.text}")


def kill_gateway(yard: Yard) -> None:
    """The only gateway there is; the next one picks its jobs up."""
    (old,) = yard.gateways
    old.kill()
    new = yard.gateways[0] = yard.stand.start()
    picked_up(yard, old.owner, new)


def kill_replica(yard: Yard) -> None:
    """One of two; the other one picks its jobs up, and it comes back."""
    index = yard.random.randrange(len(yard.gateways))
    old, other = yard.gateways[index], yard.gateways[1 - index]
    old.kill()
    picked_up(yard, old.owner, other)
    yard.gateways[index] = yard.stand.start()


def kill_postgres(yard: Yard) -> None:
    """The database, with everything it runs."""
    assert yard.postgres is not None
    yard.postgres.kill()
    time.sleep(yard.random.uniform(0.0, 0.5))
    yard.postgres.start()


def kill_redis(yard: Yard) -> None:
    """What carries the wake-ups, with all that it knew."""
    assert yard.redis is not None
    yard.redis.kill()
    time.sleep(yard.random.uniform(0.0, 0.5))
    yard.redis.start()


VICTIMS: Mapping[str, Callable[[Yard], None]] = {
    "gateway": kill_gateway,
    "replica": kill_replica,
    "postgres": kill_postgres,
    "redis": kill_redis,
}


def picked_up(yard: Yard, owner: str, by: Child) -> None:
    """Wait until another process owns every job that a dead one owned, and note how long that took."""
    began = time.monotonic()
    while yard.transact(owned, owner):
        assert time.monotonic() < began + END_TIMEOUT_S, f"{by.url} never took up the jobs of {owner}"
        time.sleep(0.02)
    yard.pick_ups_s.append(time.monotonic() - began)


def owned(connection: Connection, owner: str) -> int:
    """How many unfinished jobs a process owns."""
    mine = jobs.c.lease_owner == owner, jobs.c.status.in_(ACTIVE)
    return int(connection.execute(select(func.count()).select_from(jobs).where(*mine)).scalar_one())


@contextlib.contextmanager
def yard_for(victim: str, folder: Path, seed: int) -> Iterator[Yard]:
    """The vendor, the database and the gateways for one kind of kill."""
    latency = {"latency": {"svd": {"kind": "lognormal", "mean_s": 0.8}}, "queue": {"kind": "constant", "mean_s": 0.0}}
    sections: dict[str, Any] = {"jobs": {"lease_s": LEASE_S, "heartbeat_s": HEARTBEAT_S}}
    with contextlib.ExitStack() as stack:
        postgres = redis = None
        store_url = ""
        if victim != "gateway":
            postgres = stack.enter_context(postgres_server())
            redis = stack.enter_context(redis_server(folder / "redis"))
            store_url = postgres.url(postgres.create())
            sections |= {"server": {"replicas": 2}, "bus": {"url": redis.url}}
        switches = {**latency, "fault_rates": FAULTS, "credits_micros": 10**12}
        running = stack.enter_context(stand(folder, switches=switches, sections=sections, store_url=store_url))
        transact = stack.enter_context(database(running.store_url))
        gateways = [running.start() for _ in range(1 if postgres is None else 2)]
        yield Yard(running, transact, Random(seed), gateways, postgres, redis)


def run(victim: str, kills: int, folder: Path, say: Callable[[str], None], seed: int = SEED) -> Outcome:
    """Kill so many times under load, let everything end, and count."""
    began = time.monotonic()
    with yard_for(victim, folder, seed) as yard:
        load = Load(yard)
        with load.posting():
            for number in range(1, kills + 1):
                load.flows()
                time.sleep(yard.random.uniform(0.0, 0.6))
                VICTIMS[victim](yard)
                say(f"{victim}: {number} of {kills} kills, {len(load.told)} jobs acknowledged")
        until = time.monotonic() + END_TIMEOUT_S
        while active := yard.transact(count_active):
            assert time.monotonic() < until, f"never ended: {yard.transact(stuck)}"
            say(f"{victim}: {active} jobs to end")
            time.sleep(0.2)
        rendered = renders(yard.stand)
        for gateway in yard.gateways:
            assert gateway.stop() == 0
        found: dict[str, Any] = yard.transact(left_behind, sorted(load.told.values()))
        return Outcome(
            victim=victim,
            kills=kills,
            acknowledged=len(load.told),
            ended=found["ended"],
            lost=found["lost"],
            accepted_max=max(rendered.values(), default=0),
            strangers=len(set(rendered) - found["seeds"]),
            billed_twice=found["billed_twice"],
            ledger_sum_micros=found["ledger_sum_micros"],
            pick_up_max_s=max(yard.pick_ups_s, default=0.0),
            took_s=time.monotonic() - began,
            faults=[*load.wrong, *found["faults"]],
        )


def renders(running: Stand) -> Counter[int]:
    """How often the vendor accepted each seed; every attempt has one of its own."""
    found: Counter[int] = Counter()
    for page in range(1, 1000):
        url = f"{running.vendor.url}/inference-request/request-history"
        response = httpx.get(url, params={"per_page": 100, "page": page}, headers=VENDOR_KEY, trust_env=False)
        rows = response.json()["data"]
        found.update(row["request_body"]["seed"] for row in rows)
        if len(rows) < 100:
            break
    return found


def count_active(connection: Connection) -> int:
    """How many jobs have not ended."""
    active = select(func.count()).select_from(jobs).where(jobs.c.status.in_(ACTIVE))
    return int(connection.execute(active).scalar_one())


def stuck(connection: Connection) -> list[str]:
    """What the jobs that have not ended are about."""
    columns = jobs.c.id, jobs.c.status, jobs.c.lease_owner, jobs.c.due_at, jobs.c.crashes, jobs.c.parked_at
    found = connection.execute(select(*columns, attempts.c.state, attempts.c.events).join(attempts, isouter=True))
    return [str(row) for row in found if row.status in ACTIVE][:5]


def left_behind(connection: Connection, told: list[str]) -> dict[str, Any]:
    """What the database says when all is over."""
    ended = {row.id: row.status for row in connection.execute(select(jobs.c.id, jobs.c.status))}
    captures = connection.execute(select(entries.c.job_id).where(entries.c.kind == "capture")).scalars()
    wires = connection.execute(select(attempts.c.wire)).scalars()
    strays = [f"{job_id} was never acknowledged" for job_id in sorted(set(ended) - set(told))]
    return {
        "ended": Counter(ended.values()),
        "lost": len(set(told) - set(ended)),
        "billed_twice": sum(count > 1 for count in Counter(captures).values()),
        "ledger_sum_micros": sum(ledger.trial_balance(connection).values()),
        "seeds": {wire["seed"] for wire in wires},
        "faults": [*unsound(connection), *strays],
    }


def broken(outcome: Outcome) -> list[str]:
    """The promises that an outcome breaks, a sentence each."""
    rules = {
        "an acknowledged job is lost": outcome.lost == 0,
        "an attempt was accepted more than once": outcome.accepted_max <= 1,
        "the vendor rendered what no attempt asked for": outcome.strangers == 0,
        "a job was billed twice": outcome.billed_twice == 0,
        "the ledger does not add up": outcome.ledger_sum_micros == 0,
        "nothing was acknowledged at all": outcome.acknowledged > 0,
        f"a pick-up took longer than {PICK_UP_S:g} s": outcome.pick_up_max_s <= PICK_UP_S,
    }
    return [sentence for sentence, holds in rules.items() if not holds] + outcome.faults


def main(arguments: list[str]) -> int:
    """Run what is asked for, print a progress line and the table; 1 when a promise is broken."""
    wanted = dict(word.partition("=")[::2] for word in arguments) or {name: str(n) for name, n in WHOLE.items()}

    def say(text: str) -> None:
        sys.stderr.write(f"\r{text:<78}")
        sys.stderr.flush()

    outcomes = []
    for victim, kills in wanted.items():
        with tempfile.TemporaryDirectory(prefix="vidgate-kills-") as folder:
            outcomes.append(run(victim, int(kills), Path(folder), say))
    say("")
    rows = [HEADINGS, *(outcome.row() for outcome in outcomes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    sys.stdout.write("\r" + "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows) + "\n")
    faults = [f"{outcome.victim}: {sentence}" for outcome in outcomes for sentence in broken(outcome)]
    sys.stdout.write("\n".join(faults) + ("\n" if faults else ""))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
