"""The table of steps is whole: every transaction and every call of the product is in it, and has a case."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator

import pytest

from gateway import failpoints
from gateway.media.artifacts import Artifacts
from gateway.outbound import Outbound
from providers import contract
from tests.crash.cases import CASES, ENDS
from tests.unit.tidy import File, dotted, files

# They pass on what they are given.
SHELLS = ("gateway/failpoints.py", "gateway/telemetry/metered_store.py")
# What reads or lists, and what ends with the process: nothing is lost with a death in it.
NO_STEPS = {"stream", "size", "close", "load"}


def transactions(file: File) -> Iterator[str]:
    """The transactions that a file hands to a store, by module and function."""
    modules = {}
    for name, _ in file.imports():
        modules[name.rpartition(".")[2]] = name
    for line in file.lines:
        if " as " in line and line.startswith("from "):
            source, _, alias = line.removeprefix("from ").partition(" import ")
            for part in alias.split(", "):
                name, _, other = part.partition(" as ")
                modules[other or name] = f"{source}.{name}"
    for called, call in file.calls():
        given = call.args[0] if called.endswith("store.write") and call.args else None
        for fn in filter(None, chosen(file, given) if isinstance(given, ast.Name) else [given]):
            owner, _, function = dotted(fn).rpartition(".")
            own = file.name.removesuffix(".py").rpartition("/")[2]
            module = modules[owner] if owner else modules.get(function, f"{own}.{function}").rpartition(".")[0]
            yield f"{module.rpartition('.')[2]}.{function}"


def chosen(file: File, name: ast.Name) -> list[ast.expr]:
    """The functions that a local name stands for where one of two is chosen; else the name itself."""
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Assign) and dotted(node.targets[0]) == name.id and isinstance(node.value, ast.IfExp):
            return [node.value.body, node.value.orelse]
    return [name]


def test_every_transaction_of_the_service_is_a_step() -> None:
    """Whoever adds a transaction adds it to the table; the commands of the command line are processes of their own."""
    serving = [file for file in files("gateway") if not file.is_under("gateway/cli", *SHELLS)]
    found = {name for file in serving for name in transactions(file)}
    assert found == {*failpoints.TRANSACTIONS, *failpoints.ADMINISTRATION}


def test_every_call_to_a_vendor_is_a_step() -> None:
    """The verbs of the contract and of every ability."""
    abled = [contract.HasBalance, contract.HasCancel, contract.HasLoad, contract.HasLookup, contract.HasUpload]
    protocols = [contract.Provider, *abled]
    abilities = {one for name, one in vars(contract).items() if name.startswith("Has")}
    assert abilities == set(protocols[1:])
    calls = {name for one in protocols for name, part in vars(one).items() if inspect.iscoroutinefunction(part)}
    assert calls - NO_STEPS == set(failpoints.CALLS["vendor"])


@pytest.mark.parametrize(("kind", "part"), [("outbound", Outbound), ("artifacts", Artifacts)])
def test_every_call_to_the_outside_is_a_step(kind: failpoints.Part, part: type) -> None:
    """Fetching, posting and storing."""
    public = {name for name, one in vars(part).items() if inspect.isfunction(one) and not name.startswith("_")}
    assert public - NO_STEPS == set(failpoints.CALLS[kind])


def test_every_step_has_a_case() -> None:
    """A transaction or a call that nobody was killed at is a step that nobody knows about.

    The acts of administrators have none: tests/api/test_admin.py shows that act and entry are one transaction.
    """
    assert {case.action for case in CASES} == set(failpoints.ACTIONS)
    assert {case.kind for case in CASES} == set(ENDS)
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))


class Part:
    """A part with one of the calls, and something else."""

    size = 3

    async def fetch(self, url: str) -> str:
        return url.upper()


def test_without_a_watcher_a_part_is_itself() -> None:
    """In production there is no shell around anything."""
    part = Part()
    assert failpoints.watched(part, "outbound") is part


@pytest.mark.anyio
async def test_a_watched_part_tells_of_every_step_and_is_else_as_it_was() -> None:
    """Before and after a call; what it has not it does not get."""
    steps: list[str] = []
    failpoints.watch(steps.append)
    try:
        shell = failpoints.watched(Part(), "outbound")
        assert await shell.fetch("a") == "A"
    finally:
        failpoints.watch(None)
    assert steps == ["before outbound.fetch", "after outbound.fetch"]
    assert (shell.size, hasattr(shell, "post")) == (3, False)


def test_a_step_that_the_table_does_not_name_is_refused() -> None:
    """A new transaction fails the first test that comes by it."""
    with pytest.raises(failpoints.UnknownStepError, match=r"before jobs\.burn"):
        failpoints.reach("before jobs.burn")
