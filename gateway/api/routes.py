"""`GET /routes`: what can be had, what each takes, and how it stands now."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.auth import audience_for, caller_of
from gateway.api.credit import accounts_behind, credit_json
from gateway.api.generate import plan_of
from gateway.audience import visible
from gateway.money.margin import TeamPlan
from gateway.money.prices import Price
from gateway.service import Service
from policies.fit import describe, fit
from providers.capability import Capability, Route

USUAL_SIZE = (1024, 576)


async def list_routes(request: Request, service: Service) -> Response:
    """Every route with its capabilities, prices and the live view of the router."""
    caller = await caller_of(request, service)
    plan, audience = plan_of(caller, service), audience_for(caller, service)
    now, every = service.parts.clock.now(), service.parts.fleet.routes.values()
    prices = {route.name: _usual_price(service, route, now) for route in every}
    costs = {name: price.cost_micros if price else 0 for name, price in prices.items()}
    accounts = await accounts_behind(service, costs, now)
    routes = []
    for route in every:
        price = prices[route.name]
        money = {
            "price": None if price is None else visible("route_price", _price(price, plan, route.name), audience),
            "credit": credit_json(service, accounts[route.provider], audience),
        }
        routes.append(visible("route", _shown(service, route, now) | money, audience))
    return Response(json.dumps({"routes": routes}), media_type="application/json")


def _usual_price(service: Service, route: Route, now: float) -> Price | None:
    """What the vendor charges for a request that writes nothing but a picture."""
    usual = fit(route, {}, mode="nearest", image_size=USUAL_SIZE)
    return service.parts.planner.prices.price(route.name, usual.values, now)


def _shown(service: Service, route: Route, now: float) -> dict[str, Any]:
    parts = service.parts
    seen = parts.fleet.router.snapshot(route.name, now)
    learned = seen.observations > 0
    return {
        "name": route.name,
        "provider": route.provider,
        "media": route.media,
        "model": route.model,
        "summary": route.summary,
        "mode": route.mode,
        "preview": route.preview,
        "statistics": {
            "p50_s": seen.p50_s if learned else route.latency_nominal_s,
            "p95_s": seen.p95_s if learned else None,
            "success_rate": seen.success_rate,
            "breaker": seen.breaker,
            "observations": seen.observations,
        },
        "price_drift": _drift(service, route.name),
        "in_flight": len(parts.fleet.in_flight(route.name)),
        "image_form": parts.inputs.form(route),
        "capabilities": [_row(row) for row in route.capabilities],
    }


def _price(price: Price, plan: TeamPlan, route: str) -> dict[str, Any]:
    """What the team pays for the usual request, and what the vendor charges for it."""
    return {
        "usual_micros": plan.price_micros(price.cost_micros, route),
        "worst_micros": plan.price_micros(price.worst_micros, route),
        "cost_micros": price.cost_micros,
        "worst_cost_micros": price.worst_micros,
        "source": price.source,
        "confidence": price.confidence,
    }


def _drift(service: Service, name: str) -> dict[str, Any] | None:
    """What vendors reported of late against the price book; None without reported costs."""
    seen = service.dispatcher.watch.drift.get(name)
    if seen is None:
        return None
    return {"ratio": seen.ratio, "observations": seen.observations, "beyond_threshold": seen.is_beyond}


def _row(row: Capability) -> dict[str, Any]:
    return {
        "parameter": row.parameter,
        "vendor_name": row.wire,
        "takes": describe(row),
        "by": row.by,
        "required": row.required,
        "affects_price": row.affects_price,
        "note": row.note,
    }
