"""What is logged, as it is written, with everything put back afterwards."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from gateway.cli.logs import log_to


@dataclass
class Logged:
    """The log as it was written, a JSON object or a line of a library each."""

    stream: io.StringIO = field(default_factory=io.StringIO)

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    def lines(self) -> list[dict[str, Any]]:
        """The service's own lines."""
        return [json.loads(line) for line in self.text.splitlines() if line.startswith("{")]

    def of_job(self, job_id: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line.get("job") == job_id]


@contextmanager
def logged(level: int = logging.INFO) -> Iterator[Logged]:
    """Write the log of the block down, as `vidgate serve` writes it."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, root_level = list(root.handlers), root.level
    kept = Logged()
    try:
        log_to(kept.stream, level=level)
        yield kept
    finally:
        structlog.configure(**before)
        root.handlers[:] = handlers
        root.setLevel(root_level)
