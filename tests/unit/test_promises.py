"""The promises have tests, the tests exist, and the page tells of them what a run has seen."""

from __future__ import annotations

import ast
import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from tests.promises import LISTED, PROMISES
from tests.support import promises_page
from tests.support.promises_page import PAGE, Recorder, listed, written
from tests.support.time_limit import run_bounded
from tests.unit.tidy import ROOT


def defined(test: str) -> bool:
    """Whether a test is in its file: a function, or a state machine's case."""
    file, _, name = test.partition("::")
    path = ROOT / file
    if not path.is_file():
        return False
    body = ast.parse(path.read_text(encoding="utf-8")).body
    functions = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    cases = {
        target.id
        for node in body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return name in functions | {case for case in cases if case.startswith("Test")}


def test_there_are_fifteen_promises_and_each_has_a_test() -> None:
    """Numbered without a gap, each with its number and at least one test that would break it."""
    assert [promise.number for promise in PROMISES] == list(range(1, 16))
    assert [promise.number for promise in PROMISES if not promise.tests or not promise.limit] == []


@pytest.mark.parametrize("test", LISTED)
def test_every_test_of_a_promise_exists(test: str) -> None:
    """A test that was renamed or removed takes a promise with it."""
    assert defined(test), f"{test} is gone: tests/promises.py names it"


def test_the_page_names_the_tests_of_the_table_and_no_others() -> None:
    """After a change of the table: make promises."""
    text = PAGE.read_text(encoding="utf-8")
    named = [f"{file}::{name}" for file, name in re.findall(r"^- \[([^\]]+)\]\([^)]+\)::`(\w+)`", text, re.MULTILINE)]
    assert named == [test for promise in PROMISES for test in promise.tests], "run: make promises"
    assert all(f"## {one.number}. {one.title}\n" in text for one in PROMISES)
    assert all(one.missing in text for one in PROMISES)


def test_the_command_names_every_test_for_make() -> None:
    """`make promises` runs just what the page tells of."""
    printed = run_bounded([sys.executable, "-m", "tests.promises"], timeout_s=60, cwd=ROOT)
    assert printed.stdout.split() == list(LISTED)


def report(test: str, *, outcome: str = "passed", when: str = "call", figure: str | None = None) -> Any:
    told = [("figure", figure)] if figure else []
    return SimpleNamespace(nodeid=test, passed=outcome == "passed", when=when, user_properties=told)


def session(**options: Any) -> Any:
    usual = {"keyword": "", "markexpr": ""} | options
    return SimpleNamespace(config=SimpleNamespace(option=SimpleNamespace(**usual)))


def recorder(**changes: Any) -> Recorder:
    """A run in which every listed test passed; `skipped` names one that did not run."""
    seen = Recorder()
    for test in LISTED:
        outcome = "skipped" if test == changes.get("skipped") else "passed"
        seen.pytest_runtest_logreport(report(test, when="setup", outcome=outcome))
        if outcome == "passed":
            seen.pytest_runtest_logreport(report(f"{test}[a-b]", figure="7 of 7"))
    return seen


def test_a_whole_run_writes_the_page_and_the_same_figures_do_not_touch_it(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page changes when a figure does; else its file is left as it is."""
    page = tmp_path / "page.md"
    monkeypatch.setattr(promises_page, "PAGE", page)
    recorder().pytest_sessionfinish(session())
    assert page.read_text(encoding="utf-8").count("1 case passed; 7 of 7") == sum(len(one.tests) for one in PROMISES)
    before = page.stat().st_mtime_ns
    recorder().pytest_sessionfinish(session())
    assert page.stat().st_mtime_ns == before


@pytest.mark.parametrize("part", ["a skipped test", "a failed test", "a missing test", "-k", "a worker"])
def test_a_run_of_a_part_writes_nothing(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """Only a run that saw everything may say so."""
    page = tmp_path / "page.md"
    monkeypatch.setattr(promises_page, "PAGE", page)
    seen, ended = recorder(skipped=LISTED[3] if part == "a skipped test" else None), session()
    if part == "a failed test":
        seen.pytest_runtest_logreport(report(LISTED[0], outcome="failed"))
    if part == "a missing test":
        del seen.passed[LISTED[-1]]
    if part == "-k":
        ended = session(keyword="doubt")
    if part == "a worker":
        ended.config.workerinput = {}
    seen.pytest_sessionfinish(ended)
    assert not page.exists()


def test_a_case_belongs_to_its_test() -> None:
    """Parameters and the inner names of state machines are cut off; a test that is not listed is nobody's."""
    assert listed("tests/stateful/test_ledger_machine.py::TestLedger::runTest") == LISTED[0]
    assert listed("tests/unit/test_tidy.py::test_the_files_are_found") is None


def test_the_page_says_what_is_missing() -> None:
    """What is promised and not shown yet is said, not left out."""
    page = written(dict.fromkeys(LISTED, 1), {})
    assert page.count("**Not there yet.**") == sum(bool(one.missing) for one in PROMISES)
