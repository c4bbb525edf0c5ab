"""Who is asking. A key is looked up by its hash, and a miss costs the same as a hit."""

from __future__ import annotations

from starlette.requests import Request

from gateway.audience import Audience, audience_of
from gateway.keys import Caller, find_caller
from gateway.problems import Unauthorized
from gateway.service import Service
from gateway.telemetry.tracing import learn_here

SECRET_LENGTH_MAX = 256
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="vidgate"'}


async def caller_of(request: Request, service: Service) -> Caller:
    """The caller of a request, by `Authorization: Bearer` or `x-api-key`. Raises Unauthorized."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    secret = value.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "").strip()
    if not secret:
        raise Unauthorized("give a key: Authorization: Bearer vg_... or x-api-key: vg_...", headers=CHALLENGE)
    if len(secret) > SECRET_LENGTH_MAX:
        raise Unauthorized("this is not a vidgate key", headers=CHALLENGE)
    now = service.parts.clock.now()
    caller = await service.parts.store.read(find_caller, secret, now)
    if caller is None:
        raise Unauthorized("this key is unknown, expired or revoked", headers=CHALLENGE)
    learn_here(team=caller.team_id)
    return caller


def audience_for(caller: Caller, service: Service) -> Audience:
    """Which figures of money the caller's team may see."""
    return audience_of(caller.plan, service.parts.settings.money.show_cost)
