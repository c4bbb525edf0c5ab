"""What the router is told when it begins: the facts of the attempts that ended lately."""

from __future__ import annotations

from gateway.orders import observations_of
from gateway.store import jobs as rows
from gateway.store.database import Store
from policies.values import Observation

MEMORY_S = 86_400.0
MEMORY_ATTEMPTS_MAX = 5_000


async def remember(store: Store, now: float) -> list[Observation]:
    """The facts of the last day's attempts, oldest first, at most of the newest 5,000 attempts."""
    ended = await store.read(rows.finished_attempts, now - MEMORY_S, MEMORY_ATTEMPTS_MAX)
    return [fact for attempt in ended for fact in observations_of(attempt)]
