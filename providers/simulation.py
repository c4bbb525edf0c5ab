"""What every vendor simulator shares: switches that change while it runs, scripted faults, a meter, admin pages.

A simulator is a Starlette application around a `Sandbox`. The sandbox draws latencies, decides which call is spoiled
and how, counts what was accepted and charged, and mounts `/_sandbox/` so that a person or a test can steer it.
Nothing here knows a vendor. Pictures and clips are in `providers.simulated_media`, `serve` in `providers.serving`.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Generic, Literal, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import Receive, Scope, Send

from providers.contract import Clock, SimulatorTools

Handler = Callable[[Request], Awaitable[Response]]
ErrorPage = Callable[[int], Response]
CLOCK_STEP_MAX_S = 10 * 366 * 86_400


class Latency(BaseModel):
    """How long a simulated step takes, in seconds: always the mean, or log-normal around that mean."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["constant", "lognormal"] = "constant"
    mean_s: float = Field(default=0.0, ge=0, le=86_400)
    sigma: float = Field(default=0.25, ge=0, le=3)

    def draw(self, random: Random) -> float:
        """One duration in seconds."""
        if self.kind == "constant" or self.mean_s == 0:
            return self.mean_s
        return random.lognormvariate(math.log(self.mean_s) - self.sigma**2 / 2, self.sigma)


class Switches(BaseModel):
    """Settings of a simulator that may change while it runs; a vendor's simulator adds its own.

    `speed` divides every simulated duration: at 100, a render of 29 s takes 0.29 s. `clip="cached"` answers with one
    clip per frame count and rate, whatever the picture. `fault_rates` maps operation, then fault name, to a
    probability from 0 to 1. `hang_s` is how long a call that times out is held, `drip_s` the pause between the bytes of
    a slow reply; both in real seconds of the simulator's clock.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    speed: float = Field(default=1.0, gt=0, le=1_000_000)
    clip: Literal["rendered", "cached"] = "rendered"
    fault_rates: Mapping[str, Mapping[str, float]] = Field(default_factory=dict)
    hang_s: float = Field(default=120.0, ge=0)
    drip_s: float = Field(default=0.5, ge=0)


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to spoil a call. `accepts` says that the vendor does the work, and bills it, all the same."""

    style: Literal["html", "vendor", "reset", "reset_mid_body", "slow_drip", "hang"]
    accepts: bool
    status: int = 0


FAULTS: Mapping[str, Fault] = {
    "502_before_accept": Fault("html", accepts=False, status=502),
    "502_after_accept": Fault("html", accepts=True, status=502),
    "504_before_accept": Fault("html", accepts=False, status=504),
    "504_after_accept": Fault("html", accepts=True, status=504),
    "html_error": Fault("html", accepts=False, status=503),
    "429": Fault("vendor", accepts=False, status=429),
    "500": Fault("vendor", accepts=False, status=500),
    "reset_before_accept": Fault("reset", accepts=False),
    "reset_before_reply": Fault("reset", accepts=True),
    "reset_mid_body": Fault("reset_mid_body", accepts=True),
    "slow_drip": Fault("slow_drip", accepts=True),
    "timeout_before_accept": Fault("hang", accepts=False),
    "timeout": Fault("hang", accepts=True),
}


