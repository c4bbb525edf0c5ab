"""The credit guard: what an account can still pay for, and what its last money is worth."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from policies.estimates import LN_2, fading
from policies.settings import RoutingSettings


@dataclass(frozen=True, slots=True)
class CreditState:
    """What is left of an account after the renders in flight, and how long that lasts. None means not metered."""

    free_micros: int | None
    runway_s: float | None


class Burn:
    """A decayed spending rate of one account."""

    __slots__ = ("_at", "_half_life_s", "_spent")

    def __init__(self, half_life_s: float) -> None:
        self._half_life_s = half_life_s
        self._spent = 0.0
        self._at = 0.0

    def spend(self, amount_micros: int, at: float) -> None:
        """Take in one bill."""
        self._spent = self._faded(at) + amount_micros
        self._at = max(at, self._at)

    def rate_per_s(self, now: float) -> float:
        """Micro-USD per second, over about one and a half half-lives."""
        self._at = min(self._at, now)  # after a clock was set back, what was spent fades from here on
        return self._faded(now) * LN_2 / self._half_life_s

    def _faded(self, now: float) -> float:
        return self._spent * fading(now - self._at, self._half_life_s)


def credit_state(balance_micros: int | None, committed_micros: int, burn: Burn, now: float) -> CreditState:
    """The balance less what is in flight, and its runway at the present burn rate."""
    if balance_micros is None:
        return CreditState(None, None)
    free_micros = balance_micros - committed_micros
    rate = burn.rate_per_s(now)
    return CreditState(free_micros, max(0.0, free_micros / rate) if rate > 0.0 else None)


def most_micros(state: CreditState, settings: RoutingSettings) -> float:
    """The highest price that leaves the account its floor and a small reserve, micro-USD."""
    if state.free_micros is None:
        return inf
    return (state.free_micros - settings.credit_floor_micros) / (1.0 + settings.credit_reserve)


def scarcity(state: CreditState, settings: RoutingSettings) -> float:
    """How many times its face value money counts: more as the runway shortens, so that the last goes where needed."""
    if state.runway_s is None or state.runway_s >= settings.credit_runway_s:
        return 1.0
    return 1.0 + settings.credit_scarcity * (1.0 - state.runway_s / settings.credit_runway_s)
