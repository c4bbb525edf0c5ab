"""The whole composition on one screen: settings in, a Starlette application out.

Nothing below this file makes its own clock, randomness, transport or store: all of them are made here, or handed in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from random import Random, SystemRandom

import httpx
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api import (
    admin,
    batch,
    billing,
    documentation,
    errors,
    events,
    generate,
    health,
    jobs,
    metrics,
    openapi,
    quote,
    result_links,
    routes,
    webhooks,
)
from gateway.api.edge import Edge, UnderWay
from gateway.api.methods import with_other_methods
from gateway.bus.contract import Bus
from gateway.bus.open import Surroundings, open_bus
from gateway.clock import Clock, SystemClock
from gateway.delivery import Delivery
from gateway.dispatcher import Dispatcher
from gateway.engine import Engine
from gateway.failpoints import watched
from gateway.fleet import Account, Fleet
from gateway.ids import Ids
from gateway.inputs import Inputs
from gateway.links import Links
from gateway.media.artifacts import Artifacts
from gateway.media.decoders import Decoders
from gateway.media.intake import ImageLimits
from gateway.media.workers import Workers
from gateway.money.prices import PriceBook
from gateway.outbound import FetchLimits, Outbound
from gateway.overload import Overload
from gateway.parts import Parts
from gateway.people import open_people
from gateway.planning import Planner
from gateway.reload import Reloader, Source
from gateway.service import Service
from gateway.settings import Settings
from gateway.shadow import make_routers
from gateway.store.clocks import check_clocks
from gateway.store.database import open_store
from gateway.telemetry import redaction
from gateway.telemetry.export import open_outlet
from gateway.telemetry.loop_lag import watch_loop
from gateway.telemetry.meter import Meter
from gateway.telemetry.metered_link import MeteredLink
from gateway.telemetry.metered_provider import MeteredProvider
from gateway.telemetry.metered_store import MeteredStore
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.snapshot import Snapshot
from gateway.telemetry.tracing import Tracing
from gateway.vendor_transport import VendorTransport
from policies.retry import RetryBudget
from providers.contract import Tools
from providers.registry import plugins

VENDOR_TIMEOUT_S = 60.0
# A synchronous render holds its connection for a minute: how many may be open is routing's to say, not the pool's.
# 0 is aiohttp's word for no limit; None would leave its own limit of 100.
VENDOR_LIMITS = httpx.Limits(max_connections=0)
Handler = Callable[[Request, Service], Awaitable[Response]]


class UnpricedRouteError(RuntimeError):
    """A route without a price does not start."""

    def __init__(self, routes: Sequence[str]) -> None:
        super().__init__(f"no price for {', '.join(routes)}: add it to money.price_book, or leave the route out")


@dataclass(frozen=True, slots=True)
class Chance:
    """Where time and chance come from; a test hands in its own."""

    clock: Clock
    random: Random


@dataclass(frozen=True, slots=True)
class Foreign:
    """What touches what vidgate did not write: the way to foreign URLs, and the processes that open foreign files."""

    outbound: Outbound
    workers: Workers


def build_app(
    settings: Settings,
    *,
    chance: Chance | None = None,
    http: httpx.AsyncClient | None = None,
    source: Source | None = None,
) -> Starlette:
    """The service as an ASGI application; its lifespan opens the store, takes up unfinished jobs, and drains.

    With a `source` the settings are watched: what may change while running does (gateway/reload.py). `http` is the
    client for vendor calls; without it one over aiohttp is made, which costs a quarter of httpx's own transport
    under load (docs/PERFORMANCE.md).
    """
    chance = chance or Chance(SystemClock(), SystemRandom())

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        client = http or httpx.AsyncClient(
            transport=VendorTransport(limits=VENDOR_LIMITS), timeout=VENDOR_TIMEOUT_S, trust_env=False
        )
        outbound = watched(Outbound(settings.outbound.allow_hosts), "outbound")
        workers = Workers(settings.media.workers, settings.media.memory_bytes_max)
        parts = await compose(settings, chance, client, Foreign(outbound, workers))
        workers.ended = lambda kind: parts.meter.metrics.count("vidgate_media_workers_ended", kind=kind)
        dispatcher = Dispatcher(parts, Engine(parts))
        reloader = Reloader(parts, source, plugins()) if source is not None else None
        snapshot = Snapshot(parts, dispatcher, parts.meter.metrics)
        overload = Overload(lambda: parts.settings.overload, parts.meter.metrics)
        people = open_people(settings.security.oidc, outbound, chance.clock)
        app.state.service = Service(parts, dispatcher, snapshot, overload, reloader, people)
        watch = watch_loop(parts.meter.metrics, chance.clock, overload.lagged)
        loop_watch = asyncio.create_task(watch, name="loop-lag")
        hold_watch = asyncio.create_task(app.state.service.holds.watch(), name="holds")
        warming = asyncio.create_task(workers.warm(), name="warm-up")
        try:
            await check_clocks(parts.store, chance.clock, settings.jobs.lease_s)
            await dispatcher.start(sole=settings.store.is_one_process)
            if reloader is not None:
                reloader.start()
            yield
        finally:
            loop_watch.cancel()
            hold_watch.cancel()
            if reloader is not None:
                await reloader.stop()
            await dispatcher.drain(settings.server.drain_s)
            await snapshot.close()
            await parts.store.close()
            await outbound.close()
            await asyncio.gather(warming, return_exceptions=True)
            await workers.close()
            await client.aclose()
            await parts.meter.tracing.close()

    app = Starlette(
        routes=with_other_methods(ROUTES),
        lifespan=lifespan,
        middleware=[
            Middleware(Edge, settings.server.cors_origins),
            # Within the edge, so that the reply about a fault of ours carries what every reply does.
            Middleware(ServerErrorMiddleware, handler=errors.on_fault),
        ],
        exception_handlers=errors.HANDLERS,
    )
    app.router.redirect_slashes = False  # an address has one spelling; another one is not found
    return app


async def compose(settings: Settings, chance: Chance, client: httpx.AsyncClient, foreign: Foreign) -> Parts:
    """Make every part of the service. Raises what each part raises for settings that it cannot serve."""
    clock, random, ids = chance.clock, chance.random, Ids(chance.clock)
    redaction.learn(settings)
    name, metrics = ids.new("bus"), Metrics()
    outlet = open_outlet(settings.telemetry, metrics, name)
    meter = Meter(metrics, Tracing(clock, name, ratio=settings.telemetry.trace_ratio, outlet=outlet))
    around = Surroundings(name, clock, random, settings.bus.namespace, settings.jobs.lease_s)
    bus = open_bus(settings.bus.url, around, wrap=partial(MeteredLink, metrics=metrics))
    fleet = _fleet(settings, Tools(client, clock, random), bus, meter)
    meter.tracing.models.update({route.name: route.model for route in fleet.routes.values()})
    files = replace(Artifacts.open(settings.artifacts.url), troubled=meter.artifacts_failed)
    artifacts = watched(files, "artifacts")
    decoders = Decoders(foreign.workers)
    fetch_limits = FetchLimits(settings.outbound.bytes_max, settings.outbound.timeout_s)
    inputs = Inputs(
        artifacts=artifacts,
        outbound=foreign.outbound,
        decoders=decoders,
        fleet=fleet,
        links=Links(settings.security.signing_secret.get_secret_value(), settings.server.public_base_url or ""),
        clock=clock,
        limits=ImageLimits(settings.intake.bytes_max, settings.intake.pixels_max, settings.intake.side_max),
        fetch_limits=FetchLimits(settings.intake.bytes_max, settings.outbound.timeout_s),
        link_ttl_s=settings.security.link_ttl_s,
        links_are_public=settings.server.public_base_url is not None,
    )
    book = settings.money.price_book
    prices = PriceBook.seeded(*([book] if book is not None else []))
    unpriced = prices.missing(fleet.routes, clock.now())
    if unpriced:
        raise UnpricedRouteError(unpriced)
    return Parts(
        settings=settings,
        store=MeteredStore(watched(await open_store(settings.store), "store"), meter.metrics),
        bus=bus,
        fleet=fleet,
        planner=Planner(fleet, prices, settings.routing, inputs.form),
        inputs=inputs,
        delivery=Delivery(
            foreign.outbound,
            artifacts,
            decoders,
            fetch_limits,
            clock,
            deviations_fail=settings.media.verify_deviations == "fail",
            accepts_other_model=settings.media.accept_other_model,
        ),
        clock=clock,
        random=random,
        ids=ids,
        meter=meter,
    )


def _fleet(settings: Settings, tools: Tools, bus: Bus, meter: Meter) -> Fleet:
    known = plugins()
    retry = settings.retry
    accounts = {}
    for name, section in settings.providers.items():
        chosen = known[name].settings.model_validate(section)
        redaction.learn(chosen)
        budget = RetryBudget(retry.budget_ratio, retry.budget_reserve_per_s, retry.budget_ttl_s)
        provider = watched(MeteredProvider(known[name].build(chosen, tools), meter), "vendor")
        accounts[name] = Account(provider, chosen, budget)
    router, shadow = make_routers(settings.routing, tools.random)
    return Fleet(accounts, router, tools.clock, shadow, bus, alone=settings.server.replicas == 1)


def _endpoint(path: str, handler: Handler) -> Callable[[Request], Awaitable[UnderWay]]:
    """A Starlette endpoint from a handler: hands it the running service; timed, traced and counted by the template."""

    async def endpoint(request: Request) -> UnderWay:
        service: Service = request.app.state.service
        request.state.template = path
        request.state.query = openapi.query_of(request.method, path)
        given = request.headers.getlist("traceparent")
        with service.parts.meter.answering(request.method, path, given) as answering:
            request.state.standing = answering.standing
            with ExitStack() as holding:
                request.state.holding = holding
                request.state.ticket = holding.enter_context(service.overload.admitted(path))
                response = errors.completed(request, await handler(request, service))
                held = holding.pop_all()
            answering.status = response.status_code
        return UnderWay(response, held)

    return endpoint


ROUTES = [
    Route(path, _endpoint(path, handler), methods=methods)
    for path, methods, handler in (
        ("/generate/video", ["POST"], partial(generate.generate, media="video")),
        ("/generate/image", ["POST"], partial(generate.generate, media="image")),
        ("/generate/video/batch", ["POST"], partial(batch.generate_batch, media="video")),
        ("/generate/image/batch", ["POST"], partial(batch.generate_batch, media="image")),
        ("/generate/video/quote", ["POST"], partial(quote.quote, media="video")),
        ("/generate/image/quote", ["POST"], partial(quote.quote, media="image")),
        ("/jobs", ["GET"], jobs.list_jobs),
        ("/jobs/{job_id}", ["GET"], jobs.get_job),
        ("/jobs/{job_id}/content", ["GET"], jobs.get_content),
        ("/jobs/{job_id}/events", ["GET"], events.job_events),
        ("/jobs/{job_id}/cancel", ["POST"], jobs.cancel_job),
        ("/jobs/{job_id}/link", ["POST"], result_links.make_link),
        ("/results/{job_id}/{number}", ["GET"], result_links.follow_link),
        ("/inputs/{name}", ["GET"], jobs.get_input),
        ("/callbacks/{attempt_id}/{token}", ["POST"], jobs.callback),
        ("/routes", ["GET"], routes.list_routes),
        ("/usage", ["GET"], billing.usage),
        ("/billing/statement", ["GET"], billing.statement),
        ("/budgets", ["GET"], billing.budgets),
        ("/webhooks/deliveries", ["GET"], webhooks.deliveries),
        ("/admin/teams", ["GET"], admin.list_teams),
        ("/admin/teams", ["POST"], admin.create_team),
        ("/admin/teams/{team_id}", ["DELETE"], admin.delete_team),
        ("/admin/keys", ["GET"], admin.list_keys),
        ("/admin/keys", ["POST"], admin.create_key),
        ("/admin/keys/{key_id}/rotate", ["POST"], admin.rotate_key),
        ("/admin/keys/{key_id}/revoke", ["POST"], admin.revoke_key),
        ("/admin/audit", ["GET"], admin.list_audit),
        ("/healthz", ["GET"], health.healthz),
        ("/readyz", ["GET"], health.readyz),
        ("/metrics", ["GET"], metrics.metrics),
        ("/openapi.json", ["GET"], openapi.show),
        ("/docs", ["GET"], documentation.page),
        ("/docs/{asset}", ["GET"], documentation.asset),
    )
]
