"""An instant vendor for crash tests: a real HTTP server that counts by attempt, and its adapter with every ability.

What a render goes through is chosen by its route, so that every path of the engine is one pinned job away. Its state
outlives the gateways that come and go. It also receives webhooks, and counts them by their id.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Page

from providers.capability import DELIVERED_BY_GATEWAY, Capability, Route
from providers.contract import (
    Accepted,
    Balance,
    CheckOutcome,
    Failed,
    FailureKind,
    Finished,
    InDoubt,
    LookupOutcome,
    NoEvidence,
    NotFound,
    Pending,
    ProviderPlugin,
    ProviderSettings,
    Refused,
    RemoteFile,
    RenderRequest,
    Report,
    SentAttempt,
    SourceImage,
    SubmitOutcome,
    Token,
    Tools,
)
from providers.serving import listen, serve
from providers.transport import NotSent, Reply, call
from tests.support.pictures import clip

NAME = "instant"
PRICE = 100_000
LOSS = 30_000
# The deadline of the jobs whose first submit must outlast it, so that none is made on the same attempt.
DEADLINE_S = 1.0
FUNDS = 10**12
# What a job pinned to `instant/<this>` goes through.
BEHAVIOURS: Mapping[str, str] = {
    "plain": "accepted and done",
    "slow": "accepted, and done when the test says so",
    "busy": "the first submit is refused with 429",
    "lost": "the first submit is accepted and its reply is a 502; the records have it",
    "never": "the first submit is not accepted and its reply is a 502; the records are complete",
    "dark": "the first submit is not accepted and its reply is a 502; the records tell nothing",
    "late": "two submits are answered by a 502 and the first was accepted, which the records tell late",
    "absent": "two submits are answered by a 502 and none was accepted, which the records tell late",
    "fails": "the render fails and costs something all the same",
    "stops": "the render goes on until it is canceled",
    "linked": "the picture is taken as a link to an upload",
    "breaks": "the first reply to a check breaks the adapter",
}
TOLD_LATE = frozenset({"late", "absent"})


@dataclass
class Books:
    """What the vendor knows and counts."""

    submits: Counter[str] = field(default_factory=Counter)
    lookups: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    renders: dict[str, tuple[str, str]] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    checks: Counter[str] = field(default_factory=Counter)
    canceled: set[str] = field(default_factory=set)
    charged: dict[str, int] = field(default_factory=dict)
    hooks: Counter[str] = field(default_factory=Counter)


class Vendor:
    """The server's pages."""

    def __init__(self) -> None:
        self.books = Books()

    def app(self) -> Starlette:
        pages = {
            "/submit": self.submit,
            "/check/{id}": self.check,
            "/lookup/{id}": self.lookup,
            "/cancel/{id}": self.cancel,
            "/balance": self.balance,
            "/upload": self.upload,
            "/file": self.file,
            "/hook": self.hook,
            "/meter": self.meter,
            "/finish": self.finish,
        }
        return Starlette(routes=[Page(path, page, methods=["GET", "POST"]) for path, page in pages.items()])

    async def submit(self, request: Request) -> Response:
        body = await request.json()
        attempt, kind = body["attempt"], body["kind"]
        self.books.submits[body["job"]] += 1
        first = self.books.submits[body["job"]] == 1
        if first and kind in TOLD_LATE:
            await asyncio.sleep(DEADLINE_S)
        if first and kind == "busy":
            return JSONResponse({}, 429)
        second = self.books.submits[body["job"]] == 2
        if (first and kind in {"never", "dark", "absent"}) or (second and kind in TOLD_LATE):
            return JSONResponse({}, 502)
        name = f"r{len(self.books.renders)}"
        self.books.accepted[attempt] += 1
        self.books.renders[name] = (attempt, kind)
        return JSONResponse({"id": name}, 502 if first and kind in {"lost", "late"} else 200)

    async def check(self, request: Request) -> Response:
        name = request.path_params["id"]
        kind = self.books.renders[name][1]
        self.books.checks[name] += 1
        if kind == "breaks" and self.books.checks[name] == 1:
            return JSONResponse({"state": "breaks"})
        if kind == "stops" or (kind == "slow" and name not in self.books.finished):
            return JSONResponse({"state": "pending"})
        if kind == "fails":
            self.books.charged[name] = LOSS
            return JSONResponse({"state": "failed"})
        self.books.charged[name] = PRICE
        return JSONResponse({"state": "done"})

    async def finish(self, _request: Request) -> Response:
        self.books.finished |= set(self.books.renders)
        return JSONResponse({})

    async def lookup(self, request: Request) -> Response:
        attempt, kind = request.path_params["id"], (await request.json())["kind"]
        self.books.lookups[attempt] += 1
        mine = [name for name, one in self.books.renders.items() if one[0] == attempt]
        tells = kind != "dark" and (kind not in TOLD_LATE or self.books.lookups[attempt] > 1)
        return JSONResponse({"found": mine[:1], "tells": tells})

    async def cancel(self, request: Request) -> Response:
        self.books.canceled.add(request.path_params["id"])
        return JSONResponse({"stopped": True})

    async def balance(self, _request: Request) -> Response:
        return JSONResponse({"micros": FUNDS - sum(self.books.charged.values())})

    async def upload(self, request: Request) -> Response:
        return JSONResponse({"url": f"{request.base_url}file"})

    async def file(self, _request: Request) -> Response:
        return Response(clip(), media_type="video/mp4")

    async def hook(self, request: Request) -> Response:
        self.books.hooks[request.headers["webhook-id"]] += 1
        return Response(status_code=204)

    async def meter(self, _request: Request) -> Response:
        counts = {"accepted": self.books.accepted, "charged": self.books.charged, "hooks": self.books.hooks}
        return JSONResponse(counts | {"canceled": sorted(self.books.canceled), "submits": self.books.submits})


