"""Every setting of the service: names with units, ranges, defaults and what each is for.

Plain values and nothing else: reading the file is `gateway.config`, what must hold between settings is
`gateway.config_checks`. A provider's own section stays as written here and is checked against that provider's model.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from gateway.settings_edge import (
    IntakeSection,
    LimitsSection,
    MediaSection,
    OutboundSection,
    OverloadSection,
    SecuritySection,
    ServerSection,
)
from gateway.settings_routing import RoutingSection, Section
from gateway.signatures import secret_bytes
from gateway.webhook_urls import check_url
from policies.retry import RetryRules


class StoreSection(Section):
    """Where the truth lives: teams, jobs, attempts and money."""

    url: str = Field(
        default="sqlite:///var/vidgate.db",
        description="Database. `sqlite:///path` is a file of one process; "
        "`postgresql://user:password@host/database` serves many, with libpq's options such as `?sslmode=require`.",
    )

    @property
    def is_one_process(self) -> bool:
        """Whether a lock keeps every other server away, so that a lease found at start is a dead process's."""
        return self.url.startswith("sqlite:")

    connections_max: int = Field(
        default=10, ge=1, le=1000, description="Most connections of one process to PostgreSQL; they are kept open."
    )
    retry_s: float = Field(
        default=20,
        ge=0,
        le=600,
        description="How long a PostgreSQL that is away is tried again before the caller is told, seconds.",
    )
    statement_timeout_s: float = Field(
        default=10, gt=0, le=600, description="Longest time for one statement on PostgreSQL, seconds."
    )
    lock_timeout_s: float = Field(
        default=5, gt=0, le=600, description="Longest wait of a statement for a lock on PostgreSQL, seconds."
    )


class ArtifactsSection(Section):
    """Where pictures and finished videos are kept."""

    url: str = Field(
        default="var/artifacts", min_length=1, description="A folder, or an object store's URL (s3, gs, az)."
    )


class BusSection(Section):
    """What carries wake-ups, observations and shared limits between replicas; what it carries may be lost."""

    url: str = Field(
        default="memory://",
        repr=False,  # it may hold a password
        description="`memory://` serves one process. Replicas share a Redis: `redis://host:6379/0` (`rediss://` with "
        "TLS), `redis+sentinel://host1:26379,host2:26379/master/0`, `redis+cluster://host:6379`; a user and password "
        "go before the hosts.",
    )
    namespace: str = Field(
        default="vidgate",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="How every key and channel in Redis begins; deployments that share a Redis need one each.",
    )


class JobsSection(Section):
    """How long jobs may take and how processes share them."""

    deadline_s: float = Field(
        default=900,
        ge=1,
        le=86_400,
        description="Deadline of a job whose caller names none, seconds from its creation.",
    )
    deadline_max_s: float = Field(
        default=3600, ge=1, le=86_400, description="Longest deadline a caller may ask for, seconds."
    )
    give_up_s: float = Field(
        default=300,
        ge=0,
        le=86_400,
        description="How long after its deadline a job still running is waited for, seconds.",
    )
    in_doubt_s: float = Field(
        default=86_400,
        ge=60,
        le=30 * 86_400,
        description="How long an attempt with an unknown outcome is looked up, seconds.",
    )
    lease_s: float = Field(
        default=15, gt=0, le=600, description="How long a process owns a job without renewing, seconds."
    )
    heartbeat_s: float = Field(default=4, gt=0, le=200, description="How often a process renews what it owns, seconds.")
    running_max: int = Field(default=2000, ge=1, le=10_000, description="Most jobs one process runs at a time.")
    attempts_max: int = Field(default=4, ge=1, le=20, description="Most attempts of one job, over all routes.")
    crashes_max: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="How often a job may break its driver without coming on before it is parked for an operator.",
    )


