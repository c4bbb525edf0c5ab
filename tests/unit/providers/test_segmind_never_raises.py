"""Whatever the vendor sends, the adapter answers with a typed outcome: arbitrary statuses, headers and bodies."""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import Any

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.contract import (
    Accepted,
    Balance,
    Failed,
    Finished,
    InDoubt,
    NoEvidence,
    NotFound,
    Pending,
    Refused,
    RenderRequest,
    SourceImage,
    Tools,
)
from providers.segmind import PLUGIN
from providers.segmind.catalogue import ENDPOINTS
from providers.segmind.reading import DETAIL_LENGTH_MAX
from tests.support.sent import sent_of

KEY = "SG_0123456789abcdef"
REQUEST_ID = "2c7f59ea-13f1-402c-9353-915a2b5a2124"

FIELDS = st.sampled_from(
    (
        *("status", "request_id", "output", "video", "images", "image", "url", "seed", "metrics", "cost", "error"),
        *("credits", "free-credits", "file_urls", "data", "rows", "model_status", "generation_url", "request_body"),
    )
)
WORDS = st.sampled_from(
    (
        *("COMPLETED", "FAILED", "QUEUED", "PROCESSING", "PENDING", "", "https://x.example/a.mp4", REQUEST_ID, KEY),
        *("NaN", "-1", "1e999999", "1" * 400, "\x00\x1b[31m", "../../x", "Insufficient credits", "NSFW", "\ud800"),
    )
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), WORDS, st.text(max_size=20))
JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(FIELDS, st.text(max_size=5)), inner, max_size=6),
    ),
    max_leaves=20,
)
BODIES = st.one_of(
    st.binary(max_size=200),
    st.dictionaries(FIELDS, JSON, max_size=8).map(lambda value: json.dumps(value).encode()),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.sampled_from([b"[" * 100_000, b"\xff\xfe", b"<html>", b"1" * 5_000, b"\x00\x00\x00\x20ftyp", b"GIF8", b""]),
)
ACCOUNTING = ("x-cost", "x-remaining-credits", "x-seed-value", "x-generation-time", "x-request-id")
HEADERS = st.dictionaries(
    st.sampled_from([*ACCOUNTING, "x-rate-limit-reset-at-utc", "content-type", "location"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40),
    max_size=5,
)
REPLIES = st.builds(
    lambda status, headers, body: httpx.Response(status, headers=headers, content=body),
    st.one_of(st.sampled_from([200, 400, 401, 404, 406, 410, 422, 429, 500, 502, 504]), st.integers(100, 599)),
    HEADERS,
    BODIES,
)
ERRORS = st.sampled_from(
    [
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
        httpx.PoolTimeout("full"),
        httpx.ReadTimeout("slow"),
        httpx.WriteError("broken"),
        httpx.RemoteProtocolError("garbage"),
        httpx.ReadError("reset"),
    ]
)
ANSWERS = st.lists(st.one_of(REPLIES, ERRORS), min_size=1, max_size=3)


class StillClock:
    """A clock that nobody has to wait for."""

    def now(self) -> float:
        return 1_800_000_000.0

    async def sleep(self, seconds: float) -> None:
        assert seconds >= 0


def adapter_answered(answers: list[httpx.Response | Exception]) -> Any:
    """An adapter whose vendor gives these answers one after the other, the last for ever."""
    calls = iter(range(10_000))

    def handler(request: httpx.Request) -> httpx.Response:
        answer = answers[min(next(calls), len(answers) - 1)]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    client = httpx.AsyncClient(transport=httpx.MockTransport(handler))
    section = PLUGIN.settings.model_validate({"api_key": KEY, "upload": True})
    return PLUGIN.build(section, Tools(client, StillClock(), Random(1)))


def made(name: str) -> RenderRequest:
    """A plain request on a route."""
    image = SourceImage("image/png", 4, 4, data=b"\x89PNG")
    return RenderRequest(ENDPOINTS[name].route, "attempt-1", {"seed": 1}, image)


def sound(outcome: Any) -> None:
    """An outcome that can be stored and logged: printable, bounded, without the key, money within reason."""
    detail = getattr(outcome, "detail", "")
    assert len(detail) <= DETAIL_LENGTH_MAX + 20
    assert KEY not in detail
    assert all(character.isprintable() for character in detail)
    detail.encode()
    report = getattr(outcome, "report", None)
    if report is not None:
        assert report.cost_micros is None or 0 <= report.cost_micros <= 10**15
        assert report.inference_s is None or report.inference_s >= 0
        assert report.seed is None or abs(report.seed) < 2**63
    if isinstance(outcome, Finished):
        assert outcome.files
    if isinstance(outcome, Accepted):
        assert json.loads(json.dumps(outcome.token)) == outcome.token
    wait_s = getattr(outcome, "retry_after_s", None)
    assert wait_s is None or 0 <= wait_s <= 86_400


@settings(max_examples=200, deadline=None)
@given(status=st.sampled_from([400, 406, 422, 500, 503]), words=st.one_of(st.text(), WORDS), failed=st.booleans())
def test_any_wording_of_an_error_is_made_safe(status: int, words: str, failed: bool) -> None:
    """A vendor's text never carries control characters, the key or megabytes into logs and records."""
    body = json.dumps({"error": words * 3 + KEY, "status": "FAILED" if failed else "?"}).encode()
    answer = httpx.Response(status, content=body)
    sound(asyncio.run(adapter_answered([answer]).submit(made("segmind/svd-sync"))))
    sound(asyncio.run(adapter_answered([answer]).check(ENDPOINTS["segmind/svd"].route, {"request_id": REQUEST_ID})))


@settings(max_examples=300, deadline=None)
@given(answers=ANSWERS, name=st.sampled_from(sorted(ENDPOINTS)))
def test_any_reply_to_a_submit_is_a_typed_outcome(answers: list[Any], name: str) -> None:
    """Never an exception, and never a success without a result or an id."""
    outcome = asyncio.run(adapter_answered(answers).submit(made(name)))
    assert isinstance(outcome, Finished | Accepted | Refused | InDoubt)
    sound(outcome)


@settings(max_examples=300, deadline=None)
@given(answers=ANSWERS, name=st.sampled_from(sorted(ENDPOINTS)))
def test_any_reply_to_a_check_is_a_typed_outcome(answers: list[Any], name: str) -> None:
    """Never an exception, whatever status, result and history pages say."""
    outcome = asyncio.run(adapter_answered(answers).check(ENDPOINTS[name].route, {"request_id": REQUEST_ID}))
    assert isinstance(outcome, Pending | Finished | Failed | InDoubt)
    sound(outcome)


@settings(max_examples=150, deadline=None)
@given(answers=ANSWERS, token=st.dictionaries(st.sampled_from(["request_id", "x"]), JSON, max_size=2))
def test_any_stored_token_is_checked_without_raising(answers: list[Any], token: dict[str, Any]) -> None:
    """A token that was damaged is in doubt, not a crash."""
    outcome = asyncio.run(adapter_answered(answers).check(ENDPOINTS["segmind/svd"].route, token))
    assert isinstance(outcome, Pending | Finished | Failed | InDoubt)


@settings(max_examples=200, deadline=None)
@given(answers=ANSWERS)
def test_any_reply_of_the_side_endpoints_is_read_or_left(answers: list[Any]) -> None:
    """Balance, upload and lookup answer in their own types for whatever comes back."""
    adapter = adapter_answered(answers)
    balance = asyncio.run(adapter.balance())
    assert balance is None or isinstance(balance, Balance)
    link = asyncio.run(adapter.upload(SourceImage("image/png", 4, 4, data=b"\x89PNG")))
    assert link is None or link.startswith(("http://", "https://"))
    found = asyncio.run(adapter.lookup(sent_of(made("segmind/svd"), sent_at=1.8e9, until=1.8e9)))
    assert isinstance(found, Accepted | NotFound | NoEvidence)
    sound(found)
