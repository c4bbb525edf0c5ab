"""The servers of the tests: real, bounded, on loopback alone, and gone when the tests are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.redis_server import RedisServer, ask, redis_binary, redis_version

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys, time
from pathlib import Path
from tests.support.redis_server import RedisServer
print(RedisServer(Path(sys.argv[1])).start().port, flush=True)
time.sleep(60)
"""


def test_a_server_is_real_bounded_and_keeps_nothing(redis: RedisServer) -> None:
    """It listens on loopback, has a memory limit, and writes no file."""
    assert redis_version(redis_binary()) >= (6, 2, 0)
    for setting, value in (("bind", b"127.0.0.1"), ("maxmemory", b"67108864"), ("save", b""), ("appendonly", b"no")):
        assert redis.ask("CONFIG", "GET", setting).split(b"\r\n")[-2] == value
    assert [path.name for path in redis.folder.iterdir()] == ["redis.log"]


def test_a_killed_server_starts_again_where_it_was_and_has_forgotten(tmp_path: Path) -> None:
    """What a crash test does to it."""
    server = RedisServer(tmp_path / "redis").start()
    try:
        port = server.port
        assert server.ask("SET", "k", "v") == b"+OK\r\n"
        server.kill()
        assert server.start().port == port
        assert server.ask("GET", "k") == b"$-1\r\n"
    finally:
        server.kill()


def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """Also when that is killed and can do nothing about it."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "redis")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as owner:
        assert owner.stdout is not None
        port = int(owner.stdout.readline())
        assert ask(port, "PING") == b"+PONG\r\n"
        owner.send_signal(signal.SIGKILL)
        owner.wait(10)
    for _ in range(500):
        try:
            ask(port, "PING")
        except OSError:
            return
        time.sleep(0.01)
    raise AssertionError("the server is still there")