class Faults:
    """The scripted faults of each operation, first in first out."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[str]] = {}

    def script(self, operation: str, fault: str, count: int = 1) -> None:
        """Spoil the next `count` calls of an operation. Raises ValueError for an unknown fault."""
        if fault not in FAULTS:
            raise ValueError(f"unknown fault {fault!r}; there are: {', '.join(FAULTS)}")
        if not 1 <= count <= 10_000:
            raise ValueError("count must be 1 to 10000")
        self._queues.setdefault(operation, deque()).extend([fault] * count)

    def clear(self) -> None:
        """Forget every scripted fault."""
        self._queues.clear()

    def pending(self) -> dict[str, list[str]]:
        """The faults still to come, by operation."""
        return {operation: list(queue) for operation, queue in self._queues.items() if queue}

    def take(self, operation: str, rates: Mapping[str, float], random: Random) -> Fault | None:
        """The fault for this call: the next scripted one, else one drawn by its rate, else None."""
        queue = self._queues.get(operation)
        if queue:
            return FAULTS[queue.popleft()]
        chance = random.random() if rates else 1.0
        for name, rate in rates.items():
            if chance < rate:
                return FAULTS[name]
            chance -= rate
        return None


@dataclass(frozen=True, slots=True)
class Charge:
    """One line of the vendor's invoice. `at` is unix seconds on the simulator's clock; money is micro-USD."""

    request_id: str
    model: str
    amount_micros: int
    at: float


@dataclass(slots=True)
class Meter:
    """What the vendor counted: submits, runs and money. `accepted` holds the request ids of the runs, in order."""

    submits_received: int = 0
    submits_rejected: int = 0
    accepted: list[str] = field(default_factory=list)
    invoice: list[Charge] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)

    @property
    def submits_accepted(self) -> int:
        """Number of runs started."""
        return len(self.accepted)

    @property
    def charged_micros(self) -> int:
        """The invoice's total in micro-USD."""
        return sum(charge.amount_micros for charge in self.invoice)

    def receive(self, operation: str) -> None:
        """Count a call; the operation `submit` counts as a submit."""
        self.calls[operation] = self.calls.get(operation, 0) + 1
        self.submits_received += operation == "submit"

    def accept(self, request_id: str) -> None:
        """Count a run that was started."""
        self.accepted.append(request_id)

    def reject(self) -> None:
        """Count a submit that started nothing."""
        self.submits_rejected += 1

    def charge(self, charge: Charge) -> None:
        """Write a line on the invoice."""
        self.invoice.append(charge)

    def counts(self) -> dict[str, object]:
        """The counts as JSON."""
        return {
            "submits_received": self.submits_received,
            "submits_accepted": self.submits_accepted,
            "submits_rejected": self.submits_rejected,
            "charges": len(self.invoice),
            "charged_micros": self.charged_micros,
            "calls": dict(self.calls),
        }


@runtime_checkable
class MovableClock(Protocol):
    """A clock that can be set forward."""

    def advance(self, seconds: float) -> None:
        """Move the time forward at once."""


class SandboxClock:
    """Another clock's time plus what it was set forward by, so that expiry can be tried without waiting."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_s = 0.0

    def now(self) -> float:
        """Unix time in seconds."""
        return self._clock.now() + self._offset_s

    async def sleep(self, seconds: float) -> None:
        """Return after this many seconds of the underlying clock."""
        await self._clock.sleep(seconds)

    def advance(self, seconds: float) -> None:
        """Move the time forward at once."""
        self._offset_s += seconds


S = TypeVar("S", bound=Switches)


class Sandbox(Generic[S]):
    """One running simulator: its switches, faults and meter, and the wrapper that spoils calls.

    `error_page` makes the vendor's own reply for a status (429 with the vendor's wait hint, 500).
    """

    def __init__(self, tools: SimulatorTools, switches: S, *, error_page: ErrorPage) -> None:
        self.clock = tools.clock
        self.random = tools.random
        self.http = tools.http
        self.switches = switches
        self.faults = Faults()
        self.meter = Meter()
        self._error_page = error_page

    def change(self, changes: Mapping[str, object]) -> None:
        """Change switches, all or none. Raises pydantic's ValidationError for unknown names and bad values."""
        self.switches = type(self.switches).model_validate(self.switches.model_dump() | dict(changes))

    def draw(self, latency: Latency) -> float:
        """One duration in seconds of the clock, `speed` applied."""
        return latency.draw(self.random) / self.switches.speed

    def endpoint(self, operation: str, handler: Handler) -> Handler:
        """A handler that counts its calls and is spoiled by the faults scripted or drawn for this operation."""

        async def spoiled(request: Request) -> Response:
            self.meter.receive(operation)
            fault = self.faults.take(operation, self.switches.fault_rates.get(operation, {}), self.random)
            if fault is None:
                return await handler(request)
            if fault.accepts:
                return self._spoil(fault, await handler(request))
            if operation == "submit":
                self.meter.reject()
            return self._spoil(fault, JSONResponse({"error": "not accepted"}, status_code=500))

        return spoiled

    def app(self, routes: Sequence[BaseRoute]) -> Starlette:
        """The application: the vendor's routes and the admin pages."""
        return Starlette(routes=[Mount("/_sandbox", routes=_admin_routes(self)), *routes])

    def _spoil(self, fault: Fault, reply: Response) -> Response:
        if fault.style == "html":
            return HTMLResponse(f"<html><body><h1>{fault.status}</h1></body></html>", status_code=fault.status)
        if fault.style == "vendor":
            return self._error_page(fault.status)
        if fault.style == "hang":
            return _Hang(self.clock, self.switches.hang_s)
        if fault.style == "slow_drip":
            return _SlowDrip(reply, self.clock, self.switches.drip_s)
        return _Reset(reply if fault.style == "reset_mid_body" else None)


