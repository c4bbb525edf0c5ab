"""Reading the file: YAML, references to the environment, lines, and what is refused."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config_errors import ConfigurationError
from gateway.config_file import Document, read_document


def read(text: str, **environment: str) -> Document:
    """A document that could be read."""
    return read_document(text, "test.yaml", environment)


def faults(document: Document) -> list[str]:
    """The faults as a person sees them."""
    return [problem.text("test.yaml") for problem in document.problems]


def test_a_reference_is_filled_in_from_the_environment() -> None:
    """`${NAME}` takes the variable's value, alone or inside a text, in any style of YAML."""
    document = read("a: ${A}\nb: \"x-${A}-${B}\"\nc: ['${B}', plain]\n", A="1", B="two")
    assert document.values == {"a": "1", "b": "x-1-two", "c": ["two", "plain"]}
    assert document.problems == ()


def test_a_filled_in_value_stays_text() -> None:
    """A secret made of digits, or the word no, does not become a number or a truth value."""
    values = read("a: ${A}\nb: ${B}\nc: 12\nd: no\n", A="0123", B="no").values
    assert values == {"a": "0123", "b": "no", "c": 12, "d": False}


def test_a_filled_in_value_cannot_add_yaml() -> None:
    """What stands in the environment is a value and never more of the file."""
    hostile = "x\nsecurity: {signing_secret: mine}\n# "
    assert read("a: ${A}\n", A=hostile).values == {"a": hostile}


def test_a_default_serves_for_a_variable_that_is_not_set_or_empty() -> None:
    """`${NAME:-default}` is the shell's meaning of it."""
    text = "a: ${A:-one}\nb: ${B:-}\nc: ['${B:-}', kept]\n"
    assert read(text).values == {"a": "one", "c": ["kept"]}
    assert read(text, A="", B="two").values == {"a": "one", "b": "two", "c": ["two", "kept"]}


def test_a_value_that_comes_out_empty_counts_as_not_written() -> None:
    """So that `public_base_url: ${PUBLIC_BASE_URL:-}` has the setting's own default."""
    assert read("server: {public_base_url: '${URL:-}', port: 1}\n").values == {"server": {"port": 1}}


def test_a_missing_variable_is_named_with_its_place_and_line() -> None:
    """A missing variable is an error that says which one, where, and how to give a default where one may be written."""
    (fault,) = faults(read("a: 1\nproviders:\n  vendor:\n    api_key: ${VENDOR_KEY}\n"))
    assert fault.startswith("test.yaml:4: providers.vendor.api_key: ")
    assert "VENDOR_KEY is not set" in fault
    assert "${VENDOR_KEY:-default}" in fault


def test_no_default_is_offered_for_a_secret() -> None:
    """A secret in the file would be one in the repository."""
    document = read_document("a: {key: '${KEY}'}\n", "test.yaml", {}, lambda path: path == ("a", "key"))
    (fault,) = faults(document)
    assert fault.endswith("KEY is not set; set it")


def test_an_empty_variable_is_as_bad_as_a_missing_one() -> None:
    """An empty key would be sent to a vendor as a key."""
    (fault,) = faults(read("key: ${KEY}\n", KEY=""))
    assert "KEY is empty" in fault


def test_two_dollars_are_one_and_a_lone_one_stays() -> None:
    """A password may contain dollars."""
    assert read("a: $${A}\nb: pa$$word\nc: 5$\nd: $HOME\n", A="x").values == {
        "a": "${A}",
        "b": "pa$word",
        "c": "5$",
        "d": "$HOME",
    }


@pytest.mark.parametrize("text", ["${", "${A", "${1A}", "${A-b}", "${A B}"])
def test_a_broken_reference_is_an_error_and_not_a_text(text: str) -> None:
    """What looks like a reference and is none is never passed on as it stands."""
    (fault,) = faults(read(f"a: '{text}'\n", A="x"))
    assert "write ${NAME}" in fault


def test_references_in_comments_and_keys_are_left_alone() -> None:
    """Only values are filled in."""
    assert read("# ${NOT_SET}\n'${K}': 1\n").values == {"${K}": 1}


def test_a_key_written_twice_is_an_error() -> None:
    """YAML would let the second win in silence."""
    (fault,) = faults(read("jobs:\n  lease_s: 3\n  lease_s: 5\n"))
    assert fault == "test.yaml:3: jobs.lease_s: is written twice"


def test_lines_are_known_down_to_the_item_of_a_list() -> None:
    """An error can point at the line of the nearest thing that was written."""
    document = read("a:\n  b:\n    - one\n    - two\n")
    assert document.line(("a", "b", 1)) == 4
    assert document.line(("a", "b", 7)) == 2
    assert document.line(("a", "missing", "deeper")) == 1
    assert document.line(("elsewhere",)) is None


def test_anchors_and_merges_work() -> None:
    """Two accounts may share what they have in common."""
    text = "base: &base {port: 1, host: a}\nserver:\n  <<: *base\n  port: 2\n"
    assert read(text).values["server"] == {"port": 2, "host": "a"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1, 2\n", "is not YAML"),
        ("a: b: c\n", "is not YAML"),
        ("a: \x07\n", "is not YAML"),
        ("- a\n- b\n", "must hold `section: ...` lines"),
        ("just words\n", "must hold `section: ...` lines"),
        ("a: 1\n---\nb: 2\n", "is not YAML"),
        ("a: 2026-02-31\n", "is no timestamp"),
        ("a: " + "[" * 3000, "is not YAML"),
        ("a: &a [*a]\n", "an alias contains itself"),
        ("? {a: b}\n: c\n", "a key must be a word"),
        ("? [a]\n: c\n", "a key must be a word"),
        ('a: "\\UFFFFFFFF"\n', "is not YAML"),
        ("a: !!bool maybe\n", "is no bool"),
        ("a: !!timestamp soon\n", "is no timestamp"),
        ("a: !!int ''\n", "is no int"),
        (
            "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise("abcdefghijklmnopqrst")),
            "too many",
        ),
        ("a: !!python/object:os.system {}\n", None),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_whole(text: str, said: str | None) -> None:
    """Broken YAML, another shape at the top, cycles: an error, never a traceback; a tag makes no object."""
    if said is None:
        assert read(text).values == {"a": {}}
        return
    with pytest.raises(ConfigurationError, match=said.replace("`", ".").replace("...", "...")):
        read(text)


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "null\n"])
def test_an_empty_file_is_an_empty_mapping(text: str) -> None:
    """What is missing is then said setting by setting."""
    assert read(text).values == {}


@given(st.text(max_size=200))
def test_no_text_raises_anything_but_the_one_error(text: str) -> None:
    """Whatever stands in the file, the answer is a document or a ConfigurationError."""
    with contextlib.suppress(ConfigurationError):
        assert isinstance(read(text, A="x").values, dict)


@given(st.text(min_size=1, max_size=50))
def test_every_value_of_a_variable_arrives_unchanged(value: str) -> None:
    """Quotes, colons, dollars and newlines of a variable are not read again."""
    assert read("a: ${A}\n", A=value).values == {"a": value}
