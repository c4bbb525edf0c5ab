"""The gateway's processes in a run: the real composition over the run's database, files, vendors and clock."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import httpx

import gateway.app
import gateway.dispatcher
import gateway.holds
import gateway.money.prices
from gateway.app import Chance, build_app
from gateway.media.artifacts import Artifacts
from gateway.settings import Settings, StoreSection
from gateway.store.database import StoreError
from providers.contract import ProviderPlugin
from tests.e2e.month import Vendors
from tests.sim.database import Database, ReplicaStore
from tests.sim.vendors import Vendor
from tests.sim.world import OWNER, Replica, ReplicaClock, World, context_of, permit
from tests.support.gateway import Setting, _read_prices, _ssl_context
from tests.support.scripted import price_book
from tests.support.wire import Wire
from tests.support.workers import shared_workers

HOST = "vidgate.test"


class Processes:
    """Starts, stops and kills gateways, and carries requests to them."""

    def __init__(self, world: World, database: Database, folder: Path) -> None:
        self.world = world
        self.database = database
        self.folder = folder
        self.vendors = [Vendor.of(plan, world, database) for plan in world.scenario.vendors]
        self.objects: dict[str, bytes] = {}
        self.wire = GatedWire(world)
        self.real = self._real() if world.scenario.real_vendors else None
        self.chance = world.random("processes")
        self.number = 0
        self._stops: dict[str, asyncio.Event] = {}
        self._settings = self._read()
        world.edge = self.call

    def _real(self) -> Vendors:
        return Vendors(self.world.loop, self.world.scenario.seed, credit_micros=20_000_000, wire=self.wire)

    def _read(self) -> Settings:
        scenario = self.world.scenario
        members: list[Any] = [*self.vendors, *(self.real.members() if self.real is not None else ())]
        return Setting(self.folder, self.world.loop, members, scenario.settings).read()

    def plugins(self) -> Mapping[str, ProviderPlugin]:
        """The vendors as the composition finds them."""
        found = [vendor.plugin() for vendor in self.vendors]
        if self.real is not None:
            found += [plugin for plugin, _ in self.real.members()]
        return {plugin.name: plugin for plugin in found}

    def start(self, *, may_die: bool = True) -> Replica:
        """Begin a process; it may die while it starts."""
        self.number += 1
        replica = Replica(self.world, f"process-{self.number}")
        if may_die and self.chance.random() < self.world.scenario.crashes_at_start:
            replica.dies_in = self.chance.randint(1, 12)
        self._stops[replica.name] = asyncio.Event()
        self.world.log(f"{replica.name} starts")
        self.world.loop.create_task(self._live(replica), context=context_of(replica))
        return replica

    async def _live(self, replica: Replica) -> None:
        client = httpx.AsyncClient(transport=VendorWire(self.wire), trust_env=False)
        chance = Chance(ReplicaClock(replica), Random(f"{replica.name} {self.world.scenario.seed}"))
        app = build_app(self._settings, chance=chance, http=client)
        try:
            async with app.router.lifespan_context(app):
                replica.app = app
                await self._stops[replica.name].wait()
        except StoreError:
            self.world.happened("a process ended by its database")
        finally:
            replica.end()
        self.world.log(f"{replica.name} has drained")

    async def drain(self, replica: Replica) -> None:
        """End a process in good order, as SIGTERM does."""
        replica.draining = True
        self._stops[replica.name].set()
        await replica.gone.wait()

    async def call(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> httpx.Response | None:
        """One request to whichever process answers; None when there is none, or when it died over it."""
        ready = [one for one in self.world.living() if not one.draining]
        if not ready:
            return None
        replica = self.chance.choice(ready)
        request = httpx.Request(method, f"http://{HOST}{path}", headers=dict(headers or {}), content=body)
        wire = Wire()
        wire.apps[HOST] = replica.app
        task = self.world.loop.create_task(wire.handle_async_request(request), context=context_of(replica))
        await asyncio.wait([task])
        if task.cancelled() or task.exception() is not None:
            return None
        response = task.result()
        await response.aread()
        return response

    @contextlib.contextmanager
    def composed(self) -> Iterator[None]:
        """Put the run's own parts in the places where the composition names the real ones."""
        bits = self.world.random("secrets")
        with contextlib.ExitStack() as patches:
            for target, name, value in (
                (gateway.app, "plugins", self.plugins),
                (gateway.app, "open_store", self._open_store),
                (gateway.app, "Artifacts", _Opener(self.objects)),
                (gateway.app, "Workers", shared_workers),
                (gateway.app, "Outbound", VendorWire(self.wire).outbound()),
                (gateway.dispatcher, "CLAIM_INTERVAL_S", self.world.scenario.claim_interval_s),
                (gateway.app, "watch_loop", _unwatched),
                (gateway.holds, "LOOK_EVERY_S", 60.0),  # no key ends here
                (ssl, "create_default_context", _ssl_context),
                (gateway.money.prices, "_read", _read_prices),
                # Identifiers and keys are the only chance that is not handed in.
                (secrets, "token_hex", lambda size: bits.randbytes(size).hex()),
                (secrets, "token_bytes", bits.randbytes),
                (secrets, "token_urlsafe", lambda size: bits.randbytes(size).hex()),
            ):
                patches.enter_context(patch.object(target, name, value))
            yield

    async def _open_store(self, _settings: StoreSection) -> ReplicaStore:
        owner = OWNER.get()
        assert owner is not None
        return ReplicaStore(self.database, owner)

    def price_book(self) -> str:
        """The price book of the scripted vendors."""
        return price_book(self.vendors)


