"""Writing what is known only here: an outcome that a vendor told is not lost because the database is away.

A write is repeated until the database has it. After a commit whose fate is unknown the repeat tells: it is made when
the first one was not, and refused when the first one was, for every write carries the state from which it starts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from gateway.clock import Clock
from gateway.jobs import IllegalMoveError
from gateway.store.database import CommitUnknownError, Store, StoreUnavailableError
from gateway.store.jobs import LeaseLostError

P = ParamSpec("P")
T = TypeVar("T")

log = structlog.get_logger()

PAUSE_S = 1.0
# How a transaction says that the rows are not as its caller knew them: also after its own first time.
MOVED_ON = (LeaseLostError, IllegalMoveError, IntegrityError)


class OutwaitingStore:
    """The writes of whoever drives a job."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._inner = store
        self._clock = clock

    async def write(self, fn: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function in one durable transaction, however long the database is away.

        Raises CommitUnknownError when the rows have moved on since a commit of unknown fate: they say what holds.
        """
        unknown: CommitUnknownError | None = None
        while True:
            try:
                return await self._inner.write(fn, *args, **kwargs)
            except CommitUnknownError as error:
                unknown = error
                log.warning("store.commit_unknown", transaction=fn.__name__)
            except StoreUnavailableError as error:
                log.error("store.outwaited", transaction=fn.__name__, error=str(error))
            except MOVED_ON:
                if unknown is None:
                    raise
                raise unknown from None
            await self._clock.sleep(PAUSE_S)
