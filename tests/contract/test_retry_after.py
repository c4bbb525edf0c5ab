"""A Retry-After, which a vendor or a proxy before it may send: in seconds or as a date, with a 429 or a 503."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from providers.contract import InDoubt, Refused
from providers.transport import RETRY_AFTER_MAX_S, Reply, retry_after_s
from tests.contract.every_provider import NOW, PLUGINS, answered, order

pytestmark = pytest.mark.anyio

# NOW is Fri, 15 Jan 2027 08:00:00 GMT.
AT = "Fri, 15 Jan 2027 08:00:30 GMT"
FORMS = ({"retry-after": "30"}, {"retry-after": AT})
# How each says 503 in its own words, so that it is a refusal and nothing else.
BUSY = {
    "modelslab": {"status": "error", "message": "temporarily unavailable"},
    "openai_videos": {"error": {"message": "overloaded"}},
    "local": {"error": {"code": "starting"}},
}
TOKENS: dict[str, dict[str, Any]] = {
    "segmind": {"request_id": "2c7f59ea-13f1-402c-9353-915a2b5a2124"},
    "modelslab": {"id": "146"},
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("headers", FORMS, ids=["seconds", "date"])
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("name", ["segmind", "modelslab"])
async def test_a_hint_in_the_header_counts_where_the_vendor_gives_none(
    name: str, status: int, headers: dict[str, str]
) -> None:
    """Submits and checks are put off by 30 s, whoever wrote the page that came back."""
    plugin = PLUGINS[name]
    page = httpx.Response(status, headers=headers, content=b"<html>slow down</html>")
    refused = await answered(plugin, page, lambda there: there.submit(order(there.routes[0])))
    checked = await answered(plugin, page, lambda there: there.check(_polled(there), TOKENS[name]))
    assert isinstance(checked, InDoubt)
    assert checked.retry_after_s == 30.0
    # A 503 in nobody's words may have come after Segmind took the job: that is looked up, and not put off.
    assert isinstance(refused, InDoubt if (name, status) == ("segmind", 503) else Refused)
    assert isinstance(refused, InDoubt) or refused.retry_after_s == 30.0


@pytest.mark.parametrize(("name", "said"), BUSY.items(), ids=BUSY)
async def test_a_vendor_that_is_busy_in_its_own_words_is_left_alone_as_long(name: str, said: dict[str, Any]) -> None:
    """A worded 503 with a hint is a refusal with that hint."""
    page = httpx.Response(503, headers={"retry-after": "30"}, json=said)
    refused = await answered(PLUGINS[name], page, lambda there: there.submit(order(there.routes[0])))
    assert isinstance(refused, Refused), refused
    assert refused.retry_after_s == 30.0


async def test_the_words_of_a_vendor_win() -> None:
    """ModelsLab's seconds in the body and Segmind's reset time stand above a proxy's header, also when they are 0."""
    full = {"status": "error", "message": "Rate limit exceeded.", "retry_after": 0}
    page = httpx.Response(429, headers={"retry-after": "99"}, json=full)
    refused = await answered(PLUGINS["modelslab"], page, lambda there: there.submit(order(there.routes[0])))
    assert refused.retry_after_s == 0.0
    reset = {"x-rate-limit-reset-at-utc": "2027-01-15T08:00:00Z", "retry-after": "99"}
    page = httpx.Response(429, headers=reset, json={"error": "Rate limit exceeded"})
    refused = await answered(PLUGINS["segmind"], page, lambda there: there.submit(order(there.routes[0])))
    assert refused.retry_after_s == 0.0


@pytest.mark.parametrize(
    ("headers", "status", "wait_s"),
    [
        ({"retry-after": "30"}, 429, 30.0),
        ({"retry-after": " 0 "}, 503, 0.0),
        ({"retry-after": AT}, 429, 30.0),
        ({"retry-after": AT, "date": "Fri, 15 Jan 2027 08:00:10 GMT"}, 429, 20.0),  # by the clock of who wrote it
        ({"retry-after": AT, "date": "Fri, 15 Jan 2027 09:00:00 GMT"}, 429, 0.0),
        ({"retry-after": AT, "date": "today"}, 429, 30.0),
        ({"retry-after": "Friday, 15-Jan-27 08:00:30 GMT"}, 503, 30.0),
        ({"retry-after": "Fri Jan 15 08:00:30 2027"}, 503, 30.0),
        ({"retry-after": str(RETRY_AFTER_MAX_S + 1)}, 429, None),
        ({"retry-after": "86401"}, 429, None),
        ({"retry-after": "9" * 400}, 429, None),
        ({"retry-after": "soon"}, 429, None),
        ({"retry-after": "-3"}, 429, None),
        ({"retry-after": "Fri, 15 Jan 9999 08:00:30 GMT"}, 429, None),
        ({"retry-after": ""}, 429, None),
        ({}, 429, None),
        ({"retry-after": "30"}, 500, None),
        ({"retry-after": "30"}, 200, None),
    ],
)
def test_what_a_retry_after_says(headers: dict[str, str], status: int, wait_s: float | None) -> None:
    """Seconds or a date in any of the three forms of HTTP, at most a day; anything else says nothing."""
    assert retry_after_s(Reply(status, headers, b""), NOW) == wait_s


def test_a_date_without_any_clock_says_nothing() -> None:
    """Neither the reply nor the caller tells what time it is."""
    assert retry_after_s(Reply(429, {"retry-after": AT}, b"")) is None


def _polled(provider: Any) -> Any:
    return next(route for route in provider.routes if route.mode == "async")
