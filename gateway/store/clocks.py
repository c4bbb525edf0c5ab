"""The database's clock against this machine's: leases are compared by many, so their clocks must agree."""

from __future__ import annotations

import structlog
from sqlalchemy import Connection, text

from gateway.clock import Clock
from gateway.store.database import Store, StoreError

log = structlog.get_logger()

SKEW_WARNED_S = 1.0
DATABASE_TIME = text("SELECT extract(epoch FROM clock_timestamp())::double precision")


def database_time(connection: Connection) -> float | None:
    """The database server's own time, unix seconds; None where the database is a file on this machine."""
    if connection.dialect.name != "postgresql":
        return None
    return float(connection.execute(DATABASE_TIME).scalar_one())


async def check_clocks(store: Store, clock: Clock, lease_s: float) -> float:
    """Compare the clocks and return by how much this one is ahead, seconds; 0 where there is one clock.

    Raises StoreError beyond the length of a lease: others would take this process's jobs for abandoned, or never see
    that it died.
    """
    asked_at = clock.now()
    theirs = await store.read(database_time)
    answered_at = clock.now()
    if theirs is None:
        return 0.0
    # The server read its clock somewhere between the two: what the answer took is no skew.
    ahead_s = max(asked_at - theirs, 0.0) + min(answered_at - theirs, 0.0)
    if abs(ahead_s) > lease_s:
        raise StoreError(
            f"this machine's clock is {abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} the database's, "
            f"more than jobs.lease_s ({lease_s:g}): set both by NTP"
        )
    if abs(ahead_s) > SKEW_WARNED_S:
        log.warning("clock.skew", ahead_s=round(ahead_s, 3))
    return ahead_s
