"""The simulated vendor as an application: every endpoint vidgate or the vendor's own clients call (WIRE 2.1)."""

from __future__ import annotations

import asyncio
import base64
import binascii
import mimetypes
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from providers.contract import Json, SimulatorTools
from providers.modelslab.simulator import bodies
from providers.modelslab.simulator.books import Books, Job
from providers.modelslab.simulator.orders import RefusalError, read_order
from providers.modelslab.simulator.switches import SANDBOX_KEY, ModelsLabSwitches
from providers.simulated_media import BadPictureError, ClipOrder, Clips, PictureRules, read_picture
from providers.simulation import Handler, Sandbox

UPLOAD_BYTES_MAX = 5_000_000
WEBHOOK_TIMEOUT_S = 30.0
CLOCK_STEP_S = 0.2
FOLDERS = ("video_generations", "proxy", "uploads")
MOTION_NEUTRAL = 127.0
MOTION_SPEED_MAX = 2.0

# Only a link, and that without a redirect; the dedicated server takes base64 too (WIRE 2.3).
PUBLIC_PICTURES = PictureRules(follows_redirects=False, accepts_data_uri=False, accepts_base64=False)
ENTERPRISE_PICTURES = PictureRules(follows_redirects=False)

Answer = Callable[[str, Mapping[str, object], Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that a client put onto the vendor's storage."""

    data: bytes
    media_type: str
    expires_at: float


class Vendor:
    """The endpoints over one set of books."""

    def __init__(self, tools: SimulatorTools) -> None:
        self.base_url = tools.base_url.rstrip("/")
        self.sandbox: Sandbox[ModelsLabSwitches] = Sandbox(
            tools, ModelsLabSwitches.model_validate(dict(tools.settings)), error_page=self._error_page
        )
        self.books = Books(self.sandbox)
        self.uploads: dict[str, Upload] = {}
        self._clips = Clips()
        self._running: set[asyncio.Task[None]] = set()

    def app(self) -> Starlette:
        """The application, its sandbox in `state.sandbox`."""
        submit, submit_enterprise = self._submit(enterprise=False), self._submit(enterprise=True)
        public, dedicated = "/api/v6", "/api/v1/enterprise"
        post = ["POST"]
        app = self.sandbox.app(
            [
                Route(f"{public}/video/img2video", self._endpoint("submit", submit), methods=post),
                Route(f"{dedicated}/video/img2video", self._endpoint("submit", submit_enterprise), methods=post),
                Route(f"{public}/video/fetch/{{id}}", self._endpoint("fetch", self._fetch), methods=post),
                Route(f"{dedicated}/video/fetch/{{id}}", self._endpoint("fetch", self._fetch), methods=post),
                Route("/api/wallet_balance", self._endpoint("balance", self._balance), methods=post),
                Route(
                    f"{public}/processing/request_count",
                    self._endpoint("request_count", self._request_count),
                    methods=["GET", "POST"],
                ),
                Route(f"{public}/base64_to_url", self._endpoint("upload", self._upload), methods=post),
                Route(f"{public}/video/base64_to_url", self._endpoint("upload", self._upload), methods=post),
                *(Route(f"/{folder}/{{name}}", self._file_endpoint(folder)) for folder in FOLDERS),
            ]
        )
        app.state.sandbox = self.sandbox
        return app

    def _error_page(self, status: int) -> Response:
        return bodies.error_page(status, self.sandbox.switches)

    def _endpoint(self, operation: str, answer: Answer) -> Handler:
        """Read the body, check the key in it, bring the books up to date, and answer or refuse."""

        async def handler(request: Request) -> Response:
            self.books.settle()
            try:
                fields = await _fields(request)
                return await answer(self._key(fields), fields, request)
            except RefusalError as error:
                if operation == "submit":
                    self.sandbox.meter.reject()
                return bodies.refusal(error, self.sandbox.switches)

        return self.sandbox.endpoint(operation, handler)

    def _key(self, fields: Mapping[str, object]) -> str:
        key = fields.get("key")
        if not isinstance(key, str) or not key:
            raise RefusalError(401, "API key required")
        if key not in self.sandbox.switches.keys:
            raise RefusalError(401, "Invalid API key")
        return key

    def _submit(self, *, enterprise: bool) -> Answer:
        async def submit(key: str, fields: Mapping[str, object], request: Request) -> Response:
            order = read_order(fields, self.sandbox.switches, enterprise=enterprise)
            rules = ENTERPRISE_PICTURES if enterprise else PUBLIC_PICTURES
            try:
                picture = await read_picture(order.init_image, self.sandbox.http, rules)
            except BadPictureError as error:
                text = "Unable to fetch image" if error.reason == "unreachable" else "init_image is invalid"
                raise RefusalError(400, text) from error
            job = self.books.accept(key, order, picture)
            self._start(self._finish(job))
            return await self._first_reply(job)

        return submit

    async def _first_reply(self, job: Job) -> Response:
        """The answer to an accepted request: at once, or after waiting for the result for some time (U17)."""
        switches = self.sandbox.switches
        waits = switches.first_reply == "success" or (switches.first_reply == "as_asked" and not job.order.instant)
        if waits:
            until = job.accepted_at + switches.submit_wait_s / switches.speed
            await self._reach(job.done_at if switches.first_reply == "success" else min(job.done_at, until))
        return await self._state_of(job, with_meta=True)

    async def _fetch(self, key: str, fields: Mapping[str, object], request: Request) -> Response:
        job = self.books.find(key, request.path_params["id"])
        if job is None:
            return bodies.unknown_id(self.sandbox.switches)
        return await self._state_of(job, with_meta=self.sandbox.switches.fetch_meta)

    async def _state_of(self, job: Job, *, with_meta: bool) -> Response:
        self.books.settle()
        switches, now = self.sandbox.switches, self.sandbox.clock.now()
        if now < job.done_at:
            return JSONResponse(bodies.processing(job, switches, self.base_url, now=now))
        inline = None
        if job.order.output_type == "base64" and job.outcome == "success":
            inline = base64.b64encode(await self._clip(job)).decode("ascii")
        return JSONResponse(bodies.finished(job, switches, self.base_url, with_meta=with_meta, inline=inline))

    async def _balance(self, key: str, fields: Mapping[str, object], request: Request) -> Response:
        balance_usd = self.books.balance_micros(key) / 1_000_000
        return JSONResponse({"status": "success", "data": {"balance": balance_usd, "currency": "USD"}})

    async def _request_count(self, key: str, fields: Mapping[str, object], request: Request) -> Response:
        if not self.books.may_count(key):
            raise RefusalError(429, "Rate limit exceeded", retry_after_s=60)
        count = len(self.books.active(key))
        return JSONResponse({"status": "success", "processing_count": count, "message": "Current processing count"})

    async def _upload(self, key: str, fields: Mapping[str, object], request: Request) -> Response:
        """Images and others come as `base64_string`, videos as `init_obj`; both as data URIs."""
        text = fields.get("base64_string") or fields.get("init_obj")
        head, _, encoded = str(text or "").partition(",")
        try:
            data = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            data = b""
        media_type = head.removeprefix("data:").removesuffix(";base64")
        if not data or not head.startswith("data:") or len(data) > UPLOAD_BYTES_MAX:
            raise RefusalError(400, "base64_string must be a data URI of at most 5MB", about="base64_string")
        name = f"{self.sandbox.random.getrandbits(64):016x}{mimetypes.guess_extension(media_type) or '.bin'}"
        expires_at = self.sandbox.clock.now() + self.sandbox.switches.upload_ttl_s
        self.uploads[name] = Upload(data, media_type, expires_at)
        link = f"{self.base_url}/uploads/{name}"
        return JSONResponse({"status": "success", "id": len(self.uploads), "output": [link]})

    def _file_endpoint(self, folder: str) -> Handler:
        """Files are public: the link is all it takes (trap 37)."""

        async def file(request: Request) -> Response:
            return await self._file(folder, request.path_params["name"])

        return self.sandbox.endpoint("file", file)

    async def _file(self, folder: str, name: str) -> Response:
        upload = self.uploads.get(name) if folder == "uploads" else None
        if upload is not None and self.sandbox.clock.now() < upload.expires_at:
            return Response(upload.data, media_type=upload.media_type)
        prefix, _, extension = name.rpartition(".")
        job = self.books.by_file(prefix) if folder != "uploads" else None
        if job is None or job.extension != extension:
            return Response("Not found", status_code=404)
        return Response(await self._clip(job), media_type="image/gif" if extension == "gif" else "video/mp4")

    async def _clip(self, job: Job) -> bytes:
        numbers = {name: value or 0 for name, value in job.order.numbers.items()}
        order = ClipOrder(
            num_frames=int(numbers["num_frames"]),
            fps=int(numbers["fps"]),
            size=(int(numbers["width"]), int(numbers["height"])),
            speed=min(MOTION_SPEED_MAX, max(0.0, numbers["motion_bucket_id"] / MOTION_NEUTRAL)),
            container=job.extension,
        )
        return await self._clips.render(job.picture, order, cached=self.sandbox.switches.clip == "cached")

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _finish(self, job: Job) -> None:
        """Wait until a job is done, book it, and call its webhook: unsigned, best effort, maybe twice (WIRE 2.7)."""
        await self._reach(job.done_at)
        self.books.settle()
        times = {"once": 1, "twice": 2, "never": 0}[self.sandbox.switches.webhook] if job.order.webhook else 0
        for _ in range(times):
            self.sandbox.meter.receive("webhook")
            body = bodies.webhook_body(job, self.sandbox.switches, self.base_url)
            try:
                await self.sandbox.http.post(
                    str(job.order.webhook), json=body, timeout=WEBHOOK_TIMEOUT_S, follow_redirects=False
                )
            except (httpx.HTTPError, httpx.InvalidURL):
                continue

    async def _reach(self, moment: float) -> None:
        """Wait in small steps, so that a clock that is set forward is noticed."""
        while (left_s := moment - self.sandbox.clock.now()) > 0:
            await self.sandbox.clock.sleep(min(left_s, CLOCK_STEP_S))


async def _fields(request: Request) -> Mapping[str, object]:
    try:
        fields = await request.json()
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise RefusalError(400, "Invalid API Request")
    return fields


def simulator(tools: SimulatorTools) -> Starlette:
    """The simulated vendor, its gateway under `/api` and its files beside it."""
    return Vendor(tools).app()


def simulator_settings(base_url: str) -> Mapping[str, Json]:
    """The provider's configuration section that points it at a simulator."""
    return {"api_key": SANDBOX_KEY, "base_url": f"{base_url.rstrip('/')}/api", "webhook_over_http": True}
