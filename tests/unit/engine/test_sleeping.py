"""A job that waits is no task and, while a vendor renders, keeps no rows: thousands wait in one process."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
import uvloop

from gateway.runs import Run
from gateway.timetable import RESUMED_AT_ONCE, Timetable
from providers.contract import FailureKind, InDoubt, Pending, Refused
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio


def count_store_calls(gateway: Gateway) -> list[str]:
    """From now on, the names of the functions that are read and written with; the service's own loops aside."""
    store: Any = gateway.store
    read, names = store.read, list[str]()

    async def counted(fn: Any, *args: Any) -> Any:
        names.append(fn.__name__)
        return await read(fn, *args)

    async def written(moment: str, name: str) -> None:
        names.append(name)

    store.read, store.hook = counted, written
    return names


LOOPS = {"claim_due", "extend_leases", "prune", "due_holds", "parked_and_over", "due", "claim", "claim_deliveries"}


async def test_a_job_that_waits_for_a_vendor_is_no_task_and_keeps_no_rows(start: Start) -> None:
    """Between two polls there is an entry in the timetable, and what it takes to ask; the result still comes whole."""
    gateway = await start(Scripted(trouble=Pending(), trouble_s=60.0), polling={"delay_min_s": 5, "delay_max_s": 5})
    job_id = await gateway.submit()
    await gateway.until(job_id, "rendering")
    await gateway.clock.sleep(12.5)
    dispatcher = gateway.service.dispatcher
    run = dispatcher.run_of(job_id)
    assert run is not None
    assert (run._job, run._attempts, dispatcher._tasks, len(dispatcher._timetable)) == (None, [], {}, 1)
    with pytest.raises(AssertionError, match="keeps no rows"):
        _ = run.job
    job = await gateway.ended(job_id)
    assert (job["status"], job["receipt"] != [], job["plan"]["ranked"] != []) == ("succeeded", True, True)


@pytest.mark.parametrize("trouble", [Pending(), InDoubt("HTTP 503", status=503)], ids=["at work", "no answer"])
async def test_polls_without_news_touch_no_row(start: Start, trouble: Any) -> None:
    """A vendor that is at work, or out, is asked again and again; the database hears nothing of it."""
    alpha = Scripted(trouble=trouble, trouble_s=200.0)
    gateway = await start(alpha)
    job_id = await gateway.submit()
    await gateway.until(job_id, "rendering")
    names = count_store_calls(gateway)
    before = len(alpha.checked_at)
    await gateway.clock.sleep(150)
    assert len(alpha.checked_at) - before > 5
    assert set(names) <= LOOPS, names


async def test_only_news_wakes_those_who_listen(start: Start) -> None:
    """The same progress told twenty times is published once."""
    alpha = Scripted(trouble=Pending(eta_s=9.0, progress=0.5), trouble_s=150.0)
    gateway = await start(alpha)
    job_id = await gateway.submit()
    await gateway.until(job_id, "rendering")
    told: list[str] = []
    publish = gateway.service.parts.bus.publish
    gateway.service.parts.bus.publish = lambda topic, name: (told.append(name), publish(topic, name))[1]  # type: ignore[method-assign]
    await gateway.clock.sleep(140)
    assert len(alpha.checked_at) > 5
    assert told == [job_id]


async def test_a_callback_ends_the_sleep(start: Start) -> None:
    """Woken, a job asks at once instead of at its next poll."""
    alpha = Scripted()
    gateway = await start(alpha, polling={"delay_min_s": 60, "delay_max_s": 60})
    job_id = await gateway.submit()
    await gateway.until(job_id, "rendering")
    woken_at = gateway.clock.now()
    gateway.service.dispatcher.wake(job_id)
    job = await gateway.ended(job_id)
    assert job["status"] == "succeeded"
    assert alpha.checked_at[0] - woken_at < 1


async def test_a_job_between_two_submits_sleeps_too(start: Start) -> None:
    """A pause before a repeat holds no task; the repeat comes when it was promised."""
    alpha = Scripted(submits=[Refused(FailureKind.RATE_LIMITED, "429", retry_after_s=20.0)])
    gateway = await start(alpha)
    job_id = await gateway.submit()
    await gateway.until(job_id, "retrying")
    await gateway.clock.sleep(1)
    assert gateway.service.dispatcher._tasks == {}
    assert (await gateway.ended(job_id))["status"] == "succeeded"
    assert alpha.asked_at[1] - alpha.asked_at[0] >= 20.0


def sleepers(count: int) -> list[Run]:
    return [Run(f"job-{number}", 1) for number in range(count)]


async def test_those_due_together_are_resumed_in_portions_with_turns_between(anyio_backend: Any) -> None:
    """A thousand jobs due at one instant do not hold the loop: others run between the portions."""
    resumed: list[Run] = []
    table = Timetable(resumed.append)
    for run in sleepers(1000):
        table.put(run, 5.0)
    steps = [0]
    while steps[-1] < 1000:
        await asyncio.sleep(0 if resumed else 5.0)
        steps.append(len(resumed))
    assert max(after - before for before, after in pairwise(steps)) <= RESUMED_AT_ONCE
    assert [run.job_id for run in resumed] == [f"job-{number}" for number in range(1000)]


async def test_each_is_resumed_once_at_its_time_whatever_was_put_before(anyio_backend: Any) -> None:
    """Sooner entries move the timer forward; a woken run's old entry is void."""
    loop = asyncio.get_running_loop()
    began, resumed = loop.time(), list[tuple[str, float]]()
    table = Timetable(lambda run: resumed.append((run.job_id, round(loop.time() - began, 3))))
    late, soon, woken = sleepers(3)
    table.put(late, 30.0)
    table.put(soon, 10.0)
    table.put(woken, 20.0)
    table.wake(woken)
    await asyncio.sleep(100)
    assert resumed == [("job-2", 0.0), ("job-1", 10.0), ("job-0", 30.0)]
    assert len(table) == 0


async def test_a_wake_up_while_awake_ends_the_next_sleep(anyio_backend: Any) -> None:
    """A callback that comes while the vendor is being asked is not forgotten; it counts once."""
    loop = asyncio.get_running_loop()
    began, resumed = loop.time(), list[float]()
    table = Timetable(lambda _run: resumed.append(round(loop.time() - began, 3)))
    (run,) = sleepers(1)
    table.wake(run)
    table.put(run, 50.0)
    await asyncio.sleep(1)
    table.put(run, 50.0)
    await asyncio.sleep(100)
    assert resumed == [0.0, 51.0]


def test_the_timetable_keeps_its_times_on_the_loop_that_serves() -> None:
    """On uvloop, whose timers are of its own kind: sooner and at once, in order."""
    resumed: list[str] = []

    async def story() -> None:
        table, all_there = Timetable(lambda run: note(run.job_id)), asyncio.Event()

        def note(job_id: str) -> None:
            resumed.append(job_id)
            if len(resumed) == 3:
                all_there.set()

        late, soon, at_once = sleepers(3)
        table.put(late, 0.06)
        table.put(soon, 0.02)
        table.put(at_once, 0.0)
        await asyncio.wait_for(all_there.wait(), 30)

    uvloop.run(story())
    assert resumed == ["job-2", "job-1", "job-0"]


async def test_a_cleared_timetable_resumes_nobody(anyio_backend: Any) -> None:
    """What is handed over at the end of a process is not driven on by it."""
    resumed: list[Run] = []
    table = Timetable(resumed.append)
    table.put(sleepers(1)[0], 1.0)
    table.clear()
    await asyncio.sleep(10)
    assert (resumed, len(table)) == ([], 0)
