"""Processes in which strangers' files are opened: a few warm ones, each replaced when a file has broken it.

A decoder is the part of a gateway that hostile bytes reach deepest. Here it has a process of its own, without secrets
and with bounds on memory and time; whatever becomes of that process, the gateway gets an answer and goes on.

    WorkerError
    ├── Refused        the worker read the file and says why it cannot be used
    ├── TooCostly      it would have taken more memory or time than it may
    ├── Broken         the worker ended, or answered nonsense
    ├── Busy           too many bytes wait for a worker
    └── NotStarted     no worker can be had
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import structlog

from gateway.media.allowance import Allowance
from gateway.media.framing import BrokenFrame, receive, send

log = structlog.get_logger()

MODULE = "gateway.media.worker_process"
START_S = 60.0
END_S = 10.0
# A worker is warm after its first job; what decoders leak ends with it.
JOBS_PER_WORKER = 500
DEFAULT_MEMORY_BYTES_MAX = 512 * 1024 * 1024
# Pictures of callers that wait for a worker, or are in one, all together.
WAITING_BYTES_MAX = 256 * 1024 * 1024
_OVERTIME = frozenset({signal.SIGXCPU, signal.SIGALRM})
# The one allocator setting that matters: large buffers go back to the system when they are freed.
_ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}


class WorkerError(Exception):
    """A job that came to nothing; the message says why."""

    kind = "broken"


class Refused(WorkerError):
    """The file cannot be used. `members` go with the problem."""

    kind = "refused"

    def __init__(self, detail: str, members: Mapping[str, Any]) -> None:
        super().__init__(detail)
        self.members = dict(members)


class TooCostly(WorkerError):
    """Opening the file would have taken more memory or time than it may."""

    kind = "too_costly"


class Broken(WorkerError):
    """The worker ended over the file, or answered what is no answer."""


class Busy(WorkerError):
    """Too much waits for the workers already."""

    kind = "busy"


class NotStarted(WorkerError):
    """No worker can be started, which is no fault of any file."""

    kind = "not_started"


@dataclass(frozen=True, slots=True)
class Job:
    """One thing to do with one file. `made_bytes_max` bounds what the worker may hand back."""

    task: str
    data: bytes
    arguments: Sequence[Any]
    allowance: Allowance
    made_bytes_max: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What a worker says of a job: plain values, not to be believed before they are checked, and bytes."""

    fields: Sequence[Any]
    made: bytes


class Worker:
    """One process and the socket to it. Used by one thread at a time."""

    def __init__(self, module: str = MODULE) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-s", "-P", "-m", module]
        with theirs:
            try:
                self.process = subprocess.Popen(  # noqa: S603 - this interpreter, and a module of ours
                    command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env=environment(), start_new_session=True
                )
            except OSError as error:
                ours.close()
                raise NotStarted(f"no process could be started ({error.strerror})") from error
        self.served = 0
        self._channel = ours
        self._overdue = False
        if self._answer(START_S, 0) != ({"ready": True}, b""):
            self.end()
            raise NotStarted(f"a worker ended as it began, with status {self.process.returncode}")

    def do(self, job: Job) -> Reply:
        """Have a job done. Raises WorkerError; after any but Refused the worker has ended."""
        request = {
            "task": job.task,
            "arguments": job.arguments,
            "memory_bytes": job.allowance.memory_bytes,
            "cpu_s": job.allowance.cpu_s,
            "wall_s": job.allowance.wall_s,
        }
        self.served += 1
        answer = self._answer(job.allowance.wall_s, job.made_bytes_max, request, job.data)
        if answer is None:
            raise self._post_mortem()
        header, made = answer
        match header:
            case {"fields": list(fields)}:
                return Reply(fields, made)
            case {"refused": str(detail), "members": dict(members)}:
                raise Refused(detail, members)
            case {"costly": True}:
                self.end()
                raise TooCostly("it takes more memory to open than a file of its size may")
        self.end()
        raise Broken("the worker answered nonsense")

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # only where the system itself hangs
            self.process.wait(END_S)
        self._channel.close()

    def _answer(
        self, within_s: float, made_bytes_max: int, request: Mapping[str, Any] | None = None, data: bytes = b""
    ) -> tuple[dict[str, Any], bytes] | None:
        """Send a request and take its answer; None where the process ended or did not keep to the form."""
        timer = threading.Timer(within_s, self._let_overdue_end)
        timer.daemon = True
        timer.start()
        try:
            if request is not None:
                send(self._channel, request, data)
            return receive(self._channel, made_bytes_max)
        except (OSError, EOFError, BrokenFrame):
            return None
        finally:
            timer.cancel()

    def _let_overdue_end(self) -> None:
        self._overdue = True
        self.process.kill()

    def _post_mortem(self) -> WorkerError:
        """Of what the process died. One that only fell out of form is ended, and counts as broken."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(0.2)
        status = self.process.poll()
        self.end()
        if self._overdue or (status is not None and -status in _OVERTIME):
            return TooCostly("it takes longer to open than a file of its size may")
        if status is not None and status < 0:
            return Broken(f"the decoder ended with {_signal_name(-status)}")
        return Broken("the decoder ended" if status is not None else "the worker answered nonsense")


def _signal_name(number: int) -> str:
    """What a signal is called; most of those for programs' own use have no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Room:
    """The memory that jobs may take together: one that finds too little waits, and none overtakes it."""

    def __init__(self, memory_bytes: int) -> None:
        self._free_bytes = memory_bytes
        self._memory_bytes = memory_bytes
        self._turn = threading.Lock()
        self._freed = threading.Condition()

    @contextlib.contextmanager
    def taken(self, memory_bytes: int) -> Iterator[None]:
        """Wait for so much memory, or for all there is, and hold it for the block."""
        held_bytes = min(memory_bytes, self._memory_bytes)
        with self._turn, self._freed:
            self._freed.wait_for(lambda: self._free_bytes >= held_bytes)
            self._free_bytes -= held_bytes
        try:
            yield
        finally:
            with self._freed:
                self._free_bytes += held_bytes
                self._freed.notify_all()


