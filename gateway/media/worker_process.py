"""The process in which strangers' files are opened: `python -m gateway.media.worker_process`, a socket as its input.

It is started fresh, so that nothing of the gateway is in its memory, and takes jobs one at a time. Before the first it
gives up what a job does not need: core dumps, writing files, and opening anything at all. Each job then has a bound on
memory and on processor time. It ends with the gateway: the socket ends, or the time of its job does.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Mapping
from typing import Any

from gateway.media.framing import receive, send
from gateway.media.tasks import TASKS, Refused, prepare_for_jobs

INPUT_BYTES_MAX = 4096 * 1024 * 1024
_DATA_SIZE = b"VmData:"


class Memory:
    """Bounds what this process may take above what it has now. Only Linux counts that; elsewhere it is unbounded."""

    def __init__(self) -> None:
        try:
            self._status: int | None = os.open("/proc/self/status", os.O_RDONLY)
        except OSError:
            self._status = None
        self._at_rest_bytes = 0

    def settle(self) -> None:
        """Take what the process has now for its size at rest."""
        self._at_rest_bytes = self._taken_bytes()

    def allow(self, extra_bytes: int) -> None:
        """Let it take so much more than at rest."""
        if self._status is not None:
            limit = self._at_rest_bytes + extra_bytes
            resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))

    def _taken_bytes(self) -> int:
        if self._status is None:
            return 0
        lines = os.pread(self._status, 16_384, 0).splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(_DATA_SIZE))


def give_up() -> None:
    """No core dump, no byte written to a file, and no file or socket opened any more."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    first_free = os.dup(0)
    os.close(first_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, first_free))


def allow_time(cpu_s: int, wall_s: float) -> None:
    """End this process when a job outlasts its time, also where nobody is left to end it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    until = int(used.ru_utime + used.ru_stime) + 1 + cpu_s
    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))
    signal.setitimer(signal.ITIMER_REAL, wall_s)


def answer(header: Mapping[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """Do one job: what it came to, as plain data."""
    try:
        fields, made = TASKS[header["task"]](data, header["arguments"])
    except Refused as refusal:
        return {"refused": refusal.detail, "members": refusal.members}, b""
    except MemoryError:
        return {"costly": True}, b""
    return {"fields": fields}, made


def main() -> None:
    """Serve until the other side ends."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    channel = socket.socket(fileno=os.dup(0))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):  # what a decoder prints must not stand among the frames
        os.dup2(nowhere, stream)
    memory = Memory()
    prepare_for_jobs()
    os.dup2(nowhere, 2)
    give_up()
    memory.settle()
    send(channel, {"ready": True})
    while True:
        try:
            header, data = receive(channel, INPUT_BYTES_MAX)
        except (EOFError, OSError):
            return
        memory.allow(header["memory_bytes"])
        allow_time(header["cpu_s"], header["wall_s"])
        reply, made = answer(header, data)
        del data
        signal.setitimer(signal.ITIMER_REAL, 0)
        send(channel, reply, made)
        del made
        if "costly" in reply:
            return  # what is left of the memory is in pieces


if __name__ == "__main__":
    main()
