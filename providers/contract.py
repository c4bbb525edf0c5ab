"""The narrow waist between the gateway and a vendor: two verbs, tagged outcomes and a token that can be stored.

    submit(request) -> Finished | Accepted | Refused | InDoubt
    check(token)    -> Pending | Finished | Failed | InDoubt

An outcome carries the three facts the engine needs: did the request leave, is the outcome known, whose fault is it.

    Refused   it was not accepted: nothing runs and nothing is billed (it never left, or the vendor said no)
    Failed    it was accepted and the vendor said that it failed
    InDoubt   nobody knows: the request may have left and may run; never to be repeated blindly

Abilities that not every vendor has are separate small protocols; having one is the flag.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import httpx
from pydantic import BaseModel, ConfigDict, Field

from providers.capability import Route
from providers.pace import Pace

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Token: TypeAlias = dict[str, Json]
Fault = Literal["caller", "account", "vendor"]


class FailureKind(enum.StrEnum):
    """Why an attempt did not deliver. The fault decides what the engine may do about it (see `FAULTS`)."""

    INVALID_REQUEST = "invalid_request"
    MODERATED = "moderated"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NO_CREDIT = "no_credit"
    RATE_LIMITED = "rate_limited"
    MODEL_GONE = "model_gone"
    UNAVAILABLE = "unavailable"
    SERVER_ERROR = "server_error"
    RENDER_FAILED = "render_failed"
    NOT_AS_ORDERED = "not_as_ordered"
    BAD_OUTPUT = "bad_output"
    TIMEOUT = "timeout"
    LOST = "lost"


FAULTS: Mapping[FailureKind, Fault] = {
    FailureKind.INVALID_REQUEST: "caller",
    FailureKind.MODERATED: "caller",
    FailureKind.UNAUTHORIZED: "account",
    FailureKind.FORBIDDEN: "account",
    FailureKind.NO_CREDIT: "account",
    FailureKind.RATE_LIMITED: "account",
    FailureKind.MODEL_GONE: "vendor",
    FailureKind.UNAVAILABLE: "vendor",
    FailureKind.SERVER_ERROR: "vendor",
    FailureKind.RENDER_FAILED: "vendor",
    FailureKind.NOT_AS_ORDERED: "vendor",
    FailureKind.BAD_OUTPUT: "vendor",
    FailureKind.TIMEOUT: "vendor",
    FailureKind.LOST: "vendor",
}


class Clock(Protocol):
    """Time as an argument: unix seconds, and a sleep that a test can end at once."""

    def now(self) -> float:
        """Unix time in seconds."""

    async def sleep(self, seconds: float) -> None:
        """Return after this many seconds."""


@dataclass(frozen=True, slots=True)
class SourceImage:
    """The input picture in the one form that the route was planned with: `url` or `data` (raw bytes), not both."""

    media_type: str
    width: int
    height: int
    url: str | None = None
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class RenderRequest:
    """What a provider is asked to make.

    `parameters` are the vendor's own names and values, made from the route's capability table, so that what is sent is
    what the receipt says. An adapter adds the picture, its credentials and constant fields, and nothing else.
    `attempt_id` is vidgate's id of this try; `callback_url` is an unguessable address the vendor may call when done.
    """

    route: Route
    attempt_id: str
    parameters: Mapping[str, Json]
    image: SourceImage
    callback_url: str | None = None
    timeout_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Report:
    """What the vendor said about an attempt, besides the result. Money is micro-USD; None means not said."""

    request_id: str | None = None
    cost_micros: int | None = None
    credits_remaining_micros: int | None = None
    seed: int | None = None
    model: str | None = None
    inference_s: float | None = None
    queue_s: float | None = None


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A result that waits at a public address: a bearer secret, never logged whole, never sent a key."""

    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class InlineFile:
    """A result that came in the reply itself."""

    data: bytes = field(repr=False)


ResultFile = RemoteFile | InlineFile


@dataclass(frozen=True, slots=True)
class Finished:
    """The vendor delivered. `files` has at least one entry."""

    files: tuple[ResultFile, ...]
    report: Report = field(default_factory=Report)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The vendor runs it and will bill it. `token` is JSON from which any process can go on."""

    token: Token
    eta_s: float | None = None
    report: Report = field(default_factory=Report)


@dataclass(frozen=True, slots=True)
class Pending:
    """Still at work. `progress` is 0-1 where the vendor tells."""

    eta_s: float | None = None
    progress: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Provably not accepted: it never left, or the vendor refused it. `retry_after_s` is the vendor's own hint."""

    kind: FailureKind
    detail: str
    retry_after_s: float | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """Accepted, and then failed by the vendor's own word."""

    kind: FailureKind
    detail: str
    report: Report = field(default_factory=Report)


@dataclass(frozen=True, slots=True)
class InDoubt:
    """No verdict. From `submit`: the request may have been accepted. From `check`: ask again later.

    `gone` says that the vendor no longer knows the job, so that asking again cannot help.
    `unrecognised` marks a reply that matched nothing documented: counted and alarmed.
    """

    detail: str
    status: int | None = None
    retry_after_s: float | None = None
    gone: bool = False
    unrecognised: bool = False


SubmitOutcome = Finished | Accepted | Refused | InDoubt
CheckOutcome = Pending | Finished | Failed | InDoubt


