"""Several replicas send the events of one database: each delivery is claimed by one of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.events import Event, emit
from gateway.outbound import Posted
from gateway.outbox import ENDPOINT_SENDING_MAX, Outbox, deliveries
from gateway.settings import StoreSection
from gateway.store.database import Store, open_store
from gateway.telemetry.tracing import Tracing
from gateway.webhooks import NewWebhook, add_webhook
from tests.support.sends import send_due

pytestmark = pytest.mark.anyio

EVENTS, REPLICAS = 60, 3


class Counting:
    """A receiver that takes everything and counts how many sends are open at once."""

    def __init__(self) -> None:
        self.got: Counter[tuple[str, str]] = Counter()
        self.open, self.most = 0, 0

    async def post(self, url: str, body: bytes, sent: Any, timeout_s: float) -> Posted:
        self.open += 1
        self.most = max(self.most, self.open)
        await asyncio.sleep(0)
        self.got[url, sent["webhook-id"]] += 1
        self.open -= 1
        return Posted(204, None)


async def test_replicas_send_every_event_once_to_each_endpoint(store: Store, store_url: str) -> None:
    """What one replica holds the others pass by, without waiting for it; nothing is sent twice and nothing is left."""
    clock, receiver = SystemClock(), Counting()
    for name in ("one", "two"):
        new = NewWebhook(name, "team", f"https://{name}.example/in", clock.now())
        await store.write(add_webhook, new)
    for number in range(EVENTS):
        await store.write(emit, Event(f"job.failed:{number}", "job.failed", "team", clock.now(), {}))
    sole = store_url.startswith("sqlite")  # one process there: its replicas share the store
    stores = [store if sole else await open_store(StoreSection(url=store_url)) for _ in range(REPLICAS)]
    try:
        replicas = [Outbox(one, receiver, clock, Random(1), Tracing(clock, "test")) for one in stores]  # type: ignore[arg-type]
        while sum(await asyncio.gather(*(send_due(one) for one in replicas))):
            pass
    finally:
        for one in () if sole else stores:
            await one.close()
    assert (len(receiver.got), set(receiver.got.values())) == (2 * EVENTS, {1})
    assert {one["state"] for one in await store.write(_every)} == {"delivered"}
    # Each counts the others' leases as it claims; two that count in the same instant may both take an endpoint's room.
    assert receiver.most <= 2 * REPLICAS * ENDPOINT_SENDING_MAX


def _every(connection: Any) -> list[dict[str, Any]]:
    return deliveries(connection, count_max=10 * EVENTS)
