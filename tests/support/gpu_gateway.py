"""`vidgate serve` as a real process whose only vendor is a GPU worker, and its command line."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gateway.client import Vidgate
from tests.support.gpu_process import COMMAND, END_LIMIT_S, wait_until

START_LIMIT_S = 60.0
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "300"}


@dataclass
class Gateway:
    """A running gateway and a client of it."""

    config: Path
    client: Vidgate

    def command(self, *words: str) -> Any:
        """What one of the gateway's commands prints as JSON."""
        return json.loads(_run(self.config, *words))

    def balances(self) -> dict[str, int]:
        """The books, account by account; the command itself fails when a rule of them is broken."""
        books: dict[str, int] = self.command("balance", "--json")["accounts_micros"]
        return books


@contextmanager
def gateway_for(worker_url: str, folder: Path) -> Iterator[Gateway]:
    """A gateway on SQLite with this worker as its only vendor, while the block runs."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "vidgate.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "server": {"host": "127.0.0.1", "port": port},
                "store": {"url": f"sqlite:///{folder / 'vidgate.db'}"},
                "artifacts": {"url": str(folder / "artifacts")},
                "security": {"signing_secret": "a-signing-secret-of-enough-bytes"},
                "providers": {"local": {"workers": [worker_url], "dead_after_s": 120}},
                "money": {"show_cost": True},
                "polling": {"delay_min_s": 0.2, "delay_max_s": 0.5},
            }
        )
    )
    key = json.loads(_run(config, "keys", "create", "--team", "film", "--json"))["key"]
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, "serve", "--config", str(config)], stdout=out, stderr=out, env=ENVIRONMENT
        )
    try:
        wait_until(lambda: b"serves at" in log.read_bytes(), START_LIMIT_S, lambda: log.read_text()[-3000:])
        with Vidgate(f"http://127.0.0.1:{port}", key=key) as client:
            yield Gateway(config, client)
    finally:
        process.terminate()
        try:
            process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _run(config: Path, *words: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", COMMAND, *words, "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=START_LIMIT_S,
        check=False,
        env=ENVIRONMENT,
    )
    assert ended.returncode == 0, f"{words}: {ended.stdout}\n{ended.stderr}"
    return ended.stdout
