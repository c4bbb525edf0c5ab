"""Lists page by page: how long a page is, where it begins, and where the next one does (RFC 8288).

A cursor is opaque to callers: it says after which row a page begins, in an order that never changes.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from gateway.problems import BadRequest

PAGE_MAX = 100
PAGE_USUAL = 20
CURSOR_LENGTH_MAX = 400
ID = re.compile(r"[\w.:@/-]{1,120}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,3}")
Place = tuple[str | float, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """So many rows from after a place on; None begins at the beginning."""

    limit: int
    after: Place | None

    @property
    def after_id(self) -> str | None:
        """The place of a list that is in the order of its ids."""
        return None if self.after is None else str(self.after[0])


def page_of(request: Request, shape: tuple[type, ...] = (str,), usual: int = PAGE_USUAL) -> Page:
    """The page that is asked for; a place has these types. Raises BadRequest."""
    limit = request.query_params.get("limit", str(usual))
    if not _NUMBER.fullmatch(limit) or not 1 <= int(limit) <= PAGE_MAX:
        raise BadRequest(f"limit must be 1 to {PAGE_MAX}")
    cursor, before = request.query_params.get("cursor"), request.query_params.get("before")
    if cursor is not None and before is not None:
        raise BadRequest("give cursor or before, not both")
    if cursor is not None:
        return Page(int(limit), _place(cursor, shape))
    if before is not None and shape != (str,):
        raise BadRequest("this list is gone on with by its cursor; it is not in the order of ids")
    if before is not None and not ID.fullmatch(before):
        raise BadRequest("before is not an id")
    return Page(int(limit), None if before is None else (before,))


def cursor_of(place: Place) -> str:
    """The cursor of the page after this place."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def _place(cursor: str, shape: tuple[type, ...]) -> Place:
    try:
        padded = cursor[:CURSOR_LENGTH_MAX].encode("ascii") + b"=" * (-len(cursor) % 4)
        place = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        place = []
    fits = isinstance(place, list) and [type(value) for value in place] == list(shape)
    if fits and all(ID.fullmatch(value) if isinstance(value, str) else math.isfinite(value) for value in place):
        return tuple(place)
    raise BadRequest("this is no cursor of this list; take one as a page gave it")


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a page, and the place of the last one when more come."""

    rows: Sequence[dict[str, Any]]
    following: Place | None


def listed(request: Request, name: str, page: Rows, *, by_id: bool = True) -> Response:
    """A page as it is sent: its rows, and where the next one begins, as cursor and as link.

    A list in the order of its ids can be gone on with by an id too.
    """
    following = page.following
    shown: dict[str, Any] = {name: page.rows, "next_cursor": None if following is None else cursor_of(following)}
    if by_id:
        shown["next_before"] = None if following is None else following[0]
    response = Response(json.dumps(shown), media_type="application/json")
    if following is not None:
        kept = [(key, value) for key, value in request.query_params.multi_items() if key not in {"cursor", "before"}]
        query = urlencode([*kept, ("cursor", shown["next_cursor"])])
        response.headers["Link"] = f'<{request.url.path}?{query}>; rel="next"'
    return response


def whole(rows: Sequence[dict[str, Any]], limit: int) -> Rows:
    """A page out of one row more than it holds, if there are so many; rows have ids."""
    page = rows[:limit]
    return Rows(page, (page[-1]["id"],) if len(rows) > limit else None)


Otherwise = TypeVar("Otherwise", float, None)


def instant(text: str | None, otherwise: Otherwise) -> float | Otherwise:
    """A date or an RFC 3339 time of the query as unix seconds; a time without a zone is in UTC. Raises BadRequest."""
    if not text:
        return otherwise
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise BadRequest(f"{text!r} is no date; write 2026-08-01 or 2026-08-01T00:00:00Z") from None