class RetrySection(Section):
    """Repeating a submit without paying twice."""

    ambiguous: Literal["verify", "retry", "never"] = Field(
        default="verify",
        description="After a 502, 504, reset or timeout that may hide an accepted submit: `verify` looks for evidence "
        "first, `retry` repeats without it (a duplicate is the operator's loss), `never` does not repeat.",
    )
    submits_max: int = Field(default=3, ge=1, le=10, description="Most submits of one attempt, the first included.")
    base_s: float = Field(
        default=0.5, ge=0, le=60, description="Backoff before the first repeat is drawn from 0 to twice this."
    )
    cap_s: float = Field(default=20, gt=0, le=600, description="Longest backoff, seconds.")
    budget_ratio: float = Field(
        default=0.2, ge=0, le=1, description="Extra calls to a provider, as a share of first calls."
    )
    budget_reserve_per_s: float = Field(
        default=1, ge=0, le=100, description="Extra calls a second that are always allowed."
    )
    budget_ttl_s: float = Field(
        default=10, ge=1, le=600, description="Window in which extra calls are counted, seconds."
    )
    verify_settle_s: float = Field(
        default=2,
        ge=0,
        le=120,
        description="Pause before looking for evidence, so that the vendor's books can catch up.",
    )
    underway_s: float = Field(
        default=60,
        ge=0,
        le=600,
        description="How long a submit whose process ended may be under way, seconds: until then it proves nothing that"
        " records do not have it.",
    )

    @property
    def rules(self) -> RetryRules:
        """The limits as the policy takes them."""
        return RetryRules(self.ambiguous, self.submits_max, self.base_s, self.cap_s)


class PollingSection(Section):
    """Asking a vendor how a render is doing; when to ask is learned by route."""

    delay_min_s: float = Field(
        default=0.5, gt=0, le=60, description="Shortest pause between two polls of a render, seconds."
    )
    delay_max_s: float = Field(
        default=15, gt=0, le=600, description="Longest pause between two polls of a render, seconds."
    )
    balance_every_s: float = Field(
        default=60, ge=1, le=86_400, description="How often a vendor's credit is read, seconds."
    )


class UsageWebhookSection(Section):
    """Where the usage of billed jobs is sent, as CloudEvents signed by Standard Webhooks."""

    url: str = Field(description="Address of the metering or invoicing service, https.")
    secret: SecretStr = Field(description="Signs the events: whsec_ and base64 of 24 to 64 bytes.")

    @field_validator("url")
    @classmethod
    def _is_a_target(cls, url: str) -> str:
        check_url(url)
        return url

    @field_validator("secret")
    @classmethod
    def _is_a_secret(cls, secret: SecretStr) -> SecretStr:
        secret_bytes(secret.get_secret_value())
        return secret


class MoneySection(Section):
    """Prices, margins and budgets. Amounts are micro-USD: 1000000 is one dollar."""

    price_book: Path | None = Field(
        default=None, description="YAML file whose prices replace the published figures that vidgate comes with."
    )
    margin_percent: Decimal = Field(
        default=Decimal(0),
        ge=0,
        le=1000,
        description="Added to the vendor's cost for a team without a plan of its own.",
    )
    show_cost: bool = Field(
        default=False,
        description="Whether teams see what vendors charge, and so the margin, beside their own price; a team's plan "
        "may say otherwise.",
    )
    default_budget_micros: int | None = Field(
        default=None,
        ge=0,
        le=10**15,
        description="Monthly hard budget a new team starts with, micro-USD; none: no limit.",
    )
    price_drift_threshold: float = Field(
        default=0.1,
        gt=0,
        le=10,
        description="How far a route's reported costs may be from the price book before it is told, as a share.",
    )
    reported_cost_max_ratio: Decimal = Field(
        default=Decimal(5),
        ge=1,
        le=1000,
        description="How many times a route's worst price a vendor's reported cost may be; of a higher one the price "
        "book's figure is billed, and the rest waits in suspense for the operator.",
    )
    usage_webhook: UsageWebhookSection | None = Field(
        default=None, description="Sends an event for every billed job to a metering service."
    )


