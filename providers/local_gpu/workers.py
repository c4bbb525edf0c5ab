"""The workers behind one configuration: where they are, how each stands, and which of them is asked first."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from providers.contract import Clock, Json, Load, Tools
from providers.local_gpu.protocol import Status, read_status
from providers.pace import render_s
from providers.transport import MaybeSent, NotSent, Reply, call

CONNECT_TIMEOUT_S = 5.0
# A worker answers for its status at once, whatever it renders: one that does not is as good as gone.
STATUS_TIMEOUT_S = 2.0
STATUS_FRESH_S = 1.0
RESOLVE_EVERY_S = 5.0
DNS_PREFIX = "dns+"


@dataclass(frozen=True, slots=True)
class Asked:
    """The render that a worker is looked for; `nominal_s` is what it takes where nothing was measured yet."""

    model: str
    parameters: Mapping[str, Json]
    nominal_s: float


@dataclass(slots=True)
class Worker:
    """One worker as this process knows it.

    `status` is None while it does not answer, `last` what it said before that. `reachable` is false when nothing
    listens there. `silent_since` is when it began not to answer. `sending` counts submits on their way, `taken` those
    that it took since its status was asked for.
    """

    url: str
    status: Status | None = None
    last: Status | None = None
    reachable: bool = True
    silent_since: float | None = None
    sending: int = 0
    taken: int = 0

    def heard(self) -> None:
        """It answered."""
        self.silent_since, self.reachable = None, True

    def silent_s(self, now: float) -> float:
        """It did not answer: for how long that has been so, in seconds."""
        if self.silent_since is None:
            self.silent_since = now
        return now - self.silent_since


class Workers:
    """The pool. An address that begins with `dns+` stands for every address that its name has now."""

    def __init__(self, addresses: Sequence[str], tools: Tools, token: str | None) -> None:
        self._addresses = tuple(addresses)
        self._http = tools.http
        self._clock: Clock = tools.clock
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._known = {url: Worker(url) for url in addresses if not url.startswith(DNS_PREFIX)}
        self._missing: dict[str, float] = {}
        self._names_are_known = not any(url.startswith(DNS_PREFIX) for url in addresses)
        self._looked_at = self._resolved_at = float("-inf")
        self._looking = asyncio.Lock()

    def known(self, url: str) -> Worker | None:
        """The worker at an address, when it is one of ours now."""
        return self._known.get(url)

    def missing_s(self, url: str) -> float:
        """For how long an address has been none of ours, in seconds; 0 while the names could not be looked up yet."""
        now = self._clock.now()
        return now - self._missing.setdefault(url, now) if self._names_are_known else 0.0

    def every(self) -> tuple[Worker, ...]:
        """All workers."""
        return tuple(self._known.values())

    async def look(self) -> None:
        """Ask every worker how it stands, unless that was asked a moment ago."""
        async with self._looking:
            if self._clock.now() - self._looked_at < STATUS_FRESH_S:
                return
            await self.resolve()
            await asyncio.gather(*(self._ask(worker) for worker in self.every()))
            self._looked_at = self._clock.now()

    async def resolve(self) -> None:
        """Find the addresses behind names; while a name cannot be looked up, those found before stay."""
        names = [address for address in self._addresses if address.startswith(DNS_PREFIX)]
        if not names or self._clock.now() - self._resolved_at < RESOLVE_EVERY_S:
            return
        self._resolved_at = self._clock.now()
        found = await asyncio.gather(*(_addresses_of(name.removeprefix(DNS_PREFIX)) for name in names))
        if any(urls is None for urls in found):
            return
        fixed = [address for address in self._addresses if not address.startswith(DNS_PREFIX)]
        urls = [*fixed, *(url for urls in found for url in urls or ())]
        self._known = {url: self._known.get(url) or Worker(url) for url in urls}
        self._missing = {url: since for url, since in self._missing.items() if url not in self._known}
        self._names_are_known = True

    async def _ask(self, worker: Worker) -> None:
        reply = await self.call(worker, "GET", "/v1/status", timeout_s=STATUS_TIMEOUT_S)
        worker.status = read_status(reply) if isinstance(reply, Reply) else None
        worker.reachable = not isinstance(reply, NotSent)
        worker.last, worker.taken = worker.status or worker.last, 0

    async def call(
        self, worker: Worker, method: str, path: str, *, timeout_s: float, json: Mapping[str, Json] | None = None
    ) -> Reply | NotSent | MaybeSent:
        """One call of a worker, which also tells whether it is alive."""
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S))
        request = self._http.build_request(
            method, f"{worker.url}{path}", headers=self._headers, json=json, timeout=timeout
        )
        reply = await call(self._http, request)
        if isinstance(reply, Reply):
            worker.heard()
        else:
            worker.silent_s(self._clock.now())
        return reply

    def in_order(self, asked: Asked) -> list[Worker]:
        """The workers to ask for a render, the one that would be done first before the others.

        One whose state is not known comes last; one that has not the model, drains, or where nothing listens, never.
        When all are full, the one that is soonest done is asked all the same: its refusal says when to come again.
        """
        having = [w for w in self.every() if w.status is not None and asked.model in w.status.models]
        serving = sorted(
            (worker for worker in having if worker.status is not None and not worker.status.draining),
            key=lambda worker: done_s(worker, asked),
        )
        open_ones = [worker for worker in serving if worker.status is not None and not worker.status.is_full]
        unknown = [worker for worker in self.every() if worker.status is None and worker.reachable]
        return [*(open_ones or serving[:1]), *unknown]

    def load(self, model: str) -> Load:
        """How busy the workers are that have a model; measured times are the mean of those that measured."""
        offered = any(worker.last is None or model in worker.last.models for worker in self.every())
        live = [
            worker.status
            for worker in self.every()
            if worker.status is not None and model in worker.status.models and not worker.status.draining
        ]
        return Load(
            slots=sum(status.replicas for status in live),
            running=sum(status.running for status in live),
            waiting=sum(status.waiting for status in live),
            offered=offered,
            full=bool(live) and all(status.is_full for status in live),
            paces=tuple(status.paces[model] for status in live if model in status.paces),
        )


def done_s(worker: Worker, asked: Asked) -> float:
    """Seconds until a render that is sent to this worker now would be done, by what it has measured.

    What waits there is taken to be alike: its shapes are not told.
    """
    status = worker.status
    assert status is not None, "only a worker that answered is compared"
    measured_s = render_s(status.paces.get(asked.model, ()), asked.parameters)
    own_s = asked.nominal_s if measured_s is None else measured_s
    replicas = max(1, status.replicas)
    ahead = status.waiting + status.running + worker.sending + worker.taken
    return own_s * (1.0 + max(0, ahead + 1 - replicas) / replicas)


async def _addresses_of(url: str) -> list[str] | None:
    """The base URLs of every address that a URL's host name has now; None when it cannot be looked up."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except OSError:
        return None
    hosts = sorted({str(entry[4][0]) for entry in found})
    return [f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}" for host in hosts]
