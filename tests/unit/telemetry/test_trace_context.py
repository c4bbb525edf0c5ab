"""W3C Trace Context: what is believed of a header, what is written, and ids that follow from rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.trace_context import Trace, is_in_share, span_id_of, trace_id_in, trace_id_of

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEX = "0123456789abcdef"


@pytest.mark.parametrize(("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("ff", True)])
def test_a_header_is_read(flags: str, sampled: bool) -> None:
    """Ids are taken as they are; of the flags only the lowest bit is known."""
    assert Trace.parse(f"00-{TRACE_ID}-{SPAN_ID}-{flags}") == Trace(TRACE_ID, SPAN_ID, sampled)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "00",
        f"00-{TRACE_ID}-{SPAN_ID}",
        f"00-{TRACE_ID}-{SPAN_ID}-1",
        f"00-{TRACE_ID.upper()}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID}-{SPAN_ID}-01-more",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{TRACE_ID[:-1]}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}-01\n",
    ],
)
def test_what_is_no_header_begins_a_new_trace(header: str | None) -> None:
    """Short, long, upper case, zeros, the forbidden version: none of it is believed in part."""
    assert Trace.parse(header) is None
    assert trace_id_in(header) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    """The specification wants it so: the four parts stay, more may follow."""
    assert Trace.parse(f"cc-{TRACE_ID}-{SPAN_ID}-01-what-is-to-come") == Trace(TRACE_ID, SPAN_ID, True)


def test_a_header_that_came_twice_is_none() -> None:
    """Nobody knows which of the two is the caller's."""
    once = f"00-{TRACE_ID}-{SPAN_ID}-01"
    assert Trace.of_caller([once]) is not None
    assert Trace.of_caller([once, once]) is None
    assert Trace.of_caller([]) is None


@given(st.text(alphabet=HEX, min_size=32, max_size=32), st.text(alphabet=HEX, min_size=16, max_size=16), st.booleans())
def test_what_is_written_is_read_again(trace_id: str, span_id: str, sampled: bool) -> None:
    """A stored context is the one that was stored."""
    trace = Trace(trace_id, span_id, sampled)
    valid = bool(trace_id.strip("0")) and bool(span_id.strip("0"))
    assert Trace.parse(str(trace)) == (trace if valid else None)
    assert len(str(trace)) == 55


def test_the_span_of_a_row_is_the_same_in_every_process() -> None:
    """Whoever takes a job up knows the parent of what it does."""
    root = Trace(TRACE_ID, SPAN_ID, True)
    assert root.at_row("job_1") == root.at_row("job_1")
    assert root.at_row("job_1") != root.at_row("job_2")
    assert root.at_row("job_1").trace_id == TRACE_ID
    assert len(span_id_of("job_1")) == 16
    assert len(trace_id_of("bus_1", 1)) == 32
    assert trace_id_of("bus_1", 1) != trace_id_of("bus_1", 2) != trace_id_of("bus_2", 1)


def test_the_recorded_share_is_about_as_large_as_was_asked() -> None:
    """All, none, and a tenth of many."""
    ids = [trace_id_of("a process", number) for number in range(4000)]
    assert all(is_in_share(trace_id, 1.0) for trace_id in ids)
    assert not any(is_in_share(trace_id, 0.0) for trace_id in ids)
    tenth = sum(is_in_share(trace_id, 0.1) for trace_id in ids)
    assert 320 < tenth < 480
