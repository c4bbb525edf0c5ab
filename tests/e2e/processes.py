"""The real command in real processes: started, read, and ended by their ids, always within a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any

from tests.support.time_limit import run_bounded

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-c", "from gateway.cli import main; main()")
START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 60.0


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with a wide terminal and without the developer's own gateway."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("VIDGATE_")}
    return own | {"COLUMNS": "200", "PYTHONPATH": str(ROOT)} | dict(extra or {})


def vidgate(*arguments: str, cwd: Path, extra: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return run_bounded([*COMMAND, *arguments], timeout_s=END_TIMEOUT_S, cwd=cwd, env=environment(extra))


@contextmanager
def running(*arguments: str, cwd: Path, extra: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A command that runs until the block ends; its standard error goes to a file beside it."""
    log = cwd / f"{arguments[0]}.err"
    with log.open("wb") as err:
        process = subprocess.Popen(
            [*COMMAND, *arguments], cwd=cwd, env=environment(extra), stdout=subprocess.PIPE, stderr=err
        )
        try:
            yield process
        finally:
            end(process)


def end(process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
    """Stop a process by its id and answer with its exit code; one that does not stop in time is killed."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        return process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(END_TIMEOUT_S)
        raise
    finally:
        if process.stdout:
            process.stdout.close()


def first_json(process: subprocess.Popen[bytes], log: Path) -> Any:
    """The JSON value with which a command says that it is ready."""
    assert process.stdout is not None
    text = b""
    with DefaultSelector() as selector:
        selector.register(process.stdout, EVENT_READ)
        while selector.select(START_TIMEOUT_S):
            chunk = os.read(process.stdout.fileno(), 65_536)
            text += chunk
            try:
                return json.loads(text)
            except ValueError:
                if not chunk:
                    break
    raise AssertionError(f"no JSON came: {text!r}\n{log.read_text(encoding='utf-8', errors='replace')}")


def wait_for_line(log: Path, words: str, process: subprocess.Popen[bytes]) -> str:
    """The first line of a log that has these words, once it is there."""
    for _ in range(int(START_TIMEOUT_S * 100)):
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if words in line:
                return line
        try:
            process.wait(0.01)
            break
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError(f"{words!r} was not said:\n{log.read_text(encoding='utf-8', errors='replace')}")
