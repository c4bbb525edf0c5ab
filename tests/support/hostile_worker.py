"""A decoding process that has been taken over or broken, for tests: the real one, with tasks that misbehave.

It is confined as the real one is, so what it cannot do here no decoder can.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from gateway.media import worker_process

MODULE = "tests.support.hostile_worker"
CHANNEL = 3
MEBIBYTE = 1024 * 1024
done: list[str] = []


def name_of_refusal(act: Callable[[], object]) -> str:
    """The errno with which the system refuses an act, or `done`."""
    try:
        act()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


def _eat(_data: bytes) -> tuple[list[Any], bytes]:
    """Take memory until there is no more; how many MiB it was."""
    taken = []
    try:
        while True:
            taken.append(bytearray(b"x" * MEBIBYTE))
    except MemoryError:
        mebibytes = len(taken)
    del taken
    return [mebibytes], b""


def _try(data: bytes) -> tuple[list[Any], bytes]:
    """What becomes of acts that no decoder needs."""
    path = data.decode()
    acts: Mapping[str, Callable[[], object]] = {
        "read": lambda: os.open(path, os.O_RDONLY),
        "write": lambda: os.open(path + ".new", os.O_WRONLY | os.O_CREAT),
        "connect": socket.socket,
        "pipe": os.pipe,
        "dump": lambda: os.open("/proc/self/mem", os.O_RDONLY),
    }
    return [{name: name_of_refusal(act) for name, act in acts.items()}, dict(os.environ)], b""


def _endless(_data: bytes) -> tuple[list[Any], bytes]:
    while True:
        pass


def _say(words: bytes) -> Callable[[bytes], tuple[list[Any], bytes]]:
    def say(_data: bytes) -> tuple[list[Any], bytes]:
        os.write(CHANNEL, words)
        return [], b""

    return say


def _crash_when_seasoned(_data: bytes) -> tuple[list[Any], bytes]:
    if done:
        os.abort()
    return ["well"], b""


BEHAVIOURS: Mapping[str, Callable[[bytes], tuple[list[Any], bytes]]] = {
    "segfault": lambda _data: ([ctypes.string_at(0)], b""),
    "nameless signal": lambda _data: ([signal.raise_signal(40)], b""),  # type: ignore[func-returns-value, arg-type]
    "exit": lambda _data: ([os._exit(0)], b""),  # type: ignore[func-returns-value]
    "endless": _endless,
    "sleep": lambda _data: ([time.sleep(3600)], b""),  # type: ignore[func-returns-value]
    "eat": _eat,
    "too much": lambda _data: ([], bytes(10_000_000)),
    "nonsense": _say(b"nonsense, and more of it"),
    "unknown answer": _say(b"\x00\x00\x00\x02" + bytes(8) + b"{}"),
    "try": _try,
    "well": lambda data: (["well"], data),
    "crash when seasoned": _crash_when_seasoned,
}


def _behave(name: str) -> Callable[[bytes, Any], tuple[list[Any], bytes]]:
    def behave(data: bytes, _arguments: Any) -> tuple[list[Any], bytes]:
        made = BEHAVIOURS[name](data)
        done.append(name)
        return made

    return behave


if __name__ == "__main__":
    worker_process.TASKS = {**worker_process.TASKS, **{name: _behave(name) for name in BEHAVIOURS}}
    worker_process.main()