async def _drop_connection(send: Send) -> None:
    """End the connection without a reply: the server closes it when a reply's head turns out to be impossible."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"not a header name", b"")]})


class _Reset(Response):
    """Close the connection before the reply, or in the middle of the given reply's body."""

    def __init__(self, reply: Response | None) -> None:
        super().__init__()
        self._reply = reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._reply is None:
            await _drop_connection(send)
            return
        body = bytes(self._reply.body)
        await send(
            {"type": "http.response.start", "status": self._reply.status_code, "headers": self._reply.raw_headers}
        )
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})


class _SlowDrip(Response):
    """Send the given reply in 16 pieces with a pause before each."""

    def __init__(self, reply: Response, clock: Clock, pause_s: float) -> None:
        super().__init__()
        self._reply, self._clock, self._pause_s = reply, clock, pause_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytes(self._reply.body)
        piece_bytes = max(1, math.ceil(len(body) / 16))
        await send(
            {"type": "http.response.start", "status": self._reply.status_code, "headers": self._reply.raw_headers}
        )
        for start in range(0, len(body), piece_bytes):
            await self._clock.sleep(self._pause_s)
            await send({"type": "http.response.body", "body": body[start : start + piece_bytes], "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Hang(Response):
    """Say nothing until the caller hangs up or the time is over, then close the connection."""

    def __init__(self, clock: Clock, hang_s: float) -> None:
        super().__init__()
        self._clock, self._hang_s = clock, hang_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        over = asyncio.ensure_future(self._clock.sleep(self._hang_s))
        gone = asyncio.ensure_future(_until_disconnect(receive))
        try:
            await asyncio.wait({over, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            gone.cancel()
        await _drop_connection(send)


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _admin_routes(sandbox: Sandbox[S]) -> list[BaseRoute]:
    async def settings(request: Request) -> Response:
        if request.method == "PATCH":
            try:
                sandbox.change(await _json_object(request))
            except ValidationError as error:
                return JSONResponse({"error": error.errors(include_url=False, include_context=False)}, status_code=422)
        return JSONResponse(sandbox.switches.model_dump(mode="json"))

    async def faults(request: Request) -> Response:
        if request.method == "POST":
            body = await _json_object(request)
            try:
                sandbox.faults.script(str(body["operation"]), str(body["fault"]), int(str(body.get("count", 1))))
            except (KeyError, ValueError) as error:
                return JSONResponse({"error": str(error)}, status_code=422)
        if request.method == "DELETE":
            sandbox.faults.clear()
        return JSONResponse({"pending": sandbox.faults.pending(), "known": list(FAULTS)})

    async def meter(request: Request) -> Response:
        return JSONResponse(sandbox.meter.counts())

    async def invoice(request: Request) -> Response:
        return JSONResponse({"charges": [asdict(charge) for charge in sandbox.meter.invoice]})

    async def clock(request: Request) -> Response:
        return _advance(sandbox.clock, (await _json_object(request)).get("advance_s"))

    return [
        Route("/settings", settings, methods=["GET", "PATCH"]),
        Route("/faults", faults, methods=["GET", "POST", "DELETE"]),
        Route("/meter", meter, methods=["GET"]),
        Route("/invoice", invoice, methods=["GET"]),
        Route("/clock", clock, methods=["POST"]),
    ]


def _advance(clock: Clock, seconds: object) -> Response:
    if not isinstance(seconds, int | float) or not 0 <= seconds <= CLOCK_STEP_MAX_S:
        return JSONResponse({"error": "advance_s must be a number of seconds, 0 to ten years"}, status_code=422)
    if not isinstance(clock, MovableClock):
        return JSONResponse({"error": "this simulator runs on real time"}, status_code=409)
    clock.advance(float(seconds))
    return JSONResponse({"now": clock.now()})


async def _json_object(request: Request) -> dict[str, object]:
    try:
        body = await request.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
