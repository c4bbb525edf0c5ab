"""The whole gateway in this process, in virtual time: real store, real artifacts, real HTTP edge, chosen vendors."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import httpx
from sqlalchemy import Connection, func, select
from starlette.applications import Starlette

import gateway.app
import gateway.dispatcher
import gateway.holds
import gateway.money.prices
import gateway.store.sqlite
import gateway.telemetry.loop_lag
from gateway.app import Chance, build_app
from gateway.jobs import JobStatus
from gateway.keys import NewKey, create_key
from gateway.media.artifacts import Artifacts
from gateway.money import budgets, ledger
from gateway.money.budgets import Budget
from gateway.money.windows import WindowKind
from gateway.service import Service
from gateway.settings import Settings, StoreSection
from gateway.store.database import Patience, open_store
from gateway.store.schema import attempts, jobs
from gateway.store.schema_money import entries, holds, idempotency, settlements
from providers.contract import ProviderPlugin
from tests.support.checked import CheckedTransport
from tests.support.clock import RealPauses, VirtualClock, VirtualLoop, counted
from tests.support.pictures import picture_base64
from tests.support.scripted import Scripted, price_book
from tests.support.threads import CountedObjects, CountedStore
from tests.support.workers import shared_workers

BASE_URL = "http://vidgate.test"
SECRET = "a secret of the tests, long enough"
ENDED = frozenset(status.value for status in JobStatus) - {"queued", "running"}
# Jobs begin where they are admitted, so the claim loop is only for what was handed over: it need not turn every second.
QUIET = {"lease_s": 600, "heartbeat_s": 200}


@dataclass
class Setting:
    """What a gateway runs on: a folder that outlives it, vendors, and settings that differ from the tests' usual ones.

    `vendors` are scripted providers, or plugins with their own section of the configuration.
    """

    folder: Path
    loop: VirtualLoop
    vendors: Sequence[Scripted | tuple[ProviderPlugin, Mapping[str, Any]]] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    http: httpx.AsyncClient | None = None
    seed: int = 1
    claim_interval_s: float = 5.0
    look_every_s: float = 60.0  # hours of virtual time are full of waits; who tests that they end sets it
    store: CountedStore = field(init=False)

    async def open_store(self, settings: StoreSection) -> CountedStore:
        """Stands where the composition names `open_store`."""
        with counted(self.loop):
            store = await open_store(settings, patience=Patience(RealPauses(), Random(self.seed)))
        self.store = CountedStore(store, self.loop)
        return self.store

    def scripted(self) -> list[Scripted]:
        return [vendor for vendor in self.vendors if isinstance(vendor, Scripted)]

    def plugins(self) -> dict[str, ProviderPlugin]:
        found = [vendor.plugin() if isinstance(vendor, Scripted) else vendor[0] for vendor in self.vendors]
        return {plugin.name: plugin for plugin in found}

    def read(self) -> Settings:
        """The settings, with the sections of the vendors and a price book for the scripted ones."""
        book = self.folder / "prices.yaml"
        book.write_text(price_book(self.scripted()) if self.scripted() else "currency: USD\nroutes: {}\n")
        sections = {
            vendor.name if isinstance(vendor, Scripted) else vendor[0].name: {}
            if isinstance(vendor, Scripted)
            else vendor[1]
            for vendor in self.vendors
        }
        usual: dict[str, dict[str, Any]] = {
            "security": {"signing_secret": SECRET},
            "store": {"url": f"sqlite:///{database(self.folder)}"},
            "artifacts": {"url": str(self.folder / "artifacts")},
            "money": {"price_book": book, "show_cost": True},  # most tests look at what was charged
            "jobs": QUIET,
            "outbound": {"allow_hosts": ["127.0.0.1"]},
        }
        changed = {name: usual.get(name, {}) | dict(section) for name, section in self.settings.items()}
        return Settings.model_validate({**usual, **changed, "providers": sections})


@dataclass
class Gateway:
    """A running gateway as a caller and as an operator see it. `stop` ends it in good order."""

    setting: Setting
    app: Starlette
    client: httpx.AsyncClient
    clock: VirtualClock
    store: CountedStore
    team_id: str = ""
    key_id: str = ""
    stop: Callable[[], Awaitable[None]] | None = None

    @property
    def service(self) -> Service:
        return self.app.state.service

    async def read(self, fn: Any, *args: Any) -> Any:
        return await self.service.parts.store.read(fn, *args)

    async def write(self, fn: Any, *args: Any) -> Any:
        return await self.service.parts.store.write(fn, *args)

    async def new_key(self, team: str = "reel", *, expires_at: float | None = None) -> tuple[str, str, dict[str, str]]:
        """A key of a team, made with its team where that is missing: key id, team id and the header to send."""
        new = NewKey(team, "test", self.clock.now(), expires_at)
        key_id, team_id, secret = await self.write(create_key, self.service.parts.ids, new)
        return key_id, team_id, {"authorization": f"Bearer {secret}"}

    async def set_budget(self, limit_micros: int, *, window: str = "month", key_id: str | None = None) -> None:
        name, kind = f"budget-{window}-{key_id}", WindowKind(window)
        budget = Budget(name, self.team_id, kind, limit_micros=limit_micros, key_id=key_id)
        await self.write(budgets.set_budget, budget, self.clock.now())

    async def post(
        self, path: str = "/generate/video", *, headers: Mapping[str, Any] | None = None, **fields: Any
    ) -> httpx.Response:
        """POST a JSON request; the usual picture unless `image` says otherwise."""
        return await self.client.post(path, json={"image": picture_base64(), **fields}, headers=dict(headers or {}))

    async def submit(self, **fields: Any) -> str:
        """Have a job admitted; its id."""
        response = await self.post(**fields)
        assert response.status_code == 202, response.text
        return str(response.json()["id"])

    async def job(self, job_id: str) -> dict[str, Any]:
        """A job as its team sees it."""
        response = await self.client.get(f"/jobs/{job_id}")
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def ended(self, job_id: str, within_s: float = 7200.0) -> dict[str, Any]:
        """The job once it has ended, in virtual time."""
        until = self.clock.now() + within_s
        while self.clock.now() < until:
            response = await self.client.get(f"/jobs/{job_id}", headers={"prefer": "wait=60"})
            if response.json()["status"] in ENDED:
                return dict(response.json())
        raise AssertionError(f"not ended within {within_s:g} s: {await self.job(job_id)}")

    async def until(self, job_id: str, stage: str, within_s: float = 600.0) -> dict[str, Any]:
        """The job once its progress has come to a stage."""
        until = self.clock.now() + within_s
        while self.clock.now() < until:
            shown = await self.job(job_id)
            if shown["progress"]["stage"] == stage:
                return shown
            await self.clock.sleep(0.1)
        raise AssertionError(f"never {stage}: {await self.job(job_id)}")

    async def when(self, true: Callable[[], object], within_s: float = 600.0) -> None:
        """Return once something has become true, in virtual time."""
        until = self.clock.now() + within_s
        while not true():
            assert self.clock.now() < until, f"it has not become true within {within_s:g} s"
            await self.clock.sleep(0.1)

    async def made(self, **fields: Any) -> dict[str, Any]:
        """Submit a job and have it ended."""
        return await self.ended(await self.submit(**fields))

    async def balances(self) -> dict[str, int]:
        """The balance of every account, micro-USD."""
        return dict(await self.read(ledger.trial_balance))

    async def counts(self) -> dict[str, int]:
        """How many rows there are of what a request leaves behind."""
        return dict(await self.read(_counts))

    async def crash(self) -> None:
        """Die as a killed process does: no drain, no lease given back, whatever was not committed is lost."""
        self.store.killed = True
        await self.service.dispatcher.drain(0.0)


def _counts(connection: Connection) -> dict[str, int]:
    tables = (jobs, attempts, holds, settlements, idempotency, entries)
    return {table.name: connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables}


NOTHING = {"jobs": 0, "attempts": 0, "holds": 0, "settlements": 0, "idempotency": 0, "entries": 0}


def unsound(connection: Connection) -> list[str]:
    """Every rule that the books and the jobs break; an empty list is a sound state."""
    faults = list(ledger.check(connection))
    if sum(ledger.trial_balance(connection).values()) != 0:
        faults.append(f"the books do not balance: {ledger.trial_balance(connection)}")
    ended = jobs.c.status.in_(ENDED)
    rows = connection.execute(
        select(jobs.c.id, ended, holds.c.state).join(holds, holds.c.id == jobs.c.hold_id, isouter=True)
    )
    for job_id, has_ended, state in rows:
        if (state == "open") == bool(has_ended) or state is None:
            faults.append(f"job {job_id} has {'ended' if has_ended else 'not ended'} and its hold is {state}")
    strays = connection.execute(select(holds.c.id).where(holds.c.job_id.not_in(select(jobs.c.id)))).scalars().all()
    faults += [f"hold {hold_id} has no job" for hold_id in strays]
    open_ones = select(attempts.c.id).join(jobs, jobs.c.id == attempts.c.job_id)
    open_ones = open_ones.where(ended, attempts.c.finished_at.is_(None))
    faults += [
        f"attempt {attempt_id} of an ended job is open" for attempt_id in connection.execute(open_ones).scalars()
    ]
    return faults


def database(folder: Path) -> Path:
    return folder / "vidgate.db"


def make_template(folder: Path) -> Path:
    """An empty database with its schema, made once and copied, because migrating costs more than most tests."""
    path = database(folder)
    asyncio.run(_migrate(StoreSection(url=f"sqlite:///{path}")))
    return path


async def _migrate(settings: StoreSection) -> None:
    store = await open_store(settings)
    await store.close()


def fresh_database(folder: Path, template: Path) -> None:
    """Put an empty database with its schema into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(template, database(folder))


