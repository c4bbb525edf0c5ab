"""The tidy tests can fail: each rule is shown a file that breaks it, and says where."""

from __future__ import annotations

import ast
from collections.abc import Callable

import pytest

from tests.unit import test_tidy
from tests.unit.tidy import File

LONG = "def long() -> None:\n" + "    pass\n" * 70
CASES: dict[str, tuple[str, str, str]] = {
    "test_no_function_is_longer_than_seventy_lines": ("gateway/a.py", LONG, "long has 71 lines"),
    "test_no_file_is_longer_than_four_hundred_lines": ("tests/a.py", "x = 1\n" * 401, "401 lines"),
    "test_no_function_takes_more_than_seven_parameters": (
        "gateway/a.py",
        "class A:\n    def f(self, a, b, c, d, *, e, f, g, h): ...\n",
        "takes 8 parameters",
    ),
    "test_imports_point_one_way": ("policies/a.py", "from gateway.app import build_app\n", "gateway.app"),
    "test_policies_are_pure": ("policies/a.py", "import httpx\n", "httpx"),
    "test_a_vendor_is_named_only_in_its_own_folder": ("gateway/a.py", "# asks Segmind first\n", "a.py:1 names segmind"),
    "test_no_float_is_in_a_money_path": ("gateway/money/a.py", "def f(cost: float) -> None: ...\n", "cost: float"),
    "test_stored_and_passed_money_is_a_whole_number": (
        "gateway/a.py",
        "class A:\n    held_micros: float | None\n",
        "held_micros",
    ),
    "test_only_the_clock_reads_the_time_and_draws_no_lots": ("gateway/a.py", "import time\n", "time"),
    "test_http_clients_are_made_in_few_places": ("gateway/a.py", "c = httpx.AsyncClient()\n", "httpx.AsyncClient()"),
    "test_an_exception_is_caught_by_name": ("gateway/a.py", "try:\n    f()\nexcept Exception:\n    pass\n", "a.py:3"),
    "test_no_statement_is_glued_together": ("gateway/a.py", 'c.execute(f"DELETE {x}")\n', "DELETE"),
    "test_every_public_name_says_what_it_is": ("gateway/a.py", '"""A."""\n\ndef f() -> None: ...\n', "a.py:3 f"),
    "test_every_test_says_what_it_protects": ("tests/a.py", "def test_x() -> None: ...\n", "test_x"),
    "test_nothing_is_printed_outside_the_command_line": ("gateway/a.py", "print(1)\n", "print()"),
    "test_nothing_is_left_undone": ("gateway/a.py", "raise NotImplementedError\n", "stub"),
    "test_every_silenced_type_names_its_rule": ("gateway/a.py", "x = 1  # type: " + "ignore\n", "a.py:1"),
    "test_keyword_arguments_are_spelt_out": ("gateway/a.py", "def f(**options: int) -> None: ...\n", "**options"),
}
# More ways to break the rules that have several.
MORE: list[tuple[str, str, str, str]] = [
    ("test_imports_point_one_way", "providers/a.py", "import gateway\n", "imports gateway"),
    ("test_imports_point_one_way", "policies/a.py", "from providers.rendering import encode\n", "providers.rendering"),
    ("test_imports_point_one_way", "providers/segmind/a.py", "import providers.modelslab\n", "providers.modelslab"),
    ("test_imports_point_one_way", "gateway/a.py", "from providers.segmind import PLUGIN\n", "providers.segmind"),
    ("test_only_the_clock_reads_the_time_and_draws_no_lots", "gateway/a.py", "datetime.now(UTC)\n", "datetime.now()"),
    (
        "test_only_the_clock_reads_the_time_and_draws_no_lots",
        "providers/a.py",
        "import random\nrandom.random()\n",
        "random.random()",
    ),
    ("test_only_the_clock_reads_the_time_and_draws_no_lots", "policies/a.py", "asyncio.sleep(1)\n", "asyncio.sleep()"),
    ("test_no_float_is_in_a_money_path", "gateway/money/a.py", "price_micros = 0.5\n", "price_micros = 0.5"),
    ("test_no_float_is_in_a_money_path", "gateway/money/a.py", "x = float(cost)\n", "float(cost)"),
    ("test_no_statement_is_glued_together", "gateway/a.py", "text('SELECT %s' % x)\n", "SELECT"),
    ("test_no_statement_is_glued_together", "gateway/a.py", "text('SELECT {}'.format(x))\n", "SELECT"),
    ("test_nothing_is_left_undone", "tests/a.py", "pytest.skip()\n", "pytest.skip()"),
]


def shown(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    """Let the rules look at one invented file and nothing else."""
    file = File(name, text, ast.parse(text))
    sources = (file,) if file.is_under("gateway", "policies", "providers") else ()
    monkeypatch.setattr(test_tidy, "SOURCES", sources)
    monkeypatch.setattr(test_tidy, "EVERYTHING", (file,))
    monkeypatch.setattr(test_tidy, "files", lambda *folders: tuple(f for f in (file,) if f.is_under(*folders)))


@pytest.mark.parametrize(
    ("rule", "name", "text", "said"),
    [*((rule, *case) for rule, case in CASES.items()), *MORE],
    ids=[*CASES, *(f"{rule}-{number}" for number, (rule, *_) in enumerate(MORE))],
)
def test_a_broken_rule_is_told_with_its_place(
    monkeypatch: pytest.MonkeyPatch, rule: str, name: str, text: str, said: str
) -> None:
    """Each rule finds the fault and names it."""
    check: Callable[[], None] = getattr(test_tidy, rule)
    shown(monkeypatch, name, text)
    with pytest.raises(AssertionError) as caught:
        check()
    assert said in str(caught.value)


def test_every_rule_is_shown_to_bite() -> None:
    """No rule of the tidy test is left without a case here, but those about the whole project."""
    whole_project = {
        "test_the_files_are_found",
        "test_the_main_path_can_be_read_in_one_sitting",
        "test_there_is_at_least_as_much_test_as_source",
        "test_the_project_speaks_of_itself_alone",
    }
    assert {name for name in vars(test_tidy) if name.startswith("test_")} == set(CASES) | whole_project
