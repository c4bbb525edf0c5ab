"""No secret passes into the log: those of the configuration by their value, the others by their form."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from gateway.cli.logs import log_to
from gateway.keys import new_secret as new_key
from gateway.links import Links
from gateway.settings import Settings
from gateway.signatures import new_secret as new_webhook_secret
from gateway.telemetry import redaction
from gateway.telemetry.redaction import HIDDEN, learn, redacted
from providers.contract import ProviderSettings
from tests.support.logs import logged

SIGNING = 'sign "this" with it, é and 24 bytes'


class Account(ProviderSettings):
    """A provider's own section."""

    api_key: SecretStr


@pytest.fixture(autouse=True)
def _nothing_known() -> Iterator[None]:
    """What other tests have made known does not help here, and what these do does not stay."""
    before = list(redaction._known)
    redaction._known.clear()
    yield
    redaction._known[:] = before


def settings() -> Settings:
    return Settings.model_validate(
        {
            "security": {"signing_secret": SIGNING},
            "store": {"url": "postgresql://vidgate:pass-word-1@db/vidgate"},
            "bus": {"url": "redis://:pass-word-2@cache:6379/0"},
            "telemetry": {"metrics_token": "scraper-0123", "otlp_headers": "x-key=a%20collector,x-team=video-team"},
            "money": {"usage_webhook": {"url": "https://meter.test/in", "secret": new_webhook_secret()}},
        }
    )


def test_secrets_of_the_configuration_are_known_by_their_value() -> None:
    """Typed secrets, passwords in addresses, headers one by one and unquoted, a provider's own."""
    learn(settings(), Account(api_key=SecretStr("vendor-key-0123")))
    for secret in ("pass-word-1", "pass-word-2", "scraper-0123", "a collector", "a%20collector", "vendor-key-0123"):
        assert redacted(f"it is {secret}.") == f"it is {HIDDEN}."


@pytest.mark.parametrize("spelt", [str, repr, json.dumps, lambda text: repr(text.encode())], ids=range(4))
def test_a_secret_is_found_however_a_library_prints_it(spelt: object) -> None:
    """As it is, in Python's quotes, in JSON, with its bytes."""
    learn(settings())
    assert callable(spelt)
    told = redacted(f"said {spelt(SIGNING)} twice {spelt(SIGNING)}")
    assert "with it" not in told
    assert told.count(HIDDEN) == 2


def test_a_secret_that_is_part_of_another_leaves_nothing_behind() -> None:
    """The longer one goes first, in whatever order they became known."""
    learn(Account(api_key=SecretStr("vendor-key")))
    learn(Account(api_key=SecretStr("vendor-key-and-more")))
    assert redacted("x vendor-key-and-more y vendor-key z") == f"x {HIDDEN} y {HIDDEN} z"


def test_what_is_too_short_to_be_told_from_words_is_left() -> None:
    """A key of three letters would take every third word away."""
    learn(Account(api_key=SecretStr("key")))
    assert redacted("the key of a team") == "the key of a team"


SHAPES = {
    "a team's key": ("wrong key {} given", new_key()),
    "a webhook's secret": ("signed with {}", new_webhook_secret()),
    "a bearer token": ("headers [(b'authorization', b'Bearer {}')]", "abcdefgh.ijklm-nop"),
    "a signed link": ("GET {} 200", Links("s" * 24, "http://h").input_url("a.png", 9e9).partition("signature=")[2]),
    "a result": ('HTTP Request: GET https://files.test/out/{}.mp4 "HTTP/1.1 200 OK"', "3f9a-result"),
    "a result's query": ("see https://files.test?{}", "X-Amz-Signature=0123456789"),
    "a user in an address": ("cannot reach amqp://{}@host:1/x", "user:password"),
    "a callback": ("path='/callbacks/att_1/{}'", "00112233445566778899aabbccddeeff"),
    "a picture's link": ("'/inputs/abc.png?{}'", "expires=1&other=0123456789"),
}


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_what_comes_and_goes_is_known_by_its_form(name: str) -> None:
    """Only the secret goes; the line around it stays readable."""
    line, secret = SHAPES[name]
    text = line.format(f"http://h/inputs/a.png?expires=1&signature={secret}" if name == "a signed link" else secret)
    told = redacted(text)
    assert secret not in told
    assert HIDDEN in told
    assert told[:4] == text[:4]


def test_of_an_address_the_host_is_left() -> None:
    """An operator can see who was asked."""
    assert redacted("GET https://api.vendor.test:8443/v2/x?y=1 failed") == (
        f"GET https://api.vendor.test:8443/{HIDDEN} failed"
    )
    assert redacted("at http://127.0.0.1:8080 and http://host/") == "at http://127.0.0.1:8080 and http://host/"


@given(
    st.text(alphabet="abcdefghijklmnopqrstuvwxyz _-.:/{}\"'0123456789", max_size=200).filter(lambda t: "//" not in t)
)
def test_innocent_words_are_left_alone(text: str) -> None:
    """No address, no key: the line is the line."""
    suspicious = ("//", "vg_", "whsec_", "bearer", "basic", "callbacks", "inputs")
    if not any(word in text for word in suspicious):
        assert redacted(text) == text


@pytest.mark.parametrize(
    "piece", ["a", "a.", "://", "https://", "https://a", "x@", "vg_", "whsec_", "bearer ", "/callbacks/", "token="]
)
def test_a_line_of_any_length_is_no_burden(piece: str) -> None:
    """What a client or a vendor made long is searched once: a form that looked back would take minutes here."""
    text = piece * (300_000 // len(piece))
    assert redacted(text)[:1] == text[:1]


def test_every_way_into_the_log_is_guarded() -> None:
    """The service's own lines, a library's, and a traceback."""
    learn(settings())
    with logged() as kept:
        structlog.get_logger().warning("said", url="https://files.test/secret-1.mp4", key="scraper-0123")
        logging.getLogger("a.library").error("sent %s", {"key": "pass-word-1"})
        try:
            raise ValueError("told by scraper-0123")
        except ValueError:
            structlog.get_logger().exception("failed")
    assert "files.test" in kept.text
    assert "Traceback" in kept.text
    for secret in ("secret-1", "scraper-0123", "pass-word-1"):
        assert secret not in kept.text
    assert [line["event"] for line in kept.lines()] == ["said", "failed"]


def test_a_terminal_is_guarded_too() -> None:
    """Colours and all."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    learn(settings())
    out = Terminal()
    with logged():
        log_to(out)
        structlog.get_logger().warning("said", key="scraper-0123")
    assert "said" in out.getvalue()
    assert "scraper-0123" not in out.getvalue()
