"""The adapter for Segmind: one configured account, asked to render and asked how it goes.

v2 answers a submit with a request id and is polled; v1 answers with the file. Addresses are always built from the
configured base URL and the request's id: a reply that names another host would otherwise get the key (WIRE 1.10).
"""

from __future__ import annotations

import base64

from providers.capability import Route
from providers.contract import (
    Accepted,
    Balance,
    CheckOutcome,
    Clock,
    Failed,
    FailureKind,
    Finished,
    InDoubt,
    Json,
    LookupOutcome,
    NoEvidence,
    NotFound,
    Pending,
    Refused,
    RemoteFile,
    RenderRequest,
    Report,
    SentAttempt,
    SourceImage,
    SubmitOutcome,
    Token,
)
from providers.segmind import history, outcomes
from providers.segmind.account import Account
from providers.segmind.catalogue import ENDPOINTS, PROVIDER, Endpoint
from providers.segmind.reading import link, message_of, micros, request_id
from providers.transport import MaybeSent, NotSent, Reply

# The old pages send base64 without a prefix; whether a data URI is taken too is unknown (U11).
IMAGE_PREFIX = ""


class Segmind:
    """One Segmind account. Also tells its balance and looks up ambiguous submits in the request history."""

    def __init__(self, account: Account, routes: tuple[Route, ...], clock: Clock, *, history_settle_s: float) -> None:
        self._account = account
        self._routes = routes
        self._clock = clock
        self._history_settle_s = history_settle_s

    @property
    def name(self) -> str:
        """The provider's name."""
        return PROVIDER

    @property
    def routes(self) -> tuple[Route, ...]:
        """The routes this account offers."""
        return self._routes

    async def submit(self, request: RenderRequest) -> SubmitOutcome:
        """Ask for a render, once; each call is a new run that the vendor bills (trap 15)."""
        endpoint = ENDPOINTS[request.route.name]
        url = f"{self._account.base_url}/{endpoint.version}/{endpoint.model.slug}"
        reply = await self._account.post(url, wire_body(endpoint, request), timeout_s=request.timeout_s)
        if isinstance(reply, NotSent):
            return Refused(FailureKind.UNAVAILABLE, reply.detail)
        if isinstance(reply, MaybeSent):
            return InDoubt(reply.detail)
        read = outcomes.submitted if endpoint.version == "v2" else outcomes.rendered
        return read(reply, now=self._clock.now())

    async def check(self, route: Route, token: Token) -> CheckOutcome:
        """Ask how an accepted render is doing: its status, then its result once that is there."""
        name = request_id(token.get("request_id"))
        if name is None:
            return InDoubt("the token holds no request id", gone=True)
        if ENDPOINTS[route.name].version == "v1":
            return await self._recorded(name, InDoubt("the request history does not tell"))
        status = await self._account.get(f"{self._account.base_url}/v2/requests/{name}/status")
        if not isinstance(status, Reply):
            return InDoubt(status.detail)
        outcome = outcomes.progressed(status, now=self._clock.now())
        if outcome is None:
            result = await self._account.get(f"{self._account.base_url}/v2/requests/{name}")
            if not isinstance(result, Reply):
                return InDoubt(result.detail)
            outcome = outcomes.delivered(result, now=self._clock.now())
        if isinstance(outcome, InDoubt) and outcome.gone:
            return await self._recorded(name, outcome)
        return outcome

    async def balance(self) -> Balance | None:
        """Credit left, or None when it could not be read."""
        return await self._account.balance()

    async def lookup(self, sent: SentAttempt) -> LookupOutcome:
        """Find an ambiguous submit in the request history by its inputs.

        The history is read again after a while before it is believed that the request is not there.
        """
        outcome = await self._look_up(sent)
        wait_s = sent.until + self._history_settle_s - self._clock.now()
        if not isinstance(outcome, NotFound) or wait_s <= 0:
            return outcome
        await self._clock.sleep(wait_s)
        return await self._look_up(sent)

    async def _look_up(self, sent: SentAttempt) -> LookupOutcome:
        rows = await history.requests_around(self._account, sent.sent_at, sent.until, self._clock.now())
        if rows is None:
            return NoEvidence("the request history could not be read completely")
        matches = history.matching(rows, sent)
        timely = [row for row in matches if history.in_time(row, sent)]
        # Inputs that were drawn for this attempt alone name it, whatever the clock of the records says.
        found = timely or (list(matches) if sent.is_unique else [])
        if found:
            name = found[0].request_id
            return Accepted(outcomes.token_for(name), report=Report(request_id=name))
        if matches:
            return NoEvidence("the request history has these inputs at another time: a clock may be wrong")
        if history.unreadable(rows, sent):
            return NoEvidence("the request history has a request of that time without its inputs")
        return NotFound(f"not among {len(rows)} requests in the history of that time")

    async def _recorded(self, name: str, otherwise: InDoubt) -> CheckOutcome:
        """What the history says of a request whose record has expired: its file lives longer (trap 13)."""
        return recorded_outcome(await history.request_named(self._account, name)) or otherwise


class SegmindWithUploads(Segmind):
    """An account that stores input pictures with the vendor, where a route needs a link."""

    async def upload(self, image: SourceImage) -> str | None:
        """The link to a stored picture, or None when the upload did not succeed."""
        return await self._account.upload(image)


def wire_body(endpoint: Endpoint, request: RenderRequest) -> dict[str, Json]:
    """The JSON that is sent: the fitted parameters, the fields always sent and the picture."""
    return {
        **request.parameters,
        **endpoint.model.constants,
        request.route.image_name: _picture(request.image),
    }


def _picture(image: SourceImage) -> str:
    if image.url is not None:
        return image.url
    return IMAGE_PREFIX + base64.b64encode(image.data or b"").decode("ascii")


def recorded_outcome(rows: tuple[history.Row, ...]) -> CheckOutcome | None:
    """What the rows of one request mean for it, a file each, or None when they do not tell."""
    if not rows:
        return None
    first, statuses = rows[0], {row.status for row in rows}
    if "PENDING" in statuses:
        return Pending()
    if outcomes.FAILED in statuses:
        failed = next(row for row in rows if row.status == outcomes.FAILED)
        words = message_of({"error": failed.reply.get("error")}) or "the vendor gave no reason"
        return Failed(outcomes.kind_of_words(422, words) or FailureKind.RENDER_FAILED, words, _row_report(failed))
    urls = [link(row.reply.get("generation_url")) for row in rows]
    if statuses != {outcomes.COMPLETED} or None in urls:
        return None
    files = tuple(RemoteFile(url) for url in dict.fromkeys(urls) if url is not None)
    return Finished(files, _row_report(first))  # a repeated row repeats the price of the whole request


def _row_report(row: history.Row) -> Report:
    return Report(request_id=row.request_id, cost_micros=micros(row.reply.get("credits_deduction")))
