"""What travels between replicas: compact JSON with a version. What is not understood is left out, never an error.

{"v": 1, "o": origin, "n": number, "w": [[topic, name], ...], "f": [{observation}, ...]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from pydantic import TypeAdapter, ValidationError

from gateway.bus.contract import TOPICS
from policies.values import Observation

VERSION = 1
_OBSERVATION = TypeAdapter(Observation)
_FIELDS = tuple((one.name, one.default) for one in fields(Observation))


@dataclass(frozen=True, slots=True)
class Message:
    """One message: who says it, how many it said before, whom it wakes, and what was observed."""

    origin: str
    number: int
    wakes: tuple[tuple[str, str], ...] = ()
    facts: tuple[Observation, ...] = ()


def encode(message: Message) -> bytes:
    """The message as bytes; a field with its default value is left out."""
    facts = [_fields(fact) for fact in message.facts]
    body: dict[str, Any] = {"v": VERSION, "o": message.origin, "n": message.number}
    if message.wakes:
        body["w"] = message.wakes
    if facts:
        body["f"] = facts
    return json.dumps(body, separators=(",", ":")).encode()


def decode(data: bytes) -> Message | None:
    """The message in these bytes; None for what another version or somebody else wrote."""
    try:
        body = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict) or body.get("v") != VERSION:
        return None
    origin, number = body.get("o"), body.get("n")
    if not isinstance(origin, str) or not isinstance(number, int):
        return None
    return Message(origin, number, tuple(_wakes(body.get("w"))), tuple(_facts(body.get("f"))))


def _fields(fact: Observation) -> dict[str, Any]:
    values = ((name, getattr(fact, name), default) for name, default in _FIELDS)
    return {name: value for name, value, default in values if value != default}


def _wakes(given: object) -> Iterable[tuple[str, str]]:
    for pair in given if isinstance(given, list) else ():
        match pair:
            case [str(topic), str(name)] if topic in TOPICS:
                yield topic, name


def _facts(given: object) -> Iterable[Observation]:
    for values in given if isinstance(given, list) else ():
        try:
            yield _OBSERVATION.validate_python(values)
        except ValidationError:  # a kind that a newer release has, or nonsense
            continue


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")
