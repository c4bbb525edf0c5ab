"""How the command line tells what its client of the gateway raises: the words, what mends it, and the exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.cli.client import looks, save, told
from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.client import AsyncVidgate, JobStillRunningError, RefusedError, UnreachableError
from gateway.client.errors import refusal
from gateway.client.resources import job_of
from tests.unit.cli.jobs import job

pytestmark = pytest.mark.anyio


def telling(error: Exception) -> CommandError:
    """The command error of a client's."""
    with pytest.raises(CommandError) as caught, told("http://gate"):
        raise error
    return caught.value


def refused(status: int, problem: Any) -> RefusedError:
    return refusal(httpx.Response(status, json=problem))


@pytest.mark.parametrize(
    ("status", "code"), [(401, ExitCode.REFUSED), (402, ExitCode.NO_BUDGET), (422, ExitCode.REFUSED), (503, 5)]
)
def test_a_problem_is_told_in_its_own_words(status: int, code: ExitCode) -> None:
    """Title, detail and hint of the problem document, and the exit code of its kind."""
    error = telling(refused(status, {"title": "The title", "detail": "the detail", "hint": "the hint"}))
    assert (error.what, error.code) == ("The title: the detail", code)
    assert ("VIDGATE_KEY" if status == 401 else "the hint") in error.mend


def test_a_refusal_lists_the_reasons_of_every_route() -> None:
    """No route eligible is only useful with why."""
    problem = {"title": "No route", "refused": [{"route": "a/b", "reasons": ["one", "two"]}]}
    assert telling(refused(422, problem)).what.splitlines() == ["No route", "  a/b: one; two"]


def test_a_gateway_that_does_not_answer_is_told_with_its_address() -> None:
    """And with how to start one."""
    error = telling(UnreachableError("refused"))
    assert (error.what, error.code) == ("no gateway answers at http://gate: refused", ExitCode.UNREACHABLE)
    assert "vidgate dev" in error.mend


def test_a_gateway_that_went_away_is_told_with_how_to_take_the_job_up_again() -> None:
    """The render goes on, and is paid for."""
    error = telling(JobStillRunningError(job_of(job("running")), "its gateway is away"))
    assert (error.code, error.mend) == (ExitCode.STILL_RUNNING, "vidgate wait job_1")


async def test_a_followed_job_is_shown_as_the_gateway_wrote_it() -> None:
    """Whole, so that a newer gateway's fields are printed too."""
    ended = job_of(job() | {"novel": 1})
    async with AsyncVidgate() as client:
        assert [look async for look in looks(client, ended, 0)] == [job() | {"novel": 1}]


async def test_a_result_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """A file where a folder should be is the caller's to mend."""
    (tmp_path / "file").write_bytes(b"")
    async with AsyncVidgate() as client:
        with pytest.raises(CommandError, match="cannot be written") as caught:
            await save(client, "job_1", tmp_path / "file" / "out.mp4")
    assert caught.value.code is ExitCode.USAGE
