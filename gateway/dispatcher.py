"""Which jobs this process drives: taking them on, keeping their leases alive, handing them over.

Recovery is the ordinary claim: a job whose lease ran out is claimed like a new one, by whichever process is first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Any

import structlog

from gateway import parking
from gateway.doubts import ruled
from gateway.engine import Engine
from gateway.loads import LOAD_INTERVAL_S
from gateway.media.artifacts import ArtifactsUnavailableError
from gateway.memory import remember
from gateway.money import idempotency, ledger
from gateway.outbox import Outbox
from gateway.overdue import Overdue, end_overdue, end_parked
from gateway.parts import Parts
from gateway.runs import Run
from gateway.settings import JobsSection
from gateway.store import jobs as rows
from gateway.store.database import StoreError
from gateway.store.jobs import Job
from gateway.telemetry.job_spans import facts_of
from gateway.timetable import Timetable
from gateway.watch import HEARD_INTERVAL_S, WATCH_INTERVAL_S, MoneyWatch

log = structlog.get_logger()

CLAIM_INTERVAL_S = 1.0
# A job whose files cannot be read or kept now is taken up again after so long.
ARTIFACTS_PAUSE_S = 5.0
PRUNE_INTERVAL_S = 3600.0
OVERDUE_INTERVAL_S = 60.0
# So that other reads come between.
OVERDUE_AT_ONCE = 100
PARKED_INTERVAL_S = 60.0
# So that other writes come between: thousands of leases are not renewed in one breath.
HEARTBEAT_JOBS_MAX = 250
# What a dead process leaves behind is taken up over some turns.
CLAIMED_AT_ONCE = 500


class Dispatcher:
    """Runs one engine task a job, at most `jobs.running_max` at a time."""

    def __init__(self, parts: Parts, engine: Engine) -> None:
        self._parts = parts
        self._engine = engine
        self._outbox = Outbox(parts.store, parts.delivery.outbound, parts.clock, parts.random, parts.meter.tracing)
        self.watch = MoneyWatch(parts)
        self._runs: dict[str, Run] = {}
        self._timetable = Timetable(self._resume)
        self._tasks: dict[str, asyncio.Task[float | None]] = {}
        self._loops: list[asyncio.Task[None]] = []
        self.owner = parts.ids.new("proc")
        self.draining = False
        self._claims_from = 0.0
        self._suspects_max = 1

    @property
    def _settings(self) -> JobsSection:
        return self._parts.settings.jobs

    async def start(self, *, sole: bool) -> None:
        """Begin to claim. `sole` says that no other process can be alive, so that every lease is a dead one's."""
        now = self._parts.clock.now()
        if sole:
            await self._parts.store.write(rows.release_leases, None, now)
        for fact in await remember(self._parts.store, now):
            self._parts.fleet.learn(fact)
        bus = self._parts.bus
        bus.on("cancel", self._cancel_wanted)
        bus.on("poll", self._poll_now)
        bus.on_fact(self._parts.fleet.hear)
        await bus.start()
        polling = self._parts.settings.polling
        self._loops = [
            asyncio.create_task(self._every(CLAIM_INTERVAL_S, self._claim), name="claim"),
            asyncio.create_task(self._every(self._settings.heartbeat_s, self._heartbeat), name="heartbeat"),
            asyncio.create_task(self._every(polling.balance_every_s, self._refresh_balances), name="balances"),
            asyncio.create_task(self._every(PRUNE_INTERVAL_S, self._prune), name="prune"),
            asyncio.create_task(self._every(OVERDUE_INTERVAL_S, self._end_overdue), name="overdue"),
            asyncio.create_task(self._every(PARKED_INTERVAL_S, self._end_parked), name="parked"),
            asyncio.create_task(self._every(WATCH_INTERVAL_S, self.watch.turn), name="watch"),
            asyncio.create_task(self._every(HEARD_INTERVAL_S, self.watch.balances), name="heard"),
            asyncio.create_task(self._every(CLAIM_INTERVAL_S, self._outbox.turn), name="outbox"),
        ]
        if self._parts.fleet.loaded():
            self._loops.append(asyncio.create_task(self._every(LOAD_INTERVAL_S, self._refresh_loads), name="loads"))

    def lease(self) -> dict[str, Any]:
        """The lease columns of a job that is admitted here; empty when this process has its hands full."""
        if self.draining or len(self._runs) >= self._settings.running_max:
            return {}
        until = self._parts.clock.now() + self._settings.lease_s
        return {"lease_owner": self.owner, "lease_until": until, "fence": 1}

    def begin(self, job: Job) -> None:
        """Drive a job whose lease this process holds; one that comes with the drain is left to the next process."""
        if self.draining:
            return
        if (driven := self._runs.get(job.id)) is not None:
            driven.take_again(job)
            return
        run = self._runs[job.id] = Run.of(job)
        self._resume(run)

    def run_of(self, job_id: str) -> Run | None:
        """The run of a job that is driven here."""
        return self._runs.get(job_id)

    def stages(self) -> list[str]:
        """What each job that is driven here is waiting for."""
        return [run.stage for run in self._runs.values()]

    def wake(self, job_id: str) -> None:
        """Have a job polled now, by whichever replica drives it."""
        self._parts.bus.publish("poll", job_id)

    def _poll_now(self, job_id: str) -> None:
        run = self._runs.get(job_id)
        if run is not None and run.stage == "rendering":
            self._timetable.wake(run)

    async def cancel(self, job_id: str) -> None:
        """Note the wish to cancel, and wake the replica that drives the job so that it is seen at once."""
        await self._parts.store.write(rows.request_cancel, job_id, self._parts.clock.now())
        self._parts.bus.publish("cancel", job_id)
        await self._end_parked()

    def _cancel_wanted(self, job_id: str) -> None:
        run = self._runs.get(job_id)
        if run is not None and not run.cancel_wanted:
            run.cancel_wanted = True
            self._timetable.wake(run)

    async def drain(self, grace_s: float) -> None:
        """Stop claiming, let calls whose outcome would be lost finish, and hand the rest over by releasing leases."""
        self.draining = True
        self._timetable.clear()
        # The heart beats on: a reply that is waited for is of use only to a process that still has the lease.
        heartbeat = [loop for loop in self._loops if loop.get_name() == "heartbeat"]
        await _end([loop for loop in self._loops if loop not in heartbeat])
        deadline = self._parts.clock.now() + grace_s
        while self._tasks and self._parts.clock.now() < deadline:
            for job_id, task in list(self._tasks.items()):
                if not self._runs[job_id].critical:
                    task.cancel()
            await asyncio.wait(list(self._tasks.values()), timeout=0.05)
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._outbox.close()
        await _end(heartbeat)
        await self._parts.bus.close()
        try:
            released = await self._parts.store.write(rows.release_leases, self.owner, self._parts.clock.now())
            log.info("dispatcher.drained", handed_over=released)
        except StoreError as error:
            log.warning("dispatcher.leases_run_out", error=str(error))

    def _resume(self, run: Run) -> None:
        task = self._tasks[run.job_id] = asyncio.create_task(self._drive(run), name=run.job_id)
        task.add_done_callback(partial(self._rested, run))

    def _rested(self, run: Run, task: asyncio.Task[float | None]) -> None:
        """Put a run that sleeps on the timetable, and forget one that is over here.

        It is told by the task's end, for a task that was canceled before its first step ran none of its own code.
        """
        if self._tasks.get(run.job_id) is task:
            del self._tasks[run.job_id]
        failed = None if task.cancelled() else task.exception()
        if failed is not None:
            with self._parts.meter.tracing.at(run):
                log.error("job.crash_not_noted", job=run.job_id, error=repr(failed))
        sleep_s = None if task.cancelled() or failed is not None else task.result()
        if sleep_s is None:
            if self._runs.get(run.job_id) is run:
                del self._runs[run.job_id]
        elif not self.draining:
            self._timetable.put(run, sleep_s)

    async def _drive(self, run: Run) -> float | None:
        """One job to its next sleep or its end. A fault of ours parks it for a while, and the process goes on."""
        with self._parts.meter.tracing.at(run):
            try:
                return await self._engine.drive(run)
            except StoreError as error:
                log.error("job.store_lost", job=run.job_id, stage=run.stage, error=str(error))
                await self._hand_back(run)
            except ArtifactsUnavailableError as error:  # no fault of the job: it goes on when there is room for files
                log.error("job.artifacts_lost", job=run.job_id, stage=run.stage, error=str(error))
                await self._hand_back(run, ARTIFACTS_PAUSE_S)
            except Exception:  # the boundary of a job's task: whatever went wrong, the other jobs go on
                log.exception("job.crashed", job=run.job_id, stage=run.stage)
                await self._note_crash(run)
        return None

    async def _hand_back(self, run: Run, pause_s: float = 0.0) -> None:
        """Let the next claim go on from the rows; where not even this can be written, the lease runs out by itself."""
        changes = {"lease_owner": None, "lease_until": None, "due_at": self._parts.clock.now() + pause_s}
        try:
            await self._parts.store.write(rows.update_job, run.lease, changes)
        except (rows.LeaseLostError, StoreError) as error:
            log.warning("job.not_handed_back", job=run.job_id, error=str(error))
        self._parts.bus.publish("job", run.job_id)

    async def _note_crash(self, run: Run) -> None:
        now, crashes_max = self._parts.clock.now(), self._settings.crashes_max
        try:
            if await self._parts.store.write(parking.note_crash, run.lease, now, crashes_max):
                log.error("job.parked", job=run.job_id, stage=run.stage)
        except rows.LeaseLostError:
            self._parts.meter.lease_lost()
            log.warning("job.lease_lost", job=run.job_id)
        except StoreError as error:
            log.warning("job.not_handed_back", job=run.job_id, error=str(error))

    async def _every(self, interval_s: float, act: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await act()
            except Exception:  # a loop of the service outlives one bad turn, and says so
                log.exception("loop.failed", loop=act.__name__)
            await self._parts.clock.sleep(interval_s)

    async def _claim(self) -> None:
        room = min(self._settings.running_max - len(self._runs), CLAIMED_AT_ONCE)
        now = self._parts.clock.now()
        if room <= 0 or now < self._claims_from:
            return
        if any(run.lease_until <= now for run in self._runs.values()):
            await self._heartbeat()  # after a pause or a jump of the clock: what is driven here is not claimed anew
        # One at first, and twice as many every time that all have come on: a crash of everything is soon over.
        some_wait = any(run.crashes >= rows.SUSPECT_CRASHES for run in self._runs.values())
        few, claim = 1 if some_wait else self._suspects_max, (self.owner, now, self._settings.lease_s, room)
        try:
            claimed = await self._parts.store.write(rows.claim_due, *claim, suspects_max=few)
        finally:
            # The store was away, for the others as well: their leases ran out and they did not die. They come first.
            if self._parts.clock.now() - now > self._settings.heartbeat_s:
                self._claims_from = self._parts.clock.now() + self._settings.heartbeat_s
        suspects = sum(job.crashes >= rows.SUSPECT_CRASHES for job in claimed)
        self._suspects_max = max(1, 2 * min(few, suspects))
        for job in claimed:
            self._parts.meter.claimed(job)
            log.info("job.claimed", fence=job.fence, **facts_of(job))
            if job.crashes >= self._settings.crashes_max:
                await self._parts.store.write(parking.park, job, now, job.crashes)
                log.error("job.parked", crashes=job.crashes, **facts_of(job))
            else:
                self.begin(job)

    async def _heartbeat(self) -> None:
        # Once more when the store was away: the time that this took is gone from the leases.
        while await self._extend_leases() > self._settings.heartbeat_s:
            log.warning("leases.late")
        doubtful = tuple(run.job_id for run in self._runs.values() if run.stage == "in_doubt")
        for job_id in await self._parts.store.read(ruled, doubtful) if doubtful else ():
            if (ruled_run := self._runs.get(job_id)) is not None:
                self._timetable.wake(ruled_run)
        self._parts.bus.renew()

    async def _extend_leases(self) -> float:
        """Keep the leases of what is still driven here; returns how long it took, seconds.

        A job whose task died is left for the next claim.
        """
        began_at = self._parts.clock.now()
        for driven in batched(tuple(self._runs.values()), HEARTBEAT_JOBS_MAX):
            until = self._parts.clock.now() + self._settings.lease_s
            ids = tuple(run.job_id for run in driven)
            kept = await self._parts.store.write(rows.extend_leases, self.owner, until, ids)
            for run in driven:
                run.lease_until = until if run.job_id in kept else run.lease_until
                if kept.get(run.job_id):  # a wish that was noted elsewhere, where the bus did not carry it here
                    self._cancel_wanted(run.job_id)
        return self._parts.clock.now() - began_at

    async def _refresh_balances(self) -> None:
        for name in self._parts.fleet.metered():
            await self._parts.fleet.refresh_balance(name)
            heard = self._parts.fleet.accounts[name].heard
            if heard is not None:
                await self.watch.balance(name, heard)

    async def _refresh_loads(self) -> None:
        for name in self._parts.fleet.loaded():
            await self._parts.fleet.refresh_load(name)

    async def _prune(self) -> None:
        await self._parts.store.write(idempotency.prune, self._parts.clock.now())

    async def _end_overdue(self) -> None:
        """Look at every hold that is past its time, page by page."""
        store, clock = self._parts.store, self._parts.clock
        now, last = clock.now(), None
        while due := await store.read(ledger.due_holds, now, OVERDUE_AT_ONCE, after=last):
            await self._end_each(due, lambda hold_id: store.write(end_overdue, hold_id, clock.now()), "hold.overdue")
            last = due[-1]

    async def _end_parked(self) -> None:
        """Jobs that nobody drives end by their caller's wish and by their own time all the same."""
        store, clock = self._parts.store, self._parts.clock
        over = await store.read(parking.parked_and_over, clock.now())
        await self._end_each(over, lambda job_id: store.write(end_parked, job_id, clock.now()), "job.ended_parked")

    async def _end_each(
        self, names: Sequence[str], end: Callable[[str], Awaitable[Overdue | None]], event: str
    ) -> None:
        """End each by itself: one that stays, or whose rows break this, stops none behind it."""
        for name in names:
            (ended,) = await asyncio.gather(end(name), return_exceptions=True)
            if isinstance(ended, StoreError):
                raise ended
            if isinstance(ended, BaseException):  # a fault in one job's rows is no reason to keep another team's money
                log.error("not_ended", what=event, name=name, exc_info=ended)
            elif ended is not None:
                log.warning(event, name=name, **(facts_of(ended.job) if ended.job is not None else {}))
                self._parts.meter.overdue(ended)
                if ended.job is not None:
                    self._parts.bus.publish("job", ended.job.id)


def batched(runs: Sequence[Run], size: int) -> Iterator[Sequence[Run]]:
    """The runs, so many at a time."""
    return (runs[start : start + size] for start in range(0, len(runs), size))


async def _end(loops: list[asyncio.Task[None]]) -> None:
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)
