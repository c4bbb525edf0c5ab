"""Webhooks sent to the last one, for tests that look at what came of it."""

from __future__ import annotations

import asyncio

from gateway.outbox import Outbox


async def send_due(outbox: Outbox) -> int:
    """Try everything that is due now and wait for it; how many tries were made."""
    made = await outbox.begin()
    while outbox._sending:
        await asyncio.gather(*outbox._sending)
        made += await outbox.begin()
    return made
