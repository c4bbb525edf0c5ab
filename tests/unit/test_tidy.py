"""The style of the project as tests: sizes, floors, and what may stand where. There is no list of exceptions."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator

import pytest

from providers.registry import BUILTIN
from tests.unit.tidy import (
    ALL_FOLDERS,
    ROOT,
    SOURCE_FOLDERS,
    File,
    code_lines,
    dotted,
    files,
    methods,
    parameters,
    public,
)

SOURCES = files(*SOURCE_FOLDERS)
EVERYTHING = files(*ALL_FOLDERS)
MAIN_PATH = (
    "gateway/app.py",
    "gateway/api/generate.py",
    "gateway/engine.py",
    "gateway/jobs.py",
    "gateway/money/ledger.py",
    "policies/retry.py",
    "providers/contract.py",
    "providers/segmind/adapter.py",
)
# Where the policies may look into the providers: the public contract and its data.
PUBLIC_CONTRACT = ("providers.contract", "providers.capability", "providers.vocabulary")
# Reading the clock, sleeping, and drawing from the process's one generator (a Random of one's own is fine).
CLOCK_CALLS = re.compile(r"(^|\.)(datetime|date)\.(now|utcnow|today)$|^asyncio\.sleep$|(^|\.)loop\.time$")
CLOCK_IMPORTS = re.compile(r"^(time(\..+)?|random\.[a-z]\w*|asyncio\.sleep)$")
SHARED_CHANCE = re.compile(r"^random\.[a-z]\w*$")
MONEY_WORDS = re.compile(r"micros|usd|price|cost|amount|percent")


def report(faults: Iterable[str]) -> None:
    """Fail with every fault on a line of its own."""
    found = sorted(faults)
    assert not found, "\n" + "\n".join(found)


def test_the_files_are_found() -> None:
    """The rules below look at real files: the house stands where the design says, and nothing is skipped silently."""
    names = {file.name for file in EVERYTHING}
    assert set(MAIN_PATH) <= names
    assert len(SOURCES) > 80


def test_no_function_is_longer_than_seventy_lines() -> None:
    """A function fits on a screen, in the product, its tests and its examples."""
    report(
        f"{file.at(function)} {function.name} has {length} lines"
        for file in EVERYTHING
        for function in file.functions()
        if (length := (function.end_lineno or 0) - function.lineno + 1) > 70
    )


def test_no_file_is_longer_than_four_hundred_lines() -> None:
    """A file is about one thing, in the product, its tests and its examples."""
    report(f"{file.name} has {len(file.lines)} lines" for file in EVERYTHING if len(file.lines) > 400)


def test_no_function_takes_more_than_seven_parameters() -> None:
    """What needs more takes a value that carries them."""
    report(
        f"{file.at(function)} {function.name} takes {count} parameters"
        for file in EVERYTHING
        for function in file.functions()
        if (count := len(parameters(function, is_method=function in methods(file)))) > 7
    )


def test_the_main_path_can_be_read_in_one_sitting() -> None:
    """The files of the main path hold under fifteen hundred lines of code together."""
    lines = {file.name: code_lines(file) for file in SOURCES if file.name in MAIN_PATH}
    assert sum(lines.values()) < 1_500, lines


def test_there_is_at_least_as_much_test_as_source() -> None:
    """Tests are not fewer lines than what they test."""
    source = sum(len(file.lines) for file in SOURCES)
    tests = sum(len(file.lines) for file in files("tests"))
    assert tests >= source, f"{tests} lines of tests for {source} lines of source"


def floor_faults(file: File) -> Iterator[str]:
    """Imports that go up, sideways, or behind the contract."""
    floor = file.name.split("/")[0]
    vendor = file.name.split("/")[1] if floor == "providers" and file.name.count("/") > 1 else None
    for module, node in file.imports():
        top, *rest = module.split(".")
        upwards = top in {"gateway", "tests", "bench"} and floor != top
        behind = floor == "policies" and top == "providers" and not module.startswith(PUBLIC_CONTRACT)
        sideways = floor == "providers" and top == "policies"
        folder = rest[0] if top == "providers" and rest and (ROOT / "providers" / rest[0]).is_dir() else None
        listed = file.name == "providers/registry.py"
        neighbour = folder is not None and floor == "providers" and folder != vendor and not listed
        inside = folder is not None and floor != "providers"
        if upwards or behind or sideways or neighbour or inside:
            yield f"{file.at(node)} imports {module}"


def test_imports_point_one_way() -> None:
    """policies and providers never import gateway; policies see only the contract; no provider sees another."""
    report(fault for file in SOURCES for fault in floor_faults(file))


def test_policies_are_pure() -> None:
    """The policies import the standard library, pydantic and the contract: nothing that does I/O or reads a clock."""
    allowed = {"policies", "providers", "pydantic"}
    forbidden = {"asyncio", "io", "os", "pathlib", "socket", "subprocess", "sqlite3", "threading", "time", "urllib"}
    third_party = {"aiohttp", "av", "httpx", "numpy", "PIL", "redis", "sqlalchemy", "starlette", "structlog", "yaml"}
    report(
        f"{file.at(node)} imports {module}"
        for file in files("policies")
        for module, node in file.imports()
        if module.split(".")[0] not in allowed and module.split(".")[0] in forbidden | third_party
    )


def test_a_vendor_is_named_only_in_its_own_folder() -> None:
    """A vendor is a provider with an account. Its name stands in its folder and in the registry's one list."""
    vendors = [plugin.name for plugin in BUILTIN if "api_key" in plugin.settings.model_fields]
    assert vendors
    report(
        f"{file.name}:{number} names {vendor}"
        for vendor in vendors
        for file in SOURCES
        if not file.is_under(f"providers/{vendor}", "providers/registry.py")
        for number, line in enumerate(file.lines, 1)
        if vendor in line.lower()
    )


