"""`POST /generate/{video,image}/quote`: what a request would cost and how long it would take on every route.

Asks the same planner as a real request does. Nothing is run, held or stored, the picture neither.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.api.auth import audience_for, caller_of
from gateway.api.credit import accounts_behind, credit_json
from gateway.api.generate import make_order
from gateway.api.shown import plan_json
from gateway.api.wanted import read_wish
from gateway.audience import Audience, visible
from gateway.money.accounts import ProviderAccount
from gateway.money.prices import Price
from gateway.planning import Option, Plan
from gateway.service import Service
from policies.values import RouteQuote
from providers.vocabulary import Media

NOT_ASKED = ""  # a job id that no job has: the router answers without keeping a place for it


async def quote(request: Request, service: Service, media: Media) -> Response:
    """Every route with price, times, chances, credit, receipt, and its rank or why it is refused."""
    caller = await caller_of(request, service)
    wish = await read_wish(request, service, media)
    with service.overload.opening():
        image = await service.parts.inputs.read(wish.image)
    image_size = (image.width, image.height)
    now = service.parts.clock.now()
    plan = service.parts.planner.plan(make_order(service, NOT_ASKED, caller, wish, image_size, now), now)
    costs = {name: option.price.cost_micros if option.price else 0 for name, option in plan.options.items()}
    accounts = await accounts_behind(service, costs, now)
    audience = audience_for(caller, service)
    body = plan_json(plan.to_json(), audience) | {
        "hold_micros": plan.hold_micros(),
        "routes": {name: _quoted(service, plan, name, accounts, audience) for name in plan.options},
    }
    return Response(json.dumps(body), media_type="application/json")


def _quoted(
    service: Service, plan: Plan, name: str, accounts: Mapping[str, ProviderAccount], audience: Audience
) -> dict[str, Any]:
    """One route: its place among the ranked, or the reasons why it has none."""
    option = plan.options[name]
    ranked = {one.route: (place, one) for place, one in enumerate(plan.ranking.ranked, start=1)}
    refused = {one.route: one.reasons for one in plan.ranking.refused}
    place, promised = ranked.get(name, (None, None))
    quoted = {
        "eligible": not option.fit.refusals,
        "rank": place,
        "reasons": list(promised.reasons if promised else ()),
        "refused": list(refused.get(name, ())),
        "price_micros": option.team_price_micros if option.price else None,
        "worst_micros": option.worst_micros if option.price else None,
        "price": _price(option.price),
        "time": visible("quote_time", _time(service, option, promised, plan.decided_at), audience),
        "credit": credit_json(service, accounts[option.route.provider], audience),
        "receipt": [asdict(line) for line in option.fit.receipt],
    }
    return visible("quote", quoted, audience)


def _price(price: Price | None) -> dict[str, Any] | None:
    """The vendor's price with every line of it, before the team's margin."""
    if price is None:
        return None
    return {
        "cost_micros": price.cost_micros,
        "worst_micros": price.worst_micros,
        "lines": [asdict(line) for line in price.breakdown],
        "source": price.source,
        "confidence": price.confidence,
    }


def _time(service: Service, option: Option, promised: RouteQuote | None, now: float) -> dict[str, Any]:
    """Seconds to the finished result. Chances are null for a refused route, which nobody asked the router about."""
    seen = service.parts.fleet.router.snapshot(option.route.name, now)
    known = seen.observations > 0
    return {
        "p50_s": promised.p50_s if promised else seen.p50_s if known else option.route.latency_nominal_s,
        "p95_s": promised.p95_s if promised else seen.p95_s if known else None,
        "probability_on_time": promised.probability_on_time if promised else None,
        "probability_success": promised.probability_success if promised else None,
        "expected_cost_micros": promised.expected_cost_micros if promised else None,
        "published_s": option.route.latency_nominal_s,
        "observations": seen.observations,
    }
