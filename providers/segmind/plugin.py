"""Segmind as the registry knows it: its settings, its routes, the adapter and the simulator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, SecretStr, field_validator

from providers.contract import Json, ProviderPlugin, ProviderSettings, SimulatorTools, Tools, chosen_routes
from providers.segmind.account import Account
from providers.segmind.adapter import Segmind, SegmindWithUploads
from providers.segmind.catalogue import CATALOGUE, PROVIDER
from providers.segmind.simulator import SANDBOX_KEY, build_simulator

VERSION_PATHS = ("/v1", "/v2")  # the vendor's own client has one in its address (WIRE 1.10), this adapter adds it


class SegmindSettings(ProviderSettings):
    """Segmind's section of the configuration file.

    `base_url` is the gateway without a version path. `upload` stores input pictures with the vendor when a route needs
    a link. `history_settle_s` is how long after an ambiguous submit the request history is given to show it.
    """

    api_key: SecretStr
    base_url: str = "https://api.segmind.com"
    uploads_url: str = "https://workflows-api.segmind.com"
    history_url: str = "https://api.spotprod.segmind.com"
    upload: bool = False
    history_settle_s: float = Field(default=10.0, ge=0, le=600)

    @field_validator("base_url", "uploads_url", "history_url")
    @classmethod
    def _address(cls, value: str) -> str:
        if not value.startswith(("https://", "http://")):
            raise ValueError("must be an address that starts with https:// (or http:// for a simulator)")
        return value.rstrip("/")

    @field_validator("base_url")
    @classmethod
    def _without_version(cls, value: str) -> str:
        if value.endswith(VERSION_PATHS):
            raise ValueError("must be the gateway without a version: drop the /v1 or /v2 at its end")
        return value

    @field_validator("api_key")
    @classmethod
    def _key(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().strip() or not value.get_secret_value().isascii():
            raise ValueError("must be the key of the Segmind account: plain letters and digits")
        return value


def build(settings: SegmindSettings, tools: Tools) -> Segmind:
    """One configured account. Raises ValueError for a configured route that is not in the catalogue."""
    account = Account(
        http=tools.http,
        api_key=settings.api_key.get_secret_value().strip(),
        base_url=settings.base_url,
        uploads_url=settings.uploads_url,
        history_url=settings.history_url,
    )
    kind = SegmindWithUploads if settings.upload else Segmind
    routes = chosen_routes(settings, CATALOGUE)
    return kind(account, routes, tools.clock, history_settle_s=settings.history_settle_s)


def simulator(tools: SimulatorTools) -> Any:
    """An application that speaks the vendor's API, all three hosts on one address."""
    return build_simulator(tools).app


def simulator_settings(base_url: str) -> Mapping[str, Json]:
    """The configuration section that points the provider at a simulator, whose history shows a request at once."""
    return {
        "api_key": SANDBOX_KEY,
        "base_url": base_url,
        "uploads_url": base_url,
        "history_url": base_url,
        "history_settle_s": 0.0,
    }


PLUGIN = ProviderPlugin(
    name=PROVIDER,
    settings=SegmindSettings,
    catalogue=CATALOGUE,
    build=build,
    simulator=simulator,
    simulator_settings=simulator_settings,
)
