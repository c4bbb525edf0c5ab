"""The documentation does not drift: tables are generated, lists are compared, links lead somewhere."""

from __future__ import annotations

import ast
import os
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml

from providers import docs
from providers.capability import Capability, Route
from providers.contract import ProviderPlugin
from providers.registry import BUILTIN
from providers.vocabulary import BY_NAME, parameters_for
from tests.unit.tidy import ROOT, SOURCE_FOLDERS, files

DOCS = ROOT / "docs"
ARCHITECTURE = (DOCS / "ARCHITECTURE.md").read_text()
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PAGES = sorted([*DOCS.rglob("*.md"), *(ROOT / "examples").rglob("*.md"), *ROOT.glob("*.md")])


def declared() -> dict[str, list[str]]:
    """Every dependency of the project by the heading under which the page explains it."""
    extras = PROJECT["project"]["optional-dependencies"]
    groups = dict(PROJECT["dependency-groups"])
    lists = {
        "Core": PROJECT["project"]["dependencies"],
        "Extras": [line for lines in extras.values() for line in lines],
        "Development": groups.pop("dev"),
    } | {name.capitalize(): lines for name, lines in groups.items()}
    return {heading: sorted({re.split(r"[<>=!;\[ ]", line)[0] for line in lines}) for heading, lines in lists.items()}


def explained() -> dict[str, list[str]]:
    """Every dependency that the page explains, by heading."""
    found: dict[str, list[str]] = {}
    for section in re.split(r"^## ", (DOCS / "dependencies.md").read_text(), flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        found[heading] = re.findall(r"^- `([^`]+)`: \S.{9,}\.$", body, flags=re.MULTILINE)
    return found


def test_the_providers_page_is_the_tables() -> None:
    """`python -m providers.docs` would change nothing."""
    assert docs.PAGE == DOCS / "providers.md"
    assert docs.PAGE.read_text(encoding="utf-8") == docs.page(BUILTIN), "run: python -m providers.docs"


@pytest.mark.parametrize("route", [route for plugin in BUILTIN for route in plugin.catalogue], ids=lambda r: r.name)
def test_the_providers_page_tells_every_parameter_of_a_route(route: Route) -> None:
    """One row a parameter, in the order of the vocabulary, with the vendor's own name and every allowed word."""
    section = docs.route_section(route)
    assert section.startswith(f"### {route.name}\n")
    told = re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)
    assert told == [one.name for one in parameters_for(route.media) if route.capability(one.name) is not None]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*)$", section, flags=re.MULTILINE))
    for row in route.capabilities:
        words = [row.wire, *row.allowed, *row.spelling, *map(str, row.spelling.values())]
        assert all(f"`{word}`" in rows[row.parameter] for word in words if word is not None)
        assert ("must be written" in rows[row.parameter]) is row.required
        assert row.parameter in BY_NAME


