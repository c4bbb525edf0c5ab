"""From `bus.url` to a bus, or to the sentence that says what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from random import Random
from typing import TYPE_CHECKING

from gateway.bus.contract import Bus, BusError
from gateway.bus.memory import MemoryBus
from gateway.bus.urls import SCHEMES, parse_url
from gateway.clock import Clock

if TYPE_CHECKING:  # the driver is loaded only when used
    from gateway.bus.links import Link

MEMORY_URL = "memory://"
NO_PACKAGE = "needs the redis package, which is not installed: pip install 'vidgate[redis]'"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a bus is told about its replica: who it is among the others, time and chance."""

    origin: str
    clock: Clock
    random: Random
    namespace: str = "vidgate"
    lease_s: float = 15.0


def bus_fault(url: str) -> str | None:
    """What is wrong with a `bus.url`, as the rest of a sentence about it; None for one that can be used."""
    if url == MEMORY_URL:
        return None
    if url.partition("://")[0] not in SCHEMES:
        return f"must be {MEMORY_URL} or begin with {', '.join(f'{name}://' for name in SCHEMES)}"
    try:
        parse_url(url)
    except ValueError as error:
        return str(error)
    return None if find_spec("redis") is not None else NO_PACKAGE


def _as_it_is(link: Link) -> Link:
    return link


def open_bus(url: str, around: Surroundings, *, wrap: Callable[[Link], Link] = _as_it_is) -> Bus:
    """The bus that a URL names; nothing is sent before its `start`. `wrap` stands around the connection to a server.

    Raises BusError for a URL that cannot be used.
    """
    fault = bus_fault(url)
    if fault is not None:
        raise BusError(f"bus.url {fault}")
    if url == MEMORY_URL:
        return MemoryBus()
    from gateway.bus.links import connect  # noqa: PLC0415
    from gateway.bus.redis import RedisBus  # noqa: PLC0415

    return RedisBus(wrap(connect(parse_url(url))), around)
