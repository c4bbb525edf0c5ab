"""Waiting for a local slot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.local_queue import WaitingRoom, call_place, slot_place, slot_wait_s

counts = st.integers(0, 8)


def test_a_free_slot_is_free_now() -> None:
    """Two slots and one render: no wait; both taken: until the older one is done."""
    assert slot_wait_s(2, [10.0], 0, 45.0) == 0.0
    assert slot_wait_s(2, [10.0, 30.0], 0, 45.0) == pytest.approx(15.0)
    assert slot_wait_s(2, [10.0, 30.0], 1, 45.0) == pytest.approx(35.0)


def test_no_slot_means_no_start() -> None:
    """A worker that is switched off is not waited for."""
    assert slot_wait_s(0, [], 0, 45.0) > 3600.0


@given(st.integers(1, 6), st.lists(st.floats(0.0, 100.0), max_size=6), counts)
def test_more_in_front_never_means_a_shorter_wait(slots: int, ages_s: list[float], ahead: int) -> None:
    """The wait grows with the queue."""
    running = ages_s[:slots]
    assert 0.0 <= slot_wait_s(slots, running, ahead, 45.0) <= slot_wait_s(slots, running, ahead + 1, 45.0)


def test_the_most_urgent_goes_first_and_a_big_gain_gives_a_head_start() -> None:
    """Places are ordered by the latest time that waiting is free, less the head start."""
    room = WaitingRoom(12.0)
    room.enter("soon", slot_place(100.0, 0.0), 0.0)
    room.enter("late", slot_place(500.0, 0.0), 0.0)
    assert room.ahead("new", slot_place(300.0, 0.0), 1.0) == 1
    assert room.ahead("new", slot_place(300.0, 250.0), 1.0) == 0
    assert room.ahead("late", slot_place(500.0, 0.0), 1.0) == 1


def test_scarce_calls_go_to_the_job_that_gains_most() -> None:
    """A greater benefit is a better place."""
    room = WaitingRoom(12.0)
    room.enter("small", call_place(1_000.0), 0.0)
    assert room.ahead("big", call_place(90_000.0), 0.0) == 0
    assert room.ahead("tiny", call_place(10.0), 0.0) == 1


def test_a_job_that_does_not_ask_again_has_left() -> None:
    """Nobody waits behind a job that was cancelled."""
    room = WaitingRoom(12.0)
    room.enter("gone", slot_place(100.0, 0.0), 0.0)
    assert room.ahead("new", slot_place(300.0, 0.0), 12.5) == 0
    assert len(room) == 0
