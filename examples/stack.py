"""Two gateways, PostgreSQL, Redis and simulated vendors on this machine, behind one port: `make stack`.

To see what many replicas do, on a laptop: send a job, kill the replica that drives it, and watch the other one finish.
The databases are those of the tests, so this needs the development dependencies; nothing is kept, no money is real.
The front is a plain splice of TCP connections, one replica after the other: a stand-in for a load balancer, no more.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from examples.scene import draw_scene
from tests.support.postgres import postgres_server
from tests.support.redis_server import redis_server

ROOT = Path(__file__).parents[1]
VIDGATE = (sys.executable, "-c", "from gateway.cli import main; main()")
LEASE_S, HEARTBEAT_S = 5, 1
START_TIMEOUT_S = 90.0
END_TIMEOUT_S = 30.0
CHUNK_BYTES = 65_536
# Becomes the command, and leaves a shell behind that ends it when standard input closes: whoever started it is gone.
GUARDED = 'exec 3<&0; ( (read -r _ <&3 || kill -TERM $$) 2>/dev/null & ); exec "$@" </dev/null 3<&-'


@dataclass(frozen=True)
class Replica:
    """One gateway process, its own address, and where its log is written."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return str(parts.hostname), int(parts.port or 80)


@dataclass(frozen=True)
class Stack:
    """What runs, and how to speak to it."""

    url: str
    key: str
    replicas: Sequence[Replica]
    simulators: dict[str, str]
    config: Path
    picture: Path
    database_url: str

    def shown(self) -> dict[str, Any]:
        """For machines."""
        return {
            "url": self.url,
            "key": self.key,
            "replicas": [{"pid": one.process.pid, "url": one.url, "log": str(one.log)} for one in self.replicas],
            "simulators": self.simulators,
            "config": str(self.config),
            "picture": str(self.picture),
            "database_url": self.database_url,
        }


