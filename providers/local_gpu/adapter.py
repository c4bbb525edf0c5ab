"""The adapter for the team's own GPUs: a render is put at one worker under the attempt's own id, and followed there.

The id makes a submit safe to repeat: the same worker never renders it twice, so that nothing is paid for twice, and a
submit whose reply was lost is looked up by it. A token names the worker, for any process to go on from.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace

from providers.capability import Route
from providers.contract import (
    Accepted,
    CheckOutcome,
    Failed,
    FailureKind,
    Finished,
    InDoubt,
    InlineFile,
    Json,
    Load,
    LookupOutcome,
    NoEvidence,
    NotFound,
    Refused,
    RenderRequest,
    SentAttempt,
    SubmitOutcome,
    Token,
    Tools,
)
from providers.local_gpu import protocol
from providers.local_gpu.catalogue import PROVIDER
from providers.local_gpu.settings import Settings
from providers.local_gpu.workers import Asked, Worker, Workers
from providers.transport import MaybeSent, NotSent, Reply

READ_TIMEOUT_S = 20.0
OUTPUT_TIMEOUT_S = 120.0
# What each kind of route always asks for: vidgate converts the file itself.
FORMATS: Mapping[str, str] = {"video": "mp4", "image": "jpg"}
# A worker that refuses so says nothing against another one.
ELSEWHERE = frozenset({FailureKind.RATE_LIMITED, FailureKind.UNAVAILABLE, FailureKind.UNAUTHORIZED})
LOST_REPLIES_MAX = 1_000


class LocalGpu:
    """Several workers, or the one address of a Ray cluster."""

    def __init__(self, settings: Settings, routes: tuple[Route, ...], tools: Tools) -> None:
        token = settings.token.get_secret_value() if settings.token is not None else None
        self._routes = routes
        self._dead_after_s = settings.dead_after_s
        self._clock = tools.clock
        self._workers = Workers(settings.workers, tools, token)
        self._lost_replies: OrderedDict[str, str] = OrderedDict()

    @property
    def name(self) -> str:
        """The provider's name."""
        return PROVIDER

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes these workers offer."""
        return self._routes

    async def submit(self, request: RenderRequest) -> SubmitOutcome:
        """Put the render at the worker that would be done first; one that is full or not there passes it on.

        A submit whose reply was lost goes to the same worker again, which knows the id if it took it.
        """
        await self._workers.look()
        route, body = request.route, wire_body(request)
        workers = self._workers.in_order(Asked(route.model, request.parameters, route.latency_nominal_s))
        asked_before = self._lost_replies.get(request.attempt_id)
        workers.sort(key=lambda worker: worker.url != asked_before)
        refusals = []
        for worker in workers:
            outcome = await self._put(worker, request, body)
            if not isinstance(outcome, Refused) or outcome.kind not in ELSEWHERE:
                return outcome
            refusals.append(outcome)
        return soonest(refusals)

    async def _put(self, worker: Worker, request: RenderRequest, body: Mapping[str, Json]) -> SubmitOutcome:
        path = f"/v1/renders/{request.attempt_id}"
        worker.sending += 1
        try:
            reply = await self._workers.call(worker, "PUT", path, json=body, timeout_s=request.timeout_s)
        finally:
            worker.sending -= 1
        if isinstance(reply, NotSent):
            return Refused(FailureKind.UNAVAILABLE, f"{worker.url}: {reply.detail}")
        if isinstance(reply, MaybeSent):
            outcome: SubmitOutcome = InDoubt(f"{worker.url}: {reply.detail}")
        else:
            outcome = protocol.submitted(reply, token_for(worker, request.attempt_id))
        worker.taken += isinstance(outcome, Accepted)
        if isinstance(outcome, InDoubt):
            self._lost_replies[request.attempt_id] = worker.url
            while len(self._lost_replies) > LOST_REPLIES_MAX:
                self._lost_replies.popitem(last=False)
        return outcome

    async def check(self, route: Route, token: Token) -> CheckOutcome:
        """Ask the render's own worker; one that stays silent for long enough has lost it."""
        url, name = token.get("worker"), token.get("id")
        if not isinstance(url, str) or not isinstance(name, str):
            return InDoubt("the token names no worker and render", gone=True)
        await self._workers.resolve()
        worker = self._workers.known(url)
        if worker is None:
            detail = f"{url} is not one of the workers"
            is_lost = self._workers.missing_s(url) >= self._dead_after_s
            return Failed(FailureKind.LOST, detail) if is_lost else InDoubt(detail)
        reply = await self._workers.call(worker, "GET", f"/v1/renders/{name}", timeout_s=READ_TIMEOUT_S)
        if not isinstance(reply, Reply):
            return self._silent(worker, reply.detail)
        outcome = protocol.checked(reply, name)
        return await self._fetched(worker, name, outcome) if isinstance(outcome, protocol.Ready) else outcome

    def _silent(self, worker: Worker, detail: str) -> Failed | InDoubt:
        silent_s = worker.silent_s(self._clock.now())
        if silent_s < self._dead_after_s:
            return InDoubt(f"{worker.url}: {detail}")
        return Failed(FailureKind.LOST, f"{worker.url} has not answered for {silent_s:.0f} s: {detail}")

    async def _fetched(self, worker: Worker, name: str, ready: protocol.Ready) -> CheckOutcome:
        """The file of a finished render, whole and unspoilt, or ask again."""
        path = f"/v1/renders/{name}/output"
        reply = await self._workers.call(worker, "GET", path, timeout_s=OUTPUT_TIMEOUT_S)
        if not isinstance(reply, Reply):
            return self._silent(worker, reply.detail)
        if protocol.is_unknown(reply):
            return Failed(FailureKind.LOST, "the worker lost the file before it was fetched")
        whole = ready.size_bytes is None or len(reply.body) == ready.size_bytes
        digest = await asyncio.to_thread(_sha256, reply.body)
        if reply.status != 200 or not whole or (ready.sha256 is not None and digest != ready.sha256):
            return InDoubt(f"the file came spoilt ({len(reply.body)} bytes)", status=reply.status)
        return Finished((InlineFile(reply.body),), ready.report)

    async def cancel(self, route: Route, token: Token) -> bool:
        """Stop a render: the worker takes it out of its queue at once, or stops at the next step."""
        worker = self._workers.known(str(token.get("worker")))
        if worker is None:
            return False
        path = f"/v1/renders/{token.get('id')}"
        reply = await self._workers.call(worker, "DELETE", path, timeout_s=READ_TIMEOUT_S)
        if not isinstance(reply, Reply):
            return False
        return reply.status == 202 or reply.object().get("state") == "canceled" or protocol.is_unknown(reply)

    async def lookup(self, sent: SentAttempt) -> LookupOutcome:
        """Ask every worker for the attempt by its id: the one that took it knows it."""
        await self._workers.look()
        name, workers = sent.attempt_id, self._workers.every()
        replies = await asyncio.gather(
            *(self._workers.call(one, "GET", f"/v1/renders/{name}", timeout_s=READ_TIMEOUT_S) for one in workers)
        )
        silent = []
        for worker, reply in zip(workers, replies, strict=True):
            if isinstance(reply, Reply) and reply.status == 200 and reply.object().get("id") == name:
                return Accepted(token_for(worker, name))
            if not isinstance(reply, Reply) or not protocol.is_unknown(reply):
                silent.append(worker.url)
        if silent:
            return NoEvidence(f"no worker that answers has it, and these do not: {', '.join(silent)}")
        return NotFound(f"none of {len(workers)} workers has it")

    async def load(self) -> Mapping[str, Load]:
        """How busy the workers are, by route."""
        await self._workers.look()
        return {route.name: self._workers.load(route.model) for route in self._routes}


def wire_body(request: RenderRequest) -> dict[str, Json]:
    """The JSON that is put: the fitted parameters under diffusers' names, the container and the picture."""
    picture = base64.b64encode(request.image.data or b"").decode("ascii")
    parameters: dict[str, Json] = {**request.parameters, "output_format": FORMATS[request.route.media]}
    return {"model": request.route.model, "parameters": parameters, request.route.image_name: picture}


def token_for(worker: Worker, attempt_id: str) -> Token:
    """The token of a render: its worker and its id there."""
    return {"worker": worker.url, "id": attempt_id}


def soonest(refusals: list[Refused]) -> Refused:
    """What to tell when no worker took it: that all are full and when to come again, else why there is none."""
    full = [refusal for refusal in refusals if refusal.kind is FailureKind.RATE_LIMITED]
    hints = [refusal.retry_after_s for refusal in full if refusal.retry_after_s is not None]
    if full:
        return replace(full[0], retry_after_s=min(hints, default=None))
    return refusals[-1] if refusals else Refused(FailureKind.UNAVAILABLE, "no worker with this model answers")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
