"""A real Prometheus scrapes two replicas under load, and what its queries answer is what the database says."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from sqlalchemy import Connection, Integer, func, select

from gateway.clock import SystemClock
from gateway.ids import Ids
from gateway.keys import NewKey, create_key
from gateway.money import ledger
from gateway.store.schema import attempts, jobs
from gateway.store.schema_money import holds
from gateway.telemetry.alerts import rule_groups
from gateway.telemetry.catalogue import METRICS
from tests.alarms.seen import causes
from tests.crash.steered import Gateway, start_gateway
from tests.support.instant import NAME, instant_prices, serve_instant
from tests.support.pictures import picture_base64
from tests.support.postgres import PostgresServer
from tests.support.processes import Child, database, start_child
from tests.support.prometheus import Prometheus, programs, prometheus_server
from tests.support.redis_server import RedisServer, redis_server

JOBS = 48
# A quarter of the jobs fail on purpose; these have nothing to say all the same.
NOT_NOW = {"VidgateDown", "VidgateLedgerImbalance", "VidgateBusDisconnected", "VidgateStoreFailing", "VidgateRouteDown"}
PATIENCE_S = 30.0
SETTLE_S = 6.5  # figures of the store are at most five seconds old when they are scraped, and scrapes a second apart
QUICK = {"rate_gap_max_s": 0.05, "wait_max_s": 0.2}
# What becomes of the jobs in turn, by the instant vendor's route: three kinds of repeats, a loss, and a free choice.
KINDS = ("plain", "busy", "never", "dark", "fails", "lost", "plain", "free")


@dataclass
class Yard:
    """Two replicas on one PostgreSQL and one Redis, with a vendor and a team."""

    replicas: list[Gateway]
    client: httpx.Client
    team_id: str
    transact: Callable[..., Any]
    redis: RedisServer
    refuse: Callable[[bool], None]

    @property
    def targets(self) -> list[str]:
        """Where they are scraped."""
        return [one.url.removeprefix("http://") for one in self.replicas]

    def load(self) -> None:
        """Jobs on both replicas in turn: some succeed at once, some after repeats, some fail, some fail over."""
        for number in range(JOBS):
            kind = KINDS[number // 2 % len(KINDS)]
            free = {"order": [f"{NAME}/fails", f"{NAME}/plain"], "only": [f"{NAME}/fails", f"{NAME}/plain"]}
            body = {
                "image": picture_base64(),
                "noise_aug_strength": (number + 1) / 1000,
                "routing": free if kind == "free" else {"pin": f"{NAME}/{kind}"},
            }
            said = self.client.post(f"{self.replicas[number % 2].url}/generate/video", json=body)
            assert said.status_code == 202, said.text


def sections(folder: Path, store_url: str, bus_url: str, vendor: str) -> dict[str, Any]:
    """The configuration of both replicas."""
    book = folder / "prices.yaml"
    book.write_text(instant_prices(), encoding="utf-8")
    return {
        "security": {"signing_secret": "a secret of the tests, long enough"},
        "store": {"url": store_url, "retry_s": 1},
        "bus": {"url": bus_url},
        "server": {"replicas": 2, "drain_s": 2},
        "artifacts": {"url": str(folder / "artifacts")},
        "providers": {NAME: {"base_url": vendor}},
        "outbound": {"allow_hosts": [vendor.removeprefix("http://")]},
        "polling": {"delay_min_s": 0.02, "delay_max_s": 0.05},
        "retry": {
            "verify_settle_s": 0.0,
            "underway_s": 0.0,
            "base_s": 0.01,
            "cap_s": 0.02,
            "budget_reserve_per_s": 100,
        },
        # Failures are what is wanted here: no route and no account is left alone because of them.
        "routing": {"tuning": {"breaker_failures": 10_000, "rate_backoff_s": 0.05, "rate_backoff_max_s": 0.1} | QUICK},
        "money": {"price_book": str(book), "margin_percent": 7},
    }


@pytest.fixture
def yard(tmp_path: Path, postgres: PostgresServer) -> Iterator[Yard]:
    programs()
    name = postgres.create("migrated")
    postgres_url = postgres.url(name)

    def refuse(refused: bool) -> None:
        """Have the database take nobody in, and put out who is there; or take everybody in again."""
        postgres.query(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {str(not refused).lower()}', "postgres")
        if refused:
            others = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
            postgres.query(others, "postgres")

    with ExitStack() as stack:
        stack.callback(postgres.drop, name)
        redis = stack.enter_context(redis_server(tmp_path / "redis"))
        transact = stack.enter_context(database(postgres_url))
        _, team_id, secret = transact(create_key, Ids(SystemClock()), NewKey("reel", "test", SystemClock().now()))
        headers = {"authorization": f"Bearer {secret}"}
        client = stack.enter_context(httpx.Client(headers=headers, timeout=20.0, trust_env=False))
        vendor = start_child(serve_instant)
        stack.callback(ended, vendor)
        configured = sections(tmp_path, postgres_url, redis.url, vendor.url)
        replicas = []
        for _ in range(2):
            replica = start_gateway(configured, tmp_path / "gateway.log", ("", 1), 0.2)
            stack.callback(ended, replica.child)
            replicas.append(replica)
        yield Yard(replicas, client, team_id, transact, redis, refuse)


def ended(child: Child) -> None:
    """Make sure that a process is gone."""
    if child.process.exitcode is None:
        child.process.kill()
        child.process.join(PATIENCE_S)


def scaled_rules(folder: Path) -> Path:
    """The chart's rule file with the expressions as they are, and a second where an alarm has to hold for minutes."""
    groups = rule_groups()
    for rule in groups["groups"][0]["rules"]:
        rule["for"] = "1s" if rule["for"] != "0m" else "0s"
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump(groups), encoding="utf-8")
    return path


