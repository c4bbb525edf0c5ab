"""Limits on the way in and out: every request of a caller is counted once, and every reply says what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from gateway.keys import Caller
from gateway.quotas import (
    POLICY_HEADER,
    STANDING_HEADER,
    CallerLimits,
    Policy,
    Remaining,
    draw_request,
    limits_of,
    listed,
)
from gateway.service import Service


@dataclass(slots=True)
class Announced:
    """What the reply to a request says of limits: the policies that apply, and how the caller stands with them."""

    policies: list[Policy]
    standings: list[Remaining]


async def count_request(request: Request, service: Service, caller: Caller) -> None:
    """Count a request against its caller's limits, once: a stream looks its caller up again. Raises QuotaExceeded."""
    if hasattr(request.state, "quota"):
        return
    limits = limits_of(service.parts.settings.limits, caller)
    announced = Announced([policy for policy, _ in limits.of_requests(caller)], [])
    request.state.quota = announced
    announced.standings += await draw_request(service.parts.bus, limits, caller, service.parts.clock.now())


async def count_one_more(request: Request, service: Service, caller: Caller) -> None:
    """Count a further request that came in the same body; the reply tells how things stand after the last one."""
    limits = limits_of(service.parts.settings.limits, caller)
    drawn = await draw_request(service.parts.bus, limits, caller, service.parts.clock.now())
    announced: Announced = request.state.quota
    names = {standing.name for standing in drawn}
    announced.standings = [one for one in announced.standings if one.name not in names] + drawn


def job_limits(request: Request, service: Service, caller: Caller) -> CallerLimits:
    """The limits under which a job is admitted; the reply will name those on jobs too."""
    limits = limits_of(service.parts.settings.limits, caller)
    request.state.quota.policies += limits.of_jobs()
    return limits


def note_standings(request: Request, standings: Sequence[Remaining]) -> None:
    """How the caller stands with its limits on jobs, for the reply."""
    request.state.quota.standings += standings


def announce(request: Request, response: Response) -> Response:
    """The reply with `RateLimit-Policy` and `RateLimit`, where any limit applies; a refusal has named its own."""
    announced: Announced | None = getattr(request.state, "quota", None)
    if announced is None or not announced.policies:
        return response
    response.headers[POLICY_HEADER] = listed(announced.policies)
    said = [*announced.standings, *([told] if (told := response.headers.get(STANDING_HEADER)) else [])]
    if said:
        response.headers[STANDING_HEADER] = listed(said)
    return response
