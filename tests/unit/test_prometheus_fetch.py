"""How the tests come by a Prometheus: bounded, once, and with a reason where it cannot be had."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support import prometheus
from tests.support.prometheus import FetchError, bounded


@pytest.fixture
def no_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a package manager; the folder of its programs."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


def test_what_cannot_be_fetched_says_why_and_is_not_tried_again(tmp_path: Path, no_programs: Path) -> None:
    """The next who asks is told the same at once, though it might work by now: other tests wait."""
    with pytest.raises(FetchError, match=r"apt-get update: .*No such file"):
        prometheus._fetched(tmp_path / "kept")
    program = no_programs / "apt-get"
    program.write_text('#!/bin/sh\ntouch "$0.was-run"\n', encoding="utf-8")
    program.chmod(0o755)
    with pytest.raises(FetchError, match=r"apt-get update: .*No such file"):
        prometheus._fetched(tmp_path / "kept")
    assert not (no_programs / "apt-get.was-run").exists()
    assert list((tmp_path / "kept").glob("fetch-*")) == []


def test_a_package_manager_that_brings_nothing_is_no_prometheus(tmp_path: Path, no_programs: Path) -> None:
    """It says that all went well, and there is no file."""
    program = no_programs / "apt-get"
    program.write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
    program.chmod(0o755)
    with pytest.raises(FetchError, match="brought no package"):
        prometheus._fetched(tmp_path / "kept")


def test_programs_that_others_could_have_put_there_are_not_run(tmp_path: Path) -> None:
    """The folder lies where everybody may write: one that is open to others is refused."""
    kept = tmp_path / "kept"
    kept.mkdir()
    kept.chmod(0o777)
    with pytest.raises(FetchError, match="not this user's alone"):
        prometheus._fetched(kept)


def test_the_server_and_its_tool_are_taken_from_the_path(no_programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they are installed nothing is fetched."""
    for name in ("prometheus", "promtool"):
        (no_programs / name).touch(mode=0o755)
    prometheus._found.cache_clear()
    monkeypatch.setattr(prometheus, "_fetched", lambda _: pytest.fail("it was fetched"))
    assert prometheus.programs() == prometheus.Programs(str(no_programs / "prometheus"), str(no_programs / "promtool"))
    prometheus._found.cache_clear()


def test_a_test_that_needs_it_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not passed."""
    monkeypatch.setattr(prometheus, "_found", lambda: "apt-get update: no network")
    with pytest.raises(pytest.skip.Exception, match="no Prometheus here: apt-get update: no network"):
        prometheus.programs()


def test_a_command_past_its_time_ends_with_all_that_it_started(tmp_path: Path) -> None:
    """A grandchild that keeps the output open keeps nobody waiting."""
    began = time.monotonic()
    done = bounded(["/bin/sh", "-c", "sleep 60 & echo begun; wait"], tmp_path, 0.5)
    assert done.status != 0
    assert done.said.startswith("begun")
    assert "not done within 0.5 s" in done.said
    assert time.monotonic() - began < 30