@asynccontextmanager
async def running(setting: Setting) -> AsyncIterator[Gateway]:
    """A gateway for the length of the block; at its end the books must be sound."""
    clock = VirtualClock(setting.loop)
    with contextlib.ExitStack() as patches:
        for target, name, value in (
            (gateway.app, "plugins", setting.plugins),
            (gateway.app, "open_store", setting.open_store),
            (gateway.app, "check_clocks", _one_clock),
            (gateway.app, "Artifacts", _ArtifactsOpener(setting.loop)),
            (gateway.app, "Workers", shared_workers),
            (gateway.dispatcher, "CLAIM_INTERVAL_S", setting.claim_interval_s),
            # Who looks seldom for jobs, because months pass, looks as seldom for what nobody drives.
            (gateway.dispatcher, "OVERDUE_INTERVAL_S", max(60.0, setting.claim_interval_s)),
            (gateway.dispatcher, "PARKED_INTERVAL_S", max(60.0, setting.claim_interval_s)),
            (gateway.holds, "LOOK_EVERY_S", setting.look_every_s),
            # Nothing is late in virtual time: a timer every quarter of a second would only slow it down.
            (gateway.telemetry.loop_lag, "INTERVAL_S", 3600.0),
            # What costs real time and shows nothing here: flushing to disk (tests/crash does), certificates, YAML.
            (gateway.store.sqlite, "PRAGMAS", (*gateway.store.sqlite.PRAGMAS, "PRAGMA synchronous=OFF")),
            (ssl, "create_default_context", _ssl_context),
            (gateway.money.prices, "_read", _read_prices),
        ):
            patches.enter_context(patch.object(target, name, value))
        http = setting.http or httpx.AsyncClient(transport=httpx.MockTransport(_nobody))
        app = build_app(setting.read(), chance=Chance(clock, Random(setting.seed)), http=http)
        async with app.router.lifespan_context(app):
            transport = CheckedTransport(app)
            async with httpx.AsyncClient(transport=transport, base_url=BASE_URL, trust_env=False) as client:
                bench = Gateway(setting, app, client, clock, setting.store)
                await _team(bench)
                yield bench
                assert await bench.read(unsound) == []


_make_ssl_context, _parse_prices = ssl.create_default_context, gateway.money.prices._read
_parse_once = cache(_parse_prices)


@cache
def _ssl_context(*_args: Any, **_options: Any) -> ssl.SSLContext:
    return _make_ssl_context()


def _read_prices(source: Path | str) -> Any:
    return _parse_once(source) if isinstance(source, str) else _parse_prices(source)


class _ArtifactsOpener:
    """Stands where the composition names `Artifacts`: opens the real one over a counting shell."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def open(self, url: str) -> Artifacts:
        return Artifacts(CountedObjects(Artifacts.open(url).store, self._loop))


async def _one_clock(*_args: Any) -> float:
    """The database server's clock is not the test's: tests/unit/store/test_clocks.py compares real ones."""
    return 0.0


def _nobody(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("there is no vendor in this test", request=request)


async def _team(bench: Gateway) -> None:
    """The tests' own team, made once, with a new key."""
    bench.key_id, bench.team_id, header = await bench.new_key()
    bench.client.headers.update(header)
