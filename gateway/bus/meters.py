"""Requests counted against quotas: in this process, and as Lua for all replicas, whose clock is then Redis's own.

The Lua is `policies.quotas.draw` in whole numbers that a double holds exactly. The meters of a team and of its keys
carry the team as their hash tag, so that the script touches one slot of a Cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.bus.contract import Draw, Drawn
from policies.quotas import MICROSECONDS, Meter, draw, left

KEPT_MAX = 10_000
FORGOTTEN_US = 2 * 3600 * MICROSECONDS  # the longest window is an hour

# KEYS: meters. ARGV: requests and window in microseconds of each. Answers 1 or 0, then the level of each.
DRAW = """
local t = redis.call('TIME')
local now, levels, taken = t[1] * 1000000 + t[2], {}, 1
for place, key in ipairs(KEYS) do
  local requests, window = ARGV[2 * place - 1] + 0, ARGV[2 * place] + 0
  local kept = redis.call('HMGET', key, 'level', 'at')
  local level = math.max(0, (kept[1] or 0) - requests * math.max(0, now - (kept[2] or 0)))
  if level + window > requests * window then taken = 0 end
  levels[place] = level
end
for place, key in ipairs(KEYS) do
  local requests, window = ARGV[2 * place - 1] + 0, ARGV[2 * place] + 0
  if taken == 1 then levels[place] = levels[place] + window end
  redis.call('HSET', key, 'level', string.format('%.0f', levels[place]), 'at', string.format('%.0f', now))
  redis.call('PEXPIRE', key, math.ceil(levels[place] / requests / 1000) + 1)
end
local told = {taken}
for place = 1, #KEYS do told[place + 1] = string.format('%.0f', levels[place]) end
return told
"""


@dataclass(slots=True)
class Meters:
    """The meters of this process, by name."""

    _kept: dict[str, Meter] = field(default_factory=dict)
    _sweep_at: int = KEPT_MAX

    def draw(self, draws: Sequence[Draw], now_s: float) -> Drawn:
        """Take one request of every quota or of none."""
        now_us = int(now_s * MICROSECONDS)
        if len(self._kept) > self._sweep_at:
            self._forget(now_us)
        meters = [self._kept.get(one.name, Meter()) for one in draws]
        taken, after, standing = draw(meters, [one.quota for one in draws], now_us)
        for one, meter in zip(draws, after, strict=True):
            self._kept[one.name] = meter
        return Drawn(taken, tuple(standing))

    def _forget(self, now_us: int) -> None:
        """Let go of meters that nobody has touched for so long that they are empty."""
        self._kept = {name: one for name, one in self._kept.items() if abs(now_us - one.at_us) < FORGOTTEN_US}
        self._sweep_at = max(KEPT_MAX, 2 * len(self._kept))


def drawing(namespace: str, draws: Sequence[Draw]) -> list[object]:
    """The command that takes one request of every quota or of none, over all replicas."""
    names = [f"{namespace}:{{{one.team}}}:quota:{one.name}" for one in draws]
    numbers = [number for one in draws for number in (one.quota.requests, one.quota.window_us)]
    return ["EVAL", DRAW, len(names), *names, *numbers]


def drawn(draws: Sequence[Draw], reply: Sequence[bytes | int]) -> Drawn:
    """What the answer to `drawing` means."""
    taken, *levels = reply
    standing = (left(Meter(int(level)), one.quota) for level, one in zip(levels, draws, strict=True))
    return Drawn(bool(taken), tuple(standing))