async def _unwatched(*_parts: Any) -> None:
    """Stands where the loop's lag is measured, which is real time and means nothing here."""
    await asyncio.Event().wait()


class GatedWire(Wire):
    """The vendors' side of the network: their work belongs to no process of ours, and outlives all of them."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        work = super().handle_async_request(request)
        task = self.world.loop.create_task(work, context=context_of(None))
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # heard even when nobody waits
        return await asyncio.shield(task)


class VendorWire(Wire):
    """A process's side of the network: here it can die or be stopped before it sends and before it reads."""

    def __init__(self, wire: GatedWire) -> None:
        super().__init__()
        self.wire = wire

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        owner = OWNER.get()
        if owner is None:
            return await self.wire.handle_async_request(request)
        where = f"{request.method} {request.url.host}"
        await owner.cross(f"before {where}")
        permit()
        response = await self.wire.handle_async_request(request)
        await owner.cross(f"after {where}")
        return response


class _Opener:
    """Stands where the composition names `Artifacts`: the real one over files in memory."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self._objects = objects

    def open(self, _url: str) -> Artifacts:
        return Artifacts(_Objects(self._objects))  # type: ignore[arg-type]


class _Objects:
    """What `Artifacts` uses of an object store, in memory and at once."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self._objects = objects

    async def put_async(self, name: str, data: bytes, *, attributes: Any = None) -> None:
        await _cross(f"put {name}")
        self._objects[name] = data

    async def get_async(self, name: str, *, options: Mapping[str, Any] | None = None) -> _Found:
        await _cross(f"get {name}")
        start, end = (options or {}).get("range", (0, None))
        return _Found(self._objects[name][start:end])

    async def head_async(self, name: str) -> dict[str, Any]:
        if name not in self._objects:
            raise FileNotFoundError(name)
        return {"size": len(self._objects[name]), "last_modified": datetime.now(UTC)}  # as by the clock of `Artifacts`


async def _cross(where: str) -> None:
    owner = OWNER.get()
    if owner is not None:
        await owner.cross(where)


class _Found:
    def __init__(self, data: bytes) -> None:
        self._data = data

    async def bytes_async(self) -> bytes:
        return self._data

    async def stream(self, *, min_chunk_size: int) -> AsyncIterator[bytes]:
        for start in range(0, len(self._data), min_chunk_size):
            yield self._data[start : start + min_chunk_size]
