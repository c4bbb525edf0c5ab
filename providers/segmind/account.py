"""One vendor account: its addresses, its key, its credit and its uploads (WIRE 1.1, 1.2, 1.7)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from providers.contract import Balance, Json, SourceImage
from providers.segmind.reading import link, micros
from providers.transport import MaybeSent, NotSent, Reply, call

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 20.0
BALANCE_FIELDS = ("credits", "free-credits")  # a hyphen, not an underscore (trap 30); both can be spent
NO_BALANCE_STATUS = 404  # WIRE 1.6: authenticated, but no balance record exists


@dataclass(frozen=True, slots=True)
class Account:
    """The addresses and the key of one vendor account. The key goes to these three addresses and nowhere else."""

    http: httpx.AsyncClient
    api_key: str
    base_url: str
    uploads_url: str
    history_url: str

    async def get(self, url: str) -> Reply | NotSent | MaybeSent:
        """Read one of the vendor's pages; safe to repeat."""
        timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        return await call(self.http, self.http.build_request("GET", url, headers=self._key(), timeout=timeout))

    async def post(self, url: str, body: Mapping[str, Json], *, timeout_s: float) -> Reply | NotSent | MaybeSent:
        """Send JSON to one of the vendor's pages, once."""
        timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
        request = self.http.build_request("POST", url, headers=self._key(), json=dict(body), timeout=timeout)
        return await call(self.http, request)

    async def balance(self) -> Balance | None:
        """Credit left, paid and free together; None when it could not be read."""
        reply = await self.get(f"{self.base_url}/v1/get-user-credits")
        if not isinstance(reply, Reply):
            return None
        if reply.status == NO_BALANCE_STATUS and "error" in reply.object():
            return Balance(0)
        amounts = [micros(reply.object().get(name)) for name in BALANCE_FIELDS]
        known = [amount for amount in amounts if amount is not None]
        return Balance(sum(known)) if reply.status == 200 and known else None

    async def upload(self, image: SourceImage) -> str | None:
        """Store a picture with the vendor; the link to it, or None when that did not succeed."""
        if image.data is None:
            return None
        encoded = base64.b64encode(image.data).decode("ascii")
        reply = await self.post(
            f"{self.uploads_url}/upload-asset",
            {"data_urls": [f"data:{image.media_type};base64,{encoded}"]},
            timeout_s=READ_TIMEOUT_S,
        )
        if not isinstance(reply, Reply) or not 200 <= reply.status < 300:
            return None
        links = reply.object().get("file_urls")
        return link(links[0]) if isinstance(links, list) and links else None

    def _key(self) -> dict[str, str]:
        return {"x-api-key": self.api_key}  # never as a bearer token: the vendor refuses that (trap 32)
