"""`vidgate gpu-worker` and `vidgate gpu-serve` as real processes, and a client of their protocol."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support.gpu_worker import order_body
from tests.support.tiny_renders import SMALL, scene

START_LIMIT_S = 150.0
RENDER_LIMIT_S = 100.0
END_LIMIT_S = 60.0
TICK_S = 0.05
COMMAND = "import sys; from gateway.cli import main; main(sys.argv[1:])"


@dataclass
class Worker:
    """A running program: its address, its process and what it has said."""

    process: subprocess.Popen[bytes]
    folder: Path
    url: str = ""
    http: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=20.0))

    def put(self, render_id: str, **parameters: Any) -> httpx.Response:
        """Order a small clip."""
        return self.http.put(
            f"{self.url}/v1/renders/{render_id}", content=order_body("svd", scene(), **{**SMALL, **parameters})
        )

    def shown(self, render_id: str) -> dict[str, Any]:
        """A render as the protocol shows it."""
        shown: dict[str, Any] = self.http.get(f"{self.url}/v1/renders/{render_id}").json()
        return shown

    def wait(self, render_id: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until a render is as wanted. Raises TimeoutError with how it last was."""
        shown: dict[str, Any] = {}

        def met() -> bool:
            nonlocal shown
            shown = self.shown(render_id)
            return condition(shown)

        wait_until(met, RENDER_LIMIT_S, lambda: f"{shown}\n{self.log()}")
        return shown

    def ended(self, render_id: str) -> dict[str, Any]:
        """Wait for the end of a render."""
        return self.wait(render_id, lambda shown: shown["state"] in {"succeeded", "failed", "canceled"})

    def file(self, render_id: str) -> bytes:
        """The file of a render that succeeded."""
        return self.http.get(f"{self.url}/v1/renders/{render_id}/output").raise_for_status().content

    def status(self) -> dict[str, Any]:
        """What the worker tells a router."""
        status: dict[str, Any] = self.http.get(f"{self.url}/v1/status").json()
        return status

    def log(self) -> str:
        """The end of what it wrote to its log."""
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def children(self) -> list[int]:
        """The processes that it started itself."""
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(word) for word in listed.split()]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(END_LIMIT_S)


@contextmanager
def program(name: str, folder: Path, *options: str) -> Iterator[Worker]:
    """Run one of the two programs with a tiny SVD, ready to take orders, while the block runs."""
    folder.mkdir(parents=True, exist_ok=True)
    model = () if "--model" in options else ("--model", "tiny:svd")
    words = [*model, "--port", "0", "--threads", "1", "--work-dir", str(folder / "work"), "--json", *options]
    with (folder / "said").open("wb") as said, (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, name, *words],
            stdout=said,
            stderr=log,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            start_new_session=True,
        )
    worker = Worker(process, folder)
    try:
        wait_until(lambda: _state(worker) == "ready", START_LIMIT_S, worker.log)
        yield worker
    finally:
        worker.http.close()
        if process.poll() is None:
            process.kill()
            process.wait(END_LIMIT_S)


def _state(worker: Worker) -> str:
    """What the program said last."""
    assert worker.process.poll() is None, worker.log()
    decoder, text, state = json.JSONDecoder(), (worker.folder / "said").read_text(), ""
    while text.strip():
        try:
            values, end = decoder.raw_decode(text.lstrip())
        except ValueError:
            break
        text = text.lstrip()[end:]
        worker.url, state = values["url"], values["state"]
    return state


def wait_until(condition: Callable[[], bool], seconds: float, why: Callable[[], str]) -> None:
    """Wait for a condition in real time. Raises TimeoutError, which says what was there instead."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s: {why()}")
        time.sleep(TICK_S)
