"""How faults are worded: places, lines, suggestions, and pydantic's own sentences made ours."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from gateway.config_errors import ConfigurationError, ConfigurationProblem, place, problems_of


class Inner(BaseModel):
    """A section."""

    model_config = ConfigDict(extra="forbid")

    count: int = Field(default=1, ge=1, le=9, description="How many.")
    word: Literal["one", "two"] = "one"
    needed: str = Field(description="What is needed.")
    even: int = 2

    @field_validator("even")
    @classmethod
    def _is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("must be even, such as 4")
        return value


class Outer(BaseModel):
    """A file."""

    model_config = ConfigDict(extra="forbid")

    inner: Inner = Field(description="The inner part.")
    free: dict[str, Any] = Field(default_factory=dict)


def said(values: object) -> dict[str, str]:
    """What is said about these values, by place."""
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(values)
    return {place(problem.path): problem.detail for problem in problems_of(caught.value, Outer)}


@pytest.mark.parametrize(
    ("values", "where", "sentence"),
    [
        ({}, "inner", "is required (The inner part)"),
        ({"inner": {}}, "inner.needed", "is required (What is needed)"),
        ({"inner": {"needed": "x", "cuont": 1}}, "inner.cuont", "unknown key; did you mean `count`?"),
        (
            {"inner": {"needed": "x", "zzz": 1}},
            "inner.zzz",
            "unknown key; known are: count, even, needed, word",
        ),
        ({"inner": {"needed": "x"}, "iner": 1}, "iner", "unknown key; did you mean `inner`?"),
        ({"inner": {"needed": "x", "word": "three"}}, "inner.word", "must be 'one' or 'two'"),
        ({"inner": {"needed": "x", "count": 10}}, "inner.count", "must be less than or equal to 9"),
        ({"inner": {"needed": "x", "count": "many"}}, "inner.count", "must be a valid integer, unable to parse"),
        ({"inner": {"needed": "x", "even": 3}}, "inner.even", "must be even, such as 4"),
        ({"inner": 5}, "inner", "must be a valid dictionary"),
    ],
)
def test_every_kind_of_fault_has_its_sentence(values: object, where: str, sentence: str) -> None:
    """Lower case, in our words, with the way out where there is one."""
    assert said(values)[where].startswith(sentence)


def test_a_prefix_says_where_a_part_stands() -> None:
    """A provider's section is checked alone and told with its full path."""
    with pytest.raises(ValidationError) as caught:
        Inner.model_validate({"cuont": 1, "needed": "x"})
    (problem,) = problems_of(caught.value, Inner, ("providers", "acme"))
    assert problem.text("f.yaml") == "f.yaml: providers.acme.cuont: unknown key; did you mean `count`?"


def test_a_fault_is_one_line_as_compilers_write_it() -> None:
    """Source, line where it is known, place where there is one, sentence."""
    assert ConfigurationProblem(("a", "b", 0), "is wrong", 7).text("f.yaml") == "f.yaml:7: a.b.0: is wrong"
    assert ConfigurationProblem((), "is not YAML", 2).text("f.yaml") == "f.yaml:2: is not YAML"
    assert ConfigurationProblem(("a",), "is wrong").text("f.yaml") == "f.yaml: a: is wrong"


def test_the_error_is_all_of_its_faults() -> None:
    """Whoever only prints it has said everything."""
    problems = [ConfigurationProblem(("a",), "one", 1), ConfigurationProblem(("b",), "two")]
    error = ConfigurationError("f.yaml", problems)
    assert str(error) == "f.yaml:1: a: one\nf.yaml: b: two"
    assert error.problems == tuple(problems)
