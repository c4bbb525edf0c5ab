"""Gateways and simulated vendors as processes of their own, which can be killed: real signals, real sockets, real disk.

The processes are forked from one that has everything imported, so that a restart takes a moment and not seconds.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from random import Random
from typing import Any

import httpx
import sqlalchemy
from sqlalchemy import create_engine, event

from gateway.app import build_app
from gateway.cli.logs import log_to
from gateway.cli.servers import run, serve_until_stopped
from gateway.clock import SystemClock
from gateway.ids import Ids
from gateway.keys import NewKey, create_key
from gateway.settings import Settings, StoreSection
from gateway.store.database import StoreError, open_store
from providers.contract import SimulatorTools
from providers.registry import plugins
from providers.serving import listen, serve
from providers.simulation import SandboxClock

START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 30.0
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__, "tests.support.warm"])


def serve_gateway(sections: Mapping[str, Any], log: str, said: Connection) -> None:
    """The whole of `vidgate serve` behind its reading of a file; says address and name, or why it does not start."""
    with Path(log).open("a", encoding="utf-8") as out:
        log_to(out)
        settings = Settings.model_validate(sections)
        listener, url = listen()
        try:
            app = build_app(settings)
            ready = serve_until_stopped(
                app, listener, lambda: said.send((url, app.state.service.dispatcher.owner)), settings.server
            )
            run(ready)
        except StoreError as error:
            said.send(f"refused: {error}")
        finally:
            listener.close()


def _serve_vendor(name: str, switches: Mapping[str, Any], said: Connection) -> None:
    async def main() -> None:
        listener, url = listen()
        async with httpx.AsyncClient(trust_env=False) as http:
            tools = SimulatorTools(url, SandboxClock(SystemClock()), Random(1), http, switches)
            simulator = plugins()[name].simulator
            assert simulator is not None
            async with serve(simulator(tools), listener):
                said.send(url)
                await asyncio.Event().wait()

    asyncio.run(main())


@dataclass
class Child:
    """A process with what it said first: its address, and of a gateway the name under which it owns jobs."""

    process: Any
    said: str
    owner: str = ""

    @property
    def url(self) -> str:
        assert self.said.startswith("http://"), self.said
        return self.said

    def kill(self) -> None:
        """SIGKILL: nothing is finished, nothing is flushed."""
        self.process.kill()
        self.process.join(END_TIMEOUT_S)
        assert self.process.exitcode == -signal.SIGKILL

    def stop(self) -> int:
        """SIGTERM; the exit code, once the process has drained."""
        self.process.terminate()
        self.process.join(END_TIMEOUT_S)
        assert self.process.exitcode is not None, "it did not stop in time"
        return int(self.process.exitcode)


@dataclass
class Stand:
    """A folder with a database, a simulated vendor beside it, and gateways that come and go."""

    folder: Path
    vendor: Child
    client: httpx.Client
    sections: Mapping[str, Any] = field(default_factory=dict)
    children: list[Child] = field(default_factory=list)
    team_id: str = ""
    store_url: str = ""

    def settings(self) -> dict[str, Any]:
        section = (plugins()["segmind"].simulator_settings or dict)(self.vendor.url)
        usual: dict[str, Any] = {
            "security": {"signing_secret": "a secret of the tests, long enough"},
            "store": {"url": self.store_url},
            "artifacts": {"url": str(self.folder / "artifacts")},
            "providers": {"segmind": {**section, "routes": ("segmind/svd",)}},
            "outbound": {"allow_hosts": [self.vendor.url.removeprefix("http://")]},
            "polling": {"delay_min_s": 0.05, "delay_max_s": 0.2},
            "retry": {"verify_settle_s": 0.2, "underway_s": 1.0, "base_s": 0.05, "cap_s": 0.2},
        }
        return {name: {**usual.get(name, {}), **self.sections.get(name, {})} for name in {*usual, *self.sections}}

    def start(self) -> Child:
        """Start a gateway; the client talks to it from now on."""
        child = start_child(serve_gateway, self.settings(), str(self.folder / "gateway.log"))
        self.children.append(child)
        if child.said.startswith("http://"):
            self.client.base_url = child.url
        return child

    def meter(self) -> dict[str, Any]:
        """What the vendor counted."""
        return dict(self.client.get(f"{self.vendor.url}/_sandbox/meter").json())

    def switch(self, **changes: Any) -> None:
        """Change the vendor while it runs."""
        assert self.client.patch(f"{self.vendor.url}/_sandbox/settings", json=changes).status_code == 200

    def spoil(self, operation: str, fault: str, count: int = 1) -> None:
        """Spoil the vendor's next calls."""
        body = {"operation": operation, "fault": fault, "count": count}
        assert self.client.post(f"{self.vendor.url}/_sandbox/faults", json=body).status_code == 200

    def until(self, true: Callable[[], bool], within_s: float = 30.0) -> None:
        """Wait for something that another process brings about."""
        for _ in range(int(within_s * 200)):
            if true():
                return
            time.sleep(0.005)
        raise AssertionError(f"not within {within_s:g} s\n{self.log()[-3000:]}")

    def ended(self, job_id: str) -> dict[str, Any]:
        """A job once it has ended."""
        for _ in range(30):
            shown = self.client.get(f"/jobs/{job_id}", headers={"prefer": "wait=2"}).json()
            if shown["finished_at"] is not None:
                return dict(shown)
        raise AssertionError(f"not ended: {shown}\n{self.log()[-3000:]}")

    def log(self) -> str:
        """Everything the gateways said."""
        return (self.folder / "gateway.log").read_text(encoding="utf-8")

    @contextmanager
    def books(self) -> Iterator[sqlalchemy.Connection]:
        """The database of a gateway that is not running."""
        engine = create_engine(f"sqlite:///{self.folder / 'vidgate.db'}")
        event.listen(engine, "connect", lambda connection, _record: connection.execute("PRAGMA query_only=ON"))
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()


