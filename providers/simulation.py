"""What every vendor simulator shares: switches that change while it runs, scripted faults, a meter, admin pages.

A simulator is a Starlette application around a `Sandbox`. The sandbox draws latencies, decides which call is spoiled
and how, counts what was accepted and charged, and mounts `/_sandbox/` so that a person or a test can steer it.
Nothing here knows a vendor. Faults are in `providers.simulated_faults`, pictures and clips in
`providers.simulated_media`, `serve` in `providers.serving`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from string import Formatter
from typing import Generic, Literal, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from providers.contract import Clock, SimulatorTools
from providers.simulated_faults import FAULTS, Fault, Faults, spoiled

Handler = Callable[[Request], Awaitable[Response]]
ErrorPage = Callable[[int], Response]
CLOCK_STEP_MAX_S = 10 * 366 * 86_400
ROUNDING = 1e-9  # rates that add up to 1 may miss it by this


class Latency(BaseModel):
    """How long a simulated step takes, in seconds: always the mean, or log-normal around that mean."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

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

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    speed: float = Field(default=1.0, gt=0, le=1_000_000)
    clip: Literal["rendered", "cached"] = "rendered"
    fault_rates: Mapping[str, Mapping[str, float]] = Field(default_factory=dict)
    hang_s: float = Field(default=120.0, ge=0)
    drip_s: float = Field(default=0.5, ge=0)

    @field_validator("fault_rates")
    @classmethod
    def _known_faults(
        cls, value: Mapping[str, Mapping[str, float]], info: ValidationInfo
    ) -> Mapping[str, Mapping[str, float]]:
        operations = (info.context or {}).get("operations", value)
        for operation, rates in value.items():
            refuse_unknown("operation", operation, operations)
            for fault in rates:
                refuse_unknown("fault", fault, FAULTS)
            if any(rate < 0 for rate in rates.values()) or sum(rates.values()) > 1 + ROUNDING:
                raise ValueError(f"the rates of {operation!r} are probabilities that add up to 1 at most")
        return value


def refuse_unknown(what: str, name: str, known: Iterable[str]) -> None:
    """Raise ValueError, naming those there are, for a name that is not among the known ones."""
    names = sorted(known)
    if name not in names:
        raise ValueError(f"there is no {what} {name!r}; there are: {', '.join(names)}")


def refuse_braces(text: str, known: Iterable[str]) -> None:
    """Raise ValueError for a text that `str.format` could not fill with these names alone."""
    for _, name, spec, conversion in Formatter().parse(text):
        if name is not None:
            refuse_unknown("placeholder", name, known)
        if spec or conversion:
            raise ValueError(f"a placeholder is a name alone: {{{name}}}")


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

    `error_page` makes the vendor's own reply for a status (429 with the vendor's wait hint, 500). `settle` books what
    is due by now and is called before the meter or the invoice is shown.
    """

    def __init__(
        self,
        tools: SimulatorTools,
        switches: S,
        *,
        error_page: ErrorPage,
        settle: Callable[[], None] | None = None,
    ) -> None:
        self.clock = tools.clock
        self.random = tools.random
        self.http = tools.http
        self.switches = switches
        self.faults = Faults()
        self.meter = Meter()
        self.operations: set[str] = set()
        self.settle = settle or _nothing_due
        self._error_page = error_page

    def change(self, changes: Mapping[str, object]) -> None:
        """Change switches, all or none. Raises pydantic's ValidationError for unknown names and bad values."""
        changed = self.switches.model_dump() | dict(changes)
        self.switches = type(self.switches).model_validate(changed, context={"operations": self.operations})

    def script(self, operation: str, fault: str, count: int = 1) -> None:
        """Spoil the next `count` calls of an operation. Raises ValueError for an unknown operation or fault."""
        refuse_unknown("operation", operation, self.operations)
        self.faults.script(operation, fault, count)

    def draw(self, latency: Latency) -> float:
        """One duration in seconds of the clock, `speed` applied."""
        return latency.draw(self.random) / self.switches.speed

    def endpoint(self, operation: str, handler: Handler) -> Handler:
        """A handler that counts its calls and is spoiled by the faults scripted or drawn for this operation.

        The handler finds the fault that its reply will suffer, or None, in `request.state.fault`.
        """
        self.operations.add(operation)

        async def counted(request: Request) -> Response:
            self.meter.receive(operation)
            fault = self.faults.take(operation, self.switches.fault_rates.get(operation, {}), self.random)
            request.state.fault = fault
            if fault is None:
                return await handler(request)
            if fault.accepts:
                return self._spoiled(fault, await handler(request))
            if operation == "submit":
                self.meter.reject()
            return self._spoiled(fault, Response(status_code=500))

        return counted

    def _spoiled(self, fault: Fault, reply: Response) -> Response:
        if fault.style == "vendor":
            return self._error_page(fault.status)
        return spoiled(fault, reply, self.clock, hang_s=self.switches.hang_s, drip_s=self.switches.drip_s)

    def app(self, routes: Sequence[BaseRoute]) -> Starlette:
        """The application: the vendor's routes and the admin pages; this sandbox is its `state.sandbox`."""
        app = Starlette(routes=[Mount("/_sandbox", routes=_admin_routes(self)), *routes])
        app.state.sandbox = self
        return app


def _nothing_due() -> None:
    pass


def _admin_routes(sandbox: Sandbox[S]) -> list[BaseRoute]:
    async def settings(request: Request) -> Response:
        if request.method == "PATCH":
            try:
                sandbox.change(await _json_object(request))
            except ValidationError as error:
                told = refusal_text(error, type(sandbox.switches).model_fields)
                return JSONResponse({"error": told}, status_code=422)
        return JSONResponse(sandbox.switches.model_dump(mode="json"))

    async def faults(request: Request) -> Response:
        if request.method == "POST":
            body = await _json_object(request)
            try:
                sandbox.script(str(body["operation"]), str(body["fault"]), int(str(body.get("count", 1))))
            except KeyError as error:
                return JSONResponse({"error": f"{error.args[0]} is missing"}, status_code=422)
            except ValueError as error:
                return JSONResponse({"error": str(error)}, status_code=422)
        if request.method == "DELETE":
            sandbox.faults.clear()
        return JSONResponse({"pending": sandbox.faults.pending(), "known": list(FAULTS)})

    async def meter(request: Request) -> Response:
        sandbox.settle()
        return JSONResponse(sandbox.meter.counts())

    async def invoice(request: Request) -> Response:
        sandbox.settle()
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


def refusal_text(error: ValidationError, switches: Iterable[str]) -> str:
    """What is wrong with switches, as sentences for a person; an unknown one is told the nearest there is."""
    sentences = []
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        name = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden" and len(fault["loc"]) == 1:
            near = difflib.get_close_matches(name, list(switches), n=1)
            mend = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(switches))}"
            sentences.append(f"there is no switch {name}; {mend}")
        else:
            text = fault["msg"].removeprefix("Value error, ").replace("Input should be", "must be", 1)
            sentences.append(f"{name}: {text[:1].lower()}{text[1:]}")
    return "; ".join(sentences)


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
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}
