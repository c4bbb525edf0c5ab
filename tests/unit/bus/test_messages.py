"""What replicas say to each other survives the way, and what they do not understand is left out."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.bus.contract import TOPICS, Topic
from gateway.bus.messages import Message, decode, encode
from policies.values import FailureKind, Observation, ObservationKind

FINITE = st.floats(allow_nan=False, allow_infinity=False)
FACTS = st.builds(
    Observation,
    kind=st.sampled_from(get_args(ObservationKind)),
    at=FINITE,
    route=st.text(),
    account=st.text(),
    job=st.text(),
    attempt=st.text(),
    elapsed_s=FINITE,
    failure=st.none() | st.sampled_from(get_args(FailureKind)),
    retry_after_s=st.none() | FINITE,
    eta_s=st.none() | FINITE,
    billed_micros=st.integers(0, 10**15),
    balance_micros=st.none() | st.integers(-(10**15), 10**15),
    size_class=st.text(),
    price_micros=st.integers(0, 10**15),
)
WAKES = st.lists(st.tuples(st.sampled_from(sorted(TOPICS)), st.text()), max_size=5).map(tuple)


@given(origin=st.text(), number=st.integers(0), wakes=WAKES, facts=st.lists(FACTS, max_size=5).map(tuple))
def test_a_message_arrives_as_it_was_sent(origin: str, number: int, wakes: Any, facts: Any) -> None:
    """Every observation of every kind, with all its fields, and every wake-up."""
    message = Message(origin, number, wakes, facts)
    assert decode(encode(message)) == message


def test_every_field_of_an_observation_can_travel() -> None:
    """The strategy above knows all of them: a new field is tested the day it is there."""
    assert {field.name for field in fields(Observation)} == set(FACTS.wrapped_strategy.kwargs)  # type: ignore[attr-defined]
    assert set(get_args(Topic)) == TOPICS


def test_a_message_is_compact() -> None:
    """What has its usual value is not sent: a fact is some sixty bytes and not three hundred."""
    fact = Observation("dispatched", 1.5, "alpha/one", "alpha")
    assert encode(Message("me", 7, (), (fact,))) == (
        b'{"v":1,"o":"me","n":7,"f":[{"kind":"dispatched","at":1.5,"route":"alpha/one","account":"alpha"}]}'
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"v":2,"o":"me","n":1}',
        b'{"o":"me","n":1}',
        b'{"v":1,"o":5,"n":1}',
        b'{"v":1,"o":"me","n":"x"}',
        b'{"v":1,"o":"me","n":NaN}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_message_is_left_alone(data: bytes) -> None:
    """Another version, another program, or nonsense: nothing happens."""
    assert decode(data) is None


def test_unknown_fields_kinds_and_topics_are_left_out() -> None:
    """A newer replica may say more; what is known of it is still taken in."""
    known = {"kind": "succeeded", "at": 2.0, "route": "a/b", "account": "a"}
    body = {
        "v": 1,
        "o": "newer",
        "n": 3,
        "later": True,
        "w": [["job", "j1"], ["moon", "x"], ["job"], "job", ["job", 5], ["cancel", "j2"]],
        "f": [{**known, "mood": "good"}, {**known, "kind": "dreamt"}, {**known, "at": "soon"}, 7, {}],
    }
    message = decode(json.dumps(body).encode())
    assert message == Message(
        "newer", 3, (("job", "j1"), ("cancel", "j2")), (Observation("succeeded", 2.0, "a/b", "a"),)
    )


@given(st.recursive(st.none() | st.booleans() | FINITE | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_no_shape_of_wakes_or_facts_raises(shape: Any) -> None:
    """Whatever stands where wake-ups and facts should be."""
    body = {"v": 1, "o": "x", "n": 1, "w": shape, "f": shape}
    assert decode(json.dumps(body).encode()) == Message("x", 1)
