"""A job's story from its rows: the same order and ids whoever tells it, and only ever longer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.shown import rfc3339
from gateway.api.story import BEFORE_ALL, END, Line, place_of, progress_of, story
from gateway.audience import Audience
from gateway.jobs import AttemptState, JobStatus
from gateway.store.jobs import Attempt, Job

NOW = 1_800_000_000.0
JOB = Job(
    id="job_1",
    team_id="team",
    key_id="key",
    media="video",
    status=JobStatus.RUNNING,
    created_at=NOW,
    deadline_at=NOW + 900,
    give_up_at=NOW + 1200,
    hold_id="hold",
    held_micros=5,
    request={"written": {}, "fit": "exact", "routing": {}, "metadata": {}},
    input={},
    due_at=NOW,
    plan={"decided_at": NOW, "ranked": []},
)


def attempt(number: int = 1, *events: str, **changes: Any) -> Attempt:
    told = [{"at": NOW + index, "what": what, "detail": f"{what} it"} for index, what in enumerate(events)]
    tried = Attempt(f"att_{number}", "job_1", number, "a/b", "a", "14", AttemptState.PREPARED, NOW, {}, 5, events=told)
    return replace(tried, **changes)


def names(lines: list[Line]) -> list[tuple[str, str]]:
    return [(line.id, line.name) for line in lines]


def test_a_story_is_told_in_order_with_an_id_for_every_line() -> None:
    """Creation, each attempt's lines, the end."""
    tries = [
        attempt(1, "submit", "retry", "submit", "in_doubt", "failed"),
        attempt(2, "submit", "accepted", "delivered", state=AttemptState.SUCCEEDED, finished_at=NOW),
    ]
    ended = replace(JOB, status=JobStatus.SUCCEEDED, finished_at=NOW + 9, route="a/b", bill={"status": "captured"})
    lines = list(story(ended, tries, Audience.TEAM))
    assert names(lines) == [
        ("0.0", "created"),
        ("1.0", "started"),
        ("1.1", "retry"),
        ("1.2", "submit"),
        ("1.3", "in_doubt"),
        ("1.4", "failed"),
        ("2.0", "started"),
        ("2.1", "accepted"),
        ("2.2", "delivered"),
        ("end", "ended"),
    ]
    assert lines[7].data == {
        "job": "job_1",
        "attempt": 2,
        "route": "a/b",
        "at": "2027-01-15T08:00:01.000+00:00",
        "detail": "accepted it",
    }
    assert lines[-1].data["status"] == "succeeded"
    assert lines[-1].data["bill"] == {"status": "captured"}
    assert lines[-1].data["links"]["content"] == "/jobs/job_1/content"


@given(st.lists(st.lists(st.sampled_from(["submit", "retry", "in_doubt"]), min_size=1, max_size=4), max_size=4))
def test_a_story_only_grows_and_an_id_resumes_it_anywhere(attempts: list[list[str]]) -> None:
    """Whatever was read before, what comes after its last id is the rest: nothing twice, nothing left out."""
    tries = [attempt(number, *events) for number, events in enumerate(attempts, 1)]
    whole = list(story(replace(JOB, status=JobStatus.FAILED, finished_at=NOW), tries, Audience.TEAM))
    assert [line.place for line in whole] == sorted({line.place for line in whole})
    for read in range(len(whole)):
        after = place_of(whole[read].id)
        assert [line for line in whole if line.place > after] == whole[read + 1 :]
    for told in range(len(tries)):
        part = list(story(JOB, tries[:told], Audience.TEAM))
        assert names(part) == names(whole)[: len(part)]


@pytest.mark.parametrize("event_id", [None, "", "x", "1", "1.", "-1.0", "1.2.3", "１.２", "9" * 40 + ".0", "END"])
def test_an_id_that_is_none_of_ours_begins_at_the_beginning(event_id: str | None) -> None:
    """Nobody misses anything for a strange header."""
    assert place_of(event_id) == BEFORE_ALL


def test_the_end_has_an_id_too() -> None:
    """Who has read the end is told nothing more."""
    assert place_of("end") == END


@pytest.mark.parametrize(
    ("status", "tries", "stage", "eta_s"),
    [
        (JobStatus.QUEUED, [], "queued", None),
        (JobStatus.RUNNING, [], "routing", None),
        (JobStatus.RUNNING, [attempt(sent_at=NOW)], "submitting", None),
        (JobStatus.RUNNING, [attempt(sent_at=None)], "retrying", None),
        (JobStatus.RUNNING, [attempt(state=AttemptState.IN_DOUBT, sent_at=NOW, eta_s=9.0)], "in_doubt", None),
        (JobStatus.RUNNING, [attempt(state=AttemptState.ACCEPTED, accepted_at=NOW)], "rendering", None),
        (JobStatus.RUNNING, [attempt(state=AttemptState.ACCEPTED, accepted_at=NOW, eta_s=30.0)], "rendering", 20.0),
        (JobStatus.RUNNING, [attempt(state=AttemptState.ACCEPTED, accepted_at=NOW, eta_s=3.0)], "rendering", 0.0),
        (JobStatus.RUNNING, [attempt(state=AttemptState.FAILED, finished_at=NOW)], "routing", None),
        (JobStatus.EXPIRED, [attempt(state=AttemptState.FAILED, finished_at=NOW)], "expired", None),
    ],
)
def test_rows_tell_how_a_job_stands(status: JobStatus, tries: list[Attempt], stage: str, eta_s: float | None) -> None:
    """What a replica shows of a job that another one drives."""
    shown = progress_of(replace(JOB, status=status), tries, NOW + 10.0)
    assert {name: shown[name] for name in ("stage", "fraction", "eta_s")} == {
        "stage": stage,
        "fraction": None,
        "eta_s": eta_s,
    }
    assert ("reason" in shown, "until" in shown) == (stage == "retrying", stage == "retrying")


def test_rows_tell_why_a_job_waits_between_two_submits() -> None:
    """The last line of the attempt's story says it, and when it goes on."""
    event = {"at": NOW, "what": "retry", "detail": "HTTP 429; rate_limited; again in 30.4 s", "again_at": NOW + 30.4}
    waits = attempt(sent_at=None, events=[event])
    shown = progress_of(replace(JOB, status=JobStatus.RUNNING), [waits], NOW + 10.0)
    assert shown["reason"] == f"{waits.route}: HTTP 429; rate_limited; again in 30.4 s"
    assert shown["until"] == rfc3339(NOW + 30.4)
