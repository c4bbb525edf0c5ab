"""Never run, only type-checked: what the author of a provider may rely on. A change that breaks this breaks others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never, assert_type

import httpx

from providers.capability import DELIVERED_BY_GATEWAY, Capability, Route, SizeRule
from providers.contract import (
    FAULTS,
    Accepted,
    Balance,
    CheckOutcome,
    Clock,
    Failed,
    FailureKind,
    Fault,
    Finished,
    HasBalance,
    HasCancel,
    HasLoad,
    HasLookup,
    HasUpload,
    InDoubt,
    InlineFile,
    Json,
    Load,
    LookupOutcome,
    NoEvidence,
    NotFound,
    Pending,
    Provider,
    ProviderPlugin,
    ProviderSettings,
    Refused,
    RemoteFile,
    RenderRequest,
    Report,
    ResultFile,
    SentAttempt,
    SimulatorTools,
    SourceImage,
    SubmitOutcome,
    Token,
    Tools,
    chosen_routes,
)
from providers.registry import plugins
from providers.transport import MaybeSent, NotSent, Reply, call

ROUTE = Route(
    name="acme/clip",
    provider="acme",
    media="video",
    model="clip",
    capabilities=(Capability("seed", "seed", wire_type="integer"), *DELIVERED_BY_GATEWAY),
    image_forms=("url", "base64"),
    mode="async",
    latency_nominal_s=1.0,
    resumable=True,
    ambiguous_billing="success_only",
    summary="A clip.",
    size=SizeRule(512, 512, 8),
)


class Settings(ProviderSettings):
    """A section of the configuration."""

    api_key: str


class Minimal:
    """Two verbs are a provider."""

    name = "acme"

    def __init__(self, settings: Settings, tools: Tools) -> None:
        self.routes: tuple[Route, ...] = chosen_routes(settings, (ROUTE,))
        self._http: httpx.AsyncClient = tools.http
        self._clock: Clock = tools.clock

    async def submit(self, request: RenderRequest) -> SubmitOutcome:
        """Ask, once."""
        assert_type(request.parameters, Mapping[str, Json])
        assert_type(request.image, SourceImage)
        assert_type(request.callback_url, str | None)
        reply = await call(self._http, self._http.build_request("POST", "https://acme.test/"))
        match reply:
            case NotSent(detail):
                return Refused(FailureKind.UNAVAILABLE, detail, retry_after_s=1.0)
            case MaybeSent(detail):
                return InDoubt(detail)
            case Reply(status=200):
                return Finished((InlineFile(reply.body),), Report(cost_micros=1))
        assert_type(reply.object(), dict[str, Json])
        return Accepted({"id": "1"}, eta_s=2.0)

    async def check(self, route: Route, token: Token) -> CheckOutcome:
        """Ask how it goes."""
        if route.name in token:
            return Failed(FailureKind.RENDER_FAILED, "no")
        return Pending(progress=0.5)


class Able(Minimal):
    """Each ability is one method."""

    async def balance(self) -> Balance | None:
        """The credit left."""
        return Balance(1)

    async def load(self) -> Mapping[str, Load]:
        """How busy it is."""
        return {"acme/one": Load(slots=1, running=0, waiting=0)}

    async def cancel(self, route: Route, token: Token) -> bool:
        """Stop it."""
        return route.resumable and "id" in token

    async def lookup(self, sent: SentAttempt) -> LookupOutcome:
        """Find it."""
        return NotFound("no") if sent.claimed else NoEvidence("who knows")

    async def upload(self, image: SourceImage) -> str | None:
        """Store it."""
        return image.url


def build(settings: Settings, tools: Tools) -> Provider:
    """A provider is whatever has the two verbs."""
    return Minimal(settings, tools)


def abilities(provider: Able) -> tuple[HasBalance, HasCancel, HasLoad, HasLookup, HasUpload]:
    """Having the method is having the ability."""
    return provider, provider, provider, provider, provider


def simulator(tools: SimulatorTools) -> object:
    """A simulator is any ASGI application."""
    return tools.base_url


PLUGIN = ProviderPlugin(
    name="acme",
    settings=Settings,
    catalogue=(ROUTE,),
    build=build,
    simulator=simulator,
    simulator_settings=lambda base_url: {"api_key": base_url},
)


def told(outcome: SubmitOutcome | CheckOutcome) -> str:
    """Whoever handles these outcomes has handled all of them."""
    match outcome:
        case Finished():
            assert_type(outcome.files, tuple[ResultFile, ...])
            return "finished" if isinstance(outcome.files[0], RemoteFile) else "inline"
        case Accepted():
            return str(assert_type(outcome.token, Token))
        case Refused() | Failed():
            return assert_type(FAULTS[outcome.kind], Fault)
        case InDoubt():
            return outcome.detail
        case Pending():
            return str(assert_type(outcome.progress, float | None))
    assert_never(outcome)


assert_type(plugins(), Mapping[str, ProviderPlugin])
