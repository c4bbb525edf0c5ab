"""Whatever becomes of a process that opens a stranger's file, the gateway gets an answer and goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.media import workers as workers_module
from gateway.media.allowance import Allowance
from gateway.media.workers import Broken, Busy, Job, NotStarted, Reply, Room, TooCostly, Worker, WorkerError, Workers
from tests.support import hostile_worker

MEBIBYTE = 1024 * 1024
ENOUGH = Allowance(64 * MEBIBYTE, 4)


class Hasty(Allowance):
    """An allowance whose time on the wall is soon over."""

    @property
    def wall_s(self) -> float:
        return 0.3


@pytest.fixture(scope="module")
def hostile() -> Iterator[Workers]:
    """One worker at a time, which misbehaves when it is told to."""
    workers = Workers(1, start=lambda: Worker(hostile_worker.MODULE))
    yield workers
    workers.end()


def do(workers: Workers, task: str, data: bytes = b"", allowance: Allowance = ENOUGH) -> Reply:
    """Have a hostile worker do something."""
    return asyncio.run(workers.do(Job(task, data, (), allowance, MEBIBYTE)))


DEATHS = {
    "segfault": (Broken, "SIGSEGV"),
    "nameless signal": (Broken, "signal 40"),
    "exit": (Broken, "the decoder ended"),
    "too much": (Broken, "nonsense"),
    "nonsense": (Broken, "nonsense"),
    "unknown answer": (Broken, "nonsense"),
}


@pytest.mark.parametrize("death", DEATHS)
def test_a_worker_that_breaks_is_told_of_and_replaced(hostile: Workers, death: str) -> None:
    """It crashes, ends, or answers what is no answer: the error says so, and the next job has a fresh worker."""
    kind, why = DEATHS[death]
    told: list[str] = []
    hostile.ended = told.append
    with pytest.raises(kind, match=why):
        do(hostile, death)
    assert hostile.processes() == []
    assert set(told) == {"broken"}  # twice where the first worker had served others
    assert do(hostile, "well", b"bytes") == Reply(["well"], b"bytes")
    assert len(hostile.processes()) == 1


def test_a_worker_without_end_is_stopped_by_the_processor_time_it_used(hostile: Workers) -> None:
    """A loop costs the seconds of its allowance and one more, and counts as too costly."""
    with pytest.raises(TooCostly, match="takes longer"):
        do(hostile, "endless", allowance=Allowance(64 * MEBIBYTE, 0))


def test_a_worker_that_waits_is_stopped_by_the_clock_on_the_wall(hostile: Workers) -> None:
    """Waiting uses no processor: the second clock is there for it."""
    with pytest.raises(TooCostly, match="takes longer"):
        do(hostile, "sleep", allowance=Hasty(64 * MEBIBYTE, 4))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts what a process takes")
def test_memory_ends_where_the_allowance_does(hostile: Workers) -> None:
    """A worker gets no more than it is allowed above its rest, and each job anew."""
    for mebibytes in (64, 16, 64):
        taken = do(hostile, "eat", allowance=Allowance(mebibytes * MEBIBYTE, 4)).fields[0]
        assert mebibytes * 0.7 < taken <= mebibytes


def test_a_worker_opens_nothing_and_is_told_nothing(
    hostile: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file can be read or written, nothing connected to, and no variable of the gateway is in its environment."""
    monkeypatch.setenv("VIDGATE_SECRET", "a vendor's key")
    hostile_start = Worker(hostile_worker.MODULE)
    canary = tmp_path / "canary"
    canary.write_text("secret")
    reply = hostile_start.do(Job("try", str(canary).encode(), (), ENOUGH))
    hostile_start.end()
    acts, environment = reply.fields
    assert acts == dict.fromkeys(("read", "write", "connect", "pipe", "dump"), "EMFILE")
    assert not canary.with_suffix(".new").exists()
    assert set(environment) <= {"PYTHONPATH", "LANG", "LC_CTYPE"} | set(workers_module._ALLOCATOR)


def test_what_an_earlier_file_did_to_a_worker_is_not_blamed_on_the_next(hostile: Workers) -> None:
    """A worker that breaks after it served others may have been broken before: a fresh one has the last word."""
    for _ in range(2):
        assert do(hostile, "crash when seasoned").fields == ["well"]
    assert len(hostile.processes()) == 1


