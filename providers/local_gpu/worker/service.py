"""The protocol over HTTP (docs/local-gpu.md): orders, where they stand, their files, health and metrics."""

from __future__ import annotations

import asyncio
import hmac
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from providers.local_gpu.worker.desk import ConflictError, Desk, DiskError, QueueFullError
from providers.local_gpu.worker.metrics import CONTENT_TYPE
from providers.local_gpu.worker.orders import ID_FORM, PICTURE_BYTES_MAX, OrderError, read_asked
from providers.local_gpu.worker.renders import Render
from providers.pace import Measured

PROTOCOL = 1
# Base64 is a third longer than what it carries; the parameters are small.
BODY_BYTES_MAX = PICTURE_BYTES_MAX * 4 // 3 + 65_536
STARTING_RETRY_S = 5
DISK_RETRY_S = 60
# A picture of a few megabytes may be 200 when it is open.
READING_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Service:
    """The pages of one desk."""

    desk: Desk
    reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(READING_AT_ONCE))

    async def put(self, request: Request) -> Response:
        """Take an order under the client's id, once: asked again it answers with the render that is known."""
        render_id = request.path_params["id"]
        if not ID_FORM.fullmatch(render_id):
            return _invalid(OrderError("id", "an id has 1 to 64 letters, digits, _ or -"))
        body = await _body(request)
        if body is None:
            return _error(413, "too_large", f"an order may have {BODY_BYTES_MAX} bytes")
        models = self.desk.engine.facts.models
        if not models:
            return self._not_now()
        try:
            if self.desk.find(render_id) is None:  # before its picture is opened, which is the dear part
                if self.desk.draining or not self.desk.engine.ready:
                    return self._not_now()
                self.desk.check_room()
            async with self.reading:
                asked = await asyncio.to_thread(read_asked, body, models)
            known = self.desk.known(render_id, asked)
            if known is not None:
                return JSONResponse(self.desk.shown(known))
            if self.desk.draining or not self.desk.engine.ready:
                return self._not_now()
            self.desk.check_room()
            return JSONResponse(self.desk.shown(self.desk.accept(render_id, asked)), 202)
        except OrderError as error:
            return _invalid(error)
        except ConflictError as error:
            return _error(409, "conflict", str(error))
        except DiskError as error:
            return _error(503, "disk", str(error), retry_after_s=DISK_RETRY_S)
        except QueueFullError as error:
            more = {"queue_depth": error.queue_depth, "queue_max": error.queue_max}
            return _error(429, "queue_full", str(error), retry_after_s=error.retry_after_s, more=more)

    async def get(self, request: Request) -> Response:
        """Where a render stands."""
        render = self._render(request)
        return JSONResponse(self.desk.shown(render)) if render else _unknown()

    async def delete(self, request: Request) -> Response:
        """Call a render off: 202 while it may still end otherwise, 200 when it has ended."""
        render = self._render(request)
        if render is None:
            return _unknown()
        status = 200 if render.ended else 202
        await self.desk.cancel(render)
        return JSONResponse(self.desk.shown(render), status)

    async def output(self, request: Request) -> Response:
        """The finished file; parts of it for a Range."""
        render = self._render(request)
        if render is None:
            return _unknown()
        if render.output is None:
            return _error(409, "not_finished", f"render {render.id} is {render.state}")
        render.fetched = render.fetched or request.method == "GET"
        return FileResponse(self.desk.shelf.output(render.id), media_type=render.output.media_type)

    async def status(self, request: Request) -> Response:
        """What a router wants to know: how much waits, and how long things take here."""
        del request
        desk, facts = self.desk, self.desk.engine.facts
        paces = {name: desk.pace.of(name) for name in facts.models}
        return JSONResponse(
            {
                "protocol": PROTOCOL,
                "models": list(facts.models),
                "device": facts.device,
                "device_name": facts.device_name,
                "queue_depth": desk.queue_depth,
                "queue_max": desk.limits.queue_max,
                "running": desk.running,
                "replicas": facts.replicas,
                "warm_up_s": facts.warm_up_s,
                # Of the shape that was measured last, for readers that know of no shapes.
                "seconds_per_step": {name: pace[0].step_s if pace else None for name, pace in paces.items()},
                "seconds_fixed": {name: pace[0].fixed_s if pace else None for name, pace in paces.items()},
                "pace": {name: [_pace_row(one) for one in pace] for name, pace in paces.items()},
                "draining": desk.draining,
            }
        )

    async def healthz(self, request: Request) -> Response:
        """The process answers."""
        del request
        return PlainTextResponse("ok\n")

    async def readyz(self, request: Request) -> Response:
        """Whether an order would be taken: the model is loaded and warm, and nobody has asked it to stop."""
        del request
        return self._not_now() if self.desk.draining or not self.desk.engine.ready else PlainTextResponse("ok\n")

    async def metrics(self, request: Request) -> Response:
        """Figures for Prometheus."""
        del request
        return Response(self.desk.exposition(), media_type=CONTENT_TYPE)

    def _render(self, request: Request) -> Render | None:
        return self.desk.find(request.path_params["id"])

    def _not_now(self) -> Response:
        code, what = ("draining", "stopping") if self.desk.draining else ("starting", "still loading its model")
        return _error(503, code, f"the worker is {what}", retry_after_s=STARTING_RETRY_S)


