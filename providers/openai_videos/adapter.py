"""The adapter for a server that speaks OpenAI's `/v1/videos`: create, ask, fetch, and stop where a DELETE stops.

Addresses are built from the configured one and the job's id, never taken from a reply: the key would go with them.
"""

from __future__ import annotations

import httpx

from providers.capability import Route
from providers.contract import (
    CheckOutcome,
    FailureKind,
    Finished,
    InDoubt,
    InlineFile,
    Refused,
    RenderRequest,
    SubmitOutcome,
    Token,
    Tools,
)
from providers.openai_videos import replies
from providers.openai_videos.catalogue import PROVIDER, offered
from providers.openai_videos.settings import Settings
from providers.transport import MaybeSent, NotSent, Reply, call

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
CONTENT_TIMEOUT_S = 120.0
EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


class OpenAiVideos:
    """One server."""

    def __init__(self, settings: Settings, tools: Tools) -> None:
        self._settings = settings
        self._http = tools.http
        self._routes = offered(settings)
        self._headers = {}
        if settings.api_key is not None:
            self._headers = {"authorization": f"Bearer {settings.api_key.get_secret_value()}"}

    @property
    def name(self) -> str:
        """The provider's name."""
        return PROVIDER

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes of the configured models."""
        return self._routes

    async def submit(self, request: RenderRequest) -> SubmitOutcome:
        """Create a job, once: the server has no key to know a repeated one by."""
        slug = request.route.name.partition("/")[2]
        fields = form_fields(request, self._settings.models[slug].model)
        image, timeout = request.image, httpx.Timeout(request.timeout_s, connect=CONNECT_TIMEOUT_S)
        name = f"picture.{EXTENSIONS.get(image.media_type, 'png')}"
        sent = self._http.build_request(
            "POST",
            self._url(""),
            headers=self._headers,
            data=fields,
            files={request.route.image_name: (name, image.data or b"", image.media_type)},
            timeout=timeout,
        )
        reply = await call(self._http, sent)
        if isinstance(reply, NotSent):
            return Refused(FailureKind.UNAVAILABLE, reply.detail)
        if isinstance(reply, MaybeSent):
            return InDoubt(reply.detail)
        return replies.submitted(reply, may_bill=request.route.ambiguous_billing == "may_bill")

    async def check(self, route: Route, token: Token) -> CheckOutcome:
        """Ask how a job is doing, and fetch its file once it is done."""
        name = replies.read_id(token.get("id"))
        if name is None:
            return InDoubt("the token holds no job", gone=True)
        reply = await self._call("GET", f"/{name}", READ_TIMEOUT_S)
        if not isinstance(reply, Reply):
            return InDoubt(reply.detail)
        outcome = replies.checked(reply, name)
        if outcome is not None:
            return outcome
        content = await self._call("GET", f"/{name}/content", CONTENT_TIMEOUT_S)
        if not isinstance(content, Reply):
            return InDoubt(content.detail)
        is_file = content.status == 200 and len(content.body) > 0 and not content.object()
        if not is_file:
            return InDoubt(f"the file of a finished job: {replies.said(content)}", status=content.status)
        return Finished((InlineFile(content.body),), replies.report_of(reply.object()))

    async def _call(self, method: str, path: str, timeout_s: float) -> Reply | NotSent | MaybeSent:
        timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
        request = self._http.build_request(method, self._url(path), headers=self._headers, timeout=timeout)
        return await call(self._http, request)

    def _url(self, path: str) -> str:
        return f"{self._settings.base_url}/v1/videos{path}"


class OpenAiVideosThatStop(OpenAiVideos):
    """A server whose DELETE stops a render."""

    async def cancel(self, route: Route, token: Token) -> bool:
        """Delete a job; true when the server did, or knows it no more."""
        name = replies.read_id(token.get("id"))
        reply = await self._call("DELETE", f"/{name}", READ_TIMEOUT_S) if name is not None else None
        return isinstance(reply, Reply) and reply.status in {200, 202, 204, 404}


def form_fields(request: RenderRequest, model: str) -> dict[str, str]:
    """The fields of the form: the fitted parameters by the server's names, and OpenAI's own `size` and `model`."""
    fields = {name: str(value) for name, value in request.parameters.items() if value is not None}
    if {"width", "height"} <= fields.keys():
        fields["size"] = f"{fields['width']}x{fields['height']}"
    return {**fields, "model": model} if model else fields


def build(settings: Settings, tools: Tools) -> OpenAiVideos:
    """The provider for one server. Raises ValueError for a configured route that is none of its models."""
    return OpenAiVideosThatStop(settings, tools) if settings.delete_stops else OpenAiVideos(settings, tools)
