"""Several whole gateways in one process and in real time, over one store and one bus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import httpx
from starlette.applications import Starlette

import gateway.app
from gateway.app import Chance, build_app
from gateway.clock import SystemClock
from gateway.ids import Ids
from gateway.keys import NewKey, create_key
from gateway.service import Service
from gateway.settings import StoreSection
from gateway.store.database import Store, open_store
from tests.support.gateway import BASE_URL, Setting
from tests.support.pictures import picture_base64
from tests.support.scripted import Scripted


class SharedStore:
    """One store under several gateways: none of them closes it. SQLite has no other way to serve two."""

    def __init__(self, inner: Store) -> None:
        self.write, self.read, self.ping = inner.write, inner.read, inner.ping

    async def close(self) -> None:
        """It stays open for the others."""


@dataclass
class Replica:
    """One running gateway and a client that talks to it."""

    app: Starlette
    client: httpx.AsyncClient

    @property
    def service(self) -> Service:
        """The running service."""
        service: Service = self.app.state.service
        return service

    async def submit(self, **headers: str) -> str:
        """Have a job admitted here; its id."""
        response = await self.client.post("/generate/video", json={"image": picture_base64()}, headers=headers)
        assert response.status_code in {200, 202}, response.text
        return str(response.json()["id"])

    async def job(self, job_id: str, wait_s: int = 0) -> dict[str, Any]:
        """A job as this replica shows it, once it has ended or the wait is over."""
        response = await self.client.get(f"/jobs/{job_id}", headers={"prefer": f"wait={wait_s}"}, timeout=wait_s + 30)
        assert response.status_code == 200, response.text
        return dict(response.json())


@dataclass
class Stand:
    """Where replicas are started: one folder, one store, one bus, one vendor or more; settings are sections by name."""

    folder: Path
    store_url: str
    shared: SharedStore | None
    bus_url: str
    header: Mapping[str, str]
    life: AsyncExitStack

    async def start(self, vendors: Sequence[Scripted], **sections: Mapping[str, Any]) -> Replica:
        """Start one more replica; it ends with the stand."""
        usual: dict[str, dict[str, Any]] = {
            "server": {"replicas": 2, "drain_s": 1},
            "store": {"url": self.store_url},
            "bus": {"url": self.bus_url, "namespace": self.folder.name[-60:]},
            # Nothing happens by itself while a test looks: what is seen was told by the bus.
            "jobs": {"lease_s": 600, "heartbeat_s": 200},
            "polling": {"delay_min_s": 0.02, "delay_max_s": 0.05},
        }
        merged = {name: {**usual.get(name, {}), **sections.get(name, {})} for name in {*usual, *sections}}
        setting = Setting(self.folder, None, vendors, merged)  # type: ignore[arg-type]
        opener: Callable[..., Any] = self._open if self.shared is not None else open_store
        with ExitStack() as patches:
            patches.enter_context(patch.object(gateway.app, "plugins", setting.plugins))
            patches.enter_context(patch.object(gateway.app, "open_store", opener))
            app = build_app(setting.read(), chance=Chance(SystemClock(), Random(1)), http=httpx.AsyncClient())
            await self.life.enter_async_context(app.router.lifespan_context(app))
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url=BASE_URL, headers=dict(self.header), trust_env=False
        )
        return Replica(app, await self.life.enter_async_context(client))

    async def _open(self, _section: StoreSection) -> SharedStore:
        assert self.shared is not None
        return self.shared


@asynccontextmanager
async def stand(folder: Path, store_url: str, bus_url: str) -> AsyncIterator[Stand]:
    """A database with one team and its key, and replicas that end with the block."""
    store, clock = await open_store(StoreSection(url=store_url)), SystemClock()
    _, _, secret = await store.write(create_key, Ids(clock), NewKey("reel", "test", clock.now()))
    header = {"authorization": f"Bearer {secret}"}
    shared = SharedStore(store) if store_url.startswith("sqlite") else None
    try:
        async with AsyncExitStack() as life:
            yield Stand(folder, store_url, shared, bus_url, header, life)
    finally:
        await store.close()
