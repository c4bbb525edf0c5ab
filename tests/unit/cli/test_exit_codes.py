"""Exit codes: one table, complete, and the code that each HTTP status gives."""

from __future__ import annotations

import pytest

from gateway.cli.exit_codes import MEANINGS, ExitCode, code_of_status


def test_every_exit_code_has_a_meaning() -> None:
    """The table in the help leaves none out."""
    assert set(MEANINGS) == set(ExitCode)
    assert all(MEANINGS.values())


def test_the_numbers_are_a_promise_to_scripts() -> None:
    """These numbers are documented; changing one breaks somebody's script, and no two mean the same."""
    promised = {
        "OK": 0,
        "JOB_FAILED": 1,
        "USAGE": 2,
        "REFUSED": 3,
        "NO_BUDGET": 4,
        "UNREACHABLE": 5,
        "STILL_RUNNING": 6,
        "INTERRUPTED": 130,
    }
    given = {code.name: code.value for code in ExitCode}
    assert given | promised == given
    assert len(set(given.values())) == len(ExitCode.__members__)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, ExitCode.REFUSED),
        (401, ExitCode.REFUSED),
        (402, ExitCode.NO_BUDGET),
        (422, ExitCode.REFUSED),
        (429, ExitCode.REFUSED),
        (500, ExitCode.UNREACHABLE),
        (503, ExitCode.UNREACHABLE),
    ],
)
def test_a_status_has_the_exit_code_of_its_kind(status: int, code: ExitCode) -> None:
    """Refused, no budget, or a gateway that is out of order."""
    assert code_of_status(status) is code
