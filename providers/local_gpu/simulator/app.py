"""The simulated worker as an application: every path of the worker's protocol."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict

from PIL import Image, ImageOps
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from providers.contract import Json, SimulatorTools
from providers.local_gpu.simulator.cards import SEED_DRAWN_MAX, Cards, Render, pace_of
from providers.local_gpu.simulator.orders import ID, OrderError, read_order
from providers.local_gpu.simulator.switches import SANDBOX_KEY, WorkerSwitches
from providers.simulated_faults import FAULTS, spoiled
from providers.simulated_media import ClipOrder, Clips
from providers.simulation import Handler, Sandbox

MEDIA_TYPES = {
    "mp4": "video/mp4",
    "gif": "image/gif",
    "webp": "image/webp",
    "jpg": "image/jpeg",
    "png": "image/png",
}
MOTION_NEUTRAL = 127.0
RANGE = re.compile(r"bytes=(\d*)-(\d*)")
MESSAGES = {
    "out_of_memory": "the card has too little memory, even with one frame decoded at a time",
    "wedged": "no step for too long: the worker was restarted",
    "fault": "the pipeline failed",
    "worker_lost": "the replica died",
}
Answer = Callable[[Request], Awaitable[Response]]


class SimulatedWorker:
    """The endpoints over one set of cards."""

    def __init__(self, tools: SimulatorTools) -> None:
        self.sandbox: Sandbox[WorkerSwitches] = Sandbox(
            tools, WorkerSwitches.model_validate(dict(tools.settings)), error_page=self._error_page, settle=self.settle
        )
        self.cards = Cards()
        self._clips = Clips()
        self._restarts = self.sandbox.switches.restarts

    def app(self) -> Starlette:
        """The application, its sandbox in `state.sandbox`."""
        render, output = "/v1/renders/{name}", "/v1/renders/{name}/output"
        app = self.sandbox.app(
            [
                Route(render, self._endpoint("submit", self._submit), methods=["PUT"]),
                Route(render, self._endpoint("check", self._check), methods=["GET"]),
                Route(render, self._endpoint("cancel", self._cancel), methods=["DELETE"]),
                Route(output, self._endpoint("output", self._output), methods=["GET", "HEAD"]),
                Route("/v1/status", self._endpoint("status", self._status)),
                Route("/healthz", self._endpoint("health", self._healthz, is_open=True)),
                Route("/readyz", self._endpoint("ready", self._readyz, is_open=True)),
                Route("/metrics", self._endpoint("metrics", self._metrics, is_open=True)),
            ]
        )
        app.state.worker = self
        return app

    def settle(self) -> None:
        """Bring the cards up to now, and forget everything after a restart."""
        switches = self.sandbox.switches
        if switches.restarts != self._restarts:
            self._restarts = switches.restarts
            self.cards.forget()
        self.cards.settle(switches, self.sandbox.clock.now())

    def _endpoint(self, operation: str, answer: Answer, *, is_open: bool = False) -> Handler:
        async def handler(request: Request) -> Response:
            self.settle()
            token = self.sandbox.switches.token
            if token and not is_open and request.headers.get("authorization") != f"Bearer {token}":
                return _error(401, "unauthorized", "send the worker's token: Authorization: Bearer ...")
            return await answer(request)

        counted = self.sandbox.endpoint(operation, handler)

        async def alive(request: Request) -> Response:
            if not self.sandbox.switches.dead:
                return await counted(request)
            fault, clock = FAULTS["reset_before_accept"], self.sandbox.clock
            return spoiled(fault, Response(), clock, hang_s=0.0, drip_s=0.0)

        return alive

    async def _submit(self, request: Request) -> Response:
        name, switches, now = request.path_params["name"], self.sandbox.switches, self.sandbox.clock.now()
        body: object = None
        with contextlib.suppress(ValueError, RecursionError):
            body = await request.json()
        if not ID.fullmatch(name):
            return self._refused(422, "invalid", "an id is 1 to 64 letters, digits, - and _", field="id")
        try:
            order = await asyncio.to_thread(read_order, body, switches.models)
        except OrderError as error:
            return self._refused(422, "invalid", error.message, field=error.field)
        known = self.cards.renders.get(name)
        if known is not None:
            if known.order.content != order.content:
                return self._refused(409, "conflict", "this id is known with other content")
            return JSONResponse(self._shown(known), status_code=200)
        if switches.state != "ready":
            return self._refused(503, switches.state, f"the worker is {switches.state}", retry_after_s=5)
        waiting = len(self.cards.in_state("queued"))
        is_busy = len(self.cards.in_state("running")) >= switches.replicas
        if is_busy and waiting >= switches.queue_max:
            return self._full(waiting)
        drawn = int(order.numbers.get("seed", -1))
        seed = drawn if drawn >= 0 else self.sandbox.random.randint(0, SEED_DRAWN_MAX)
        render = Render(name, order, seed, now)
        self.cards.add(render, switches, now)
        self.sandbox.meter.accept(name)
        return JSONResponse(self._shown(render), status_code=202)

    def _full(self, waiting: int) -> Response:
        switches, now = self.sandbox.switches, self.sandbox.clock.now()
        ends = [one.ends_at - now for one in self.cards.in_state("running")]
        reckoned = math.ceil(min(ends, default=1.0))
        extra = {"queue_depth": waiting, "queue_max": switches.queue_max}
        hint_s = switches.retry_after_s or max(1, reckoned)
        return self._refused(429, "queue_full", "the queue is full", retry_after_s=hint_s, extra=extra)

    def _refused(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        retry_after_s: int | None = None,
        extra: Mapping[str, Json] | None = None,
    ) -> Response:
        self.sandbox.meter.reject()
        told = {**(extra or {}), **({"field": field} if field else {})}
        return _error(status, code, message, retry_after_s=retry_after_s, extra=told)

    def _error_page(self, status: int) -> Response:
        if status == 429:
            return self._full(len(self.cards.in_state("queued")))
        return _error(status, "fault", "the worker failed")

    async def _check(self, request: Request) -> Response:
        render = self.cards.renders.get(request.path_params["name"])
        return _unknown() if render is None else JSONResponse(await self._with_output(render))

    async def _cancel(self, request: Request) -> Response:
        render = self.cards.renders.get(request.path_params["name"])
        if render is None:
            return _unknown()
        if render.is_over:
            return JSONResponse(await self._with_output(render))
        self.cards.cancel(render, self.sandbox.switches, self.sandbox.clock.now())
        return JSONResponse(self._shown(render), status_code=202)

    async def _output(self, request: Request) -> Response:
        render = self.cards.renders.get(request.path_params["name"])
        if render is None:
            return _unknown()
        if render.state != "succeeded":
            return _error(409, "not_finished", f"the render is {render.state}")
        return _file(await self._made(render), MEDIA_TYPES[render.order.container], request)

    async def _with_output(self, render: Render) -> dict[str, Json]:
        """The render, with its file once that is there."""
        shown = self._shown(render)
        if render.state == "succeeded":
            data, numbers = await self._made(render), render.order.numbers
            shown["output"] = {
                "media_type": MEDIA_TYPES[render.order.container],
                "size_bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "frames": int(numbers.get("num_frames", 1)),
                "fps": int(numbers["fps"]) if "fps" in numbers else None,
                "width": render.order.size[0],
                "height": render.order.size[1],
                "url": f"/v1/renders/{render.name}/output",
            }
        return shown

    def _shown(self, render: Render) -> dict[str, Json]:
        switches, now = self.sandbox.switches, self.sandbox.clock.now()
        queued = self.cards.in_state("queued")
        began_at = min(render.started_at, render.ends_at, now)
        code = render.ending if render.state == "failed" else None
        return {
            "id": render.name,
            "model": render.order.model,
            "state": render.state,
            "position": queued.index(render) + 1 if render in queued else None,
            "step": int(render.share(now) * render.order.steps),
            "steps": render.order.steps,
            "progress": render.share(now),
            "eta_s": self.cards.left_s(render, switches, now),
            "queued_s": max(0.0, began_at - render.accepted_at),
            "gpu_s": render.gpu_s(now),
            "seed": render.seed,
            "error": None if code is None else {"code": code, "message": MESSAGES.get(code, "")},
            "output": None,
        }

    async def _made(self, render: Render) -> bytes:
        order = render.order
        if order.container in {"jpg", "png"}:
            return await asyncio.to_thread(_painted, order.picture, order.size, order.container)
        motion = order.numbers["motion_bucket_id"] / MOTION_NEUTRAL
        clip = ClipOrder(
            num_frames=int(order.numbers["num_frames"]),
            fps=int(order.numbers["fps"]),
            size=order.size,
            speed=min(2.0, motion),
            container=order.container,
        )
        return await self._clips.render(order.picture, clip, cached=self.sandbox.switches.clip == "cached")

    async def _status(self, _request: Request) -> Response:
        switches = self.sandbox.switches
        paces = {name: pace_of(name, switches) for name in switches.models}
        shaped = {name: (known.shape, known) for name, known in paces.items() if known.shape is not None}
        return JSONResponse(
            {
                "protocol": 1,
                "models": list(switches.models),
                "device": switches.device,
                "device_name": switches.device_name,
                "queue_depth": len(self.cards.in_state("queued")),
                "queue_max": switches.queue_max,
                "running": len(self.cards.in_state("running")),
                "replicas": switches.replicas,
                "seconds_per_step": {name: known.step_s for name, known in paces.items()},
                "seconds_fixed": {name: known.fixed_s for name, known in paces.items()},
                "pace": {
                    name: [{**asdict(shape), "seconds_per_step": known.step_s, "seconds_fixed": known.fixed_s}]
                    for name, (shape, known) in shaped.items()
                },
                "draining": switches.state == "draining",
            }
        )

    async def _healthz(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _readyz(self, _request: Request) -> Response:
        if self.sandbox.switches.state == "ready":
            return JSONResponse({"status": "ready"})
        return _error(503, self.sandbox.switches.state, "not ready", retry_after_s=5)

    async def _metrics(self, _request: Request) -> Response:
        switches = self.sandbox.switches
        gauges = {
            "vidgate_gpu_queue_depth": len(self.cards.in_state("queued")),
            "vidgate_gpu_running": len(self.cards.in_state("running")),
            "vidgate_gpu_queue_max": switches.queue_max,
            "vidgate_gpu_memory_peak_bytes": 0,
        }
        lines = [line for name, value in gauges.items() for line in (f"# TYPE {name} gauge", f"{name} {value}")]
        lines += [
            "# TYPE vidgate_gpu_busy_seconds_total counter",
            f"vidgate_gpu_busy_seconds_total {self.cards.busy_s}",
        ]
        lines.append("# TYPE vidgate_gpu_renders_total counter")
        for model, state, count in self.cards.counts():
            lines.append(f'vidgate_gpu_renders_total{{model="{model}",state="{state}"}} {count}')
        for name in ("vidgate_gpu_render_seconds", "vidgate_gpu_step_seconds"):
            lines.append(f"# TYPE {name} histogram")
            for model, taken in self.cards.taken(a_step=name.endswith("step_seconds")).items():
                lines.append(f'{name}_bucket{{le="+Inf",model="{model}"}} {len(taken)}')
                lines.append(f'{name}_count{{model="{model}"}} {len(taken)}')
                lines.append(f'{name}_sum{{model="{model}"}} {sum(taken)}')
        return Response("\n".join([*lines, ""]), media_type="text/plain; version=0.0.4")


def _error(
    status: int,
    code: str,
    message: str,
    *,
    retry_after_s: int | None = None,
    extra: Mapping[str, Json] | None = None,
) -> Response:
    headers = {"retry-after": str(retry_after_s)} if retry_after_s is not None else None
    error = {"code": code, "message": message, **(extra or {})}
    return JSONResponse({"error": error}, status_code=status, headers=headers)


def _unknown() -> Response:
    return _error(404, "unknown_render", "no such render: never asked for, expired, or lost by a restart")


def _file(data: bytes, media_type: str, request: Request) -> Response:
    """A whole file, or the part of it that a single range names."""
    headers = {"accept-ranges": "bytes"}
    wanted = RANGE.fullmatch(request.headers.get("range", ""))
    if wanted is None or not any(wanted.groups()):
        return Response(data, media_type=media_type, headers=headers)
    first, last = wanted.groups()
    start = int(first) if first else max(0, len(data) - int(last))
    end = min(int(last), len(data) - 1) if first and last else len(data) - 1
    if start > end:
        headers["content-range"] = f"bytes */{len(data)}"
        return Response(status_code=416, headers=headers)
    headers["content-range"] = f"bytes {start}-{end}/{len(data)}"
    return Response(data[start : end + 1], 206, media_type=media_type, headers=headers)


def _painted(picture: bytes, size: tuple[int, int], container: str) -> bytes:
    """A picture that was visibly made anew from the one that came."""
    with Image.open(io.BytesIO(picture)) as image:
        made = ImageOps.posterize(ImageOps.autocontrast(image.convert("RGB").resize(size)), 5)
    out = io.BytesIO()
    made.save(out, "JPEG" if container == "jpg" else "PNG")
    return out.getvalue()


def simulator(tools: SimulatorTools) -> Starlette:
    """One simulated worker."""
    return SimulatedWorker(tools).app()


def simulator_settings(base_url: str) -> Mapping[str, Json]:
    """The provider's configuration section that points it at one simulated worker."""
    return {"workers": [base_url.rstrip("/")], "token": SANDBOX_KEY}
