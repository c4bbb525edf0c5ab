"""A provider that answers as it is told, counts what it was asked, and knows what it would bill."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from providers.capability import DELIVERED_BY_GATEWAY, AmbiguousBilling, Capability, Route
from providers.contract import (
    Accepted,
    Balance,
    CheckOutcome,
    Clock,
    Finished,
    InDoubt,
    InlineFile,
    LookupOutcome,
    NotFound,
    ProviderPlugin,
    ProviderSettings,
    RenderRequest,
    Report,
    SentAttempt,
    SourceImage,
    SubmitOutcome,
    Token,
    Tools,
)
from tests.support.pictures import clip

CAPABILITIES = (
    Capability("motion_bucket_id", "motion", minimum=1, maximum=255, wire_type="integer"),
    Capability("num_frames", "frames", minimum=1, maximum=25, wire_type="integer"),
    Capability("fps", "fps", minimum=1, maximum=60, wire_type="integer"),
    Capability("seed", "seed", wire_type="integer"),
    *DELIVERED_BY_GATEWAY,
)


@dataclass(frozen=True, slots=True)
class Lost:
    """A submit with no usable reply: an error page of this status, or silence; `accepted`: what the vendor did."""

    accepted: bool
    status: int | None = 502


Step = SubmitOutcome | Lost | Callable[[RenderRequest], Awaitable[SubmitOutcome]]
Check = CheckOutcome | Callable[["Scripted", Token], CheckOutcome]
Look = LookupOutcome | Callable[[SentAttempt], LookupOutcome]
Hook = Callable[[str, str], Awaitable[None]]


@dataclass
class Scripted:
    """One scripted vendor with one route, `<name>/one`.

    `submits`, `checks` and `lookups` are answered from in turn, the scripted ones first; then submits are accepted (or
    finished, where the route is `sync`), checks finish, and lookups tell the truth. `looks_up`, `cancels`,
    `balance_micros` and `uploads`, which says of each upload in turn whether it succeeds, give abilities that the
    provider does not have without them. While `trouble` lasts, for `trouble_s`
    from the first submit, it is what every check is answered with. `hook` is told `before` and `after` every call.
    """

    name: str = "alpha"
    mode: Any = "async"
    price_micros: int = 100_000
    billing: AmbiguousBilling = "success_only"
    latency_s: float = 10.0
    concurrency_max: int | None = None
    image_form: Any = "bytes"
    looks_up: bool = False
    cancels: bool | None = None
    balance_micros: int | None = None
    uploads: deque[bool] | None = None
    trouble: CheckOutcome | None = None
    trouble_s: float = 0.0
    hook: Hook | None = None
    submits: deque[Step] = field(default_factory=deque)
    checks: deque[Check] = field(default_factory=deque)
    lookups: deque[Look] = field(default_factory=deque)

    asked: list[RenderRequest] = field(default_factory=list)
    asked_at: list[float] = field(default_factory=list)
    checked_at: list[float] = field(default_factory=list)
    looked_up: list[SentAttempt] = field(default_factory=list)
    cancel_asked: list[Token] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    running: dict[str, RenderRequest] = field(default_factory=dict)
    charged: dict[str, int] = field(default_factory=dict)
    clock: Clock | None = None

    def __post_init__(self) -> None:
        self.submits, self.checks, self.lookups = deque(self.submits), deque(self.checks), deque(self.lookups)
        if self.looks_up:
            self.lookup = self._lookup
        if self.cancels is not None:
            self.cancel = self._cancel
        if self.balance_micros is not None:
            self.balance = self._balance
        if self.uploads is not None:
            self.upload = self._upload

    @property
    def route(self) -> Route:
        return Route(
            name=f"{self.name}/one",
            provider=self.name,
            media="video",
            model=f"{self.name}-model",
            capabilities=CAPABILITIES,
            image_forms=(self.image_form,),
            mode=self.mode,
            latency_nominal_s=self.latency_s,
            resumable=self.mode == "async",
            ambiguous_billing=self.billing,
            summary="A scripted vendor",
            concurrency_max=self.concurrency_max,
        )

    @property
    def routes(self) -> tuple[Route, ...]:
        return (self.route,)

    @property
    def charged_micros(self) -> int:
        """What the vendor has billed in all, micro-USD."""
        return sum(self.charged.values())

    def finished(self, request_id: str, data: bytes | None = None, **report: Any) -> Finished:
        """The delivery of a render that was accepted under this id, as ordered or with other bytes; it is billed."""
        request = self.running[request_id]
        self.charged[request_id] = self.price_micros
        facts = {"request_id": request_id, "cost_micros": self.price_micros, "model": self.route.model} | report
        ordered = clip(int(str(request.parameters["frames"])), int(str(request.parameters["fps"])))
        return Finished((InlineFile(ordered if data is None else data),), Report(**facts))

    async def submit(self, request: RenderRequest) -> SubmitOutcome:
        await self._tell("before", "submit")
        outcome = await self._submit(request)
        await self._tell("after", "submit")
        return outcome

    async def check(self, route: Route, token: Token) -> CheckOutcome:
        await self._tell("before", "check")
        self.checked_at.append(self.now())
        outcome = self._check(token)
        await self._tell("after", "check")
        return outcome

    async def _tell(self, moment: str, call: str) -> None:
        if self.hook is not None:
            await self.hook(moment, call)

    async def _submit(self, request: RenderRequest) -> SubmitOutcome:
        self.asked.append(request)
        self.asked_at.append(self.now())
        step = self.submits.popleft() if self.submits else None
        if step is None:
            return self.accept(request) if self.mode == "async" else self.finished(self._run(request))
        if isinstance(step, Lost):
            if step.accepted:
                lost_id = self._run(request)
                if self.mode == "sync":
                    self.charged[lost_id] = self.price_micros
            return InDoubt(f"HTTP {step.status}" if step.status else "no reply", status=step.status)
        if inspect.isroutine(step):
            return await step(request)
        assert not callable(step)
        if isinstance(step, Accepted | Finished):
            self._run(request)
        return step

    def accept(self, request: RenderRequest, eta_s: float | None = None) -> Accepted:
        """Accept a request as a vendor does: it runs, and will be billed."""
        request_id = self._run(request)
        return Accepted({"id": request_id}, eta_s, Report(request_id=request_id))

    def _check(self, token: Token) -> CheckOutcome:
        if self.trouble is not None and self.now() < self.asked_at[0] + self.trouble_s:
            return self.trouble
        if self.checks:
            check = self.checks.popleft()
            return check(self, token) if callable(check) else check
        return self.finished(str(token["id"]))

    async def _lookup(self, sent: SentAttempt) -> LookupOutcome:
        self.looked_up.append(sent)
        if self.lookups:
            look = self.lookups.popleft()
            return look(sent) if callable(look) else look
        mine = [name for name, request in self.running.items() if request.attempt_id == sent.attempt_id]
        free = [name for name in mine if name not in sent.claimed]
        return Accepted({"id": free[0]}, report=Report(request_id=free[0])) if free else NotFound("not in the records")

    async def _cancel(self, route: Route, token: Token) -> bool:
        self.cancel_asked.append(token)
        return bool(self.cancels)

    async def _balance(self) -> Balance | None:
        assert self.balance_micros is not None
        return Balance(self.balance_micros - self.charged_micros)

    async def _upload(self, image: SourceImage) -> str | None:
        assert self.uploads is not None
        succeeds = self.uploads.popleft() if self.uploads else True
        return f"https://{self.name}.test/{len(image.data or b'')}" if succeeds else None

    def _run(self, request: RenderRequest) -> str:
        request_id = f"{self.name}-{len(self.running) + 1}"
        self.running[request_id] = request
        self.accepted.append(request.attempt_id)
        return request_id

    def now(self) -> float:
        assert self.clock is not None
        return self.clock.now()

    def plugin(self) -> ProviderPlugin:
        """The plugin through which a gateway gets this very provider."""

        def build(_settings: ProviderSettings, tools: Tools) -> Scripted:
            self.clock = tools.clock
            return self

        return ProviderPlugin(self.name, ProviderSettings, self.routes, build)


def delivers(data: bytes | None = None, **report: Any) -> Callable[[Scripted, Token], CheckOutcome]:
    """A check that finishes with these bytes, or with this in the vendor's report."""
    return lambda provider, token: provider.finished(str(token["id"]), data, **report)


def price_book(providers: Iterable[Scripted]) -> str:
    """A price book for scripted routes; a render costs what its vendor charges."""
    lines = ["currency: USD", "routes:"]
    for provider in providers:
        dollars = f"{provider.price_micros // 1_000_000}.{provider.price_micros % 1_000_000:06d}"
        lines += [
            f"  {provider.name}/one:",
            "    - effective_from: 2020-01-01",
            f'      terms: [{{per: call, usd: "{dollars}", confidence: published, source: scripted}}]',
        ]
    return "\n".join(lines)
