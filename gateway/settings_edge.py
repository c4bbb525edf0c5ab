"""The settings of the edge: how the gateway listens, its own secrets, and what is taken from strangers."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from gateway.limits import Limits
from gateway.scopes import Scope
from gateway.settings_routing import Section

MEBIBYTE = 1024 * 1024
SECRET_BYTES_MIN = 24


class ServerSection(Section):
    """Where and how the gateway listens."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(default=8080, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    public_base_url: str | None = Field(
        default=None,
        description="Address at which vendors and callers reach this gateway. Vendors that take a picture only as a "
        "link fetch it from here; without it their routes are out.",
    )
    replicas: int = Field(default=1, ge=1, le=1000, description="How many gateway processes share the store.")
    body_bytes_max: int = Field(
        default=32 * MEBIBYTE, ge=1024, le=1024 * MEBIBYTE, description="Largest request body, bytes."
    )
    body_s: float = Field(
        default=15,
        gt=0,
        le=600,
        description="Time for a request body, seconds, beside what its size takes at `body_bytes_per_s_min`.",
    )
    body_bytes_per_s_min: int = Field(
        default=32 * 1024,
        ge=1,
        le=1024 * MEBIBYTE,
        description="Slowest rate at which a body may come, bytes a second.",
    )
    header_s: float = Field(default=10, gt=0, le=600, description="Time for address and headers, seconds.")
    header_bytes_max: int = Field(
        default=64 * 1024, ge=4096, le=MEBIBYTE, description="Largest address and headers together, bytes."
    )
    headers_max: int = Field(default=100, ge=20, le=10_000, description="Most headers of a request.")
    send_s: float = Field(
        default=30,
        gt=0,
        le=3600,
        description="Longest time in which a client may take nothing of its reply, seconds; then it is cut off.",
    )
    keep_alive_s: int = Field(
        default=5,
        ge=1,
        le=3600,
        description="How long an idle connection is kept, seconds; longer than a load balancer in front keeps its own.",
    )
    connections_max: int = Field(
        default=5000, ge=10, le=1_000_000, description="Most connections open at a time; more are refused with 503."
    )
    cors_origins: tuple[str, ...] = Field(
        default=(),
        description="Origins whose pages may call the API from a browser, such as `https://studio.example.com`; none "
        "unless named, and never all of them.",
    )
    wait_s_max: float = Field(default=60, ge=0, le=300, description="Longest `Prefer: wait` that is honoured, seconds.")
    inline_bytes_max: int = Field(
        default=8 * MEBIBYTE,
        ge=0,
        le=1024 * MEBIBYTE,
        description="Most bytes of a result's files together that `output: inline` puts into a reply; of more there "
        "is the link alone.",
    )
    drain_s: float = Field(default=20, ge=0, le=600, description="Time to finish what is quick after SIGTERM, seconds.")

    @field_validator("public_base_url")
    @classmethod
    def _is_an_address(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must be an http or https address without ? and #, such as https://video.example.com")
        return url.rstrip("/")

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            parts = urlsplit(origin)
            if origin != f"{parts.scheme}://{parts.netloc}" or parts.scheme not in {"http", "https"} or "@" in origin:
                raise ValueError(f"{origin!r} is no origin; write scheme and host alone, https://studio.example.com")
            if not parts.hostname or origin != origin.lower() or "*" in origin:
                raise ValueError(f"{origin!r} must name one host, in lower case")
        return origins


class OidcRoleSection(Section):
    """What people with a role may do, and in which team's name."""

    role: str = Field(min_length=1, max_length=200, description="A value of the roles claim.")
    team: str = Field(min_length=1, max_length=120, description="The team's name.")
    scopes: tuple[Scope, ...] = Field(min_length=1, description="What the role is for: generate, read, billing, admin.")


class OidcSection(Section):
    """People who come with a signed token of an identity provider."""

    issuer: str = Field(description="The provider's issuer, as its tokens name it; https.")
    audience: str = Field(min_length=1, description="What tokens for this service have in `aud`.")
    roles_claim: str = Field(
        default="roles",
        min_length=1,
        description="The claim with a person's roles, a list or words with blanks; dots lead into objects.",
    )
    roles: tuple[OidcRoleSection, ...] = Field(
        min_length=1, description="Roles in order: the first that a person has names the team."
    )
    algorithms: tuple[Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"], ...] = (
        Field(default=("RS256", "ES256"), min_length=1, description="Signatures that are accepted.")
    )
    leeway_s: int = Field(default=30, ge=0, le=300, description="How far clocks may differ, seconds.")
    keys_ttl_s: float = Field(
        default=900, ge=60, le=86_400, description="After how long the provider's keys are read again, seconds."
    )

    @field_validator("issuer")
    @classmethod
    def _is_an_issuer(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(
                "must be an https address without ? and #, such as https://login.example.com/realms/studio"
            )
        return url


class SecuritySection(Section):
    """Secrets of the gateway itself, and who lets people in."""

    signing_secret: SecretStr = Field(
        description="Signs links to pictures and results; at least 24 bytes. `openssl rand -base64 32` makes one."
    )
    link_ttl_s: float = Field(default=3600, ge=60, le=7 * 86_400, description="How long a signed link works, seconds.")
    oidc: OidcSection | None = Field(
        default=None,
        description="The identity provider whose people may come with its tokens (docs/auth.md); none: keys alone. It "
        "needs the extra `[oidc]`.",
    )

    @field_validator("signing_secret")
    @classmethod
    def _long_enough(cls, secret: SecretStr) -> SecretStr:
        size_bytes = len(secret.get_secret_value().encode())
        if size_bytes < SECRET_BYTES_MIN:
            raise ValueError(
                f"must have at least {SECRET_BYTES_MIN} bytes and has {size_bytes}; make one with: "
                "openssl rand -base64 32"
            )
        return secret


class LimitsSection(Section):
    """How much every team, and every key, may ask for; plans of teams and grants of keys may narrow it."""

    team: Limits = Field(default=Limits(), description="Of each team, all its keys together.")
    key: Limits = Field(default=Limits(), description="Of each key.")


class OverloadSection(Section):
    """What one process takes on at a time; more is refused with 503 before anything is done for it."""

    work_max: int = Field(
        default=1000, ge=1, le=100_000, description="Requests for renders and quotes being answered, waits aside."
    )
    reads_max: int = Field(
        default=5000, ge=1, le=1_000_000, description="Other requests being answered, and those that wait for a job."
    )
    streams_max: int = Field(
        default=2500,
        ge=1,
        le=1_000_000,
        description="Events and downloads being sent; fewer than `server.connections_max`, which they hold.",
    )
    body_bytes_max: int = Field(
        default=96 * MEBIBYTE,
        ge=1024,
        le=64 * 1024 * MEBIBYTE,
        description="Bytes of all request bodies in memory; each costs up to five times that for a moment.",
    )
    pictures_max: int = Field(default=128, ge=1, le=10_000, description="Pictures being fetched or opened.")
    lag_s_max: float = Field(
        default=1.0, gt=0, le=60, description="How late the event loop may wake twice in a row, seconds."
    )


class IntakeSection(Section):
    """What a picture may be, checked before it is decoded."""

    bytes_max: int = Field(default=20 * MEBIBYTE, ge=1024, le=256 * MEBIBYTE, description="Largest picture, bytes.")
    pixels_max: int = Field(default=40_000_000, ge=4096, le=400_000_000, description="Most pixels, width times height.")
    side_max: int = Field(default=12_000, ge=64, le=65_535, description="Longest side, pixels.")


class OutboundSection(Section):
    """Fetching what vidgate did not write: pictures given as links, and results."""

    allow_hosts: tuple[str, ...] = Field(
        default=(),
        description="Private places that may be fetched from all the same: `host:port`, `host`, an address or a CIDR.",
    )
    timeout_s: float = Field(default=60, gt=0, le=600, description="Time for one whole download, seconds.")
    bytes_max: int = Field(default=256 * MEBIBYTE, ge=1024, le=4096 * MEBIBYTE, description="Largest download, bytes.")


class MediaSection(Section):
    """Opening what others sent, and checking what a vendor delivered."""

    workers: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Processes in which pictures and clips are opened; 0 takes one a processor, two to eight of them.",
    )
    memory_bytes_max: int = Field(
        default=512 * MEBIBYTE,
        ge=64 * MEBIBYTE,
        le=8192 * MEBIBYTE,
        description="Most memory that the files being opened may take together, bytes. A small file gets 64 MiB "
        "whatever it declares, a larger one up to 512 times its size; those for which there is no room wait.",
    )
    accept_other_model: bool = Field(
        default=False,
        description="Whether a result counts as delivered when the vendor says that another model made it.",
    )
    verify_deviations: Literal["fail", "warn"] = Field(
        default="fail",
        description="What another number of frames, or fewer pictures, than ordered means: `fail` costs the team "
        "nothing and tries the next route, `warn` delivers and notes it. Another rate or size is always noted only.",
    )
