"""Writes docs/PROMISES.md from what a test run shows, when every listed test ran whole and passed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.promises import LISTED, PROMISES

PAGE = Path(__file__).parents[2] / "docs" / "PROMISES.md"
FIGURE = "figure"
# With it the matrix of kills is run whole, which takes too long to be the figure of every run.
UNUSUAL = "VIDGATE_MATRIX"


@dataclass(slots=True, eq=False)
class Recorder:
    """The part of a test run that the page tells: how many cases of each listed test passed, and their figures."""

    passed: dict[str, int] = field(default_factory=dict)
    figures: dict[str, set[str]] = field(default_factory=dict)
    spoiled: bool = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in one phase of one case."""
        test = listed(report.nodeid)
        if test is None:
            return
        if not report.passed:
            self.spoiled = True
        elif report.when == "call":
            self.passed[test] = self.passed.get(test, 0) + 1
            told = {str(value) for name, value in report.user_properties if name == FIGURE}
            self.figures.setdefault(test, set()).update(told)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the page when everything that it tells was seen, and only when it would change."""
        options = session.config.option
        is_part = hasattr(session.config, "workerinput") or options.keyword or options.markexpr
        if is_part or UNUSUAL in os.environ or self.spoiled or set(self.passed) != set(LISTED):
            return
        page = written(self.passed, self.figures)
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page:
            PAGE.write_text(page, encoding="utf-8")


def listed(nodeid: str) -> str | None:
    """The listed test that a case belongs to."""
    file, _, name = nodeid.partition("::")
    test = f"{file}::{name.partition('[')[0].partition('::')[0]}"
    return test if test in LISTED else None


def written(passed: dict[str, int], figures: dict[str, set[str]]) -> str:
    """The page."""
    lines = [
        "# Promises",
        "",
        "What a user of vidgate may rely on, the number that measures it, and the tests that would break it. This page",
        "is written by the test run (`make promises`, or the whole suite); the table behind it is",
        "[tests/promises.py](../tests/promises.py). Figures are those that every run measures; what varies from run to",
        "run is a limit that the test asserts. `make mutants` puts known faults into the money code, and the tests",
        "must catch each.",
    ]
    for promise in PROMISES:
        lines += ["", f"## {promise.number}. {promise.title}", "", promise.says, "", f"**Number.** {promise.limit}", ""]
        for test in promise.tests:
            file, _, name = test.partition("::")
            count = passed[test]
            told = "; ".join([f"{count} case{'s' * (count != 1)} passed", *sorted(figures.get(test, ()))])
            lines.append(f"- [{file}](../{file})::`{name}`: {told}")
        if promise.missing:
            lines += ["", f"**Not there yet.** {promise.missing}"]
    return "\n".join(lines) + "\n"
