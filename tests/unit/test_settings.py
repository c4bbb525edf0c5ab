"""The settings' own promises: strict, frozen, secret, documented, and none without an effect."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from gateway.settings import Settings
from gateway.settings_edge import SECRET_BYTES_MIN
from policies.settings import RoutingSettings

SECRET = "s" * SECRET_BYTES_MIN
ROOT = Path(__file__).parents[2]
UNIT = re.compile(r"_(s|micros|bytes|ttl_s|percent)(_max|_min)?$|^bytes_max$")


def settings(**sections: Any) -> Settings:
    """Settings with the one required section and whatever the test is about."""
    return Settings.model_validate({"security": {"signing_secret": SECRET}, **sections})


def fields(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting by its path, sections included."""
    for name, field in model.model_fields.items():
        yield f"{path}{name}", field
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields(field.annotation, f"{path}{name}.")


def test_one_secret_is_all_that_must_be_written() -> None:
    """Everything but the signing secret has a default that suits one process."""
    made = settings()
    assert made.server.host == "127.0.0.1"
    assert made.store.url.startswith("sqlite:///")
    assert made.retry.ambiguous == "verify"
    assert made.routing.preview is False


def test_an_unknown_key_is_an_error_in_every_section() -> None:
    """A misspelt key is never ignored, at the top or in any section."""
    with pytest.raises(ValidationError, match="extra_forbidden"):
        settings(servr={})
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            with pytest.raises(ValidationError, match=r"extra_forbidden"):
                settings(**{name: {"signing_secret": SECRET, "no_such_key": 1}})


def test_the_constants_of_routing_can_be_set_by_name_and_are_checked() -> None:
    """`routing.tuning` takes the policy's own constants, and no other."""
    constant = dataclasses.fields(RoutingSettings)[0].name
    assert getattr(settings(routing={"tuning": {constant: "0.5"}}).routing.tuning, constant) == 0.5
    with pytest.raises(ValidationError, match="unexpected_keyword_argument"):
        settings(routing={"tuning": {"no_such_constant": 1}})


def test_settings_cannot_be_changed_once_made() -> None:
    """What was checked at start is what runs."""
    made = settings()
    with pytest.raises(ValidationError, match="frozen"):
        made.server.port = 1  # type: ignore[misc]


def test_secrets_are_not_in_the_text_of_the_settings() -> None:
    """Neither the signing secret nor an account's key can reach a log through repr."""
    made = settings(providers={"vendor": {"api_key": "very-secret-key"}})
    for text in (repr(made), str(made)):
        assert SECRET not in text
        assert "very-secret-key" not in text


@pytest.mark.parametrize(("secret", "fine"), [("x" * 23, False), ("x" * 24, True), ("é" * 12, True), ("é" * 11, False)])
def test_the_signing_secret_is_counted_in_bytes(secret: str, fine: bool) -> None:
    """Twenty-four bytes are enough, one less is refused with the command that makes a good one."""
    if fine:
        assert settings(security={"signing_secret": secret}).security.signing_secret.get_secret_value() == secret
        return
    with pytest.raises(ValidationError, match="openssl rand"):
        settings(security={"signing_secret": secret})


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("https://video.example.com/", "https://video.example.com"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("https://example.com/video/", "https://example.com/video"),
    ],
)
def test_the_public_address_is_kept_without_its_last_slash(written: str, read: str) -> None:
    """Links are made by appending a path, so a trailing slash would double it."""
    assert settings(server={"public_base_url": written}).server.public_base_url == read


@pytest.mark.parametrize("written", ["video.example.com", "ftp://example.com", "https://", "https://a/?x=1", "/video"])
def test_a_public_address_that_is_none_is_refused(written: str) -> None:
    """An address must be absolute, http or https, and end before any query."""
    with pytest.raises(ValidationError, match="http or https address"):
        settings(server={"public_base_url": written})


def test_a_section_with_nothing_under_it_has_its_defaults() -> None:
    """YAML reads `server:` and `preview:` as null; both mean an empty section."""
    made = settings(server=None, providers={"preview": None})
    assert made.server == settings().server
    assert made.providers == {"preview": {}}


def test_every_setting_says_what_it_is_for() -> None:
    """A setting without a description cannot be documented."""
    assert [path for path, field in fields(Settings) if not field.description] == []


def test_every_number_has_a_unit_or_is_a_count() -> None:
    """A time ends in _s, money in _micros, sizes in _bytes; what is left is a short, known list of plain numbers."""
    plain = {
        "server.port",
        "server.replicas",
        "server.headers_max",
        "server.connections_max",
        "store.connections_max",
        "overload.pictures_max",
        "overload.work_max",
        "overload.reads_max",
        "overload.streams_max",
        "intake.pixels_max",
        "intake.side_max",
        "media.workers",
        "jobs.running_max",
        "jobs.attempts_max",
        "jobs.crashes_max",
        "retry.submits_max",
        "retry.budget_ratio",
        "telemetry.trace_ratio",
        "retry.budget_reserve_per_s",
        "routing.deadline_probability",
        "routing.late_fraction",
        "money.price_drift_threshold",
        "routing.weights.cost",
        "routing.weights.time",
        "routing.weights.failure",
    }
    numbers = [path for path, field in fields(Settings) if field.annotation in {int, float}]
    without = {path for path in numbers if not UNIT.search(path.rpartition(".")[2])}
    assert without <= plain


def test_every_setting_has_an_effect() -> None:
    """A setting that nothing reads would be a promise that nobody keeps."""
    sources = [file for file in ROOT.glob("gateway/**/*.py") if file.name != "settings.py"]
    text = "\n".join(file.read_text(encoding="utf-8") for file in sources)
    # The weights go to the policy together, as one value.
    written = [path for path, _ in fields(Settings) if "." in path and not path.startswith("routing.weights.")]
    assert [path for path in written if not re.search(rf"\.{path.rpartition('.')[2]}\b", text)] == []
