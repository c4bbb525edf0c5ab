"""Slots and rates that all replicas share, as Lua over sorted sets; the clock is Redis's own.

A slot is a member of its route's set, with the end of its lease as score; a call is a member of its account's set, with
the time it was made. Both keys carry the account as their hash tag, so that a script touches one slot of a Cluster.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.bus.contract import Limits, NoSlot, Slot

MINUTE_MS = 60_000
# A render ends at a time that nobody knows: who finds a route full asks again after this long.
FULL_WAIT_MS = 1_000

_NOW = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000) "

# KEYS: slots, calls. ARGV: attempt, lease ms, concurrency (0: none), calls a minute (0: none), wait when full, minute.
# Answers {wait ms, busy}: 0 when the slot is taken. An attempt that has a slot keeps it; its call counts all the same.
TAKE = (
    _NOW
    + """
local attempt, lease, most, calls = ARGV[1], ARGV[2] + 0, ARGV[3] + 0, ARGV[4] + 0
local full, minute = ARGV[5] + 0, ARGV[6] + 0
if most > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
  local busy = redis.call('ZCARD', KEYS[1])
  if busy >= most and not redis.call('ZSCORE', KEYS[1], attempt) then return {full, busy} end
end
if calls > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - minute)
  local made = redis.call('ZCARD', KEYS[2])
  if made >= calls then
    local first = redis.call('ZRANGE', KEYS[2], made - calls, made - calls, 'WITHSCORES')
    return {math.max(1, first[2] + minute - now), 0}
  end
  redis.call('ZADD', KEYS[2], now, attempt .. ':' .. t[1] .. t[2])
  redis.call('PEXPIRE', KEYS[2], minute)
end
if most > 0 then
  redis.call('ZADD', KEYS[1], now + lease, attempt)
  redis.call('PEXPIRE', KEYS[1], 2 * lease)
end
return {0, 0}
"""
)

# KEYS: slots. ARGV: lease ms, attempts. Puts back what a restart of Redis forgot.
RENEW = (
    _NOW
    + """
for place = 2, #ARGV do redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[place]) end
redis.call('PEXPIRE', KEYS[1], 2 * ARGV[1])
return #ARGV - 1
"""
)


@dataclass(slots=True)
class SlotTable:
    """The slots that this replica holds, and the commands with which it takes, keeps and frees them."""

    namespace: str
    lease_s: float
    _held: dict[str, Slot] = field(default_factory=dict)
    _freed: dict[str, Slot] = field(default_factory=dict)
    _renewing: bool = False

    def taking(self, slot: Slot, limits: Limits) -> list[object]:
        """The command that takes a slot, which is held from now on: it may be taken even if no answer comes back."""
        self._freed.pop(slot.attempt, None)
        if limits.concurrency_max is not None:
            self.hold(slot)
        numbers = (limits.concurrency_max or 0, limits.requests_per_minute or 0)
        keys = (self._slots(slot), f"{self.namespace}:{{{slot.account}}}:calls")
        return ["EVAL", TAKE, 2, *keys, slot.attempt, self._lease_ms(), *numbers, FULL_WAIT_MS, MINUTE_MS]

    def answered(self, slot: Slot, reply: list[int]) -> NoSlot | None:
        """What the answer to `taking` means."""
        wait_ms, busy = reply
        if wait_ms <= 0:
            return None
        self._held.pop(slot.attempt, None)
        return NoSlot(wait_ms / 1000.0, busy)

    def hold(self, slot: Slot) -> None:
        """Renew this slot from now on."""
        self._freed.pop(slot.attempt, None)
        self._held[slot.attempt] = slot

    def free(self, attempt: str, *, handed_over: bool) -> bool:
        """Renew no longer, and give the slot back unless another replica keeps it; whether there is something to do."""
        slot = self._held.pop(attempt, None)
        if slot is None or handed_over:
            return False
        self._freed[attempt] = slot
        return True

    def renew(self) -> bool:
        """Renew everything with the next commands; whether there is anything."""
        self._renewing = bool(self._held)
        return self._renewing

    def commands(self) -> list[list[object]]:
        """What is to be sent now: the freed slots, then the renewals."""
        freed, self._freed = self._freed, {}
        found: list[list[object]] = [["ZREM", key, *names] for key, names in self._by_key(freed).items()]
        if self._renewing:
            self._renewing = False
            held = self._by_key(self._held)
            found += [["EVAL", RENEW, 1, key, self._lease_ms(), *names] for key, names in held.items()]
        return found

    def _by_key(self, slots: dict[str, Slot]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for attempt, slot in slots.items():
            found.setdefault(self._slots(slot), []).append(attempt)
        return found

    def _slots(self, slot: Slot) -> str:
        return f"{self.namespace}:{{{slot.account}}}:slots:{slot.route}"

    def _lease_ms(self) -> int:
        return int(self.lease_s * 1000)