class Front:
    """Hands each connection to the next replica that takes it."""

    def __init__(self, addresses: Sequence[tuple[str, int]]) -> None:
        self._addresses = list(addresses)
        self._turn = 0

    @asynccontextmanager
    async def serving(self, port: int) -> AsyncIterator[str]:
        """The address of the front, for the length of the block."""
        server = await asyncio.start_server(self._splice, "127.0.0.1", port)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _splice(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind = await self._connect()
        if behind is None:
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await _close(writer)
            return
        await asyncio.gather(_pump(reader, behind[1]), _pump(behind[0], writer))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for _ in self._addresses:
            self._turn = (self._turn + 1) % len(self._addresses)
            with contextlib.suppress(OSError):
                return await asyncio.open_connection(*self._addresses[self._turn])
        return None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until there are no more; a side that is cut off ends the other one too."""
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.close()
        await writer.wait_closed()


@contextmanager
def command(*arguments: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command of vidgate that runs until the block ends, or until this process does."""
    with log.open("wb") as err:
        process = subprocess.Popen(  # noqa: S603 - the command of this project
            ["/bin/sh", "-c", GUARDED, "sh", *VIDGATE, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=err,
            start_new_session=True,  # Ctrl-C is for the stack, which ends the rest in order
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def first_json(process: subprocess.Popen[bytes]) -> Any:
    """The JSON that a command prints when it is ready."""
    text = b""
    assert process.stdout is not None
    for line in process.stdout:
        text += line
        with contextlib.suppress(ValueError):
            return json.loads(text)
    raise SystemExit(f"a part of the stack did not start: {text.decode()}")


def served_at(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address that a gateway says it serves at."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text(encoding="utf-8").splitlines():
            if "vidgate serves at " in line:
                return line.partition("serves at ")[2].split()[0]
        time.sleep(0.05)
    raise SystemExit(f"a gateway did not start:\n{log.read_text(encoding='utf-8')[-2000:]}")


def configuration(folder: Path, addresses: tuple[str, str], sandbox: dict[str, Any], replicas: int) -> Path:
    """Write the one configuration file that all replicas share."""
    sections = {
        "server": {"port": 0, "replicas": replicas, "drain_s": 5},
        "store": {"url": addresses[0]},
        "bus": {"url": addresses[1]},
        "artifacts": {"url": str(folder / "artifacts")},
        "security": {"signing_secret": "for one evening on one machine, and nothing else"},
        "providers": sandbox["providers"],
        "outbound": {"allow_hosts": [urlsplit(url).netloc for url in sandbox["simulators"].values()]},
        # Short, so that a takeover can be watched; the usual values suit networks that are slower than loopback.
        "jobs": {"lease_s": LEASE_S, "heartbeat_s": HEARTBEAT_S},
    }
    file = folder / "vidgate.yaml"
    file.write_text(yaml.safe_dump(sections, sort_keys=False), encoding="utf-8")
    return file


def new_key(config: Path) -> str:
    """An API key of a new team."""
    arguments = ("keys", "create", "--team", "stack", "--config", str(config), "--json")
    made = subprocess.run(  # noqa: S603 - the command of this project
        [*VIDGATE, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    if made.returncode:
        raise SystemExit(made.stderr)
    return str(json.loads(made.stdout)["key"])


async def show(stack: Stack, *, as_json: bool) -> None:
    """Say what runs and what to try."""
    if as_json:
        print(json.dumps(stack.shown()), flush=True)
        return
    first = stack.replicas[0]
    lines = [
        f"The front is at {stack.url}; each connection goes to the next replica.",
        *(
            f"  replica {n}: process {one.process.pid}, {one.url}, log {one.log}"
            for n, one in enumerate(stack.replicas, 1)
        ),
        *(f"  {name}: simulated at {url}" for name, url in stack.simulators.items()),
        f"  configuration: {stack.config} (vidgate doubts list --config ..., vidgate balance --config ...)",
        "",
        "Make a video, and look at it through either replica:",
        f"  export KEY={stack.key}",
        f'  curl -s -H "x-api-key: $KEY" -F image=@{stack.picture} -F num_frames=14 {stack.url}/generate/video',
        f'  curl -s -H "x-api-key: $KEY" -H "prefer: wait=60" {stack.url}/jobs/JOB',
        f'  curl -N -s -H "x-api-key: $KEY" {stack.url}/jobs/JOB/events',
        "",
        "Kill the replica whose log names the job, and watch the other one go on with the same render:",
        f"  grep -l JOB {' '.join(str(one.log) for one in stack.replicas)}",
        f"  kill -9 {first.process.pid}",
        f"It is taken up within {LEASE_S} s of lease and a second; the vendor still counts one submit.",
        "",
        "Ctrl-C stops everything.",
    ]
    print("\n".join(lines), flush=True)


async def serve(port: int, parts: dict[str, Any], *, as_json: bool) -> None:
    """Serve the front until a signal comes, and say when a replica ends."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    replicas: Sequence[Replica] = parts["replicas"]
    async with Front([one.address for one in replicas]).serving(port) as url:
        await show(Stack(url=url, **parts), as_json=as_json)
        watches = [asyncio.create_task(_watch(one)) for one in replicas]
        await stopped.wait()
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)


async def _watch(replica: Replica) -> None:
    while replica.process.poll() is None:  # noqa: ASYNC110 - the end of a process sets no event
        await asyncio.sleep(0.2)
    print(f"replica {replica.process.pid} has ended; the others go on", file=sys.stderr, flush=True)


def main() -> None:
    """Start everything in order, and end it in the opposite one."""
    options = argparse.ArgumentParser(prog="python -m examples.stack", description=str(__doc__).partition("\n")[0])
    options.add_argument("--port", type=int, default=8080, help="port of the front; 0 takes a free one")
    options.add_argument("--replicas", type=int, default=2, choices=range(1, 9), help="how many gateways")
    options.add_argument("--speed", type=float, default=3.0, help="how many times faster than life the vendors are")
    options.add_argument("--json", action="store_true", help="say what runs as one line of JSON")
    chosen = options.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # also while things are starting: leave in order
    with contextlib.suppress(KeyboardInterrupt), ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="vidgate-stack-")))
        postgres = running.enter_context(postgres_server())
        redis = running.enter_context(redis_server(folder / "redis"))
        speed = ("--speed", str(chosen.speed), "--port-base", "0", "--json")
        sandbox = first_json(running.enter_context(command("sandbox", *speed, log=folder / "sandbox.log")))
        database_url = postgres.url(postgres.create())
        config = configuration(folder, (database_url, redis.url), sandbox, chosen.replicas)
        key = new_key(config)
        picture = folder / "scene.png"
        draw_scene().save(picture)
        started = []
        for number in range(1, chosen.replicas + 1):
            log = folder / f"replica-{number}.log"
            started.append((running.enter_context(command("serve", "--config", str(config), log=log)), log))
        parts = {
            "key": key,
            "replicas": [Replica(process, served_at(process, log), log) for process, log in started],
            "simulators": sandbox["simulators"],
            "config": config,
            "picture": picture,
            "database_url": database_url,
        }
        asyncio.run(serve(chosen.port, parts, as_json=chosen.json))


if __name__ == "__main__":
    main()