def test_a_worker_is_used_again_and_not_for_ever(hostile: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warm workers serve many files; what a decoder leaks ends with its worker."""
    do(hostile, "well")
    first = hostile.processes()
    do(hostile, "well")
    assert hostile.processes() == first
    monkeypatch.setattr(workers_module, "JOBS_PER_WORKER", 1)
    do(hostile, "well")
    assert hostile.processes() == []


def test_no_more_workers_are_started_than_were_asked_for() -> None:
    """Ten jobs at once on two workers: two processes, ten answers."""

    async def all_at_once(workers: Workers) -> list[Reply]:
        jobs = (workers.do(Job("well", b"%d" % number, (), ENOUGH, MEBIBYTE)) for number in range(10))
        replies = await asyncio.gather(*jobs)
        assert len(workers.processes()) <= 2
        await workers.close()
        return replies

    workers = Workers(2, start=lambda: Worker(hostile_worker.MODULE))
    replies = asyncio.run(all_at_once(workers))
    assert [reply.made for reply in replies] == [b"%d" % number for number in range(10)]
    assert workers.processes() == []


def test_too_many_bytes_waiting_are_refused_where_that_is_allowed(
    hostile: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers are told to come again before their pictures fill the memory; a vendor's result is never turned away."""
    monkeypatch.setattr(workers_module, "WAITING_BYTES_MAX", 10)

    async def crowd() -> list[Reply | BaseException]:
        job = Job("well", b"sixbyt", (), ENOUGH, MEBIBYTE)
        refusable = [hostile.do(job, may_refuse=True) for _ in range(3)]
        return await asyncio.gather(*refusable, hostile.do(job), return_exceptions=True)

    answers = asyncio.run(crowd())
    assert [type(answer) for answer in answers] == [Reply, Busy, Busy, Reply]
    assert do(hostile, "well").fields == ["well"]
    assert hostile._waiting_bytes == 0


def test_large_files_wait_for_room_and_small_ones_do_not_overtake_them() -> None:
    """What files take together is bounded; who waits for much is served before those who came later."""
    room = Room(100)
    order: list[str] = []
    holding, may_end = threading.Event(), threading.Event()

    def hold(name: str, memory_bytes: int) -> None:
        with room.taken(memory_bytes):
            order.append(name)
            holding.set()
            may_end.wait(20)

    threads = [threading.Thread(target=hold, args=("first", 60))]
    threads[0].start()
    assert holding.wait(20)
    for name, memory_bytes in (("large", 5000), ("small", 10)):
        thread = threading.Thread(target=hold, args=(name, memory_bytes))
        thread.start()
        threads.append(thread)
        until(room._turn.locked)
        time.sleep(0.05)
    assert order == ["first"]
    may_end.set()
    for thread in threads:
        thread.join(20)
    assert order == ["first", "large", "small"]
    with room.taken(100):
        assert room._free_bytes == 0
    assert room._free_bytes == 100


def test_workers_that_cannot_be_started_are_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    """No fault of the file's: the error is another one."""
    broken = Workers(1, start=lambda: Worker("tests.support.no_such_module"))
    asyncio.run(broken.warm())
    assert "media.no_worker" in capsys.readouterr().out
    with pytest.raises(NotStarted, match="ended as it began"):
        do(broken, "well")
    broken.end()


def test_closing_ends_workers_that_are_at_work() -> None:
    """A gateway that ends waits for no decoder."""
    workers = Workers(1, start=lambda: Worker(hostile_worker.MODULE))
    outcome: list[WorkerError] = []

    def work() -> None:
        try:
            do(workers, "sleep")
        except WorkerError as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: workers.processes() != [])
    (pid,) = workers.processes()
    workers.end()
    thread.join(20)
    assert not thread.is_alive()
    assert len(outcome) == 1
    assert not alive(pid)
    with pytest.raises(RuntimeError):
        do(workers, "well")


ORPHANS = """
import asyncio, sys
from gateway.media.allowance import Allowance
from gateway.media.workers import Job, Worker
from tests.support import hostile_worker
import threading
idle, busy = Worker(hostile_worker.MODULE), Worker(hostile_worker.MODULE)
print(idle.process.pid, busy.process.pid, flush=True)
busy.do(Job("endless", b"", (), Allowance(64 * 1024 * 1024, 1)))
"""


def test_workers_die_with_a_gateway_that_is_killed(tmp_path: Path) -> None:
    """SIGKILL leaves no time to clean up: an idle worker sees its socket end, a busy one runs out of time."""
    told = tmp_path / "pids"
    with told.open("w") as output:
        parent = subprocess.Popen(
            [sys.executable, "-c", ORPHANS],
            stdout=output,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    try:
        until(lambda: told.read_text().endswith("\n"))
        time.sleep(0.2)  # the endless job is under way
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
        for pid in map(int, told.read_text().split()):
            until(lambda pid=pid: not alive(pid))  # type: ignore[misc]
    finally:
        parent.kill()


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not buried yet does not."""
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in {"Z", "X"}
    return False


def until(true: object, within_s: float = 60.0) -> None:
    """Wait for something that another process does."""
    assert callable(true)
    for _ in range(int(within_s / 0.05)):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError(f"not within {within_s} s")
