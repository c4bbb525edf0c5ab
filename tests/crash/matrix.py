"""The matrix's stand: one vendor, one database, and a gateway that kills itself at the step that it is told.

One gateway serves many cases: it is told over a pipe where to die next. What a case leaves is checked by its own job,
so that a fault is that case's alone.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import sqlalchemy

import gateway.app
import gateway.dispatcher
import gateway.outbox
import gateway.parking
from gateway import failpoints, webhooks
from gateway.clock import SystemClock
from gateway.ids import Ids
from gateway.keys import NewKey, create_key
from gateway.money.drift import PriceObservation, observe_price
from tests.support.instant import DEADLINE_S, NAME, PLUGIN, TOLD_LATE, instant_prices, serve_instant
from tests.support.pictures import picture_base64
from tests.support.processes import CONTEXT, Child, database, serve_gateway, start_child

PATIENCE_S = 30.0
LEASE_S, HEARTBEAT_S = 1.5, 0.3
CRASHES_MAX = 4


class Killer:
    """Ends this very process at a step, by SIGKILL; counts the steps that it passes."""

    def __init__(self, said: Connection) -> None:
        self._said = said
        self._left = 0
        self._step = ""
        self.passed: Counter[str] = Counter()

    def aim(self, step: str, occurrence: int) -> None:
        self._step, self._left, self.passed = step, occurrence, Counter()

    def __call__(self, step: str) -> None:
        self.passed[step] += 1
        if step != self._step:
            return
        self._left -= 1
        if self._left == 0:
            self._said.send(step)
            os.kill(os.getpid(), signal.SIGKILL)

    def obey(self, told: Connection) -> None:
        """Take orders until the process ends: where to die, or `None` for the counts."""
        while True:
            order = told.recv()
            if order is None:
                told.send(self.passed)
            else:
                self.aim(*order)
                told.send(True)


def serve_killable(
    sections: Mapping[str, Any], log: str, aim: tuple[str, int], told: Connection, said: Connection
) -> None:
    """A gateway with the instant vendor, quick loops, and a killer at every step."""
    killer = Killer(told)
    killer.aim(*aim)
    failpoints.watch(killer)
    threading.Thread(target=killer.obey, args=(told,), daemon=True).start()
    with (
        patch.object(gateway.app, "plugins", lambda: {NAME: PLUGIN}),
        patch.object(gateway.dispatcher, "CLAIM_INTERVAL_S", 0.05),
        patch.object(gateway.parking, "CRASH_PAUSE_S", 0.1),
        patch.object(gateway.outbox, "LEASE_S", 0.3),
        patch.object(gateway.outbox, "SCHEDULE_S", (0.1,) * 9),
    ):
        serve_gateway(sections, log, said)


@dataclass
class MatrixStand:
    """A vendor and a database; `gateway` is the process that runs now, steered through `control`."""

    folder: Path
    store_url: str
    vendor: Child
    client: httpx.Client
    transact: Callable[..., Any]
    team_id: str = ""
    key_id: str = ""
    gateway: Child | None = None
    control: Any = None

    def settings(self) -> dict[str, Any]:
        book = self.folder / "prices.yaml"
        book.write_text(instant_prices(), encoding="utf-8")
        return {
            "security": {"signing_secret": "a secret of the tests, long enough"},
            "store": {"url": self.store_url},
            "artifacts": {"url": str(self.folder / "artifacts")},
            "providers": {NAME: {"base_url": self.vendor.url, "floor_micros": 1}},
            "outbound": {"allow_hosts": [self.vendor.url.removeprefix("http://")]},
            "polling": {"delay_min_s": 0.02, "delay_max_s": 0.05},
            "retry": {"verify_settle_s": 0.0, "base_s": 0.01, "cap_s": 0.02, "budget_reserve_per_s": 100},
            "jobs": {"lease_s": LEASE_S, "heartbeat_s": HEARTBEAT_S, "crashes_max": CRASHES_MAX},
            # Renders that fail on purpose must not close a route.
            "routing": {"tuning": {"breaker_failures": 10_000}},
            "money": {"price_book": str(book)},
        }

    def start(self, step: str = "", occurrence: int = 1) -> bool:
        """Start a gateway that dies at a step, perhaps while it starts; False when it did."""
        self.control, told = CONTEXT.Pipe()
        aim = step, occurrence
        self.gateway = start_child(serve_killable, self.settings(), str(self.folder / "gateway.log"), aim, told)
        told.close()
        if not self.gateway.said.startswith("http://"):
            assert self.gateway.said == "it ended without a word", self.gateway.said
            self.gateway.process.join(PATIENCE_S)
            return False
        self.client.base_url = self.gateway.url
        return True

    def running(self) -> None:
        """Make sure of a gateway that lives and dies nowhere."""
        if self.gateway is None or self.gateway.process.exitcode is not None:
            assert self.start()
        self.aim("")

    def aim(self, step: str, occurrence: int = 1) -> None:
        """Tell the running gateway where to die."""
        self.control.send((step, occurrence))
        assert self.control.poll(PATIENCE_S)
        assert self.control.recv() is True

    def passed(self) -> Counter[str]:
        """How often the gateway has passed each step since it was last told where to die."""
        self.control.send(None)
        assert self.control.poll(PATIENCE_S)
        counted: Counter[str] = self.control.recv()
        return counted

    def died(self, step: str) -> None:
        """Wait until the gateway has killed itself, and make sure that it was at this step."""
        assert self.gateway is not None
        self.gateway.process.join(PATIENCE_S)
        assert self.gateway.process.exitcode == -signal.SIGKILL, f"it never came to {step}\n{self.log()[-3000:]}"
        assert self.control.poll(0)
        assert self.control.recv() == step

    def post(self, kind: str, number: int) -> str | None:
        """Ask for a job with a number of its own; its id, or None when the gateway died before it said so."""
        body: dict[str, Any] = {
            "image": picture_base64(),
            "noise_aug_strength": number / 10_000,
            "routing": {"pin": f"{NAME}/{kind}"},
        }
        if kind in TOLD_LATE:
            body["routing"]["deadline_s"] = DEADLINE_S
        said = self._send("/generate/video", json=body, headers={"idempotency-key": f"job-{number}"})
        assert said is None or said.status_code == 202, said.text
        return None if said is None else str(said.json()["id"])

    def cancel(self, job_id: str) -> None:
        """Ask for a job to be stopped; nothing when the gateway dies over it, or the job has ended."""
        said = self._send(f"/jobs/{job_id}/cancel")
        assert said is None or said.status_code in {202, 409}, said.text

    def _send(self, path: str, **options: Any) -> httpx.Response | None:
        try:
            return self.client.post(path, **options)
        except httpx.TransportError:
            return None

    def job(self, job_id: str) -> dict[str, Any] | None:
        """A job now; None when the gateway is dead."""
        try:
            return dict(self.client.get(f"/jobs/{job_id}", headers={"prefer": "wait=0.2"}).json())
        except httpx.TransportError:
            return None

    def is_dead(self) -> bool:
        """Whether the gateway has ended."""
        assert self.gateway is not None
        return bool(wait_for([self.gateway.process.sentinel], timeout=0))

    def finish(self) -> None:
        """Have the vendor finish the slow renders that there are."""
        httpx.post(f"{self.vendor.url}/finish", trust_env=False)

    def meter(self) -> dict[str, Any]:
        """What the vendor counted."""
        return dict(httpx.get(f"{self.vendor.url}/meter", trust_env=False).json())

    def log(self) -> str:
        """Everything the gateways said."""
        return (self.folder / "gateway.log").read_text(encoding="utf-8")


def prepare(connection: sqlalchemy.Connection, stand: MatrixStand) -> str:
    """A team with a key and an endpoint, an operator who listens, and a route whose price has drifted; the key."""
    now = SystemClock().now()
    stand.key_id, stand.team_id, secret = create_key(connection, Ids(SystemClock()), NewKey("reel", "test", now))
    for name, team in (("hook_team", stand.team_id), ("hook_operator", None)):
        webhooks.add_webhook(connection, webhooks.NewWebhook(name, team, f"{stand.vendor.url}/hook", now))
    for number in range(6):
        seen = PriceObservation(f"att_seen_{number}", f"{NAME}/plain", now - 60, 200_000, 100_000, {})
        observe_price(connection, seen)
    return secret


@contextmanager
def matrix_stand(folder: Path, store_url: str) -> Iterator[MatrixStand]:
    """A stand for the length of the block; whatever still runs at its end is killed."""
    vendor = start_child(serve_instant)
    with database(store_url) as transact, httpx.Client(timeout=20.0, trust_env=False) as client:
        stand = MatrixStand(folder, store_url, vendor, client, transact)
        try:
            assert stand.start()
            client.headers["authorization"] = f"Bearer {stand.transact(prepare, stand)}"
            yield stand
        finally:
            for child in (stand.gateway, vendor):
                if child is not None and child.process.exitcode is None:
                    child.process.kill()
                    child.process.join(PATIENCE_S)
