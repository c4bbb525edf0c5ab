"""A fault of vidgate's own costs the job that met it a pause, never its place."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from gateway.cli.logs import log_to
from tests.support.fixtures import Start
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio


class _BrokenPipe:
    """A stream whose reader has gone."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError

    def isatty(self) -> bool:
        return False


async def test_a_log_that_nobody_reads_stops_no_job(start: Start) -> None:
    """The reader of standard error went away: jobs are driven and billed all the same."""
    log_to(_BrokenPipe())  # type: ignore[arg-type] # all of a text stream that the log uses
    gateway = await start(Scripted())
    assert (await gateway.made())["status"] == "succeeded"


async def test_a_job_whose_task_died_is_taken_up_again_after_a_pause(start: Start, monkeypatch: Any) -> None:
    """Whatever breaks while a job is driven, after a commit too: the job is parked and goes on from its rows."""
    broken = 1

    def breaks(_logger: Any, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        nonlocal broken
        if broken and event["event"] == "attempt.accepted":
            broken -= 1
            raise ValueError("the log is broken")
        return event

    structlog.configure(processors=[breaks, structlog.processors.KeyValueRenderer()])
    gateway = await start(Scripted())
    job = await gateway.made()
    assert (job["status"], len(job["attempts"]), broken) == ("succeeded", 1, 0)
