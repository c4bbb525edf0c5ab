"""The simulated vendor's pages: what each address checks, in the vendor's order, and answers."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from providers.contract import Json
from providers.segmind.simulator import replies
from providers.segmind.simulator.models import MODELS, PICTURE_FIELDS, Invalid, Rules, completed
from providers.segmind.simulator.output import OutputFile
from providers.segmind.simulator.vendor import Run, Vendor
from providers.simulated_faults import Fault
from providers.simulated_media import BadPictureError, PictureRules, read_picture
from providers.simulation import Handler

DAY_S = 86_400.0
HISTORY_DAYS_MAX = 31
REFUSED_FORMS = {"missing": 400, "choice": 406, "number": 500}
HISTORY = "/inference-request/request-history"
VERBS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]


class Pages:
    """Every page of the vendor, its three hosts on one address."""

    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor

    def app(self) -> Starlette:
        """The application, with the sandbox's own pages."""
        spoiled = self._vendor.sandbox.endpoint
        keyed = self._keyed
        return self._vendor.sandbox.app(
            [
                self._page("/v1/get-user-credits", "GET", spoiled("balance", keyed(self.credits))),
                self._page("/v1/requests/{name}", "GET", spoiled("result", keyed(self.poll))),
                self._page("/v2/requests/{name}/status", "GET", spoiled("status", keyed(self.status))),
                self._page("/v2/requests/{name}", "GET", spoiled("result", keyed(self.result))),
                self._page("/v1/{slug}", "POST", spoiled("submit", keyed(self.render))),
                self._page("/v2/{slug}", "POST", spoiled("submit", keyed(self.submit))),
                self._page("/upload-asset", "POST", spoiled("upload", keyed(self.upload))),
                self._page(HISTORY, "GET", spoiled("history", keyed(self.history))),
                self._page(f"{HISTORY}/{{name}}", "GET", spoiled("history", keyed(self.record))),
                self._page("/generations/{name}", "GET", spoiled("file", self.file)),
                self._page("/assets/{name}", "GET", spoiled("file", self.file)),
                Route("/{path:path}", self.nothing, methods=VERBS),
            ]
        )

    async def render(self, request: Request) -> Response:
        """`POST /v1/{slug}`: the whole run in one call."""
        taken = await self._taken(request)
        if isinstance(taken, Response):
            self._vendor.sandbox.meter.reject()
            return taken
        slug, sent = taken
        vendor, switches = self._vendor, self._vendor.switches
        body = self._completed(f"v1/{slug}", sent)
        if isinstance(body, Invalid):
            return self._refused(body)
        picture, wrong = await self._picture(f"v1/{slug}", body)
        run = vendor.start(slug, body, sent, picture=picture, error=wrong)
        wait_s = run.done_at - vendor.now()
        cut_off = switches.v1_cutoff_s is not None and wait_s > switches.v1_cutoff_s / switches.speed
        fault: Fault | None = getattr(request.state, "fault", None)
        answered = not cut_off and not (fault is not None and fault.style == "html")
        run.billed = answered or switches.bill_gateway_errors
        if cut_off and switches.v1_cutoff_s is not None:
            await vendor.sandbox.clock.sleep(switches.v1_cutoff_s / switches.speed)
            return replies.gateway_timeout()
        await vendor.sandbox.clock.sleep(wait_s)
        if run.error is not None:
            return replies.error(500, run.error)
        return replies.rendered(vendor, run, await vendor.files(run), _host(request))

    async def submit(self, request: Request) -> Response:
        """`POST /v2/{slug}`: accepted at once, checked when it runs (trap 14)."""
        taken = await self._taken(request)
        if isinstance(taken, Response):
            self._vendor.sandbox.meter.reject()
            return taken
        slug, sent = taken
        switches = self._vendor.switches
        body = self._completed(f"v2/{slug}", sent)
        if isinstance(body, Invalid):
            if switches.v2_validation == "submit":
                return self._refused(body)
            run = self._vendor.start(slug, sent, sent, picture=b"", error=body.text)
        else:
            picture, wrong = await self._picture(f"v2/{slug}", body)
            run = self._vendor.start(slug, body, sent, picture=picture, error=wrong)
        return replies.submitted(run, _host(request))

    async def status(self, request: Request) -> Response:
        """`GET /v2/requests/{id}/status`."""
        run = self._vendor.known(request.path_params["name"])
        return replies.progress(run, self._vendor.now(), _host(request)) if run else _unknown(request)

    async def result(self, request: Request) -> Response:
        """`GET /v2/requests/{id}`."""
        return await self._result(request, failed_status=422)

    async def poll(self, request: Request) -> Response:
        """`GET /v1/requests/{id}`, the `poll_url` of a submit (U7)."""
        return await self._result(request, failed_status=self._vendor.switches.poll_url_failed_status)

    async def credits(self, request: Request) -> Response:
        """`GET /v1/get-user-credits`."""
        if not self._vendor.switches.credit_record:
            return replies.error(404, "No credits found for the user")
        paid, free = self._vendor.balance_micros()
        return JSONResponse({"credits": replies.usd(paid), "free-credits": replies.usd(free)})

    async def upload(self, request: Request) -> Response:
        """`POST /upload-asset` with `data_urls`."""
        body = await _json(request)
        links: list[str] = []
        urls = body.get("data_urls") if body is not None else None
        for url in urls if isinstance(urls, list) else []:
            try:
                data = await read_picture(url, self._vendor.sandbox.http, PictureRules())
            except BadPictureError:
                return replies.error(400, "not a media file")
            media_type = str(url)[5:].partition(";")[0]
            name = f"{self._vendor.new_id()}.{media_type.rpartition('/')[2]}"
            self._vendor.assets[name] = OutputFile(data, media_type)
            links.append(f"{_host(request)}/assets/{name}")
        if not links:
            return replies.error(400, "data_urls is a required field")
        return JSONResponse({"file_urls": links, "message": "Files uploaded successfully"})

    async def history(self, request: Request) -> Response:
        """`GET /inference-request/request-history`: requests by day, the newest first."""
        vendor, query = self._vendor, request.query_params
        if not vendor.switches.history_available:
            return replies.error(500, "history is not available")
        vendor.settle()
        now = vendor.now()
        try:
            since = _midnight(query["from_date"]) if "from_date" in query else now - 7 * DAY_S
            until = _midnight(query["to_date"]) + DAY_S if "to_date" in query else now + DAY_S
            page, per_page = int(query.get("page", "1")), int(query.get("per_page", "20"))
        except ValueError:
            return replies.error(400, "bad query")
        if until - since > HISTORY_DAYS_MAX * DAY_S or page < 1 or not 1 <= per_page <= 100:
            return replies.error(400, "the window may span at most 31 days")
        seen = [run for run in vendor.runs.values() if since <= run.created_at < until and self._shown(run)]
        ordered = sorted(seen, key=lambda run: run.created_at, reverse=query.get("sort_order", "desc") == "desc")
        wanted = [run for run in ordered if query.get("model_name", "") in run.slug]
        rows = [row for run in wanted for row in replies.history_rows(run, now, _host(request))]
        rows = [row for row in rows if query.get("status") in {None, row["model_status"]}]
        return replies.history_page(rows, page, per_page, vendor.switches)

    async def record(self, request: Request) -> Response:
        """`GET /inference-request/request-history/{id}`: one request of any age, in a list if it has several files."""
        run = self._vendor.runs.get(request.path_params["name"])
        self._vendor.settle()
        if run is None or not self._shown(run) or not self._vendor.switches.history_available:
            return _unknown(request)
        rows = replies.history_rows(run, self._vendor.now(), _host(request))
        if len(rows) == 1:
            return JSONResponse(rows[0])
        return replies.history_page(rows, 1, len(rows), self._vendor.switches)

    async def file(self, request: Request) -> Response:
        """A finished file or an uploaded picture: public, no key (trap 37)."""
        file = await self._vendor.public_file(request.path_params["name"])
        return Response(file.data, media_type=file.media_type) if file else Response("AccessDenied", 403)

    async def nothing(self, request: Request) -> Response:
        """An address that does not exist."""
        return replies.error(404, "Not found")

    async def _result(self, request: Request, *, failed_status: int) -> Response:
        run = self._vendor.known(request.path_params["name"])
        if run is None:
            return _unknown(request)
        state = run.state(self._vendor.now())
        if state == "FAILED":
            return replies.failed(run, failed_status)
        if state != "COMPLETED":
            return replies.progress(run, self._vendor.now(), _host(request))
        return replies.completed(self._vendor, run, await self._vendor.files(run), _host(request))

    def _keyed(self, handler: Handler) -> Handler:
        """Refuse a call without a good key, in the two documented ways; a bearer token is no key (trap 32)."""

        async def checked(request: Request) -> Response:
            key = request.headers.get("x-api-key")
            if key is not None and key in self._vendor.switches.api_keys:
                return await handler(request)
            if request.method == "POST" and not request.url.path.startswith("/upload"):
                self._vendor.sandbox.meter.reject()
            if key is None and "authorization" not in request.headers:
                text = "Missing Authorization or x-api-key in header"
                return replies.denied(401, text, "invalid_token", self._vendor.switches)
            text = "Unauthorized. API key is invalid or may have expired"
            return replies.denied(401, text, "invalid_api_key", self._vendor.switches)

        return checked

    def _page(self, path: str, verb: str, handler: Handler) -> Route:
        """A page that takes one verb; any other one is answered in HTML and counts as no call (trap 11)."""
        taken = {verb, "HEAD"} if verb == "GET" else {verb}

        async def checked(request: Request) -> Response:
            return await handler(request) if request.method in taken else replies.wrong_verb()

        return Route(path, checked, methods=VERBS)

    async def _taken(self, request: Request) -> tuple[str, dict[str, Json]] | Response:
        """The model's slug and the body as sent, or the refusal."""
        slug, switches = request.path_params["slug"], self._vendor.switches
        if slug not in MODELS:
            return replies.error(404, f"Model {slug} not found")
        if slug in switches.retired:
            return replies.error(410, f"Model {slug} has been retired")
        if slug in switches.forbidden:
            return replies.denied(403, "Your team is not allowed to call this model", "insufficient_scope", switches)
        reset_at = self._vendor.limited_until()
        if reset_at is not None:
            return replies.rate_limited(reset_at, switches)
        body = await _body(request)
        if isinstance(body, Response):
            return body
        if switches.spend_cap_reached:
            return replies.error(406, "Team spend limit reached: monthly cap of $100.00")
        price, balance = self._vendor.price_micros(slug, body), sum(self._vendor.balance_micros())
        if balance < price:
            amounts = {"balance": f"${replies.usd(balance):.4f}", "price": f"${replies.usd(price):.4f}"}
            return self._with_headers(replies.error(406, switches.credit_text.format_map(amounts)))
        return slug, body

    def _completed(self, endpoint: str, sent: Mapping[str, Json]) -> dict[str, Json] | Invalid:
        switches = self._vendor.switches
        rules = Rules(
            clamp=switches.out_of_range == "clamp",
            starred_enforced=switches.required_enforced,
            enum_text=switches.enum_text,
            defaults={"base64": switches.v1_svd_base64_default} if endpoint == "v1/svd" else {},
        )
        return completed(endpoint.partition("/")[2], sent, rules)

    def _refused(self, invalid: Invalid) -> Response:
        self._vendor.sandbox.meter.reject()
        status = REFUSED_FORMS[invalid.form]
        if invalid.form == "number" and self._vendor.switches.out_of_range == "406":
            status = 406
        return self._with_headers(replies.error(status, invalid.text))

    def _with_headers(self, reply: Response) -> Response:
        if self._vendor.switches.error_headers:
            reply.headers["x-request-id"] = self._vendor.new_id()
            reply.headers["x-remaining-credits"] = str(replies.usd(sum(self._vendor.balance_micros())))
        return reply

    async def _picture(self, endpoint: str, body: Mapping[str, Json]) -> tuple[bytes, str | None]:
        """The input picture, or why the run will fail for want of one."""
        switches = self._vendor.switches
        rules = PictureRules(
            follows_redirects=switches.follows_redirects,
            accepts_data_uri=switches.accepts_data_uri,
            accepts_base64=endpoint in switches.base64_taken_by,
            pixels_max=switches.picture_pixels_max,
        )
        value = next(body[name] for name in PICTURE_FIELDS if name in body)
        try:
            picture = await read_picture(value, self._vendor.sandbox.http, rules)
        except BadPictureError as bad:
            return b"", f"Could not read the input image ({bad.reason})"
        return picture, None

    def _shown(self, run: Run) -> bool:
        return self._vendor.now() >= run.created_at + self._vendor.switches.history_lag_s


def _host(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _unknown(request: Request) -> Response:
    return replies.error(404, f"Request {request.path_params['name']} not found")


def _midnight(day: str) -> float:
    return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()


async def _body(request: Request) -> dict[str, Json] | Response:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "multipart/form-data":
        return await _form(request)
    if content_type != "application/json":
        return replies.error(406, "Invalid content type")
    body = await _json(request)
    return body if body is not None else replies.error(400, "Malformed JSON body")


async def _json(request: Request) -> dict[str, Json] | None:
    try:
        body = await request.json()
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


async def _form(request: Request) -> dict[str, Json]:
    """A form's fields, numbers and booleans from their text, files as base64."""
    values: dict[str, Json] = {}
    async with request.form() as form:
        for name, value in form.items():
            if isinstance(value, UploadFile):
                values[name] = base64.b64encode(await value.read()).decode("ascii")
                continue
            try:
                values[name] = json.loads(value)
            except (ValueError, RecursionError):
                values[name] = value
    return values
