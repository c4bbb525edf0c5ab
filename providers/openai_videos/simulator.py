"""A simulated server of `/v1/videos`: its form, its jobs one after another, its files, its errors in either dialect."""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from PIL import Image
from pydantic import Field
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from providers.contract import Json, SimulatorTools
from providers.simulated_media import ClipOrder, Clips
from providers.simulation import Handler, Latency, Sandbox, Switches

SANDBOX_KEY = "openai-videos-sandbox-key"
Answer = Callable[[Request], Awaitable[Response]]


class ServerSwitches(Switches):
    """Settings of the simulated server that may change while it runs.

    `key` is what callers must send as a bearer token, "" for none. `latency` is what a clip takes; clips are made one
    after another. `errors` words refusals like FastAPI (SGLang) or like OpenAI (vLLM-Omni). `outcome` is how jobs that
    are created from now on end. With `queue_max` jobs waiting, further ones are answered 429. Raising `restarts` is a
    restart: every job is forgotten. `delete_stops` makes a DELETE end the work too.
    """

    key: str = SANDBOX_KEY
    latency: Latency = Latency(kind="constant", mean_s=20.0)
    errors: Literal["fastapi", "openai"] = "fastapi"
    outcome: Literal["completed", "failed", "moderated"] = "completed"
    queue_max: int = Field(default=100, ge=0)
    restarts: int = Field(default=0, ge=0)
    delete_stops: bool = True
    model: str = "sora-2"


@dataclass(slots=True)
class Job:
    """One job. Times are unix seconds on the simulator's clock."""

    name: str
    picture: bytes
    order: ClipOrder
    model: str
    created_at: float
    begins_at: float
    ends_at: float
    outcome: str


