"""An end for everything that a test run starts: for a test that its own limit does not stop, and for child processes.

pytest-timeout raises an error in a test that takes too long. One that goes on all the same, because what was at work
swallowed the error or is no Python, is ended here with its process, so that the run goes on and names it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

GRACE_S = 60.0
EXIT_CODE = 70


class LastResort:
    """The part of a test run that ends a process which cannot be stopped otherwise."""

    def __init__(self) -> None:
        self._err = os.dup(2)  # where a person sees it: pytest puts files of its own in the place of 2

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Give a test, with its fixtures, a little more than its limit."""
        limit_s = float(item.config.getini("timeout") or 0)
        with ended_after(limit_s + GRACE_S if limit_s else None, item.nodeid, self._err):
            result = yield
        return result

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """From here on the process has a while to end: it waits for its children, and they may not end."""
        begin_to_end(2 * GRACE_S, "the end of the run", self._err)


@contextlib.contextmanager
def ended_after(limit_s: float | None, what: str, err: int) -> Iterator[None]:
    """End this process when the block takes longer than this."""
    if limit_s is None:
        yield
        return
    timer = begin_to_end(limit_s, what, err)
    try:
        yield
    finally:
        timer.cancel()


def begin_to_end(after_s: float, what: str, err: int) -> threading.Timer:
    """End this process after so long, unless the timer is canceled."""
    timer = threading.Timer(after_s, end_process, (what, err))
    timer.daemon = True
    timer.start()
    return timer


def end_process(what: str, err: int) -> None:
    """End this process and everything it has started, at once, and say where it was."""
    os.write(err, f"\n{what} cannot be stopped: this process is ended\n".encode())
    faulthandler.dump_traceback(err)
    for pid in descendants(os.getpid()):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    os._exit(EXIT_CODE)


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have, as `ps` knows them."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=False, timeout=10).stdout
    children: dict[int, list[int]] = {}
    for line in listed.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found, left = [], [pid]
    while left:
        of_one = children.get(left.pop(), [])
        found += of_one
        left += of_one
    return found


def run_bounded(
    command: Sequence[str], *, timeout_s: float, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; one that takes too long is killed with all that it started, who may hold its output.

    Raises AssertionError with what it had said until then.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=cwd, env=env, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as child:
        try:
            out, err = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            out, err = child.communicate(timeout=GRACE_S)
            said = f"{' '.join(command)} took more than {timeout_s:g} s\n{out[-2_000:]}\n{err[-2_000:]}"
            raise AssertionError(said) from None
        finally:
            if child.poll() is None:  # something else came between, as the limit of the test
                os.killpg(child.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, child.returncode, out, err)