class TelemetrySection(Section):
    """What the gateway tells of itself."""

    metrics_token: SecretStr | None = Field(
        default=None,
        description="Bearer token that a scraper of `/metrics` must send; none: whoever reaches the port may read.",
    )
    otlp_endpoint: str | None = Field(
        default=None,
        description="OpenTelemetry collector that traces are sent to, OTLP over HTTP, such as `http://collector:4318`; "
        "none: no traces. It needs the extra `[otel]`.",
    )
    otlp_headers: SecretStr | None = Field(
        default=None,
        description="Headers for the collector, `name=value,name=value`; values may be percent-encoded.",
    )
    trace_ratio: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of the traces begun here that are recorded; a request that comes with a `traceparent` and a "
        "good key is recorded when its caller's trace is.",
    )
    service_name: str = Field(
        default="vidgate", min_length=1, max_length=120, description="What this service is called in traces."
    )

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_a_collector(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        extra = parts.query or parts.fragment or parts.username
        if parts.scheme not in {"http", "https"} or not parts.hostname or extra:
            raise ValueError("must be an http or https address, such as http://collector:4318; keys go in otlp_headers")
        return url.rstrip("/").removesuffix("/v1/traces")

    @field_validator("otlp_headers")
    @classmethod
    def _are_headers(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            read_headers(secret.get_secret_value())
        return secret


def read_headers(text: str) -> dict[str, str]:
    """Headers from `name=value,name=value`, the form of OTEL_EXPORTER_OTLP_HEADERS.

    Raises ValueError, which does not repeat the text, for anything else.
    """
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if not pairs or not all(name.strip() and sign for name, sign, _ in pairs):
        raise ValueError("must be name=value pairs with commas between them, such as authorization=Bearer%20abc")
    return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs}


class Settings(Section):
    """The whole configuration."""

    server: ServerSection = Field(default=ServerSection(), description="Where and how the gateway listens.")
    store: StoreSection = Field(default=StoreSection(), description="The database.")
    artifacts: ArtifactsSection = Field(default=ArtifactsSection(), description="Pictures and videos.")
    bus: BusSection = Field(default=BusSection(), description="Wake-ups between replicas.")
    security: SecuritySection = Field(description="Secrets of the gateway itself.")
    limits: LimitsSection = Field(default=LimitsSection(), description="How much teams and keys may ask for.")
    overload: OverloadSection = Field(default=OverloadSection(), description="When load is shed.")
    providers: Mapping[str, Mapping[str, Any]] = Field(
        default_factory=dict,
        repr=False,  # it holds the keys of the accounts as they were written
        description="One section a vendor account, by the provider's name.",
    )
    intake: IntakeSection = Field(default=IntakeSection(), description="Limits on pictures.")
    jobs: JobsSection = Field(default=JobsSection(), description="Deadlines, leases and limits of jobs.")
    retry: RetrySection = Field(default=RetrySection(), description="Repeating submits.")
    polling: PollingSection = Field(default=PollingSection(), description="Asking vendors for progress.")
    routing: RoutingSection = Field(default=RoutingSection(), description="Choosing routes.")
    money: MoneySection = Field(default=MoneySection(), description="Prices, margins and budgets.")
    outbound: OutboundSection = Field(default=OutboundSection(), description="Fetching foreign URLs.")
    media: MediaSection = Field(default=MediaSection(), description="Checking results.")
    telemetry: TelemetrySection = Field(default=TelemetrySection(), description="Metrics and traces.")

    @model_validator(mode="before")
    @classmethod
    def _sections_without_content(cls, values: object) -> object:
        """A section written with nothing under it (`server:`) is one with nothing but defaults."""
        return _filled(values)

    @field_validator("providers", mode="before")
    @classmethod
    def _providers_without_content(cls, providers: object) -> object:
        return _filled(providers)


def _filled(values: object) -> object:
    if not isinstance(values, Mapping):
        return values
    return {name: {} if section is None else section for name, section in values.items()}
