"""A gateway that is told where to die, or to stop: it ends itself by a signal at a step of the failpoints' table."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gateway.app
import gateway.dispatcher
import gateway.outbox
import gateway.parking
from gateway import failpoints
from tests.support.instant import NAME, PLUGIN
from tests.support.processes import CONTEXT, Child, serve_gateway, start_child

PATIENCE_S = 30.0


class Killer:
    """Ends or stops this very process at a step, by a signal; counts the steps that it passes."""

    def __init__(self, said: Connection) -> None:
        self._said = said
        self._left = 0
        self._step = ""
        self._how = signal.SIGKILL
        self.passed: Counter[str] = Counter()

    def aim(self, step: str, occurrence: int, how: signal.Signals = signal.SIGKILL) -> None:
        self._step, self._left, self._how, self.passed = step, occurrence, how, Counter()

    def __call__(self, step: str) -> None:
        self.passed[step] += 1
        if step != self._step:
            return
        self._left -= 1
        if self._left == 0:
            self._said.send(step)
            os.kill(os.getpid(), self._how)

    def obey(self, told: Connection) -> None:
        """Take orders until the process ends: where to die, or `None` for the counts."""
        while True:
            order = told.recv()
            if order is None:
                told.send(self.passed)
            else:
                self.aim(*order)
                told.send(True)


def serve_killable(
    sections: Mapping[str, Any], ways: tuple[str, float], aim: tuple[str, int], told: Connection, said: Connection
) -> None:
    """A gateway with the instant vendor, quick loops, and a killer at every step; `ways` are its log and claims."""
    log, claim_s = ways
    killer = Killer(told)
    killer.aim(*aim)
    failpoints.watch(killer)
    threading.Thread(target=killer.obey, args=(told,), daemon=True).start()
    with (
        patch.object(gateway.app, "plugins", lambda: {NAME: PLUGIN}),
        patch.object(gateway.dispatcher, "CLAIM_INTERVAL_S", claim_s),
        patch.object(gateway.parking, "CRASH_PAUSE_S", 0.1),
        patch.object(gateway.outbox, "LEASE_S", 0.3),
        patch.object(gateway.outbox, "SCHEDULE_S", (0.1,) * 9),
    ):
        serve_gateway(sections, log, said)


@dataclass
class Gateway:
    """A process with the pipe that steers it; without an address when it died while it started."""

    child: Child
    control: Any
    log: Path

    @property
    def url(self) -> str:
        return self.child.said if self.child.said.startswith("http://") else ""

    @property
    def owner(self) -> str:
        """The name under which it owns jobs."""
        return self.child.owner

    @property
    def pid(self) -> int:
        return int(self.child.process.pid)

    def aim(self, step: str, occurrence: int = 1, how: signal.Signals = signal.SIGKILL) -> None:
        """Tell it where to die, or to stop."""
        self.control.send((step, occurrence, how))
        assert self.control.poll(PATIENCE_S)
        assert self.control.recv() is True

    def passed(self) -> Counter[str]:
        """How often it has passed each step since it was last told where to die."""
        self.control.send(None)
        assert self.control.poll(PATIENCE_S)
        counted: Counter[str] = self.control.recv()
        return counted

    def stopped(self, step: str) -> None:
        """Wait until it has come to a step, at which it stops or dies."""
        assert self.control.poll(PATIENCE_S), f"it never came to {step}\n{self.log.read_text()[-3000:]}"
        assert self.control.recv() == step

    def died(self, step: str) -> None:
        """Wait until it has killed itself, and make sure that it was at this step."""
        self.stopped(step)
        self.child.process.join(PATIENCE_S)
        assert self.child.process.exitcode == -signal.SIGKILL

    def is_dead(self) -> bool:
        """Whether it has ended."""
        return bool(wait_for([self.child.process.sentinel], timeout=0))

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        self.child.process.terminate()

    def kill(self) -> None:
        """SIGKILL from outside."""
        self.child.kill()

    def stop(self) -> int:
        """SIGTERM; the exit code, once it has drained."""
        return self.child.stop()


def start_gateway(sections: Mapping[str, Any], log: Path, aim: tuple[str, int], claim_s: float) -> Gateway:
    """Start a gateway that dies at a step, perhaps while it starts, and that claims jobs so often."""
    control, told = CONTEXT.Pipe()
    child = start_child(serve_killable, sections, (str(log), claim_s), aim, told)
    told.close()
    if not child.said.startswith("http://"):
        assert child.said == "it ended without a word", child.said
        child.process.join(PATIENCE_S)
    return Gateway(child, control, log)
