"""Who is asking. A key is looked up by its hash, and a miss costs the same as a hit."""

from __future__ import annotations

from starlette.requests import Request

from gateway.api.quota import count_request
from gateway.audience import Audience, audience_of
from gateway.audit import Actor
from gateway.keys import Caller, find_caller
from gateway.problems import MissingScope, Unauthorized
from gateway.scopes import NEEDED, scopes_text
from gateway.service import Service
from gateway.telemetry.tracing import learn_here, trust_here

SECRET_LENGTH_MAX = 256
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="vidgate"'}


async def caller_of(request: Request, service: Service) -> Caller:
    """The caller of a request, by `Authorization: Bearer` or `x-api-key`.

    Raises Unauthorized, QuotaExceeded, and MissingScope for a key that is not for this address.
    """
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
    trust_here()
    await count_request(request, service, caller)
    _check_scope(request, caller)
    return caller


def _check_scope(request: Request, caller: Caller) -> None:
    """Whether the key is for this address: an address without a row in the table is nobody's."""
    needed = NEEDED[request.state.template]
    if needed in caller.scopes:
        return
    challenge = f'{CHALLENGE["WWW-Authenticate"]}, error="insufficient_scope", scope="{needed}"'
    raise MissingScope(
        f"this key lacks the scope {needed}; it has: {scopes_text(caller.scopes) or 'none'}",
        headers={"WWW-Authenticate": challenge},
        scope=needed.value,
    )


def actor_of(caller: Caller) -> Actor:
    """The caller as the log of administrators' acts names it."""
    return Actor(f"key {caller.key_id} of {caller.team_name}", "http")


def audience_for(caller: Caller, service: Service) -> Audience:
    """Which figures of money the caller's team may see."""
    return audience_of(caller.plan, service.parts.settings.money.show_cost)
