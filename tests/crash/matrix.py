"""The matrix's stand: one vendor, one database, and a gateway that kills itself at the step that it is told.

One gateway serves many cases: it is told over a pipe where to die next. What a case leaves is checked by its own job,
so that a fault is that case's alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy

from gateway import webhooks
from gateway.clock import SystemClock
from gateway.ids import Ids
from gateway.keys import NewKey, create_key
from gateway.money.drift import PriceObservation, observe_price
from tests.crash.steered import PATIENCE_S, Gateway, start_gateway
from tests.support.instant import DEADLINE_S, NAME, TOLD_LATE, instant_prices, serve_instant
from tests.support.pictures import picture_base64
from tests.support.processes import Child, database, start_child

CRASHES_MAX = 4


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a gateway looks after its jobs: few of them quickly, many of them at a pace that a machine bears."""

    claim_s: float = 0.05
    poll_s: float = 0.02
    lease_s: float = 1.5
    heartbeat_s: float = 0.3


@dataclass
class MatrixStand:
    """A vendor and a database; `gateway` is the process that was started last."""

    folder: Path
    store_url: str
    vendor: Child
    client: httpx.Client
    transact: Callable[..., Any]
    pace: Pace
    team_id: str = ""
    key_id: str = ""
    gateway: Gateway | None = None
    started: list[Gateway] = field(default_factory=list)

    def settings(self) -> dict[str, Any]:
        book = self.folder / "prices.yaml"
        book.write_text(instant_prices(), encoding="utf-8")
        return {
            "security": {"signing_secret": "a secret of the tests, long enough"},
            "store": {"url": self.store_url},
            "artifacts": {"url": str(self.folder / "artifacts")},
            "providers": {NAME: {"base_url": self.vendor.url, "floor_micros": 1}},
            "outbound": {"allow_hosts": [self.vendor.url.removeprefix("http://")]},
            "polling": {"delay_min_s": self.pace.poll_s, "delay_max_s": 2 * self.pace.poll_s},
            "retry": {
                "verify_settle_s": 0.0,
                "underway_s": 0.0,
                "base_s": 0.01,
                "cap_s": 0.02,
                "budget_reserve_per_s": 100,
            },
            "jobs": {
                "lease_s": self.pace.lease_s,
                "heartbeat_s": self.pace.heartbeat_s,
                "crashes_max": CRASHES_MAX,
                "running_max": 1000,
            },
            # Renders that fail on purpose must not close a route.
            "routing": {"tuning": {"breaker_failures": 10_000}},
            "money": {"price_book": str(book)},
        }

    def start(self, step: str = "", occurrence: int = 1) -> bool:
        """Start a gateway that dies at a step, perhaps while it starts; False when it did."""
        log = self.folder / "gateway.log"
        self.gateway = start_gateway(self.settings(), log, (step, occurrence), self.pace.claim_s)
        self.started.append(self.gateway)
        if self.gateway.url:
            self.client.base_url = self.gateway.url
        return bool(self.gateway.url)

    def running(self) -> Gateway:
        """Make sure of a gateway that lives and dies nowhere."""
        if self.gateway is None or self.gateway.is_dead():
            assert self.start()
        assert self.gateway is not None
        try:
            self.gateway.aim("")
        except (BrokenPipeError, ConnectionResetError, EOFError):  # it was dying when it was looked at
            self.gateway.child.process.join(PATIENCE_S)
            assert self.start()
            self.gateway.aim("")
        return self.gateway

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
    for number in range(6):  # of a route that never succeeds, so that no job's own cost makes the drift any less
        seen = PriceObservation(f"att_seen_{number}", f"{NAME}/fails", now - 60, 200_000, 100_000, {})
        observe_price(connection, seen)
    return secret


@contextmanager
def matrix_stand(folder: Path, store_url: str, pace: Pace | None = None) -> Iterator[MatrixStand]:
    """A stand for the length of the block; whatever still runs at its end is killed."""
    vendor = start_child(serve_instant)
    with database(store_url) as transact, httpx.Client(timeout=20.0, trust_env=False) as client:
        stand = MatrixStand(folder, store_url, vendor, client, transact, pace or Pace())
        try:
            assert stand.start()
            client.headers["authorization"] = f"Bearer {stand.transact(prepare, stand)}"
            yield stand
        finally:
            for child in (*(one.child for one in stand.started), vendor):
                if child.process.exitcode is None:
                    child.process.kill()
                    child.process.join(PATIENCE_S)
