"""The typed surface that providers are written against: complete, checked, and shipped with its types."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from mypy import api

from providers import capability, contract

HERE = Path(__file__).parent
ROOT = Path(__file__).parents[2]
SURFACE = HERE / "typing_surface.py"
BROKEN = """
from providers.contract import Provider, ProviderPlugin, ProviderSettings

class OneVerb:
    name = "acme"
    routes = ()

provider: Provider = OneVerb()
plugin = ProviderPlugin(name="acme", settings=ProviderSettings, catalogue=(), build=lambda: None)
"""


def check(path: Path, cache: Path) -> tuple[str, int]:
    """What mypy says of a file under the project's own rules, and its exit status."""
    told, trouble, status = api.run(
        ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(cache), str(path)]
    )
    assert not trouble
    return told, status


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the two checks share."""
    return tmp_path_factory.mktemp("mypy")


def test_what_an_author_relies_on_type_checks(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pinned uses of the contract are right in strict mode; a change that breaks them breaks others' providers."""
    monkeypatch.chdir(ROOT)
    told, status = check(SURFACE, cache)
    assert status == 0, told


def test_a_class_that_is_no_provider_is_caught(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The contract says no: a missing verb and a builder of the wrong shape are type errors."""
    monkeypatch.chdir(ROOT)
    broken = tmp_path / "broken.py"
    broken.write_text(BROKEN)
    told, status = check(broken, cache)
    assert status == 1
    assert '"OneVerb" is missing following "Provider" protocol members' in told
    assert 'Argument "build" to "ProviderPlugin"' in told


def test_every_name_of_the_contract_is_pinned() -> None:
    """Nothing public in the contract or the capability tables is left out of the surface."""
    used = {node.id for node in ast.walk(ast.parse(SURFACE.read_text())) if isinstance(node, ast.Name)}
    for module in (contract, capability):
        defined = ast.parse(Path(module.__file__ or "").read_text()).body
        names = {node.name for node in defined if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        assert {name for name in names if not name.startswith("_")} - used == set()


@pytest.mark.parametrize("package", ["gateway", "policies", "providers"])
def test_the_packages_ship_their_types(package: str) -> None:
    """Type checkers of others believe the annotations."""
    assert (ROOT / package / "py.typed").is_file()