def money_faults(file: File) -> Iterator[str]:
    """Floats where money is: an annotation, a conversion, a literal."""
    for node in ast.walk(file.tree):
        if isinstance(node, ast.arg | ast.AnnAssign):
            name = node.arg if isinstance(node, ast.arg) else dotted(node.target)
            annotation = ast.unparse(node.annotation) if node.annotation is not None else ""
            if MONEY_WORDS.search(name) and "float" in annotation:
                yield f"{file.at(node)} {name}: {annotation}"
        if isinstance(node, ast.Call) and dotted(node.func) == "float" and MONEY_WORDS.search(file.line(node)):
            yield f"{file.at(node)} {ast.unparse(node)}"
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and type(node.value.value) is float:
            yield from (f"{file.at(node)} {ast.unparse(node)}" for t in node.targets if MONEY_WORDS.search(dotted(t)))


def test_no_float_is_in_a_money_path() -> None:
    """Amounts are integers, ratios of money decimals; times and shares of time may be floats."""
    report(fault for file in files("gateway/money") for fault in money_faults(file))


def test_stored_and_passed_money_is_a_whole_number() -> None:
    """Whatever is called micros in the gateway and in the providers' contract is an int."""
    report(
        f"{file.at(node)} {node.arg if isinstance(node, ast.arg) else dotted(node.target)}"
        for file in SOURCES
        if not file.is_under("policies")  # expectations over money are fractions; they are never booked
        for node in ast.walk(file.tree)
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None
        if (node.arg if isinstance(node, ast.arg) else dotted(node.target)).endswith("_micros")
        if "float" in ast.unparse(node.annotation)
    )


def test_only_the_clock_reads_the_time_and_draws_no_lots() -> None:
    """Time, sleep and chance are handed in: nothing outside clock.py takes them from the machine."""
    elsewhere = [file for file in SOURCES if file.name != "gateway/clock.py"]
    calls = (f"{f.at(node)} {name}()" for f in elsewhere for name, node in f.calls() if CLOCK_CALLS.search(name))
    imports = (f"{f.at(node)} {name}" for f in elsewhere for name, node in f.imports() if CLOCK_IMPORTS.search(name))
    chance = (
        f"{file.at(node)} {name}()"
        for file in elsewhere
        if "random" in {name for name, _ in file.imports()}  # the module itself, not a generator of that name
        for name, node in file.calls()
        if SHARED_CHANCE.search(name)
    )
    report([*calls, *imports, *chance])


def test_http_clients_are_made_in_few_places() -> None:
    """Only the guard, the composition, the command line and the client make them; everything else is handed one."""
    makers = ("gateway/outbound.py", "gateway/app.py", "gateway/cli", "gateway/client", "providers/serving.py")
    report(
        f"{file.at(node)} {name}()"
        for file in SOURCES
        if not file.is_under(*makers)
        for name, node in file.calls()
        if name in {"httpx.AsyncClient", "AsyncClient", "httpx.Client", "aiohttp.ClientSession", "ClientSession"}
        or re.fullmatch(r"httpx\.(get|post|put|patch|delete|request|stream)|urllib\.request\.\w+", name)
    )


def test_an_exception_is_caught_by_name() -> None:
    """At most five places catch everything, and each says why on its line; one that only cleans up raises it again."""
    broad = [
        (file, node)
        for file in EVERYTHING
        for node in ast.walk(file.tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or re.search(r"\b(Base)?Exception\b", ast.unparse(node.type)))
        and ast.unparse(node.body[-1]) != "raise"
    ]
    report(file.at(node) for file, node in broad if not re.search(r"#.{10,}", file.line(node)))
    assert len(broad) <= 5, [file.at(node) for file, node in broad]


