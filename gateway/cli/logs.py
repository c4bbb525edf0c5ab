"""Where the log of a command goes and what it looks like."""

from __future__ import annotations

import logging
import sys
from typing import TextIO, cast

import structlog

from gateway.telemetry.redaction import redacted
from gateway.telemetry.tracing import add_place


class _Patient:
    """A stream for the log, through which no secret passes.

    Its end (a closed pipe, a full disk) is nobody's error: the work goes on unheard.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written and may be read."""
        try:
            return self._stream.write(redacted(text))
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return


def log_to(stream: TextIO | None = None, *, level: int = logging.INFO) -> None:
    """Write the log to a stream, standard error by default: coloured lines on a terminal, JSON lines elsewhere."""
    out = stream or sys.stderr
    guarded = cast("TextIO", _Patient(out))
    last: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if out.isatty()
        else structlog.processors.JSONRenderer(default=str)
    )
    exceptions = [] if out.isatty() else [structlog.processors.format_exc_info]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            add_place,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *exceptions,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(guarded),
        cache_logger_on_first_use=False,
    )
    # uvicorn and the vendors' libraries speak through the standard library: warnings only.
    logging.basicConfig(stream=guarded, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s", force=True)