def active(connection: Connection) -> int:
    """How many jobs have not ended."""
    return int(connection.execute(select(func.count()).where(jobs.c.finished_at.is_(None))).scalar_one())


def books(connection: Connection) -> dict[str, Any]:
    """The figures as SQL has them."""
    ended: Any = connection.execute(select(jobs.c.status, func.count()).group_by(jobs.c.status)).all()
    repeats = func.sum(attempts.c.submits - 1, type_=Integer)
    routes, cost = select(attempts.c.route, repeats), select(func.sum(attempts.c.cost_micros))
    first = attempts.c.number > 1
    outcomes = connection.execute(select(attempts.c.state, func.count()).group_by(attempts.c.state)).all()
    return {
        "balances": dict(ledger.trial_balance(connection)),
        "jobs": dict(ended),
        "outcomes": {str(state): count for state, count in outcomes},
        "retries": {row[0]: row[1] for row in connection.execute(routes.group_by(attempts.c.route))},
        "cost": connection.execute(cost.where(attempts.c.state == "succeeded")).scalar_one(),
        "failovers": connection.execute(select(func.count()).select_from(attempts).where(first)).scalar_one(),
        "held": connection.execute(select(func.count()).where(holds.c.state == "open")).scalar_one(),
    }


def by(prometheus: Prometheus, label: str, expression: str) -> dict[str, float]:
    """An expression's values by one label, without those that are 0."""
    found = prometheus.query(expression)
    return {dict(labels)[label]: value for labels, value in found.items() if value}


