"""The bus between replicas, over Redis: one channel for wake-ups and observations, Lua for slots.

Telling is fire and forget: what is published waits in bounded memory for one task that sends all of it at once, and is
dropped when Redis cannot be reached. A replica believes in its bus as long as it hears its own messages come back; when
it does not, it says so once, falls back to what it knows itself, and goes on trying with jitter.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import structlog
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.bus import meters
from gateway.bus.contract import Draw, Drawn, Limits, NoSlot, Slot, Topic
from gateway.bus.links import FAULTS, Link
from gateway.bus.memory import MemoryBus
from gateway.bus.messages import Message, decode, encode
from gateway.bus.open import Surroundings
from gateway.bus.slots import SlotTable
from policies.values import Observation

log = structlog.get_logger()

PING_S = 1.0
SILENT_S = 3.5  # a replica says something at least every PING_S and hears it; this long without it is a fault
START_WAIT_S = 1.0
# After each message: what is published meanwhile goes in one, so that a busy replica is not a flood for the others. The
# first word after a silence does not wait.
BREATH_S = 0.005
TAKE_TIMEOUT_S = 0.5
DRAW_TIMEOUT_S = 0.25  # somebody waits for an answer
SEND_TIMEOUT_S = 2.0
BACKOFF_BASE_S, BACKOFF_CAP_S = 0.25, 4.0
WAKES_MAX, FACTS_MAX = 10_000, 5_000
WAKES_A_MESSAGE, FACTS_A_MESSAGE = 500, 200
CALLS_AT_ONCE = 16


class SilenceError(RedisConnectionError):
    """Nothing was heard for too long, though this replica itself speaks."""


@dataclass(slots=True)
class _Outgoing:
    """What waits to be told: the newest of it when there is too much."""

    wakes: dict[tuple[str, str], None] = field(default_factory=dict)
    facts: deque[Observation] = field(default_factory=lambda: deque(maxlen=FACTS_MAX))

    def take(self, origin: str, number: int) -> Message:
        """The next message; what is in it waits no longer."""
        wakes = tuple(islice(self.wakes, WAKES_A_MESSAGE))
        for wake in wakes:
            del self.wakes[wake]
        facts = tuple(self.facts.popleft() for _ in range(min(FACTS_A_MESSAGE, len(self.facts))))
        return Message(origin, number, wakes, facts)


class RedisBus(MemoryBus):
    """The bus of one replica among several."""

    recheck_s = 1.0

    def __init__(self, link: Link, around: Surroundings) -> None:
        super().__init__()
        self._link = link
        self._around = around
        self._channel = f"{around.namespace}:bus"
        self._table = SlotTable(around.namespace, around.lease_s)
        self._out = _Outgoing()
        self._work = asyncio.Event()
        self._connected = asyncio.Event()
        self._calls = asyncio.Semaphore(CALLS_AT_ONCE)
        self._fact_acts: list[Callable[[Observation], None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._number = 0
        self._trusted_from = 0
        self._echo_at = around.clock.now()
        self._said_degraded = False

    @property
    def degraded(self) -> bool:
        """Whether the others cannot be reached now."""
        return not self._connected.is_set()

    def publish(self, topic: Topic, name: str) -> None:
        """Wake everyone who listens here, and everyone elsewhere as soon as Redis passes it on."""
        self._wake(topic, name)
        if len(self._out.wakes) < WAKES_MAX:
            self._out.wakes[topic, name] = None
        self._work.set()

    def share(self, fact: Observation) -> None:
        """Tell the other replicas what was observed here."""
        self._out.facts.append(fact)
        self._work.set()

    def on_fact(self, act: Callable[[Observation], None]) -> None:
        """Call this with every observation of another replica."""
        self._fact_acts.append(act)

    # Slots

    async def take(self, slot: Slot, limits: Limits) -> NoSlot | None:
        """Take a slot within limits that all replicas share; None also while Redis is away: each keeps its own then."""
        command = self._table.taking(slot, limits)
        if self.degraded:
            return None
        try:
            async with asyncio.timeout(TAKE_TIMEOUT_S), self._calls:
                reply = await self._link.execute(*command)
        except FAULTS as error:
            self._lost(error)
            return None
        return self._table.answered(slot, reply)

    async def draw(self, draws: Sequence[Draw], now_s: float) -> Drawn:
        """Take one request of every quota or of none, over all replicas; while Redis is away each counts its own."""
        if not self.degraded:
            command = meters.drawing(self._around.namespace, draws)
            try:
                async with asyncio.timeout(DRAW_TIMEOUT_S), self._calls:
                    return meters.drawn(draws, await self._link.execute(*command))
            except TimeoutError:  # a busy moment, or a Redis that will be missed soon: this caller waits no longer
                log.debug("bus.draw_timeout")
            except FAULTS as error:
                self._lost(error)
        return await super().draw(draws, now_s)

    def hold(self, slot: Slot) -> None:
        """Keep the slot of an attempt that was taken over, from this moment."""
        self._table.hold(slot)
        self.renew()

    def free(self, attempt: str, *, handed_over: bool = False) -> None:
        """Give a slot back; while Redis is away its lease runs out instead."""
        if self._table.free(attempt, handed_over=handed_over or self.degraded):
            self._work.set()

    def renew(self) -> None:
        """Keep every slot held here for another lease."""
        if self._table.renew():
            self._work.set()

    # Telling and hearing

    async def start(self) -> None:
        """Begin to hear and to tell; returns soon, whether Redis can be reached or not."""
        self._tasks = [
            asyncio.create_task(self._hear(), name="bus-hear"),
            asyncio.create_task(self._tell(), name="bus-tell"),
        ]
        if not await self._around.clock.wait(self._connected, START_WAIT_S):
            self._lost(SilenceError("no answer yet"))

    async def close(self) -> None:
        """Stop, once what waits was sent or the time for it is over."""
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                if not self.degraded:
                    await self._send()
        except FAULTS as error:
            self._lost(error)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._link.close()

    async def _tell(self) -> None:
        failures = 0
        while True:
            await self._around.clock.wait(self._work, PING_S)
            self._work.clear()
            try:
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await self._send()
                self._expect_echo()
                failures = 0
                await self._around.clock.sleep(BREATH_S)
            except FAULTS as error:
                failures += 1
                await self._pause(error, failures)

    async def _send(self) -> None:
        """Tell what waits, in one message; what is too much for it goes with the next."""
        self._number += 1
        message = self._out.take(self._around.origin, self._number)
        if self._out.wakes or self._out.facts:
            self._work.set()
        await self._link.execute("PUBLISH", self._channel, encode(message))
        for command in self._table.commands():
            await self._link.execute(*command)

    async def _hear(self) -> None:
        failures = 0
        while True:
            try:
                async with self._link.hear(self._channel) as subscription:
                    while True:
                        heard = await subscription.get_message(timeout=SILENT_S)
                        if heard is None:
                            raise SilenceError("nothing was heard")
                        if heard["type"] == "subscribe":
                            self._work.set()  # say something at once, and hear it
                        elif heard["type"] == "message":
                            failures = 0
                            self._take_in(heard["data"])
            except FAULTS as error:
                failures += 1
                await self._pause(error, failures)

    def _take_in(self, data: bytes) -> None:
        message = decode(data)
        if message is None:
            return
        if message.origin == self._around.origin:
            self._echo(message.number)
            return
        for topic, name in message.wakes:
            self._wake(topic, name)
        for fact in message.facts:
            for act in self._fact_acts:
                act(fact)

    # What this replica believes of its bus

    def _echo(self, number: int) -> None:
        self._echo_at = self._around.clock.now()
        if self.degraded and number > self._trusted_from:
            self._connected.set()
            self._said_degraded = False
            log.info("bus.connected")
            self.renew()
            for events in self._waiting.values():  # what would have woken them may be lost
                for event in events:
                    event.set()

    def _expect_echo(self) -> None:
        """Notice that nothing comes back. The clock may be set: a jump costs one needless look for the server."""
        silent_s = self._around.clock.now() - self._echo_at
        if not self.degraded and silent_s > SILENT_S:
            raise SilenceError("its own messages do not come back")

    def _lost(self, error: BaseException) -> None:
        self._trusted_from = self._number
        self._connected.clear()
        if not self._said_degraded:
            self._said_degraded = True
            log.warning("bus.degraded", error=f"{type(error).__name__}: {error}")

    async def _pause(self, error: BaseException, failures: int) -> None:
        """After a fault: let the connections go, and wait a while that grows, with full jitter."""
        self._lost(error)
        try:
            await self._link.reset()
        except FAULTS as another:
            log.debug("bus.reset", error=type(another).__name__)
        most_s = min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** min(failures, 10))
        await self._around.clock.sleep(self._around.random.uniform(0.0, most_s))
