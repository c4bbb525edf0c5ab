"""Who is asking. A key is looked up by its hash, and a miss costs the same as a hit."""

from __future__ import annotations

from starlette.requests import Request

from gateway.api.query import check_query
from gateway.api.quota import count_request
from gateway.audience import Audience, audience_of
from gateway.audit import Actor
from gateway.holds import CHALLENGE, Hold
from gateway.keys import Caller, find_caller
from gateway.people import IdentityProvider, admit_person, find_person
from gateway.problems import Forbidden, MissingScope, Unauthorized
from gateway.scopes import NEEDED, Scope, scopes_text
from gateway.service import Service
from gateway.telemetry.tracing import learn_here, trust_here

SECRET_LENGTH_MAX = 256
TOKEN_DOTS = 2  # a signed token has three parts; a key has none, for its letters are base64's


async def caller_of(request: Request, service: Service) -> Caller:
    """The caller of a request, by `Authorization: Bearer` or `x-api-key`; it is held from here on (gateway/holds.py).

    Raises Unauthorized, QuotaExceeded, MissingScope for a key that is not for this address, and BadRequest for a query
    that is not.
    """
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    is_bearer = scheme.lower() == "bearer"
    secret = value.strip() if is_bearer else request.headers.get("x-api-key", "").strip()
    if not secret:
        raise Unauthorized("give a key: Authorization: Bearer vg_... or x-api-key: vg_...", headers=CHALLENGE)
    if is_bearer and service.people is not None and secret.count(".") == TOKEN_DOTS:
        caller = await _person(service, service.people, secret)
    else:
        caller = await _key(service, secret)
    learn_here(team=caller.team_id)
    trust_here()
    await count_request(request, service, caller)
    needed = NEEDED[request.state.template]  # an address without a row in the table is nobody's
    check_scope(caller, needed)
    check_query(request)
    if not hasattr(request.state, "hold"):
        request.state.hold = request.state.holding.enter_context(service.holds.held(caller, needed))
    return caller


def hold_of(request: Request) -> Hold:
    """What a request whose caller is known holds: it ends with the key."""
    hold: Hold = request.state.hold
    return hold


async def _key(service: Service, secret: str) -> Caller:
    if len(secret) > SECRET_LENGTH_MAX:
        raise Unauthorized("this is not a vidgate key", headers=CHALLENGE)
    caller = await service.parts.store.read(find_caller, secret, service.parts.clock.now())
    if caller is None:
        raise Unauthorized("this key is unknown, expired or revoked", headers=CHALLENGE)
    return caller


async def _person(service: Service, people: IdentityProvider, token: str) -> Caller:
    """Somebody with a token of the identity provider; the first time, a row is made that stands for the person."""
    person, parts = await people.person_of(token), service.parts
    caller = await parts.store.read(find_person, person, parts.clock.now())
    if caller is None:
        caller = await parts.store.write(admit_person, parts.ids, person, parts.clock.now())
    if caller is None:
        raise Forbidden(f"you were shut out here, or there is no team {person.team_name!r}")
    return caller.of_person(person.name, person.ends_at)


def check_scope(caller: Caller, needed: Scope, what_for: str = "") -> None:
    """Whether the key has this scope. Raises MissingScope."""
    if needed in caller.scopes:
        return
    challenge = f'{CHALLENGE["WWW-Authenticate"]}, error="insufficient_scope", scope="{needed}"'
    asked = f"the scope {needed} {what_for}".rstrip()
    raise MissingScope(
        f"this key lacks {asked}; it has: {scopes_text(caller.scopes) or 'none'}",
        headers={"WWW-Authenticate": challenge},
        scope=needed.value,
    )


def actor_of(caller: Caller) -> Actor:
    """The caller as the log of administrators' acts names it."""
    return Actor(caller.person or f"key {caller.key_id} of {caller.team_name}", "http")


def audience_for(caller: Caller, service: Service) -> Audience:
    """Which figures of money the caller's team may see."""
    return audience_of(caller.plan, service.parts.settings.money.show_cost)
