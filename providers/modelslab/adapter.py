"""The ModelsLab account as a provider: submit and fetch over HTTP, the wallet, evidence, uploads.

The key travels in the body of every call (WIRE 2.2): no request is ever logged or quoted, and every text that comes
back is freed of it. Addresses are built from the configured one and an id, never taken from a reply.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace

from providers.capability import Route
from providers.contract import (
    Balance,
    CheckOutcome,
    FailureKind,
    Finished,
    InDoubt,
    Json,
    LookupOutcome,
    Refused,
    RenderRequest,
    SentAttempt,
    SourceImage,
    SubmitOutcome,
    Token,
    Tools,
)
from providers.modelslab.account import (
    UPLOAD_BYTES_MAX,
    read_balance,
    read_processing_count,
    read_upload,
    wallet_evidence,
)
from providers.modelslab.catalogue import routes_for
from providers.modelslab.outcomes import check_outcome, recall, submit_outcome
from providers.modelslab.replies import read_id, scrub
from providers.modelslab.settings import Settings
from providers.transport import MaybeSent, NotSent, Reply, call

READ_TIMEOUT_S = 30.0
UPLOAD_TIMEOUT_S = 60.0
# How long after a lost reply the wallet is read: the vendor may still be at the request that was given up.
BOOKS_LAG_S = 5.0

# The default format is not stated and the vendor's example is a GIF (trap 22): always ask.
OUTPUT_TYPE = "mp4"
# Answer at once with an id instead of waiting for the render (WIRE 2.3): the shorter the submit, the smaller the time
# in which an accepted job has no token yet.
INSTANT_RESPONSE = True
# The page calls it an integral value and its sample sends null, other pages say text (WIRE 2.3). Nothing needs it: the
# callback's address names the attempt.
TRACK_ID = None


class ModelsLab:
    """One ModelsLab account."""

    def __init__(self, settings: Settings, tools: Tools) -> None:
        self._settings = settings
        self._tools = tools
        self._secret = settings.api_key.get_secret_value()
        self._routes = routes_for(settings)
        self._video = "v1/enterprise/video" if settings.enterprise else "v6/video"

    @property
    def name(self) -> str:
        """The provider's name."""
        return "modelslab"

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes this account offers."""
        return self._routes

    async def submit(self, request: RenderRequest) -> SubmitOutcome:
        """Ask for a render, once."""
        fields: dict[str, Json] = {
            **request.parameters,
            "model_id": request.route.model,
            request.route.image_name: _picture(request.image),
            "output_type": OUTPUT_TYPE,
            "instant_response": INSTANT_RESPONSE,
            "temp": self._settings.temporary_files,
            "webhook": self._webhook(request.callback_url),
            "track_id": TRACK_ID,
        }
        reply = await self._post(f"{self._video}/img2video", fields, timeout_s=request.timeout_s)
        if isinstance(reply, NotSent):
            return Refused(FailureKind.UNAVAILABLE, scrub(reply.detail, self._secret))
        if isinstance(reply, MaybeSent):
            return InDoubt(scrub(reply.detail, self._secret))
        return submit_outcome(reply, self._secret, now=self._tools.clock.now())

    async def check(self, route: Route, token: Token) -> CheckOutcome:
        """Ask how an accepted render is doing."""
        identity = read_id(token.get("id"))
        if identity is None:
            return InDoubt("the stored token has no id", gone=True)
        reply = await self._post(f"{self._video}/fetch/{identity}", {}, timeout_s=READ_TIMEOUT_S)
        if not isinstance(reply, Reply):
            return InDoubt(scrub(reply.detail, self._secret))
        outcome = check_outcome(reply, self._secret, identity, now=self._tools.clock.now())
        return replace(outcome, report=recall(outcome.report, token)) if isinstance(outcome, Finished) else outcome

    async def balance(self) -> Balance | None:
        """Money in the wallet, or None when it could not be read."""
        reply = await self._post("wallet_balance", {}, timeout_s=READ_TIMEOUT_S)
        return read_balance(reply) if isinstance(reply, Reply) else None

    async def processing_count(self) -> int | None:
        """How many requests the account has at work, or None when it could not be read; 30 reads a minute at most."""
        reply = await self._post("v6/processing/request_count", {}, timeout_s=READ_TIMEOUT_S)
        return read_processing_count(reply) if isinstance(reply, Reply) else None

    async def lookup(self, sent: SentAttempt) -> LookupOutcome:
        """Tell from the wallet and the queue whether a submit was accepted (see `wallet_evidence`)."""
        await self._tools.clock.sleep(max(0.0, sent.until + BOOKS_LAG_S - self._tools.clock.now()))
        charged_at_submit = self._settings.charged_at_submit
        # The queue first: a job that ends between the two reads then shows in the wallet.
        count = await self.processing_count() if charged_at_submit is False else None
        balance = await self.balance()
        return wallet_evidence(
            before_micros=sent.credits_before_micros,
            after_micros=balance.amount_micros if balance else None,
            charged_at_submit=charged_at_submit,
            processing_count=count,
        )

    async def _post(self, path: str, fields: Mapping[str, Json], *, timeout_s: float) -> Reply | NotSent | MaybeSent:
        http = self._tools.http
        body = {"key": self._secret, **fields}
        return await call(
            http, http.build_request("POST", f"{self._settings.base_url}/{path}", json=body, timeout=timeout_s)
        )

    def _webhook(self, callback_url: str | None) -> str | None:
        if callback_url is None or not self._settings.webhook:
            return None
        allowed = callback_url.startswith("https://") or self._settings.webhook_over_http
        return callback_url if allowed else None


class ModelsLabWithUpload(ModelsLab):
    """An account whose pictures go onto the vendor's own storage."""

    async def upload(self, image: SourceImage) -> str | None:
        """Store a picture of at most 5 MB for 24 hours and give its link, or None when that did not succeed."""
        if image.data is None or len(image.data) > UPLOAD_BYTES_MAX:
            return None
        encoded = base64.b64encode(image.data).decode("ascii")
        fields: dict[str, Json] = {"base64_string": f"data:{image.media_type};base64,{encoded}"}
        reply = await self._post("v6/base64_to_url", fields, timeout_s=UPLOAD_TIMEOUT_S)
        return read_upload(reply, self._secret) if isinstance(reply, Reply) else None


def build(settings: Settings, tools: Tools) -> ModelsLab:
    """The provider for one account."""
    return ModelsLabWithUpload(settings, tools) if settings.upload else ModelsLab(settings, tools)


def _picture(image: SourceImage) -> str:
    """The link, or base64 without a prefix where the route was planned with bytes (enterprise only)."""
    if image.url is not None:
        return image.url
    assert image.data is not None, "a source image has a link or bytes"
    return base64.b64encode(image.data).decode("ascii")