@causes("VidgateEventLoopSlow", "VidgateBusDisconnected", "VidgateStoreFailing", "VidgateDown")
def test_two_replicas_under_load_add_up_to_the_ledger(yard: Yard, tmp_path: Path) -> None:
    """Spend, jobs and retries to the micro-dollar; counters are summed, figures of the database taken once.

    Then what both stand on is taken away, one by one: each time the alarm for it goes off, and had not before.
    """
    with prometheus_server(tmp_path / "prometheus", yard.targets, scaled_rules(tmp_path)) as prometheus:
        yard.load()
        wait(lambda: yard.transact(active) == 0, "jobs never ended")
        time.sleep(SETTLE_S)
        told = yard.transact(books)
        print({name: figure for name, figure in told.items() if name != "balances"})
        assert_equal(prometheus, told, yard.team_id)
        counted = by(prometheus, "instance", "sum by (instance) (vidgate_jobs_ended_total)")
        assert set(counted) == set(yard.targets), "both replicas drove jobs"
        for metric in METRICS:
            if not metric.labels and metric.kind == "gauge":
                name = metric.name  # a scrape that is late leaves a gap
                wait(lambda name=name: len(prometheus.query(name)) == 2, f"{name} is not told by both")
        told_redis = by(prometheus, "instance", 'sum by (instance) (vidgate_bus_seconds_count{command="publish"})')
        assert set(told_redis) == set(yard.targets)
        assert [rule["name"] for rule in prometheus.rules() if rule["health"] != "ok"] == []
        assert prometheus.firing() & NOT_NOW == set()
        for cause, alarm in ((too_much_to_do, "VidgateEventLoopSlow"), (no_redis, "VidgateBusDisconnected")):
            cause(yard)
            wait(lambda alarm=alarm: alarm in prometheus.firing(), f"{alarm} does not go off")
        yard.refuse(True)
        wait(lambda: "VidgateStoreFailing" in prometheus.firing(), "it is not seen that the database refuses")
        yard.refuse(False)
        for replica in yard.replicas:
            replica.kill()
        wait(lambda: "VidgateDown" in prometheus.firing(), "it is not seen that no replica is left")


def too_much_to_do(yard: Yard) -> None:
    """Every replica stands still for more than half a second, several times: its event loop wakes late."""
    for _ in range(3):
        for how, pause_s in ((signal.SIGSTOP, 0.7), (signal.SIGCONT, 0.3)):
            for replica in yard.replicas:
                os.kill(replica.pid, how)
            time.sleep(pause_s)


def no_redis(yard: Yard) -> None:
    """Redis is gone with all that it knew."""
    yard.redis.kill()


def assert_equal(prometheus: Prometheus, told: dict[str, Any], team: str) -> None:
    """Each query's answer against the database's."""
    spend = prometheus.value("sum(vidgate_spend_micro_usd_total)")
    assert spend == told["balances"][f"team:{team}"] > 0
    assert prometheus.value("sum(vidgate_cost_micro_usd_total)") == told["cost"] > 0
    ended = by(prometheus, "status", "sum by (status) (vidgate_jobs_ended_total)")
    assert ended == told["jobs"]
    assert sum(ended.values()) == JOBS == prometheus.value("sum(vidgate_jobs_admitted_total)")
    retries = by(prometheus, "route", "sum by (route) (vidgate_retries_total)")
    assert retries == {route: count for route, count in told["retries"].items() if count}
    assert sum(retries.values()) >= 4
    assert (prometheus.value("sum(vidgate_failovers_total)") or 0) == told["failovers"] > 0
    outcomes: Counter[str] = Counter()
    for outcome, count in by(prometheus, "outcome", "sum by (outcome) (vidgate_attempts_total)").items():
        outcomes["succeeded" if outcome == "succeeded" else "failed"] += int(count)
    assert outcomes == told["outcomes"]
    # Every replica tells the same of the database: summed it would be told twice.
    assert prometheus.value("max(vidgate_ledger_imbalance_micro_usd)") == sum(told["balances"].values()) == 0
    suspense = told["balances"].get("suspense", 0)
    told_by_both = lambda: list(prometheus.query("vidgate_ledger_suspense_micro_usd").values())  # noqa: E731
    wait(lambda: told_by_both() == [suspense] * 2, "the ledger's figures rest longer where their scan took long")
    assert (prometheus.value("max(sum by (instance) (vidgate_holds_open))") or 0) == told["held"] == 0


def wait(true: Any, what: str) -> None:
    """Wait for what other processes bring about."""
    until = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < until, what
        time.sleep(0.1)
