"""What keys hold open: waits, event streams and downloads end within a second of their key, on every replica.

Every request of a key is in here until its reply is sent. While there are any, one task asks the store one question
for all of them, whatever their number, and whatever becomes of the bus: which of these keys are good now?
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy.exc import SQLAlchemyError

from gateway.clock import Clock
from gateway.keys import Caller, find_callers
from gateway.problems import Problem, Unauthorized, Unavailable
from gateway.scopes import Scope
from gateway.store.database import Store, StoreError

log = structlog.get_logger()

LOOK_EVERY_S = 0.5
# Keys in one statement.
AT_ONCE = 500
# For so long a database that does not answer ends nothing: in what it does not say a key may have been revoked.
UNKNOWN_S_MAX = 10.0
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="vidgate"'}


class KeyEndedError(Exception):
    """The key ended while its reply was being sent: the reply ends where it is, and so does its connection."""


class Hold:
    """One request of a caller, until its reply is sent. `caller` is who asks, as the key stands now."""

    def __init__(self, caller: Caller, needed: Scope) -> None:
        self.caller = caller
        self._needed = needed
        self._event: asyncio.Event | None = None
        self._problem: Problem | None = None

    @property
    def ended(self) -> bool:
        """Whether the key is good no more."""
        return self._problem is not None

    def wakes(self, event: asyncio.Event) -> None:
        """Set this event too when the key ends."""
        self._event = event

    def check(self) -> None:
        """Raises Unauthorized once the key has ended, or Unavailable when nobody could tell for too long."""
        if self._problem is not None:
            raise self._problem

    def told(self, caller: Caller | None, at: float) -> None:
        """What the store says of the key: None for one that is good no more."""
        ends_at = self.caller.ends_at
        if caller is None or self._needed not in caller.scopes or (ends_at is not None and ends_at <= at):
            self.end(Unauthorized("this key has expired or was revoked meanwhile", headers=CHALLENGE))
        else:
            self.caller = caller.of_person(self.caller.person, ends_at)

    def end(self, problem: Problem) -> None:
        """The reply is to end, for this reason."""
        self._problem = problem
        if self._event is not None:
            self._event.set()


class Holds:
    """All that is held open in this process."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._open: dict[Hold, None] = {}  # in their order
        self._any = asyncio.Event()
        self._known_at = 0.0

    @contextmanager
    def held(self, caller: Caller, needed: Scope) -> Iterator[Hold]:
        """A request that needs this scope, for as long as the block lasts."""
        hold = Hold(caller, needed)
        self._open[hold] = None
        self._any.set()
        try:
            yield hold
        finally:
            del self._open[hold]

    async def watch(self) -> None:
        """Look now and then, while anything is held, until it is cancelled."""
        while True:
            if not self._any.is_set():
                await self._any.wait()
                self._known_at = self._clock.now()
            await self._clock.sleep(LOOK_EVERY_S)
            if self._open:
                await self._look()
            else:
                self._any.clear()

    async def _look(self) -> None:
        now, asked = self._clock.now(), [hold for hold in self._open if not hold.ended]
        names = sorted({hold.caller.credential for hold in asked})
        found: dict[str, Caller] = {}
        try:
            for first in range(0, len(names), AT_ONCE):
                found |= await self._store.read(find_callers, names[first : first + AT_ONCE], now)
        except (StoreError, SQLAlchemyError) as error:
            self._nobody_knows(asked, error)
            return
        self._known_at = now
        for hold in asked:
            hold.told(found.get(hold.caller.credential), now)

    def _nobody_knows(self, asked: list[Hold], error: Exception) -> None:
        unknown_s = self._clock.now() - self._known_at
        if unknown_s < UNKNOWN_S_MAX:
            return
        log.warning("holds.unknown", count=len(asked), unknown_s=round(unknown_s, 1), detail=str(error))
        for hold in asked:
            hold.end(Unavailable("the database does not answer, so nobody can tell whether this key is still good"))


async def while_held(hold: Hold | None, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The pieces of a reply for as long as its key is good; all of them where it needed none.

    Raises KeyEndedError.
    """
    async for chunk in chunks:
        if hold is not None and hold.ended:
            raise KeyEndedError
        yield chunk
