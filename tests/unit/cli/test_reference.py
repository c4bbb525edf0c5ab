"""The reference of settings: complete, and the documentation is its exact output."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from gateway.cli.reference import MARKER, markdown, provider_markdown, renewed, rows_of
from gateway.settings import Settings
from providers.registry import BUILTIN

DOCUMENT = Path(__file__).parents[3] / "docs" / "configuration.md"


def leaves(model: type[BaseModel], path: str = "") -> set[str]:
    """Every setting that is not a section."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= leaves(field.annotation, f"{path}{name}.")
        else:
            found.add(f"{path}{name}")
    return found


def test_every_setting_has_a_row() -> None:
    """With its type and what it is for."""
    rows = list(rows_of(Settings))
    assert {row.path for row in rows} == leaves(Settings)
    assert all(row.kind and row.default and row.about for row in rows)


def test_a_row_tells_type_range_and_default() -> None:
    """As people read them."""
    rows = {row.path: row for row in rows_of(Settings)}
    assert (rows["server.port"].kind, rows["server.port"].bounds) == ("whole number", "at least 0, at most 65535")
    assert rows["server.port"].default == "`8080`"
    assert rows["security.signing_secret"].default == "required"
    assert rows["security.signing_secret"].kind == "secret"
    assert rows["retry.ambiguous"].kind == "`verify` or `retry` or `never`"
    assert rows["outbound.allow_hosts"].kind == "list of text"
    assert rows["server.public_base_url"].default == "none"
    assert rows["routing.preview"].default == "`false`"
    assert rows["routing.deadline_probability"].bounds == "above 0, below 1"


def test_the_documentation_is_what_the_command_prints() -> None:
    """When this fails: vidgate config reference --into docs/configuration.md."""
    document = DOCUMENT.read_text(encoding="utf-8")
    assert MARKER in document
    assert renewed(document, markdown(rows_of(Settings)) + "\n" + provider_markdown(BUILTIN)) == document


def test_renewing_a_document_keeps_what_stands_before_the_reference() -> None:
    """And replaces all that follows."""
    assert renewed(f"words\n\n{MARKER}\n\nold\nold\n", "new\n") == f"words\n\n{MARKER}\n\nnew\n"


def test_every_provider_is_in_the_reference() -> None:
    """With each key of its own section."""
    text = provider_markdown(BUILTIN)
    for plugin in BUILTIN:
        assert f"### providers.{plugin.name}" in text
        assert all(f"`providers.{plugin.name}.{name}`" in text for name in plugin.settings.model_fields)
