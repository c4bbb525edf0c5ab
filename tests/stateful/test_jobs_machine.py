"""Random histories of jobs: posts, repeats, cancels, faults, time, drains and deaths, against what must hold."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections import Counter
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import Connection, select

from gateway.store.schema_money import entries
from providers.contract import Failed, FailureKind, InDoubt, NoEvidence, Pending, Refused, Report
from tests.support.clock import VirtualLoop
from tests.support.gateway import ENDED, Gateway, Setting, fresh_database, make_template, running, unsound
from tests.support.pictures import clip
from tests.support.scripted import Lost, Scripted, delivers

T = TypeVar("T")
SUBMITS: dict[str, Any] = {
    "fine": None,
    "lost, accepted": Lost(accepted=True),
    "lost, not accepted": Lost(accepted=False),
    "silence, accepted": Lost(accepted=True, status=None),
    "silence, not accepted": Lost(accepted=False, status=None),
    "429": Refused(FailureKind.RATE_LIMITED, "429", retry_after_s=3.0),
    "500": Refused(FailureKind.SERVER_ERROR, "500"),
    "401": Refused(FailureKind.UNAUTHORIZED, "401"),
    "moderated": Refused(FailureKind.MODERATED, "blocked"),
}
CHECKS: dict[str, Any] = {
    "pending": Pending(),
    "in doubt": InDoubt("HTTP 502"),
    "gone": InDoubt("HTTP 404", gone=True),
    "failed": Failed(FailureKind.RENDER_FAILED, "boom"),
    "failed and charged": Failed(FailureKind.RENDER_FAILED, "boom", Report(cost_micros=30_000)),
    "rubbish": delivers(b"<html>"),
    "wrong frames": delivers(clip(13)),
}


@cache
def template() -> Path:
    """The database that those of all examples begin as a copy of."""
    folder = Path(tempfile.mkdtemp(prefix="vidgate-jobs-"))
    atexit.register(shutil.rmtree, folder)
    return make_template(folder)


def suspended_attempts(connection: Connection) -> list[str]:
    """The attempts of every suspense that was ever booked, one for each lost submit that may have been charged."""
    names = connection.execute(select(entries.c.attempt_id).where(entries.c.kind == "suspend")).scalars()
    return [str(name).partition("/")[0] for name in names]


class Jobs(RuleBasedStateMachine):
    """One team, two vendors: one whose records can be looked up, one that answers at once and has none."""

    keys = Bundle("keys")

    @initialize(cancels=st.sampled_from([True, False, None]))
    def open(self, cancels: bool | None) -> None:
        self.loop = VirtualLoop()
        self.folder = Path(tempfile.mkdtemp(prefix="vidgate-jobs-"))
        fresh_database(self.folder, template())
        self.alpha = Scripted(looks_up=True, cancels=cancels)
        self.beta = Scripted("beta", mode="sync", price_micros=150_000, latency_s=4.0)
        self.told: dict[str, tuple[str, bytes]] = {}
        self.final: dict[str, dict[str, Any]] = {}
        self.posted = self.starts = 0
        self._start()

    def _do(self, work: Awaitable[T]) -> T:
        return self.loop.run_until_complete(work)  # type: ignore[arg-type]

    def _start(self) -> None:
        sections = {"jobs": {"in_doubt_s": 900, "lease_s": 600, "heartbeat_s": 200}}
        # No two processes draw the same: renders are told apart by the seeds that are drawn for them.
        self.starts += 1
        setting = Setting(
            self.folder, self.loop, [self.alpha, self.beta], sections, seed=self.starts, claim_interval_s=2.0
        )
        self.life = AsyncExitStack()
        self.gateway: Gateway = self._do(self.life.enter_async_context(running(setting)))

    @rule(target=keys, submit=st.sampled_from(sorted(SUBMITS)), beta_too=st.booleans())
    def post(self, submit: str, beta_too: bool) -> str:
        """A new request; how its first submit will go is known to the vendor alone."""
        for vendor in (self.alpha, self.beta) if beta_too else (self.alpha,):
            if SUBMITS[submit] is not None:
                vendor.submits.append(SUBMITS[submit])
        self.posted += 1
        key = f"key-{self.posted}"
        response = self._do(self.gateway.post(headers={"idempotency-key": key}))
        assert response.status_code == 202, response.text
        self.told[key] = (response.json()["id"], response.content)
        return key

    @rule(key=keys)
    def repeat(self, key: str) -> None:
        """The same request again is the same answer."""
        response = self._do(self.gateway.post(headers={"idempotency-key": key}))
        assert (response.status_code, response.content) == (202, self.told[key][1])

    @rule(key=keys)
    def cancel(self, key: str) -> None:
        """A wish to stop, at whatever moment."""
        response = self._do(self.gateway.client.post(f"/jobs/{self.told[key][0]}/cancel"))
        assert response.status_code in {202, 409}

    @rule(check=st.sampled_from(sorted(CHECKS)))
    def next_check(self, check: str) -> None:
        """The next status call of the polled vendor will go like this."""
        self.alpha.checks.append(CHECKS[check])

    @rule()
    def dark_records(self) -> None:
        """The next lookup tells nothing."""
        self.alpha.lookups.append(NoEvidence("dark"))

    @rule(seconds=st.sampled_from([0.01, 1.0, 7.0, 60.0, 400.0]))
    def pass_time(self, seconds: float) -> None:
        """Time goes by."""
        self._do(self.gateway.clock.sleep(seconds))

    @rule(orderly=st.booleans())
    def restart(self, orderly: bool) -> None:
        """The process ends, in good order or not, and another one begins."""
        if not orderly:
            self._do(self.gateway.crash())
        self._do(self.life.aclose())
        self._start()

    @invariant()
    def the_books_are_sound(self) -> None:
        """At every moment: entries balance, holds fit their jobs, nothing open belongs to an ended job."""
        if hasattr(self, "gateway"):
            assert self._do(self.gateway.read(unsound)) == []

    @invariant()
    def an_end_is_final(self) -> None:
        """What was acknowledged is there, and an ended job never changes again."""
        if not hasattr(self, "gateway"):
            return
        for job_id, _ in self.told.values():
            job = self._do(self.gateway.job(job_id))
            if job["status"] in ENDED:
                assert self.final.setdefault(job_id, job) == job

    @invariant()
    def no_attempt_is_rendered_twice_unless_it_stands_in_suspense(self) -> None:
        """Renders a vendor runs for one attempt: one; a second only where the first was booked as possibly charged."""
        if not hasattr(self, "gateway"):
            return
        suspended = Counter(self._do(self.gateway.read(suspended_attempts)))
        for attempt_id, count in Counter(self.alpha.accepted).items():
            assert count <= 1 + suspended[attempt_id], (attempt_id, self.alpha.accepted, suspended)

    def teardown(self) -> None:
        if not hasattr(self, "gateway"):
            return
        try:
            self._do(self._settle())
        finally:
            self._do(self.life.aclose())
            self.loop.close()
            shutil.rmtree(self.folder)

    async def _settle(self) -> None:
        """Left alone, every job ends; then what the team paid is its jobs, and no vendor's charge is missing."""
        paid = 0
        for job_id, _ in self.told.values():
            job = await self.gateway.ended(job_id, within_s=3 * 3_600.0)
            assert (job["status"] == "succeeded") == (job["bill"]["status"] == "captured")
            paid += job["bill"]["price_micros"]
        counts = await self.gateway.counts()
        assert (counts["jobs"], counts["holds"], counts["settlements"]) == (len(self.told),) * 3
        balances = await self.gateway.balances()
        assert balances.get(f"team:{self.gateway.team_id}", 0) == paid
        for vendor in (self.alpha, self.beta):
            assert vendor.charged_micros <= -balances.get(f"provider:{vendor.name}", 0), balances


TestJobs = Jobs.TestCase
TestJobs.settings = settings(
    max_examples=25,
    stateful_step_count=18,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
