"""How the vendor is asked: two verbs, each one call, and one table from its statuses to typed outcomes."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from providers.capability import Route
from providers.contract import (
    Accepted,
    CheckOutcome,
    Failed,
    FailureKind,
    Finished,
    InDoubt,
    Json,
    Pending,
    ProviderSettings,
    Refused,
    RemoteFile,
    RenderRequest,
    Report,
    SubmitOutcome,
    Token,
    Tools,
    chosen_routes,
)
from providers.transport import MaybeSent, NotSent, Reply, call
from pydantic import SecretStr

from vidgate_clipworks.catalogue import CATALOGUE, PROVIDER

# The vendor's documented refusals. What is not here is in doubt, never guessed.
REFUSALS: Mapping[int, FailureKind] = {
    400: FailureKind.INVALID_REQUEST,
    401: FailureKind.UNAUTHORIZED,
    402: FailureKind.NO_CREDIT,
    429: FailureKind.RATE_LIMITED,
}
# No wait in seconds and no price in dollars is larger than this.
NUMBER_MAX = 1_000_000


class ClipworksSettings(ProviderSettings):
    """The vendor's section of the configuration file."""

    api_key: SecretStr
    base_url: str = "https://api.clipworks.example"


class Clipworks:
    """One account."""

    name = PROVIDER

    def __init__(self, settings: ClipworksSettings, tools: Tools) -> None:
        self.routes = chosen_routes(settings, CATALOGUE)
        self._http = tools.http
        self._base_url = settings.base_url.rstrip("/")
        self._headers = {"authorization": f"Bearer {settings.api_key.get_secret_value()}"}

    async def submit(self, request: RenderRequest) -> SubmitOutcome:
        """Ask for a clip, once. `request.parameters` already carry the vendor's names and values."""
        assert request.image.data is not None, "the table asks for base64"
        body = {**request.parameters, "image": base64.b64encode(request.image.data).decode()}
        reply = await self._call("POST", "/clips", json=body, timeout_s=request.timeout_s)
        match reply:
            case NotSent(detail):
                return Refused(FailureKind.UNAVAILABLE, detail)
            case MaybeSent(detail):
                return InDoubt(detail)
        said = reply.object()
        clip = said.get("id")
        if reply.status == 202 and isinstance(clip, str):
            return Accepted({"id": clip}, eta_s=_number(said.get("eta")), report=Report(request_id=clip))
        if reply.status in REFUSALS:
            wait_s = _number(reply.headers.get("retry-after"))
            return Refused(REFUSALS[reply.status], str(said.get("error", "")), wait_s, reply.status)
        return InDoubt(f"HTTP {reply.status}", reply.status, unrecognised=reply.status not in {502, 504})

    async def check(self, route: Route, token: Token) -> CheckOutcome:
        """Ask how an accepted clip is doing. Any process can do this: all it needs is the token."""
        reply = await self._call("GET", f"/clips/{quote(str(token['id']), safe='')}", timeout_s=30.0)
        if not isinstance(reply, Reply):
            return InDoubt(reply.detail)
        if reply.status == 404:
            return InDoubt("the vendor does not know it any more", 404, gone=True)
        said = reply.object()
        report = Report(request_id=str(token["id"]), cost_micros=_micros(said.get("price")), model=route.model)
        match said.get("state"), said.get("url"):
            case "working", _:
                return Pending(progress=_number(said.get("progress")))
            case "done", str(url):
                return Finished((RemoteFile(url),), report)
            case "failed", _:
                return Failed(FailureKind.RENDER_FAILED, str(said.get("error", "")), report)
        return InDoubt(f"HTTP {reply.status}", reply.status, unrecognised=True)

    async def _call(
        self, method: str, path: str, *, timeout_s: float, json: Mapping[str, Json] | None = None
    ) -> Reply | NotSent | MaybeSent:
        url = self._base_url + path
        return await call(
            self._http, self._http.build_request(method, url, json=json, headers=self._headers, timeout=timeout_s)
        )


def build(settings: Any, tools: Tools) -> Clipworks:
    """Make the provider from its configuration section."""
    return Clipworks(settings, tools)


def _number(value: object) -> float | None:
    """A number of the vendor's from 0 on, or None: what comes over the wire may be anything."""
    try:
        number = float(value) if isinstance(value, str | int | float) else -1.0
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number <= NUMBER_MAX else None


def _micros(usd: object) -> int | None:
    """Dollars, which the vendor writes as text, in micro-USD; money is never a float."""
    try:
        dollars = Decimal(usd) if isinstance(usd, str) else Decimal(-1)
    except ArithmeticError:
        return None
    return int(dollars * 1_000_000) if dollars.is_finite() and 0 <= dollars <= NUMBER_MAX else None
