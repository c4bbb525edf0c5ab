"""Load is shed by what takes memory, work before reads, and everything that was counted is given back."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.overload import Load, Overload
from gateway.problems import Problem, TemporaryReducedCapacity
from gateway.settings_edge import OverloadSection
from gateway.telemetry.metrics import Metrics

WORK, READ, HEALTH = "/generate/video", "/jobs/{job_id}", "/healthz"


def overload(**limits: float) -> Overload:
    section = OverloadSection.model_validate(limits)
    return Overload(lambda: section, Metrics())


def shed(of: Overload, path: str) -> str | None:
    """The limit for which a request to this path is refused now, None when it is not."""
    try:
        with of.admitted(path):
            return None
    except TemporaryReducedCapacity as problem:
        return str(problem.extensions["limit"])


def test_work_is_shed_before_reads_and_health_never() -> None:
    """Each kind has its own room; what waits for a job has gone over to the reads."""
    tight = overload(work_max=2, reads_max=3)
    with ExitStack() as stack:
        first = stack.enter_context(tight.admitted(WORK))
        stack.enter_context(tight.admitted(WORK))
        assert (shed(tight, WORK), shed(tight, READ)) == ("work", None)
        assert first is not None
        first.waits()
        assert (shed(tight, WORK), shed(tight, READ)) == (None, None)
        for _ in range(2):
            stack.enter_context(tight.admitted(READ))
        assert (shed(tight, READ), shed(tight, HEALTH), shed(tight, "/metrics")) == ("reads", None, None)
    assert tight.load == Load()


def test_streams_take_no_room_of_reads_nor_reads_of_streams() -> None:
    """Who listens for long is counted apart."""
    tight = overload(reads_max=1, streams_max=1)
    with tight.admitted("/jobs/{job_id}/events"):
        assert (shed(tight, "/jobs/{job_id}/content"), shed(tight, READ)) == ("streams", None)
    with tight.admitted(READ):
        assert (shed(tight, "/jobs/{job_id}/content"), shed(tight, READ)) == (None, "reads")
    assert tight.load == Load()


def test_bodies_are_counted_together_and_given_back() -> None:
    """The one that makes it too much is refused while it is read, and no other is begun until there is room."""
    tight = overload(body_bytes_max=2_000)
    with tight.admitted(WORK) as large:
        assert large is not None
        large.took(2_000)
        with tight.admitted(WORK) as second:
            assert second is not None
            with pytest.raises(TemporaryReducedCapacity):
                second.took(1)
            assert shed(tight, WORK) == "bodies"
        assert (shed(tight, WORK), shed(tight, READ)) == (None, None)
        large.waits()
        assert tight.load.body_bytes == 0
    assert tight.load == Load()


def test_one_pause_of_the_loop_is_no_load_and_two_are() -> None:
    """A machine that stood still once serves on; one that is late again and again does not take more work."""
    tight = overload(lag_s_max=0.5)
    tight.lagged(30.0)
    assert shed(tight, WORK) is None
    tight.lagged(0.6)
    assert (shed(tight, WORK), shed(tight, READ)) == ("lag", None)
    tight.lagged(0.1)
    assert shed(tight, WORK) is None


def test_only_so_many_pictures_are_opened_at_a_time() -> None:
    """One more is refused, and the place of one that failed is free again."""
    tight = overload(pictures_max=1)
    with tight.opening(), pytest.raises(TemporaryReducedCapacity), tight.opening():
        raise AssertionError("never come to")
    with pytest.raises(ZeroDivisionError), tight.opening():
        raise ZeroDivisionError
    with tight.opening():
        assert tight.load.pictures == 1


@given(st.lists(st.tuples(st.sampled_from([WORK, READ, HEALTH]), st.integers(0, 3_000), st.booleans()), max_size=30))
def test_whatever_requests_do_nothing_is_left_counted(requests: list[tuple[str, int, bool]]) -> None:
    """Refused, failed, waiting or answered: with the last request everything is as it was before the first."""
    tight = overload(work_max=5, reads_max=5, body_bytes_max=10_000)
    with ExitStack() as stack:
        for path, size_bytes, waits in requests:
            try:
                ticket = stack.enter_context(tight.admitted(path))
                if ticket is not None:
                    ticket.took(size_bytes)
                    if waits:
                        ticket.waits()
            except Problem:
                continue
    assert tight.load == Load()
