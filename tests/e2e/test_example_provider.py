"""The example provider: a package of its own that is installed, found and billed without a change to vidgate."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.time_limit import run_bounded

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "provider"
OURS = ("gateway", "policies", "providers", "helm", "bench")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, installed as a package into a folder of its own, without the network."""
    folder = tmp_path_factory.mktemp("example")
    source, target = folder / "source", folder / "target"
    shutil.copytree(EXAMPLE, source, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    command += ["--disable-pip-version-check", "--target", str(target), str(source)]
    installed = run_bounded(command, timeout_s=120, cwd=folder)
    assert installed.returncode == 0, installed.stderr
    return target


def run_with(target: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the installed example beside vidgate."""
    environment = {**os.environ, "PYTHONPATH": f"{target}{os.pathsep}{ROOT}"}
    return run_bounded([sys.executable, *arguments], timeout_s=120, cwd=target, env=environment)


def test_an_installed_package_is_found_through_its_entry_point(target: Path) -> None:
    """After the install the registry knows the provider; without it, it does not."""
    script = "from providers.registry import plugins; print('clipworks' in plugins())"
    assert run_with(target, "-c", script).stdout.strip() == "True"
    assert run_with(target.parent, "-c", script).stdout.strip() == "False"


def test_a_job_runs_through_the_example_and_is_billed(target: Path) -> None:
    """The example's own tests pass against this vidgate: found, fitted, run to a video, billed, every status typed."""
    options = ["-q", "-p", "no:cacheprovider", "-c", str(EXAMPLE / "pyproject.toml")]
    result = run_with(target, "-m", "pytest", *options, str(EXAMPLE / "tests"))
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout
    assert "skipped" not in result.stdout


def test_adding_the_example_touched_no_file_outside_its_folder() -> None:
    """No source, price, setting, chart or lock file of vidgate names the example."""
    files = [path for folder in OURS for path in (ROOT / folder).rglob("*") if path.is_file()]
    files += [ROOT / name for name in ("pyproject.toml", "requirements.lock", "Makefile")]
    readable = [path for path in files if path.suffix not in {".pyc", ".png", ".mp4"}]
    assert readable
    assert [str(path) for path in readable if b"clipworks" in path.read_bytes().lower()] == []