def built_text(node: ast.AST) -> bool:
    """Whether an expression puts a string together."""
    formatted = isinstance(node, ast.Call) and dotted(node.func).endswith(".format")
    pieces = isinstance(node, ast.JoinedStr) and any(isinstance(part, ast.FormattedValue) for part in node.values)
    glued = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod | ast.Add)
    return formatted or pieces or (glued and any(isinstance(n, ast.Constant | ast.JoinedStr) for n in ast.walk(node)))


def test_no_statement_is_glued_together() -> None:
    """What is executed is an expression of SQLAlchemy or a fixed text: no value is ever written into SQL."""
    report(
        f"{file.at(node)} {ast.unparse(node)[:80]}"
        for file in SOURCES
        for name, node in file.calls()
        if name.split(".")[-1] in {"text", "execute", "exec_driver_sql", "executemany", "executescript", "scalar"}
        if node.args and built_text(node.args[0])
    )


def test_every_public_name_says_what_it_is() -> None:
    """Modules, classes, functions and methods that others may use have a docstring."""
    modules = (f"{f.name} has no docstring" for f in SOURCES if f.text.strip() and not ast.get_docstring(f.tree))
    names = (f"{file.at(node)} {node.name}" for file in SOURCES for node in public(file) if not ast.get_docstring(node))
    report([*modules, *names])


def test_every_test_says_what_it_protects() -> None:
    """A test's docstring is the promise that it keeps."""
    report(
        f"{file.at(function)} {function.name}"
        for file in files("tests")
        for function in file.functions()
        if function.name.startswith("test_") and not ast.get_docstring(function)
    )


def test_nothing_is_printed_outside_the_command_line() -> None:
    """The service logs; only the command line and the benches talk."""
    report(
        f"{file.at(node)} print()"
        for file in SOURCES
        if not file.is_under("gateway/cli")
        for name, node in file.calls()
        if name == "print"
    )


def test_nothing_is_left_undone() -> None:
    """No note of work to do, no stub, no test that is skipped without a reason."""
    notes = re.compile(r"#.*\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]) + r")\b")
    left = (
        f"{f.name}:{n} {line.strip()}" for f in EVERYTHING for n, line in enumerate(f.lines, 1) if notes.search(line)
    )
    stubs = (f"{f.at(n)} stub" for f in SOURCES for n in ast.walk(f.tree) if dotted(n) == "NotImplementedError")
    skips = (
        f"{file.at(node)} {ast.unparse(node)[:60]}"
        for file in files("tests")
        for name, node in file.calls()
        if name in {"pytest.skip", "pytest.mark.skip", "pytest.mark.skipif", "pytest.mark.xfail"}
        if not any(word.arg == "reason" for word in node.keywords) and not (name == "pytest.skip" and node.args)
    )
    report([*left, *stubs, *skips])


def test_every_silenced_type_names_its_rule() -> None:
    """A type that is silenced says which complaint is meant, and so does a silenced lint."""
    bare = re.compile(r"#\s*type:\s*ignore(?!\[)|#\s*noqa(?!: [A-Z])")
    report(f"{f.name}:{n} {line.strip()}" for f in EVERYTHING for n, line in enumerate(f.lines, 1) if bare.search(line))


def test_keyword_arguments_are_spelt_out() -> None:
    """Past the command line nothing passes on what it is given, but a problem's members, labels, a transaction's."""
    report(
        f"{file.at(function)} {function.name}(**{kwarg.arg})"
        for file in SOURCES
        if not file.is_under("gateway/cli")
        for function in file.functions()
        if (kwarg := function.args.kwarg) is not None
        if not (kwarg.annotation is not None and re.search(r"\.kwargs$|^Unpack\[", ast.unparse(kwarg.annotation)))
        if kwarg.arg not in {"extensions", "facts", "labels"}
    )


def test_the_project_speaks_of_itself_alone() -> None:
    """No committed text names a path of somebody's machine."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, timeout=60)
    if tracked.returncode != 0:
        pytest.skip("not a git checkout: what is committed cannot be listed")
    places = re.compile(rb"/(work|root)/[a-z]|/tmp/brief|/home/[a-z]+/")
    names = [name for name in tracked.stdout.decode().split("\0") if name]
    present = [ROOT / name for name in names if (ROOT / name).is_file() and name != "tests/unit/test_tidy.py"]
    report(str(path.relative_to(ROOT)) for path in present if places.search(path.read_bytes()))
