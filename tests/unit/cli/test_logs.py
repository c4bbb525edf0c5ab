"""The log of a command: lines that a machine can read, unless a person is watching."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from gateway.cli.logs import log_to


class Terminal(io.StringIO):
    """A stream that says that a person is watching."""

    def isatty(self) -> bool:
        """Yes."""
        return True


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """What these tests configure ends with them."""
    handlers, level = list(logging.root.handlers), logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def test_a_line_is_one_json_object_with_time_and_level() -> None:
    """As log collectors want them."""
    out = io.StringIO()
    log_to(out)
    structlog.get_logger().info("job.succeeded", job="job_1", price_micros=5)
    (line,) = out.getvalue().splitlines()
    told = json.loads(line)
    assert told.pop("timestamp").endswith("Z")
    assert told == {"event": "job.succeeded", "level": "info", "job": "job_1", "price_micros": 5}


def test_an_exception_is_part_of_its_line() -> None:
    """A traceback does not tear a log apart."""
    out = io.StringIO()
    log_to(out)
    try:
        raise ValueError("odd")
    except ValueError:
        structlog.get_logger().exception("job.crashed")
    (line,) = out.getvalue().splitlines()
    assert "ValueError: odd" in json.loads(line)["exception"]


def test_a_value_that_is_no_json_is_written_as_text() -> None:
    """Logging never fails for what it is given."""
    out = io.StringIO()
    log_to(out)
    structlog.get_logger().info("odd", value={1, 2}.__class__)
    assert "set" in json.loads(out.getvalue())["value"]


def test_a_person_gets_lines_to_read() -> None:
    """Not JSON."""
    out = Terminal()
    log_to(out)
    structlog.get_logger().info("job.succeeded", job="job_1")
    assert "job.succeeded" in out.getvalue()
    with pytest.raises(ValueError, match=r"Expecting value|Extra data"):
        json.loads(out.getvalue())


def test_below_the_level_nothing_is_written() -> None:
    """Debug lines cost nothing unless wanted."""
    out = io.StringIO()
    log_to(out, level=logging.WARNING)
    structlog.get_logger().info("quiet")
    assert out.getvalue() == ""


def test_libraries_are_heard_from_warnings_on() -> None:
    """The HTTP client's line for each request would drown the rest."""
    out = io.StringIO()
    log_to(out)
    logging.getLogger("httpx").info("GET / 200")
    logging.getLogger("httpx").warning("slow")
    assert out.getvalue() == "WARNING httpx slow\n"
