"""Identifiers: a kind, a time that sorts, and 80 random bits."""

from __future__ import annotations

import secrets

from providers.contract import Clock


class Ids:
    """Makes identifiers such as `job_0197f2c4a1b2…`: unguessable, and in the order of time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def new(self, kind: str) -> str:
        """A new identifier of this kind."""
        return id_at(kind, self._clock.now())


def id_at(kind: str, at: float) -> str:
    """An identifier of this kind for this time (unix seconds)."""
    return f"{kind}_{int(at * 1000):012x}{secrets.token_hex(10)}"


def first_id_at(kind: str, at: float) -> str:
    """What every identifier of this kind that is drawn at this time or later is not before."""
    return f"{kind}_{max(0, int(at * 1000)):012x}"
