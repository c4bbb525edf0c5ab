"""Idempotency keys: how they are read, told apart and kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from gateway.money.idempotency import (
    LIFETIME_S,
    Fresh,
    InvalidKeyError,
    Mismatch,
    Replay,
    claim,
    fingerprint,
    parse_key,
    peek,
    restate,
)
from tests.unit.money.builders import NOON

visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255)


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("abc", "abc"),
        ('"abc"', "abc"),
        ("  abc ", "abc"),
        (r'"a\"b\\c"', r'a"b\c'),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ("x" * 255, "x" * 255),
    ],
)
def test_a_key_is_read_quoted_and_bare(header: str, key: str) -> None:
    """The draft's quoted string and the bare value of most clients mean the same key."""
    assert parse_key(header) == key


@pytest.mark.parametrize("header", ["", '""', "a b", '"a b"', "x" * 256, "ключ", '"open', '"a"b"', "a\x00b", '"a\\b"'])
def test_what_is_no_key_is_refused(header: str) -> None:
    """Empty, blank, long, broken and invisible keys are told so."""
    with pytest.raises(InvalidKeyError, match="1 to 255 visible ASCII"):
        parse_key(header)


@given(visible)
def test_a_quoted_key_is_the_key(key: str) -> None:
    """Quoting changes nothing."""
    quoted = '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
    assert parse_key(quoted) == key


@given(st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.text(max_size=5), st.booleans())))
def test_a_fingerprint_does_not_depend_on_the_order_of_fields(body: dict[str, object]) -> None:
    """The same request in another order of fields is the same request."""
    backwards = dict(reversed(body.items()))
    assert fingerprint("post", "/a", body) == fingerprint("POST", "/a", backwards)


def test_a_fingerprint_depends_on_method_path_and_every_value() -> None:
    """Anything else is another request; 1 and "1" are different values."""
    prints = {
        fingerprint("POST", "/a", {"fps": 7}),
        fingerprint("PUT", "/a", {"fps": 7}),
        fingerprint("POST", "/b", {"fps": 7}),
        fingerprint("POST", "/a", {"fps": 8}),
        fingerprint("POST", "/a", {"fps": "7"}),
        fingerprint("POST", "/a", {}),
        fingerprint("POST", "/a", None),
    }
    assert len(prints) == 7


ACCEPTED = Replay(202, bytes(range(256)), {"location": "/jobs/1"})
REFUSED = Replay(402, b"one", {})


def test_a_replay_is_byte_equal(connection: Connection) -> None:
    """Status, body and headers come back as they were."""
    assert claim(connection, "beta", "key", "f", NOON, ACCEPTED) == Fresh()
    assert claim(connection, "beta", "key", "f", NOON, REFUSED) == ACCEPTED


def test_the_first_answer_stays_unless_its_own_transaction_restates_it(connection: Connection) -> None:
    """What a later request would have been answered changes nothing."""
    claim(connection, "beta", "key", "f", NOON, ACCEPTED)
    restate(connection, "beta", "key", REFUSED)
    assert claim(connection, "beta", "key", "f", NOON, ACCEPTED) == REFUSED
    assert peek(connection, "beta", "key", "f", NOON) == REFUSED


def test_another_request_with_the_same_key_is_a_mismatch(connection: Connection) -> None:
    """A key never covers two requests."""
    claim(connection, "beta", "key", "f", NOON, ACCEPTED)
    assert claim(connection, "beta", "key", "g", NOON, ACCEPTED) == Mismatch()
    assert peek(connection, "beta", "key", "g", NOON) == Mismatch()


def test_a_key_of_another_team_is_another_key(connection: Connection) -> None:
    """A team sees nothing of what another team did under the same key."""
    claim(connection, "alpha", "key", "f", NOON, ACCEPTED)
    assert claim(connection, "beta", "key", "f", NOON, REFUSED) == Fresh()


def test_a_key_is_new_after_a_day_and_not_before(connection: Connection) -> None:
    """24 hours, to the instant."""
    claim(connection, "beta", "key", "f", NOON, REFUSED)
    assert claim(connection, "beta", "key", "f", NOON + LIFETIME_S - 0.001, ACCEPTED) == REFUSED
    assert claim(connection, "beta", "key", "g", NOON + LIFETIME_S, ACCEPTED) == Fresh()
    assert claim(connection, "beta", "key", "g", NOON + LIFETIME_S, REFUSED) == ACCEPTED
