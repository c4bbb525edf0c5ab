"""Nothing runs for ever: neither a test, nor a process that a test has started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.time_limit import EXIT_CODE, descendants, run_bounded

ROOT = Path(__file__).parents[2]
LONG_S = 60
GONE_WITHIN_S = 20.0
ENDLESS = """
import contextlib, subprocess, time
from tests.support.time_limit import ended_after
print(subprocess.Popen(["sleep", "60"]).pid, flush=True)
with ended_after(0.2, "this test", 2):
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(60)
"""
STARTS = """
import sys, time
from tests.support.instant import serve_instant
from tests.support.processes import start_child
if __name__ == "__main__":
    print(start_child(serve_instant).process.pid, flush=True)
    time.sleep(60)
"""


def is_gone(pid: int) -> bool:
    """Whether a process ends soon."""
    until = time.monotonic() + GONE_WITHIN_S
    while time.monotonic() < until:
        state = subprocess.run(
            ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
        ).stdout
        if not state.strip() or state.startswith("Z"):
            return True
        time.sleep(0.05)
    return False


def test_what_cannot_be_stopped_is_ended_with_its_process_and_its_children() -> None:
    """Whatever swallows every error, with a child that would stay; it is named, and where it was."""
    done = run_bounded([sys.executable, "-c", ENDLESS], timeout_s=LONG_S / 2, cwd=ROOT)
    assert done.returncode == EXIT_CODE, done.stderr
    assert "this test cannot be stopped" in done.stderr
    assert 'File "<string>", line 8' in done.stderr
    assert is_gone(int(done.stdout))


def test_a_test_that_waits_for_ever_fails_and_the_next_one_runs(tmp_path: Path) -> None:
    """A whole run of pytest: one failure in its own words, one pass."""
    file = tmp_path / "test_waits.py"
    file.write_text("import threading\ndef test_one(): threading.Event().wait()\ndef test_two(): pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.conftest", str(file)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = run_bounded([*command, "-o", "timeout=0.3"], timeout_s=LONG_S, cwd=tmp_path, env=environment)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "Timeout (>0.3s)" in done.stdout


def test_a_command_that_takes_too_long_is_killed_with_whoever_holds_its_output() -> None:
    """A child of the child would keep the pipe open for a minute; what was said until then is told."""
    began = time.monotonic()
    with pytest.raises(AssertionError, match=r"took more than 0.5 s\n(?s:.*)here"):
        run_bounded(["/bin/sh", "-c", f"echo here; sleep {LONG_S} & sleep {LONG_S}"], timeout_s=0.5)
    assert time.monotonic() - began < LONG_S / 2


def test_a_gateway_or_vendor_of_the_tests_ends_with_the_process_that_started_it() -> None:
    """Also when that is killed and can do nothing about it: nothing serves on for nobody."""
    with subprocess.Popen([sys.executable, "-c", STARTS], stdout=subprocess.PIPE, cwd=ROOT) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert pid in descendants(owner.pid)
        owner.send_signal(signal.SIGKILL)
        owner.wait(LONG_S)
    assert is_gone(pid)