def start_child(target: Callable[..., None], *arguments: Any) -> Child:
    """Start a process and wait for its first word. It ends with the process that has started it, however that ends."""
    hear, say = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_run_child, args=(target, *arguments, say), daemon=True)
    process.start()
    say.close()
    with hear:
        if not hear.poll(START_TIMEOUT_S):
            process.kill()
            raise AssertionError("it did not start in time")
        try:
            said = hear.recv()
        except EOFError:
            said = "it ended without a word"
    return Child(process, *([said] if isinstance(said, str) else said))


def _run_child(target: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    target(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for([parent.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def stand(
    folder: Path, *, switches: Mapping[str, Any], sections: Mapping[str, Any], store_url: str = ""
) -> Iterator[Stand]:
    """A vendor and a key, with no gateway yet; whatever still runs at the end is killed."""
    store_url = store_url or f"sqlite:///{folder / 'vidgate.db'}"
    vendor = start_child(_serve_vendor, "segmind", {"clip": "cached", "long_side_px": 64, **switches})
    with database(store_url) as transact:
        _, team_id, secret = transact(create_key, Ids(SystemClock()), NewKey("reel", "test", SystemClock().now()))
    with httpx.Client(headers={"authorization": f"Bearer {secret}"}, timeout=20.0, trust_env=False) as client:
        running = Stand(folder, vendor, client, sections, team_id=team_id, store_url=store_url)
        try:
            yield running
        finally:
            for child in (*running.children, vendor):
                if child.process.exitcode is None:
                    child.process.kill()
                    child.process.join(END_TIMEOUT_S)


@contextmanager
def database(url: str) -> Iterator[Callable[..., Any]]:
    """Run functions in transactions of a database for the length of the block, beside whatever gateways run."""
    with asyncio.Runner() as runner:
        store = runner.run(open_store(StoreSection(url=url), exclusive=False))
        try:
            yield lambda fn, *arguments: runner.run(store.write(fn, *arguments))
        finally:
            runner.run(store.close())
