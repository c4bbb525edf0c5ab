"""What an operator sets for a ModelsLab account: the section of the configuration file."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from providers.contract import ProviderSettings

# WIRE U14: whether the vendor charges when it takes a request or when it delivers. None: not known, so that a wallet
# which did not move proves nothing.
CHARGED_AT_SUBMIT: bool | None = None


class Settings(ProviderSettings):
    """A ModelsLab account.

    `queue_max` is the plan's queue: 5 pay as you go, 10 standard, 15 premium (WIRE 2.6). `enterprise` speaks to the
    dedicated server. `webhook` asks for a call when a render is done; the vendor requires HTTPS, and
    `webhook_over_http` is for simulators. `upload` puts pictures on the vendor's own 24-hour storage where vidgate has
    no public address. `temporary_files` lets the vendor delete results after 24 hours. `charged_at_submit` states what
    is known of when this account is charged; without it an ambiguous submit cannot be cleared by the wallet.
    """

    api_key: SecretStr = Field(min_length=8)
    base_url: str = "https://modelslab.com/api"
    enterprise: bool = False
    queue_max: int = Field(default=5, ge=1, le=1000)
    webhook: bool = True
    webhook_over_http: bool = False
    upload: bool = False
    temporary_files: bool = False
    charged_at_submit: bool | None = CHARGED_AT_SUBMIT

    @field_validator("base_url")
    @classmethod
    def _absolute(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("base_url must be an absolute http or https address without a query")
        return value.rstrip("/")