def test_writing_the_providers_page_writes_just_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command writes the page to its place."""
    monkeypatch.setattr(docs, "PAGE", tmp_path / "page.md")
    docs.main()
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == docs.page(BUILTIN)


def test_every_dependency_has_its_reason() -> None:
    """The page and pyproject.toml name the same packages under the same headings, each once and in order."""
    assert explained() == declared()


def test_every_import_is_declared() -> None:
    """What the product imports is a declared dependency, not one that some other package happens to bring."""
    distributions = packages_distributions()
    ours = {*SOURCE_FOLDERS, *sys.stdlib_module_names}
    named = {_canonical(name) for names in declared().values() for name in names}
    undeclared = {
        f"{file.name} imports {module}"
        for file in files(*SOURCE_FOLDERS)
        for module, node in file.imports()
        if (top := module.split(".")[0]) not in ours and isinstance(node, ast.Import | ast.ImportFrom)
        # An extra that is not installed here is known by its module's own name.
        if not {_canonical(name) for name in distributions.get(top, [top])} & named
    }
    assert sorted(undeclared) == []


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def listed_files() -> Iterator[tuple[str, int | None]]:
    """The files and folders that the architecture page links in its tables, with the line count where one is told."""
    for path, rest in re.findall(r"^\|(?: \d+ \|)? \[[^\]]+\]\(\.\./([^)]+)\) \|([^\n]*)", ARCHITECTURE, re.MULTILINE):
        count = re.match(r" (\d+) \|", rest)
        yield path, int(count.group(1)) if count else None


def test_the_architecture_page_names_every_file_a_reader_meets() -> None:
    """Each module of the three packages is there once, and each of their folders; nothing is there that is gone."""
    listed = [path for path, _ in listed_files()]
    assert [path for path, times in Counter(listed).items() if times > 1] == []
    assert [path for path in listed if not (ROOT / path).exists()] == []
    expected = set()
    for package in SOURCE_FOLDERS:
        here = [path for path in (ROOT / package).iterdir() if not path.name.startswith(("__", "."))]
        expected |= {f"{package}/{path.name}" for path in here if path.suffix == ".py"}
        expected |= {f"{package}/{path.name}" for path in here if path.is_dir() and list(path.glob("*.py"))}
    assert sorted(expected - set(listed)) == []


def test_the_line_counts_of_the_main_path_are_honest() -> None:
    """The counts that the page tells are right within a fifth."""
    told = {path: count for path, count in listed_files() if count is not None}
    assert len(told) == 8
    real = {path: len((ROOT / path).read_text().splitlines()) for path in told}
    wrong = {path: (told[path], real[path]) for path in told if abs(told[path] - real[path]) > max(15, real[path] / 5)}
    assert wrong == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """Relative links of a page name files that exist."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = [target for target in targets if target and not re.match(r"[a-z]+:", target)]
    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("kind", [Capability, Route, ProviderPlugin], ids=lambda kind: kind.__name__)
def test_the_how_to_explains_every_field_of_a_provider(kind: type) -> None:
    """Whoever adds a provider finds each field of the tables and of the plugin explained."""
    page = (DOCS / "adding-a-provider.md").read_text()
    assert [field.name for field in fields(kind) if f"`{field.name}`" not in page] == []


def test_the_how_to_is_a_numbered_list_that_ends_with_a_running_provider() -> None:
    """Steps count up from one, and the last one runs the example, whose files it names."""
    page = (DOCS / "adding-a-provider.md").read_text()
    steps = [int(number) for number in re.findall(r"^(\d+)\. \*\*", page, flags=re.MULTILINE)]
    assert steps == list(range(1, len(steps) + 1))
    last = page[page.index(f"\n{steps[-1]}. ") :]
    assert "examples/provider" in last
    assert "vidgate config check" in last


def test_the_changelog_is_kept() -> None:
    """It has the usual form, and the version of the project is released in it or still to come."""
    text = (ROOT / "CHANGELOG.md").read_text()
    assert text.startswith("# Changelog\n")
    assert "keepachangelog.com" in text
    versions = re.findall(r"^## \[([^\]]+)\](?: - (\d{4}-\d{2}-\d{2}))?$", text, flags=re.MULTILINE)
    assert versions[0] == ("Unreleased", "")
    assert all(date for _, date in versions[1:])
    assert not versions[1:] or versions[1][0] == PROJECT["project"]["version"]
    headings = set(re.findall(r"^### (\w+)$", text, flags=re.MULTILINE))
    assert headings <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_continuous_integration_runs_what_everybody_runs() -> None:
    """`.ci/run` calls targets that `make help` lists, the suite first, and nothing else."""
    script = ROOT / ".ci" / "run"
    commands = [line for line in script.read_text().splitlines() if line and not line.startswith(("#", "set ", "cd "))]
    assert [command.split()[:3] for command in commands] == [["exec", "make", "test"]]
    listed = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(commands[0].split()[2:]) <= set(listed)
    assert os.access(script, os.X_OK)


def test_hooks_run_the_tools_of_the_project_alone() -> None:
    """A commit downloads nothing: every hook is local and starts in the project's environment."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    for hook in config["repos"][0]["hooks"]:
        assert hook["entry"].startswith(".venv/bin/")
        assert hook["language"] == "system"
