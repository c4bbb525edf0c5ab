"""Every error a caller can meet: one tree, one form, one page each."""

from __future__ import annotations

import ast
import inspect
import json
import re
from pathlib import Path

import pytest

from gateway import problems
from gateway.api.openapi import document
from gateway.problems import JobProblem, Problem, problem_response

ROOT = Path(__file__).parents[2]
# 1xx-3xx are no errors; what vidgate answers itself is one of these.
STATUSES = {400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 413, 415, 416, 422, 429, 431, 500, 502, 503, 504}


def tree(kind: type[Problem] = Problem) -> list[type[Problem]]:
    """A problem and all below it."""
    return [kind, *(below for child in kind.__subclasses__() for below in tree(child))]


KINDS = [kind for kind in tree() if kind.__module__ == problems.__name__]
CONCRETE = [kind for kind in KINDS if kind not in {Problem, JobProblem}]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_problem_is_shown_as_rfc_9457_says(kind: type[Problem]) -> None:
    """Type, title, status, detail and instance stand in the body, with the extensions beside them."""
    response = problem_response(kind("what happened", headers={"x-a": "b"}, limit=3), "/jobs/1")
    assert response.status_code == kind.status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-a"] == "b"
    assert json.loads(bytes(response.body)) == {
        "type": problems.TYPE_BASE + kind.slug,
        "title": kind.title,
        "status": kind.status,
        "detail": "what happened",
        "instance": "/jobs/1",
        "limit": 3,
    }


def test_without_an_instance_none_is_named() -> None:
    """The member is left out, not null."""
    assert "instance" not in json.loads(bytes(problem_response(Problem("x")).body))


@pytest.mark.parametrize("kind", CONCRETE, ids=lambda kind: kind.__name__)
def test_every_problem_has_its_own_name_title_and_sentence(kind: type[Problem]) -> None:
    """A slug is a kebab-case word of its own; title and docstring are there; the status is one that vidgate uses."""
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.slug)
    assert [other for other in CONCRETE if other.slug == kind.slug] == [kind]
    assert kind.title
    assert kind.title[0].isupper()
    assert not kind.title.endswith(".")
    assert kind.status in STATUSES
    assert inspect.getdoc(kind)


def test_a_narrower_problem_keeps_its_parents_status() -> None:
    """Whoever handles the parent handles the child, except for jobs, whose ends have statuses of their own."""
    for kind in CONCRETE:
        parent = kind.__mro__[1]
        assert issubclass(parent, Problem)
        if parent not in {Problem, JobProblem}:
            assert kind.status == parent.status, kind


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """What a reader sees first is what is there, with the statuses."""
    drawn = re.findall(r"[├└]── (\w+)(?: +(\d{3}))?", problems.__doc__ or "")
    assert {name for name, _ in drawn} == {kind.__name__ for kind in KINDS if kind is not Problem}
    for name, status in drawn:
        if status:
            assert getattr(problems, name).status == int(status), name


@pytest.mark.parametrize("kind", CONCRETE, ids=lambda kind: kind.slug)
def test_every_problem_has_a_page_with_a_true_example(kind: type[Problem]) -> None:
    """The page named by the type says the status and title, shows a body as it is sent, and says what to do."""
    page = (ROOT / "docs" / "problems" / f"{kind.slug}.md").read_text()
    assert page.startswith(f"# {kind.title}\n")
    assert f"Status {kind.status}" in page
    assert "## What to do" in page
    example = json.loads(re.findall(r"```json\n(.*?)```", page, re.DOTALL)[0])
    assert {name: example[name] for name in ("type", "title", "status")} == {
        "type": problems.TYPE_BASE + kind.slug,
        "title": kind.title,
        "status": kind.status,
    }
    assert example["detail"]


def test_no_page_is_left_of_a_problem_that_is_gone() -> None:
    """Pages and types are one to one, beside the two roots of the tree and the index."""
    pages = {page.stem for page in (ROOT / "docs" / "problems").glob("*.md")}
    assert pages - {"README"} == {kind.slug for kind in KINDS}


def test_the_index_names_every_page() -> None:
    """The list of all problems links each one, with its status."""
    index = (ROOT / "docs" / "problems" / "README.md").read_text()
    linked = dict(re.findall(r"\| \[`([a-z-]+)`\]\(\1\.md\) \| (\d{3}) \|", index))
    assert linked == {kind.slug: str(kind.status) for kind in KINDS}


def test_the_api_description_names_every_type() -> None:
    """A client generated from the OpenAPI document knows all of them."""
    listed = document([])["components"]["schemas"]["Problem"]["properties"]["type"]["enum"]
    assert listed == sorted({problems.TYPE_BASE + kind.slug for kind in KINDS})


def test_errors_are_rendered_in_one_place() -> None:
    """Only the edge of the application makes such replies; admission alone keeps one, to answer a repeat the same."""
    writers = set()
    for path in (ROOT / "gateway").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node).endswith("problem_response"):
                writers.add(path.name)
            if isinstance(node, ast.Constant) and node.value == problems.MEDIA_TYPE:
                writers.add(path.name)
    assert writers <= {"problems.py", "errors.py", "operation.py", "admission.py"}
