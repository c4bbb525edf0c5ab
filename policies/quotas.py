"""How many requests a caller has left: a bucket of a quota that leaks evenly over its window, in whole numbers. Pure.

A quota of 100 a minute lets 100 come at once and one more every 0.6 s. In any stretch of time no more are taken than
the quota and what leaked away meanwhile. The level is counted in requests times the window, so that nothing is ever
rounded: two replicas, and the Lua in Redis, come to the very same answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Quota:
    """So many requests in a window, seconds."""

    requests: int
    window_s: int

    @property
    def window_us(self) -> int:
        """The window in microseconds."""
        return self.window_s * MICROSECONDS


@dataclass(frozen=True, slots=True)
class Meter:
    """What was taken of a quota and has not leaked away: `level` in requests times the window, as of `at_us`."""

    level: int = 0
    at_us: int = 0


@dataclass(frozen=True, slots=True)
class Left:
    """How a caller stands with a quota: requests left, until it is whole again, and until the next one is free."""

    requests: int
    whole_us: int
    wait_us: int

    @property
    def reset_s(self) -> int:
        """Seconds, rounded up, until the quota is whole again, or with nothing left until there is something."""
        return -(-(self.whole_us if self.requests else self.wait_us) // MICROSECONDS)


def leaked(meter: Meter, quota: Quota, now_us: int) -> Meter:
    """The meter at another time. A clock set back stops the leak for that moment and no longer."""
    passed_us = max(0, now_us - meter.at_us)
    return Meter(max(0, meter.level - quota.requests * passed_us), now_us)


def left(meter: Meter, quota: Quota) -> Left:
    """How things stand at the meter's own time."""
    full = quota.requests * quota.window_us
    over = meter.level + quota.window_us - full
    return Left(
        requests=max(0, full - meter.level) // quota.window_us,
        whole_us=-(-meter.level // quota.requests),
        wait_us=max(0, -(-over // quota.requests)),
    )


def draw(meters: Sequence[Meter], quotas: Sequence[Quota], now_us: int) -> tuple[bool, list[Meter], list[Left]]:
    """Take one request of every quota or of none: whether it was taken, the meters, and how each stands now."""
    pairs = list(zip(meters, quotas, strict=True))
    before = [leaked(meter, quota, now_us) for meter, quota in pairs]
    taken = all(left(meter, quota).wait_us == 0 for meter, quota in zip(before, quotas, strict=True))
    if taken:
        before = [Meter(meter.level + quota.window_us, now_us) for meter, quota in zip(before, quotas, strict=True)]
    return taken, before, [left(meter, quota) for meter, quota in zip(before, quotas, strict=True)]