def serve_instant(said: Connection) -> None:
    """The vendor as a process of its own; says its address."""

    async def main() -> None:
        listener, url = listen()
        async with serve(Vendor().app(), listener):
            said.send(url)
            await asyncio.Event().wait()

    asyncio.run(main())


class InstantSettings(ProviderSettings):
    """Where the vendor is."""

    base_url: str


class Instant:
    """The adapter: balance, lookup, cancel and upload beside the two verbs."""

    name = NAME

    def __init__(self, settings: InstantSettings, tools: Tools) -> None:
        self.routes = ROUTES
        self._base_url, self._http = settings.base_url, tools.http

    async def submit(self, request: RenderRequest) -> SubmitOutcome:
        # Every job of the tests has a strength of its own; seeds are drawn for every attempt.
        job, kind = str(request.parameters["strength"]), request.route.model
        body = {"attempt": request.attempt_id, "job": job, "kind": kind, "linked": request.image.url}
        reply = await self._post("/submit", body)
        if isinstance(reply, NotSent):
            return Refused(FailureKind.UNAVAILABLE, reply.detail)
        if not isinstance(reply, Reply):
            return InDoubt(reply.detail)
        if reply.status == 429:
            return Refused(FailureKind.RATE_LIMITED, "429", status=429)
        if reply.status != 200:
            return InDoubt(f"HTTP {reply.status}", status=reply.status)
        return _accepted(str(reply.object()["id"]))

    async def check(self, route: Route, token: Token) -> CheckOutcome:
        name = str(token["id"])
        reply = await self._post(f"/check/{name}", {})
        state = reply.object()["state"] if isinstance(reply, Reply) else None
        if state == "breaks":
            raise ZeroDivisionError("a fault of the adapter's own")
        if state == "failed":
            return Failed(FailureKind.RENDER_FAILED, "boom", Report(name, cost_micros=LOSS))
        if state == "done":
            files = (RemoteFile(f"{self._base_url}/file"),)
            return Finished(files, Report(name, cost_micros=PRICE, model=route.model))
        return Pending() if state == "pending" else InDoubt("no reply")

    async def lookup(self, sent: SentAttempt) -> LookupOutcome:
        reply = await self._post(f"/lookup/{sent.attempt_id}", {"kind": sent.route.model})
        if not isinstance(reply, Reply) or not reply.object()["tells"]:
            return NoEvidence("the records tell nothing")
        found = reply.object()["found"]
        return _accepted(str(found[0])) if isinstance(found, list) and found else NotFound("not in the records")

    async def cancel(self, _route: Route, token: Token) -> bool:
        return isinstance(await self._post(f"/cancel/{token['id']}", {}), Reply)

    async def balance(self) -> Balance | None:
        reply = await self._post("/balance", {})
        return Balance(int(str(reply.object()["micros"]))) if isinstance(reply, Reply) else None

    async def upload(self, _image: SourceImage) -> str | None:
        reply = await self._post("/upload", {})
        return str(reply.object()["url"]) if isinstance(reply, Reply) else None

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        timeout = httpx.Timeout(10.0)
        return await call(
            self._http, self._http.build_request("POST", self._base_url + path, json=body, timeout=timeout)
        )


def _accepted(name: str) -> Accepted:
    return Accepted({"id": name}, report=Report(request_id=name))


ROUTES = tuple(
    Route(
        name=f"{NAME}/{kind}",
        provider=NAME,
        media="video",
        model=kind,
        capabilities=(
            Capability("seed", "seed", wire_type="integer"),
            Capability("noise_aug_strength", "strength", minimum=0, maximum=1),
            *DELIVERED_BY_GATEWAY,
        ),
        image_forms=("url",) if kind == "linked" else ("bytes",),
        mode="async",
        latency_nominal_s=0.1,
        resumable=True,
        ambiguous_billing="success_only",
        summary=summary,
    )
    for kind, summary in BEHAVIOURS.items()
)
PLUGIN = ProviderPlugin(NAME, InstantSettings, ROUTES, Instant)


def instant_prices() -> str:
    """A price book for the instant vendor's routes."""
    term = f'{{per: call, usd: "{PRICE / 1e6:.6f}", confidence: published, source: test}}'
    lines = f"    - effective_from: 2020-01-01\n      terms: [{term}]\n"
    return "currency: USD\nroutes:\n" + "".join(f"  {route.name}:\n{lines}" for route in ROUTES)