class Workers:
    """The workers of one gateway: started when they are needed, kept warm, at most `size` of them.

    `memory_bytes_max` is what their jobs may take together, above what idle workers have.
    """

    def __init__(
        self,
        size: int = 0,
        memory_bytes_max: int = DEFAULT_MEMORY_BYTES_MAX,
        *,
        start: Callable[[], Worker] = Worker,
    ) -> None:
        self.size = size or min(8, max(2, os.cpu_count() or 1))
        self.memory_bytes_max = memory_bytes_max
        self._room = Room(memory_bytes_max)
        self._start = start
        self._threads = ThreadPoolExecutor(self.size, thread_name_prefix="vidgate-media")
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._all: set[Worker] = set()
        self._waiting_bytes = 0
        self.ended: Callable[[str], None] = lambda _kind: None  # told of each worker that a file has ended
        self._closed = False

    async def warm(self) -> None:
        """Start one worker now, so that the first picture need not wait for it; the log says when there is none."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, lambda: self._give_back(self._take()))
        except NotStarted as error:
            log.error("media.no_worker", why=str(error))

    async def do(self, job: Job, *, may_refuse: bool = False) -> Reply:
        """Have a job done by a worker. Raises WorkerError; Busy only where the job `may_refuse` to wait."""
        size_bytes = len(job.data)
        if may_refuse and self._waiting_bytes and self._waiting_bytes + size_bytes > WAITING_BYTES_MAX:
            raise Busy(f"{self._waiting_bytes} bytes of pictures wait to be opened")
        self._waiting_bytes += size_bytes
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._do, job)
        finally:
            self._waiting_bytes -= size_bytes

    async def close(self) -> None:
        """End every worker, also those at work."""
        await asyncio.to_thread(self.end)

    def end(self) -> None:
        """End every worker, on this thread."""
        with self._lock:
            self._closed = True
            workers = list(self._all)
            self._all.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.end()

    def processes(self) -> list[int]:
        """The process ids of the workers that there are."""
        with self._lock:
            return [worker.process.pid for worker in self._all]

    def _do(self, job: Job) -> Reply:
        """One job on a worker; again on a fresh one where the first may have been broken by an earlier file."""
        with self._room.taken(job.allowance.memory_bytes):
            worker = self._take()
            seasoned = worker.served > 0
            try:
                return self._on(worker, job)
            except Broken:
                if not seasoned:
                    raise
            return self._on(self._new(), job)

    def _on(self, worker: Worker, job: Job) -> Reply:
        try:
            reply = worker.do(job)
        except Refused:
            self._give_back(worker)
            raise
        except WorkerError as error:
            self._forget(worker)
            self.ended(error.kind)
            log.warning("media.worker_ended", task=job.task, kind=error.kind, why=str(error), bytes=len(job.data))
            raise
        self._give_back(worker)
        return reply

    def _take(self) -> Worker:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._new()

    def _new(self) -> Worker:
        worker = self._start()
        with self._lock:
            closed = self._closed
            if not closed:
                self._all.add(worker)
        if closed:
            worker.end()
            raise NotStarted("the gateway is ending")
        return worker

    def _give_back(self, worker: Worker) -> None:
        with self._lock:
            keep = not self._closed and worker.served < JOBS_PER_WORKER
            if keep:
                self._idle.append(worker)
        if not keep:
            self._forget(worker)

    def _forget(self, worker: Worker) -> None:
        with self._lock:
            self._all.discard(worker)
        worker.end()


def environment() -> dict[str, str]:
    """What a worker is told of its surroundings: where the code lies, and nothing that could be a secret."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "LANG": "C.UTF-8", **_ALLOCATOR}
