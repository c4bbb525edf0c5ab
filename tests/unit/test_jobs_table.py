"""The life of jobs and attempts, as the one table of legal moves says it."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.jobs import (
    ACTIVE,
    ATTEMPT_MOVES,
    JOB_MOVES,
    TERMINAL,
    AttemptState,
    IllegalMoveError,
    JobStatus,
    move_attempt,
    move_job,
)

S = TypeVar("S")
# DESIGN section 3, written out a second time.
LEGAL_JOB_MOVES = """
queued running
queued failed
queued canceled
queued expired
running succeeded
running failed
running canceled
running expired
"""
LEGAL_ATTEMPT_MOVES = """
prepared accepted
prepared in_doubt
prepared succeeded
prepared failed
accepted in_doubt
accepted succeeded
accepted failed
in_doubt prepared
in_doubt accepted
in_doubt succeeded
in_doubt failed
"""


def pairs(text: str) -> set[tuple[str, str]]:
    """The moves of a list, one a line."""
    return {(line.split()[0], line.split()[1]) for line in text.strip().splitlines()}


def reachable(moves: Mapping[S, Set[S]], start: S) -> set[S]:
    """Every state that some way of moves leads to."""
    seen, todo = {start}, [start]
    while todo:
        for state in moves[todo.pop()] - seen:
            seen.add(state)
            todo.append(state)
    return seen


def test_just_the_documented_moves_of_a_job_are_legal() -> None:
    """No move more, no move less than the design says."""
    assert {(old.value, new.value) for old, to in JOB_MOVES.items() for new in to} == pairs(LEGAL_JOB_MOVES)


def test_just_the_documented_moves_of_an_attempt_are_legal() -> None:
    """No move more, no move less than the design says."""
    assert {(old.value, new.value) for old, to in ATTEMPT_MOVES.items() for new in to} == pairs(LEGAL_ATTEMPT_MOVES)


@given(st.sampled_from(JobStatus), st.sampled_from(JobStatus))
def test_a_job_moves_by_the_table_or_not_at_all(old: JobStatus, new: JobStatus) -> None:
    """A legal move gives the new status, any other raises naming both."""
    if (old.value, new.value) in pairs(LEGAL_JOB_MOVES):
        assert move_job(old, new) is new
        return
    with pytest.raises(IllegalMoveError, match=f"from {old} to {new}"):
        move_job(old, new)


@given(st.sampled_from(AttemptState), st.sampled_from(AttemptState))
def test_an_attempt_moves_by_the_table_or_not_at_all(old: AttemptState, new: AttemptState) -> None:
    """A legal move gives the new state, any other raises naming both."""
    if (old.value, new.value) in pairs(LEGAL_ATTEMPT_MOVES):
        assert move_attempt(old, new) is new
        return
    with pytest.raises(IllegalMoveError, match=f"from {old} to {new}"):
        move_attempt(old, new)


def test_every_state_has_its_row() -> None:
    """A new state must be given its moves before anything can use it."""
    assert set(JOB_MOVES) == set(JobStatus)
    assert set(ATTEMPT_MOVES) == set(AttemptState)


def test_the_end_is_the_end() -> None:
    """From a terminal status nothing leads on, and from every other one something does."""
    assert {status for status, to in JOB_MOVES.items() if not to} == TERMINAL
    assert TERMINAL.isdisjoint(ACTIVE)
    assert set(JobStatus) == TERMINAL | ACTIVE
    assert {state for state, to in ATTEMPT_MOVES.items() if not to} == {AttemptState.SUCCEEDED, AttemptState.FAILED}


def test_every_state_can_be_reached_and_left() -> None:
    """No state is an island: all follow from the first, and all lead to an end."""
    assert reachable(JOB_MOVES, JobStatus.QUEUED) == set(JobStatus)
    assert reachable(ATTEMPT_MOVES, AttemptState.PREPARED) == set(AttemptState)
    assert all(reachable(JOB_MOVES, status) & TERMINAL for status in ACTIVE)
    ends = {AttemptState.SUCCEEDED, AttemptState.FAILED}
    assert all(reachable(ATTEMPT_MOVES, state) & ends for state in AttemptState)


def test_a_job_succeeds_only_after_it_ran() -> None:
    """Success is reached through running and in no other way."""
    assert [old for old, to in JOB_MOVES.items() if JobStatus.SUCCEEDED in to] == [JobStatus.RUNNING]
