"""What an operator sets for the team's own GPUs: the section `local` of the configuration file."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from providers.contract import ProviderSettings
from providers.local_gpu.workers import DNS_PREFIX


class Settings(ProviderSettings):
    """The workers of `vidgate gpu-worker`, or the one address of `vidgate gpu-serve`.

    `workers` are their addresses; one that begins with `dns+` (`dns+http://gpu-workers:8000`) stands for every address
    that its name has, as the headless service of a Kubernetes deployment does. `token` is what they were started with
    as VIDGATE_GPU_TOKEN. A worker that is silent for `dead_after_s` seconds has lost its renders: they are rendered
    anew elsewhere. What a GPU second costs stands in the price book.
    """

    workers: tuple[str, ...] = Field(min_length=1)
    token: SecretStr | None = None
    dead_after_s: float = Field(default=60.0, ge=1, le=3600)

    @field_validator("workers")
    @classmethod
    def _addresses(cls, workers: tuple[str, ...]) -> tuple[str, ...]:
        for url in workers:
            parts = urlsplit(url.removeprefix(DNS_PREFIX))
            extra = parts.path.strip("/") or parts.query or parts.fragment or parts.username
            if parts.scheme not in {"http", "https"} or not parts.hostname or extra:
                raise ValueError(f"{url!r} is no worker's address: write http://host:port, or dns+http://name:port")
        return tuple(url.rstrip("/") for url in workers)