def build_service(desk: Desk, *, token: str = "") -> Starlette:
    """The application around a desk. Only its protocol asks for the token: health and metrics are open."""
    pages = Service(desk)
    app = Starlette(
        routes=[
            Route("/v1/renders/{id}", pages.put, methods=["PUT"]),
            Route("/v1/renders/{id}", pages.get, methods=["GET"]),
            Route("/v1/renders/{id}", pages.delete, methods=["DELETE"]),
            Route("/v1/renders/{id}/output", pages.output, methods=["GET"]),
            Route("/v1/status", pages.status, methods=["GET"]),
            Route("/healthz", pages.healthz, methods=["GET"]),
            Route("/readyz", pages.readyz, methods=["GET"]),
            Route("/metrics", pages.metrics, methods=["GET"]),
        ],
    )
    if token:
        app.add_middleware(TokenGuard, token=token)
    return app


@dataclass(frozen=True, slots=True)
class TokenGuard:
    """Asks for the worker's token on everything but health and metrics."""

    app: ASGIApp
    token: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it with 401."""
        if scope["type"] == "http" and scope["path"].startswith("/v1/"):
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, b"Bearer " + self.token.encode()):
                refusal = _error(401, "unauthorized", "the worker wants its token as Authorization: Bearer")
                await refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _pace_row(known: Measured) -> dict[str, Any]:
    """What renders of one shape took, as the status tells it."""
    shape = asdict(known.shape) if known.shape else {}
    return {**shape, "seconds_per_step": known.step_s, "seconds_fixed": known.fixed_s}


async def _body(request: Request) -> bytes | None:
    """The body of a request, None when it is longer than an order can be."""
    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > BODY_BYTES_MAX:
                return None
            pieces.append(piece)
    except ClientDisconnect:
        return b""
    return b"".join(pieces)


def _error(
    status: int, code: str, message: str, *, retry_after_s: float | None = None, more: Mapping[str, Any] | None = None
) -> Response:
    headers = {} if retry_after_s is None else {"Retry-After": str(max(1, math.ceil(retry_after_s)))}
    return JSONResponse({"error": {"code": code, "message": message, **(more or {})}}, status, headers)


def _invalid(error: OrderError) -> Response:
    return _error(422, "invalid", str(error), more={"field": error.field})


def _unknown() -> Response:
    return _error(404, "unknown_render", "no such render: it was never ordered here, or kept long enough")
