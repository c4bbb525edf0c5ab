"""The live line: words for every stage, a bar that only grows, and plain lines where there is no terminal."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gateway.cli.progress import STAGES, UNFINISHED_MAX, describe, fraction, watch
from tests.unit.cli.jobs import attempt, job


class Time:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        """The time."""
        return self.at

    async def sleep(self, seconds: float) -> None:
        """Pass the time at once."""
        self.at += seconds


def running(stage: str, *, said: float | None = None, eta_s: float | None = None, submits: int = 1) -> dict[str, Any]:
    """A running job in this stage."""
    progress = {"stage": stage, "fraction": said, "eta_s": eta_s}
    return job("running", progress=progress, attempts=[attempt(state="accepted", submits=submits)])


async def looks(*jobs: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """These looks at a job, one after another."""
    for one in jobs:
        yield one


def test_a_stage_is_told_with_its_route_and_a_second_submit() -> None:
    """The route of the latest attempt, and which submit it is when it is not the first."""
    assert describe(running("rendering")) == "rendering on acme/svd"
    assert describe(running("submitting", submits=2)) == "submitting on acme/svd, submit 2"
    assert describe(job("queued", attempts=[], route=None)) == "queued"


def test_an_unknown_stage_is_told_as_it_is() -> None:
    """A newer gateway may have stages that this command line does not know."""
    assert describe(running("warming_up")) == "warming up on acme/svd"


def test_an_ended_job_is_told_by_its_status() -> None:
    """With its route, where one delivered."""
    assert describe(job()) == "succeeded on acme/svd"
    assert describe(job("failed", route=None)) == "failed"


def test_every_stage_of_the_engine_has_words() -> None:
    """The engine's stages and the words for them cannot drift apart."""
    from pathlib import Path

    import gateway.engine

    source = Path(str(gateway.engine.__file__)).read_text(encoding="utf-8")
    stages = set(re.findall(r'\.stage(?:, run\.\w+)? = "(\w+)"', source))
    assert len(stages) > 4
    assert stages <= set(STAGES)


def test_what_the_vendor_says_of_its_progress_counts() -> None:
    """And only then the time."""
    assert fraction(running("rendering", said=0.4, eta_s=100), 5) == 0.4
    assert fraction(running("rendering", eta_s=15), 5) == 0.25
    assert fraction(running("rendering"), 15) == 0.5  # the plan expects 30 s


@given(
    st.floats(0, 1e6),
    st.none() | st.floats(0, 1),
    st.none() | st.floats(-10, 1e6),
)
def test_the_bar_is_between_its_ends_until_the_job_has_ended(
    elapsed_s: float, said: float | None, eta_s: float | None
) -> None:
    """Never negative, never full before the gateway says so."""
    assert 0 <= fraction(running("rendering", said=said, eta_s=eta_s), elapsed_s) <= UNFINISHED_MAX
    assert fraction(job(), elapsed_s) == 1.0


@pytest.mark.anyio
async def test_without_a_terminal_each_new_stage_is_one_line() -> None:
    """A log file gets lines, not control characters, and none twice."""
    out = io.StringIO()
    steps = (running("submitting"), running("rendering"), running("rendering"), job())
    last = await watch(looks(*steps), Console(file=out, width=200), Time())
    assert last == job()
    assert out.getvalue().splitlines() == [
        "job_1: submitting on acme/svd",
        "job_1: rendering on acme/svd",
        "job_1: succeeded on acme/svd",
    ]


@pytest.mark.anyio
async def test_on_a_terminal_the_bar_ends_full() -> None:
    """The last picture of the bar is a whole one, with the status."""
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=True, color_system=None)
    assert await watch(looks(running("rendering"), job()), console, Time()) == job()
    assert "succeeded on acme/svd" in out.getvalue()
    assert "100 %" in out.getvalue()
