"""Addresses of Redis are read exactly, and a wrong one is a sentence that never repeats it."""

from __future__ import annotations

import importlib.util
from random import Random
from typing import Any

import pytest

from gateway.bus.contract import BusError
from gateway.bus.memory import MemoryBus
from gateway.bus.open import Surroundings, bus_fault, open_bus
from gateway.bus.urls import Address, parse_url
from gateway.clock import SystemClock

AROUND = Surroundings("me", SystemClock(), Random(1))


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://host", Address("single", (("host", 6379),))),
        ("redis://host:7000/3", Address("single", (("host", 7000),), db=3)),
        ("rediss://host/0", Address("single", (("host", 6379),), tls=True)),
        ("redis://:p%40ss@host", Address("single", (("host", 6379),), password="p@ss")),
        ("redis://u:p:q@[::1]:7000", Address("single", (("::1", 7000),), username="u", password="p:q")),
        ("redis://[::1]", Address("single", (("::1", 6379),))),
        ("unix:///run/redis.sock?db=2", Address("socket", path="/run/redis.sock", db=2)),
        ("redis+sentinel://a,b:2/m", Address("sentinel", (("a", 26_379), ("b", 2)), master="m")),
        ("rediss+sentinel://a/m/4", Address("sentinel", (("a", 26_379),), tls=True, db=4, master="m")),
        ("redis+cluster://a:1,b", Address("cluster", (("a", 1), ("b", 6379)))),
        ("rediss+cluster://:p@a:1", Address("cluster", (("a", 1),), tls=True, password="p")),
    ],
)
def test_every_form_of_an_address_is_read(url: str, address: Address) -> None:
    """One server, a socket, Sentinels, a Cluster; with and without TLS, credentials and ports."""
    assert parse_url(url) == address


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://secret@host", "must begin with"),
        ("redis://secret@", "must name a host"),
        ("redis://:secret@host:port", "must name a host"),
        ("redis://:secret@host:99999", "must name a host"),
        ("redis://:secret@a,b", "several servers"),
        ("redis://:secret@host/one", "number of a database"),
        ("redis://:secret@host/1/2", "number of a database"),
        ("redis+sentinel://:secret@host", "name the master"),
        ("redis+cluster://:secret@host/1", "no numbered databases"),
        ("unix://?secret", "must name a socket"),
    ],
)
def test_a_wrong_address_is_a_sentence_without_the_secret(url: str, said: str) -> None:
    """What is wrong is said; the password that may stand in a URL is not."""
    with pytest.raises(ValueError, match=said) as error:
        parse_url(url)
    assert "secret" not in str(error.value)
    assert said in str(bus_fault(url)) or url.startswith("http")


def test_a_password_is_not_shown_with_its_address() -> None:
    """An address may be logged."""
    assert "hidden" not in repr(parse_url("redis://:hidden@host"))


def test_the_bus_of_one_process_needs_nothing() -> None:
    """The usual bus has no server and no driver."""
    assert bus_fault("memory://") is None
    assert isinstance(open_bus("memory://", AROUND), MemoryBus)


def test_a_bus_that_there_is_not_says_what_there_is() -> None:
    """The error names the setting and every way to write it."""
    with pytest.raises(BusError, match=r"bus\.url must be memory:// or begin with redis://"):
        open_bus("nats://host", AROUND)


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis is an extra: without it the error says what to install."""
    real = importlib.util.find_spec

    def without_redis(name: str, *more: Any) -> Any:
        return None if name == "redis" else real(name, *more)

    monkeypatch.setattr("gateway.bus.open.find_spec", without_redis)
    with pytest.raises(BusError, match=r"pip install 'vidgate\[redis\]'"):
        open_bus("redis://host", AROUND)
