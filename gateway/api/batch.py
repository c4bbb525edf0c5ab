"""`POST /generate/{video,image}/batch`: up to 100 requests in one body, each admitted and answered on its own."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from gateway.admission import Answer
from gateway.api import errors
from gateway.api.auth import caller_of, hold_of
from gateway.api.generate import submit
from gateway.api.openapi.requests import REQUESTS_MAX
from gateway.api.quota import count_one_more, job_limits, note_standings
from gateway.api.reading import BodyLimits, parse_json, read_body
from gateway.api.wanted import idempotency_key, wish_of
from gateway.holds import Hold
from gateway.media.artifacts import ArtifactsUnavailableError
from gateway.money.idempotency import KEY_LENGTH_MAX
from gateway.problems import BadJson, BadRequest, InvalidParameter, Problem, UnknownField, UnsupportedMediaType
from gateway.quotas import CallerLimits
from gateway.service import Service
from gateway.store.database import StoreError
from providers.vocabulary import Media

# How many are planned at a time: pictures are opened one after another anyhow, and others want their turn.
AT_ONCE = 4
SUFFIX_LENGTH_MAX = 5


@dataclass(frozen=True, slots=True)
class Order:
    """Who sends a batch of what, under which limits and key."""

    hold: Hold
    limits: CallerLimits
    media: Media
    key: str | None

    def key_of(self, index: int) -> str | None:
        """The idempotency key of one request of the batch."""
        return None if self.key is None else f"{self.key}.{index}"


async def generate_batch(request: Request, service: Service, media: Media) -> Response:
    """Take many requests in: 207 with one answer each, in their order."""
    caller = await caller_of(request, service)
    limits = job_limits(request, service, caller)
    key = idempotency_key(request)
    if key is not None and len(key) > KEY_LENGTH_MAX - SUFFIX_LENGTH_MAX:
        raise BadRequest(f"the Idempotency-Key of a batch has at most {KEY_LENGTH_MAX - SUFFIX_LENGTH_MAX} characters")
    wanted = await _read(request, service)
    order, room = Order(hold_of(request), limits, media, key), asyncio.Semaphore(AT_ONCE)

    async def answered(index: int) -> dict[str, Any]:
        async with room:
            return await _answer(request, service, order, (index, wanted[index]))

    found = await asyncio.gather(*(answered(index) for index in range(len(wanted))), return_exceptions=True)
    results = [_refused(_problem(request, one)) if isinstance(one, BaseException) else one for one in found]
    return Response(json.dumps({"results": results}), 207, media_type="application/json")


def _problem(request: Request, error: BaseException) -> Problem:
    """What one request is told of an error, as it would be told alone: a fault with it is no fault with the others."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, StoreError):
        return errors.store_problem(request, error)
    if isinstance(error, ArtifactsUnavailableError):
        return errors.artifacts_problem(request, error)
    if isinstance(error, Exception):
        return errors.fault_problem(request, error)
    raise error


async def _read(request: Request, service: Service) -> list[Any]:
    """The requests of the body. Raises the problem of a body that is no batch."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMediaType("send application/json", got=kind or None)
    server = service.parts.settings.server
    body = parse_json(
        await read_body(request, BodyLimits(server.body_bytes_max, server.body_s, server.body_bytes_per_s_min))
    )
    for name in body:
        if name != "requests":
            raise UnknownField(f"there is no field {name[:80]!r}; a batch has requests", field=name, nearest="requests")
    wanted = body.get("requests")
    if not isinstance(wanted, list) or not 1 <= len(wanted) <= REQUESTS_MAX:
        raise InvalidParameter(f"requests must be a list of 1 to {REQUESTS_MAX} requests", parameter="requests")
    return wanted


async def _answer(request: Request, service: Service, order: Order, one: tuple[int, Any]) -> dict[str, Any]:
    """One request of the batch as it would have been answered alone. Raises its problem."""
    index, fields = one
    if not isinstance(fields, dict):
        raise BadJson(f"requests[{index}] must be a JSON object")
    if index:  # the first was counted when the batch came
        await count_one_more(request, service, order.hold.caller)
    wish = wish_of(fields, service, order.media, f"/generate/{order.media}")
    submitted = await submit(service, wish, hold=order.hold, limits=order.limits, key=order.key_of(index))
    if index == 0:
        note_standings(request, submitted.answer.standings)
    return _said(submitted.answer)


def _said(answer: Answer) -> dict[str, Any]:
    name = "job" if answer.status == 202 else "problem"
    return {"status": answer.status, name: json.loads(answer.body), "replayed": answer.replayed}


def _refused(problem: Problem) -> dict[str, Any]:
    shown = {"status": problem.status, "problem": problem.body(), "replayed": False}
    after = problem.headers.get("Retry-After", "")
    return shown | ({"retry_after_s": int(after)} if after.isdigit() else {})
