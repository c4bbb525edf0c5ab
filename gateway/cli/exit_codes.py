"""What the exit codes of the command line mean: one table, which the help and the documentation show."""

from __future__ import annotations

import enum
from collections.abc import Mapping


class ExitCode(enum.IntEnum):
    """How a command ended."""

    OK = 0
    JOB_FAILED = 1
    USAGE = 2
    REFUSED = 3
    NO_BUDGET = 4
    UNREACHABLE = 5
    STILL_RUNNING = 6
    DRIFT = 7
    INTERRUPTED = 130


MEANINGS: Mapping[ExitCode, str] = {
    ExitCode.OK: "it worked",
    ExitCode.JOB_FAILED: "the job ended without a result: failed, canceled or expired",
    ExitCode.USAGE: "the command line or the configuration is wrong",
    ExitCode.REFUSED: "the gateway refused the request (HTTP 4xx)",
    ExitCode.NO_BUDGET: "the budget does not cover the request (HTTP 402)",
    ExitCode.UNREACHABLE: "no gateway answers, or it is out of order (HTTP 5xx)",
    ExitCode.STILL_RUNNING: "the time given to wait is over and the job still runs",
    ExitCode.DRIFT: "the books and what a vendor says differ",
    ExitCode.INTERRUPTED: "interrupted from the keyboard",
}

NO_BUDGET_STATUS = 402


class CommandError(Exception):
    """A command that cannot go on: what happened, what mends it, and the exit code."""

    def __init__(self, code: ExitCode, what: str, mend: str = "") -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.mend = mend


def code_of_status(status: int) -> ExitCode:
    """The exit code for an HTTP error status."""
    if status == NO_BUDGET_STATUS:
        return ExitCode.NO_BUDGET
    return ExitCode.REFUSED if status < 500 else ExitCode.UNREACHABLE