class FormError(Exception):
    """The server says no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Server:
    """The endpoints over one store of jobs."""

    def __init__(self, tools: SimulatorTools) -> None:
        switches = ServerSwitches.model_validate(dict(tools.settings))
        self.sandbox: Sandbox[ServerSwitches] = Sandbox(tools, switches, error_page=lambda s: self._no(s, "fault"))
        self.jobs: dict[str, Job] = {}
        self._clips = Clips()
        self._restarts = switches.restarts

    def app(self) -> Starlette:
        """The application, its sandbox in `state.sandbox`."""
        one = "/v1/videos/{name}"
        return self.sandbox.app(
            [
                Route("/v1/videos", self._endpoint("submit", self._create), methods=["POST"]),
                Route(one, self._endpoint("check", self._retrieve), methods=["GET"]),
                Route(one, self._endpoint("cancel", self._delete), methods=["DELETE"]),
                Route(f"{one}/content", self._endpoint("content", self._content), methods=["GET"]),
            ]
        )

    def _endpoint(self, operation: str, answer: Answer) -> Handler:
        async def handler(request: Request) -> Response:
            switches = self.sandbox.switches
            if switches.restarts != self._restarts:
                self._restarts = switches.restarts
                self.jobs.clear()
            try:
                if switches.key and request.headers.get("authorization") != f"Bearer {switches.key}":
                    raise FormError(401, "Invalid or missing API key")
                return await answer(request)
            except FormError as error:
                if operation == "submit":
                    self.sandbox.meter.reject()
                return self._no(error.status, error.message)

        return self.sandbox.endpoint(operation, handler)

    def _no(self, status: int, message: str) -> Response:
        headers = {"retry-after": "10"} if status in {429, 503} else None
        fastapi = self.sandbox.switches.errors == "fastapi"
        body = {"detail": message} if fastapi else {"error": {"message": message, "type": "error", "code": status}}
        return JSONResponse(body, status_code=status, headers=headers)

    async def _create(self, request: Request) -> Response:
        switches, now = self.sandbox.switches, self.sandbox.clock.now()
        async with request.form() as form:
            fields = {name: value for name, value in form.items() if isinstance(value, str)}
            upload = form.get("input_reference")
            if not isinstance(upload, UploadFile):
                raise FormError(400, "input_reference file is required")
            if not fields.get("prompt"):
                raise FormError(400, "prompt is required")
            picture = await upload.read()
        order = await asyncio.to_thread(_order, fields, picture)
        waiting = [job for job in self.jobs.values() if job.begins_at > now]
        if len(waiting) >= switches.queue_max:
            raise FormError(429, "too many requests")
        begins_at = max([now, *(job.ends_at for job in self.jobs.values() if job.ends_at < math.inf)])
        ends_at = begins_at + self.sandbox.draw(switches.latency)
        name, model = f"video_{self.sandbox.random.getrandbits(64):016x}", fields.get("model") or switches.model
        job = self.jobs[name] = Job(name, picture, order, model, now, begins_at, ends_at, switches.outcome)
        self.sandbox.meter.accept(name)
        return JSONResponse(self._shown(job))

    def _job(self, request: Request) -> Job:
        job = self.jobs.get(request.path_params["name"])
        if job is None:
            raise FormError(404, "Video not found")
        return job

    async def _retrieve(self, request: Request) -> Response:
        return JSONResponse(self._shown(self._job(request)))

    async def _delete(self, request: Request) -> Response:
        job = self._job(request)
        del self.jobs[job.name]
        return JSONResponse({**self._shown(job), "status": "deleted"})

    async def _content(self, request: Request) -> Response:
        job = self._job(request)
        if self._status(job) != "completed":
            raise FormError(404, "Generation is still in-progress")
        cached = self.sandbox.switches.clip == "cached"
        return Response(await self._clips.render(job.picture, job.order, cached=cached), media_type="video/mp4")

    def _status(self, job: Job) -> str:
        now = self.sandbox.clock.now()
        if now < job.ends_at:
            return "queued" if now < job.begins_at else "in_progress"
        return "completed" if job.outcome == "completed" else "failed"

    def _shown(self, job: Job) -> dict[str, Json]:
        now, status = self.sandbox.clock.now(), self._status(job)
        share = (min(now, job.ends_at) - job.begins_at) / max(1e-9, job.ends_at - job.begins_at)
        code = "moderation_blocked" if job.outcome == "moderated" else "generation_failed"
        done = status in {"completed", "failed"}
        return {
            "id": job.name,
            "object": "video",
            "model": job.model,
            "status": status,
            "progress": max(0, min(100, int(100 * share))),
            "created_at": int(job.created_at),
            "completed_at": int(job.ends_at) if done else None,
            "size": f"{job.order.size[0]}x{job.order.size[1]}",
            "seconds": str(max(1, round(job.order.num_frames / job.order.fps))),
            "error": {"code": code, "message": "the model failed"} if status == "failed" else None,
            "inference_time_s": job.ends_at - job.begins_at if done else None,
        }


def _order(fields: Mapping[str, str], picture: bytes) -> ClipOrder:
    """What is to be made. Raises FormError for what the server cannot read."""
    try:
        with Image.open(io.BytesIO(picture)) as image:
            image.load()
            own = image.size
        width, height = (int(side) for side in fields["size"].split("x")) if fields.get("size") else own
        frames, fps = int(fields.get("num_frames", 8)), int(fields.get("fps", 24))
        int(fields.get("seed", 0)), int(fields.get("num_inference_steps", 1))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FormError(422, f"{type(error).__name__}: the form cannot be read") from error
    if not (1 <= frames <= 1000 and 1 <= fps <= 120 and 16 <= width <= 4096 and 16 <= height <= 4096):
        raise FormError(422, "num_frames, fps or size is out of range")
    return ClipOrder(num_frames=frames, fps=fps, size=(width // 2 * 2, height // 2 * 2))


def simulator(tools: SimulatorTools) -> Starlette:
    """One simulated server."""
    return Server(tools).app()


def simulator_settings(base_url: str) -> Mapping[str, Json]:
    """The provider's configuration section that points it at a simulator."""
    return {"base_url": base_url, "api_key": SANDBOX_KEY}
