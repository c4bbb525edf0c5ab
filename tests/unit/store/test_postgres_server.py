"""The server of the tests themselves: it outlives nobody, and comes back with what it had."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.support.postgres import PostgresServer, postgres_server

ROOT = Path(__file__).parents[3]
HOLD = """
import sys
from tests.support.postgres import PostgresServer
server = PostgresServer()
server.start()
print(server.folder, server.pid, flush=True)
sys.stdin.readline()
"""
GONE_WITHIN_S = 30.0


def is_running(pid: int) -> bool:
    """Whether there is such a process, other than as a name that nobody has asked after."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def test_a_killed_test_run_leaves_no_server_and_its_folder_is_swept() -> None:
    """A run that is killed takes its server with it, and the next one removes the data."""
    run = subprocess.Popen(
        [sys.executable, "-c", HOLD], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    folder, pid = run.stdout.readline().split()
    assert is_running(int(pid))
    run.kill()
    run.communicate(timeout=GONE_WITHIN_S)
    deadline = time.monotonic() + GONE_WITHIN_S
    while is_running(int(pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(int(pid))
    assert Path(folder).exists()
    PostgresServer().remove()
    assert not Path(folder).exists()


def test_a_killed_server_starts_again_on_its_data() -> None:
    """What was committed is there after a kill of the server and everything under it."""
    with postgres_server() as server:
        database = server.create()
        server.query("CREATE TABLE kept AS SELECT 7 AS number", database)
        before = server.pid
        server.kill()
        assert not is_running(before)
        server.start()
        assert server.query("SELECT number FROM kept", database) == "7"
        server.stop()
        server.start()
        assert server.query("SELECT number FROM kept", database) == "7"
        folder = server.folder
    assert not folder.exists()
