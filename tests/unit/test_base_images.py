"""What the images are built on: one build argument for each base, so that a build can give its digest."""

from __future__ import annotations

import re

import pytest

from tests.unit.tidy import ROOT

DOCKERFILES = sorted(path.name for path in ROOT.glob("Dockerfile*") if path.suffix != ".dockerignore")
TAGGED = re.compile(r"[a-z0-9./_-]+(:\d+/[a-z0-9./_-]+)?:[\w.-]*\d[\w.-]*(@sha256:[0-9a-f]{64})?")
ARGUMENT = re.compile(r"^ARG (\w+)=(\S+)$", re.MULTILINE)
FROM = re.compile(r"^FROM (?:--\S+ )?(\S+)(?: AS (\S+))?$", re.MULTILINE | re.IGNORECASE)
COPIED_FROM = re.compile(r"^(?:COPY|ADD) .*--from=(\S+)", re.MULTILINE)
MOUNTED_FROM = re.compile(r"--mount=\S*\bfrom=([^,\s]+)")
COPY_WORDS = "COPY --from=build /opt/vidgate /opt/vidgate"


def faults(text: str) -> list[str]:
    """What keeps a build from giving the digest of everything that an image is built on."""
    head = text.split("\nFROM ", 1)[0]
    arguments = dict(ARGUMENT.findall(head))
    found = [f"{name}: {image} is no version" for name, image in arguments.items() if not TAGGED.fullmatch(image)]
    stages: set[str] = set()
    for image, stage in FROM.findall(text):
        named = re.fullmatch(r"\$\{(\w+)\}", image)
        if image not in stages and (named is None or named[1] not in arguments):
            found.append(f"FROM {image} is no build argument")
        stages.add(stage)
    taken = [*COPIED_FROM.findall(text), *MOUNTED_FROM.findall(text)]
    found += [f"{image} is no stage" for image in taken if image not in stages]
    last = text.rsplit("\nFROM ", 1)[-1]
    for name in arguments:
        if f"\nARG {name}\n" not in last or f'org.opencontainers.image.base.name="${{{name}}}"' not in last:
            found.append(f"the image does not say what {name} was")
    return found


def read(name: str) -> str:
    """A Dockerfile without its comments."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("#"))


@pytest.mark.parametrize("name", DOCKERFILES)
def test_whatever_an_image_is_built_on_can_be_given_by_digest(name: str) -> None:
    """Each base is a build argument with a tagged default, and the image keeps what was given."""
    assert faults(read(name)) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("\nFROM ${PYTHON_IMAGE}\n", "\nFROM python:3.11-slim\n", "FROM python:3.11-slim is no build argument"),
        ("ARG PYTHON_IMAGE=python:3.11-slim-bookworm", "ARG PYTHON_IMAGE=python", "python is no version"),
        ("ARG PYTHON_IMAGE=python:3.11-slim-bookworm", "ARG PYTHON_IMAGE=python:latest", "python:latest is no version"),
        ("3.11-slim-bookworm", "3.11-slim-bookworm@sha256:12", "is no version"),
        ("--from=build", "--from=tools.internal/tool:1", "tools.internal/tool:1 is no stage"),
        (COPY_WORDS, "RUN --mount=type=bind,from=tool:1,target=/x true", "tool:1 is no stage"),
        ("\nARG PYTHON_IMAGE\n", "\n", "the image does not say what PYTHON_IMAGE was"),
    ],
)
def test_a_base_that_no_build_can_pin_would_be_seen(old: str, new: str, said: str) -> None:
    """A fixed base, a moving tag, half a digest, a file from somewhere else, an image that does not tell."""
    text = read("Dockerfile")
    assert old in text
    assert any(said in fault for fault in faults(text.replace(old, new)))


def test_a_whole_digest_is_a_version() -> None:
    """As it may be written down one day, of a registry with a port, too."""
    for image in ("python:3.11-slim@sha256:" + "a" * 64, "mirror.internal:5000/library/python:3.11-slim-bookworm"):
        assert faults(read("Dockerfile").replace("python:3.11-slim-bookworm", image)) == []


def test_all_images_are_built_on_the_same_python_and_the_page_tells_how_to_pin_it() -> None:
    """One default for both, and each argument with a whole command in docs/supply-chain.md."""
    given = [dict(ARGUMENT.findall(read(name))) for name in DOCKERFILES]
    assert len(given) == 2
    assert given[0] == given[1]
    page = (ROOT / "docs/supply-chain.md").read_text(encoding="utf-8")
    for name, image in given[0].items():
        assert page.count(f"docker build --build-arg {name}={image}@sha256:") == len(DOCKERFILES)
        assert page.count(f"imagetools inspect {image} ") == 1