class Provider(Protocol):
    """One configured vendor account."""

    @property
    def name(self) -> str:
        """The provider's name, the first half of its routes' names."""

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes this account offers."""

    async def submit(self, request: RenderRequest) -> SubmitOutcome:
        """Ask for a render, once. Never retries: the engine decides that. Raises nothing for what a vendor may do."""

    async def check(self, route: Route, token: Token) -> CheckOutcome:
        """Ask how an accepted render is doing. Safe to repeat. Raises nothing for what a vendor may do."""


@dataclass(frozen=True, slots=True)
class Balance:
    """Credit on a vendor account, in micro-USD."""

    amount_micros: int


@dataclass(frozen=True, slots=True)
class SentAttempt:
    """What is known of an attempt whose submit is in doubt: enough to recognise it in the vendor's own records.

    `parameters` are those that were sent, without the picture. `sent_at` and `until` bound the submit in unix seconds;
    `credits_before_micros` is the last balance known before it; `claimed` are the vendor's request ids that belong to
    other attempts and so cannot be this one. `is_unique`: the parameters hold a seed that was drawn for this attempt,
    so that whatever was made of them is this one.
    """

    route: Route
    attempt_id: str
    parameters: Mapping[str, Json]
    sent_at: float
    until: float
    credits_before_micros: int | None = None
    claimed: frozenset[str] = frozenset()
    is_unique: bool = False


@dataclass(frozen=True, slots=True)
class NotFound:
    """The vendor's records are complete for the time asked about and do not have it: it was not accepted."""

    detail: str


@dataclass(frozen=True, slots=True)
class NoEvidence:
    """The vendor's records could not be read, or do not tell."""

    detail: str


LookupOutcome = Accepted | NotFound | NoEvidence


@runtime_checkable
class HasBalance(Protocol):
    """A vendor that tells the credit left."""

    async def balance(self) -> Balance | None:
        """Credit left, or None when it could not be read."""


@dataclass(frozen=True, slots=True)
class Load:
    """How busy the machines behind one route are now: renders at a time, at work, and waiting there.

    `offered` is false when no machine has the route's model. `full`: the next render would be refused by every one that
    has it. `paces` is what each of them has measured so far (`providers.pace`).
    """

    slots: int
    running: int
    waiting: int
    offered: bool = True
    full: bool = False
    paces: tuple[Pace, ...] = ()

    @property
    def step_s(self) -> float | None:
        """Seconds of a step, of the render that each machine measured last; None before any did."""
        last = [pace[0].step_s for pace in self.paces if pace]
        return sum(last) / len(last) if last else None


@runtime_checkable
class HasLoad(Protocol):
    """A provider whose machines are our own and tell how busy they are."""

    async def load(self) -> Mapping[str, Load]:
        """The load by route name, as of now. A machine that does not answer has no slots."""


@runtime_checkable
class HasCancel(Protocol):
    """A vendor that can stop an accepted render."""

    async def cancel(self, route: Route, token: Token) -> bool:
        """True when the vendor confirmed that it stopped; False when it goes on or nobody knows."""


@runtime_checkable
class HasLookup(Protocol):
    """A vendor whose records show whether an ambiguous submit was accepted."""

    async def lookup(self, sent: SentAttempt) -> LookupOutcome:
        """Find an attempt in the vendor's records without creating work."""


@runtime_checkable
class HasUpload(Protocol):
    """A vendor that stores an input picture and answers with a link to it."""

    async def upload(self, image: SourceImage) -> str | None:
        """The link, or None when the upload did not succeed."""


class ProviderSettings(BaseModel):
    """Base of a provider's own section in the configuration file; unknown keys are errors.

    `routes` switches routes on by name; empty means all. Rates and caps narrow the catalogue's. An account whose credit
    falls under `floor_micros` (micro-USD) is told of; it is used on until it is empty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    routes: tuple[str, ...] = ()
    concurrency_max: int | None = None
    requests_per_minute: int | None = None
    floor_micros: int = Field(default=0, ge=0, le=10**15)


@dataclass(frozen=True, slots=True)
class Tools:
    """What a provider is given to work with: transport, time and chance."""

    http: httpx.AsyncClient
    clock: Clock
    random: Random


@dataclass(frozen=True, slots=True)
class SimulatorTools:
    """What a simulator is given: its own address, time, chance and the settings it starts with."""

    base_url: str
    clock: Clock
    random: Random
    http: httpx.AsyncClient
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProviderPlugin:
    """One vendor as the registry knows it: the entry point group `vidgate.providers` names such objects.

    `simulator` makes an ASGI application that speaks the vendor's API; None when there is nothing to simulate.
    `simulator_settings` gives the configuration section that points the provider at a simulator at a base URL.
    `offered` gives the routes of a configuration, where that declares them; None: those of the catalogue.
    """

    name: str
    settings: type[ProviderSettings]
    catalogue: Sequence[Route]
    build: Callable[[Any, Tools], Provider]
    simulator: Callable[[SimulatorTools], Any] | None = None
    simulator_settings: Callable[[str], Mapping[str, Json]] | None = None
    offered: Callable[[Any], tuple[Route, ...]] | None = None

    def routes_of(self, settings: Any) -> tuple[Route, ...]:
        """The routes that a configuration switches on. Raises ValueError naming the known ones for any other."""
        return self.offered(settings) if self.offered is not None else chosen_routes(settings, self.catalogue)


def chosen_routes(settings: ProviderSettings, catalogue: Sequence[Route]) -> tuple[Route, ...]:
    """The catalogue's routes that the configuration switches on.

    Raises ValueError naming the known routes when a configured name is not in the catalogue.
    """
    known = {route.name: route for route in catalogue}
    unknown = [name for name in settings.routes if name not in known]
    if unknown:
        raise ValueError(f"unknown route {unknown[0]!r}; this provider has: {', '.join(sorted(known))}")
    return tuple(route for route in catalogue if not settings.routes or route.name in settings.routes)
