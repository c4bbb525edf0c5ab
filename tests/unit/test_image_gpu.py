"""The image of the GPU worker as far as it can be held against the project without an engine that builds it."""

from __future__ import annotations

import re
import tomllib

import typer.main

from gateway.cli.main import COMMANDS, program
from tests.chart.chart import value_set
from tests.unit.test_image import pins
from tests.unit.tidy import ROOT

DOCKERFILE = (ROOT / "Dockerfile.gpu").read_text(encoding="utf-8")
LOCKS = ("requirements.gpu.lock", "requirements.cuda.lock")


def instructions() -> list[str]:
    """The instructions of the Dockerfile, continued lines joined, comments left out."""
    text = re.sub(r"\\\n", " ", "\n".join(line for line in DOCKERFILE.splitlines() if not line.startswith("#")))
    return [line for line in text.splitlines() if line.strip()]


def test_everything_that_is_installed_has_a_hash() -> None:
    """PyTorch too: its build for CUDA has a lock of its own."""
    commands = [one for line in instructions() for one in re.findall(r"pip install[^&|]*", line)]
    assert len(commands) == 3
    assert all("--require-hashes" in one or "--no-index" in one for one in commands)
    assert all(f"-r {lock}" in commands[0] for lock in LOCKS)


def test_no_package_is_in_both_locks_and_none_is_missing() -> None:
    """They are installed together without resolving, so together they are all that extras and PyTorch need."""
    worker, cuda = (pins(lock) for lock in LOCKS)
    assert worker.keys() & cuda.keys() == set()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*extras["dependencies"], *extras["optional-dependencies"]["local-gpu"]]
    wanted += extras["optional-dependencies"]["ray"]
    named = {re.split(r"[<>=!;\[ ]", line)[0] for line in wanted}
    assert named - worker.keys() - cuda.keys() == set()


def test_pytorch_is_the_version_that_is_tested() -> None:
    """The build differs, the version does not."""
    tested = pins("requirements.torch.txt")
    assert tested.items() <= pins("requirements.cuda.lock").items()


def test_the_worker_shares_its_versions_with_the_gateway() -> None:
    """What both images have is the same in both."""
    gateway, worker = pins("requirements.runtime.lock"), pins("requirements.gpu.lock")
    differing = {name for name in gateway.keys() & worker.keys() if gateway[name] != worker[name]}
    assert differing == set()


def test_every_file_that_is_copied_is_let_into_the_build() -> None:
    """And nothing else is."""
    ignore = (ROOT / "Dockerfile.gpu.dockerignore").read_text().splitlines()
    copied = {
        name
        for line in instructions()
        if line.startswith("COPY ") and "--from" not in line
        for name in line.split()[1:-1]
    }
    assert copied == {line[1:] for line in ignore if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_runs_as_nobody_and_ends_on_sigterm() -> None:
    """The user is the chart's, the entry is the command, and its usual words are ones that it takes."""
    users = [line.split()[1] for line in instructions() if line.startswith("USER ")]
    assert users[-1] == "10001:10001"
    assert 'ENTRYPOINT ["vidgate"]' in DOCKERFILE
    assert "STOPSIGNAL SIGTERM" in DOCKERFILE
    assert "8000/healthz" in DOCKERFILE
    assert "gpu-worker" in typer.main.get_command(program(COMMANDS)).commands  # type: ignore[attr-defined]
    assert "-t vidgate-gpu" in DOCKERFILE
    assert value_set("gpu")["gpuWorker"]["image"]["repository"].endswith("vidgate-gpu")


def test_no_test_tool_stays_in_the_image() -> None:
    """The worker's lock is the tests' as well; what only they need is taken out again."""
    (line,) = [line for line in instructions() if "pip uninstall" in line]
    gone = set(line.split("uninstall -y")[1].split("&&")[0].split())
    assert {name for name in pins("requirements.gpu.lock") if "pytest" in name} <= gone
