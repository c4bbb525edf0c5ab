"""The vendor's request history: what it accepted, found again by what was sent (WIRE 1.7)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

from providers.contract import Json, SentAttempt
from providers.segmind.account import Account
from providers.segmind.reading import moment, number, request_id
from providers.transport import Reply

# The name of the list in a page and of a row's time are not published: these are tried in turn.
LIST_FIELDS = ("data", "requests", "history", "rows", "results", "items", "generations")
TIME_FIELDS = ("model_created", "created_at", "created", "timestamp")
PAGE_ROWS = 100
PAGES_MAX = 20
DAY_S = 86_400.0
WINDOW_MAX_S = 29 * DAY_S  # the vendor serves 31 days at a time; the dates asked for are a day wider on either side
CLOCK_SKEW_S = 120.0
# Further than any time zone is from another: the clock behind the records may be wrong, or tell a local time. Less than
# a day, so that whatever else the gateway sent on the account at such a time is among the claimed.
CLOCK_WRONG_MAX_S = 20 * 3600.0


@dataclass(frozen=True, slots=True)
class Row:
    """One output of one request in the vendor's records: several outputs repeat the row (WIRE 1.7).

    `body` is None where it cannot be read, `created_at` (unix seconds) too.
    """

    request_id: str
    status: str
    body: Mapping[str, Json] | None
    created_at: float | None
    reply: Mapping[str, Json]


async def requests_around(account: Account, since: float, until: float, now: float) -> tuple[Row, ...] | None:
    """Every request that can have been recorded between two unix times, also by a clock that is hours off.

    None when the records could not be read completely. They are read back from the newest, as far as is needed: a clock
    is no further behind than the newest row is old. The vendor's own filter by model is not used: a row that it hides
    could be the one that was paid for.
    """
    if until - since > WINDOW_MAX_S:
        return None
    found: list[Row] = []
    behind_s = CLOCK_WRONG_MAX_S
    for page in range(1, PAGES_MAX + 1):
        rows = await _page(account, page, since, until)
        if rows is None:
            return None
        newest = rows[0].created_at if rows and page == 1 else None
        if newest is not None:
            behind_s = min(CLOCK_WRONG_MAX_S, max(0.0, now - newest))
        found.extend(rows)
        oldest = rows[-1].created_at if rows else None
        if len(rows) < PAGE_ROWS or (oldest is not None and oldest < since - behind_s - CLOCK_SKEW_S):
            return tuple(row for row in found if _inside(row, since, until, CLOCK_WRONG_MAX_S))
    return None


async def request_named(account: Account, name: str) -> tuple[Row, ...]:
    """Every row of one request of any age by its id, one for each of its outputs; empty when it could not be read."""
    reply = await account.get(f"{account.history_url}/inference-request/request-history/{name}")
    if not isinstance(reply, Reply) or reply.status != 200:
        return ()
    listed = _listed(reply.json())
    rows = [_row(value) for value in (listed if listed is not None else [reply.object()])]
    return tuple(row for row in rows if row is not None and row.request_id == name)


def matching(rows: tuple[Row, ...], sent: SentAttempt) -> tuple[Row, ...]:
    """The unclaimed rows whose recorded inputs are those of the attempt, oldest first, one a request.

    The picture is not compared: the vendor does not store it. Rows without readable inputs match nothing.
    """
    matches = {
        row.request_id: row
        for row in rows
        if row.request_id not in sent.claimed and row.body is not None and _same_inputs(row.body, sent)
    }
    return tuple(sorted(matches.values(), key=lambda row: row.created_at or 0.0))


def in_time(row: Row, sent: SentAttempt) -> bool:
    """Whether a row was recorded in the time of the submit, by a clock that is right; also when it tells no time."""
    return _inside(row, sent.sent_at, sent.until, CLOCK_SKEW_S)


def unreadable(rows: tuple[Row, ...], sent: SentAttempt) -> bool:
    """Whether an unclaimed row could be the attempt but does not tell its inputs."""
    return any(row.body is None and row.request_id not in sent.claimed for row in rows)


def _same_inputs(body: Mapping[str, Json], sent: SentAttempt) -> bool:
    wanted = sent.parameters
    return bool(wanted) and all(name in body and _same(body[name], value) for name, value in wanted.items())


def _same(left: Json, right: Json) -> bool:
    """Equal as the vendor may have stored it: a number and its text are one value."""
    if left == right:
        return True
    left_number, right_number = number(left), number(right)
    return left_number is not None and left_number == right_number


async def _page(account: Account, page: int, since: float, until: float) -> list[Row] | None:
    query = urlencode(
        {
            "page": page,
            "per_page": PAGE_ROWS,
            "from_date": _day(since - DAY_S),
            "to_date": _day(until + DAY_S),
            "sort_by": "model_created",
            "sort_order": "desc",
        }
    )
    reply = await account.get(f"{account.history_url}/inference-request/request-history?{query}")
    if not isinstance(reply, Reply) or reply.status != 200:
        return None
    listed = _listed(reply.json())
    if listed is None:
        return None
    rows = [_row(value) for value in listed]
    # A row that is no row makes the page incomplete: it could be the one that is looked for.
    return [row for row in rows if row is not None] if None not in rows else None


def _listed(value: Json) -> list[Json] | None:
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        return None
    for name in LIST_FIELDS:
        inner = value.get(name)
        if isinstance(inner, list):
            return inner
        if isinstance(inner, dict):
            nested = next((inner[key] for key in LIST_FIELDS if isinstance(inner.get(key), list)), None)
            if isinstance(nested, list):
                return nested
    return None


def _row(value: Json) -> Row | None:
    if not isinstance(value, dict):
        return None
    name = request_id(value.get("request_id"))
    if name is None:
        return None
    status = value.get("model_status")
    times = (moment(value.get(field)) for field in TIME_FIELDS)
    created_at = next((time for time in times if time is not None), None)
    return Row(name, status if isinstance(status, str) else "", _inputs(value.get("request_body")), created_at, value)


def _inputs(value: Json) -> Mapping[str, Json] | None:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _inside(row: Row, since: float, until: float, skew_s: float) -> bool:
    return row.created_at is None or since - skew_s <= row.created_at <= until + skew_s


def _day(moment_s: float) -> str:
    return datetime.fromtimestamp(max(0.0, moment_s), UTC).strftime("%Y-%m-%d")
