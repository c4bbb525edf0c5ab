"""Calendar windows of budgets: day, week, month and total, in a team's own time zone. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum
from functools import lru_cache
from math import floor
from zoneinfo import ZoneInfo

_PERIOD = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
YEAR_FIRST, YEAR_LAST = 1970, 9000
INSTANT_MAX = datetime(YEAR_LAST + 1, 1, 1, tzinfo=UTC).timestamp()


class WindowKind(StrEnum):
    """How often a budget starts anew; weeks start on Monday, `total` never does."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time in unix seconds, the start included, the end not; `ends_at` None means for ever."""

    starts_at: float
    ends_at: float | None


def window_at(kind: WindowKind, at: float, timezone: str) -> Window:
    """The window of this kind in which the instant `at` (unix seconds) lies, by the calendar of `timezone`.

    Raises zoneinfo.ZoneInfoNotFoundError for a zone that does not exist.
    """
    if kind == WindowKind.TOTAL:
        return Window(0.0, None)
    return _calendar_window(kind, _date(at, ZoneInfo(timezone)), timezone)


@lru_cache(maxsize=1024)
def _calendar_window(kind: WindowKind, today: date, timezone: str) -> Window:
    zone = ZoneInfo(timezone)
    first, following = _edges(kind, today)
    return Window(_midnight(first, zone), _midnight(following, zone))


def local_day(at: float, timezone: str) -> str:
    """The calendar day of an instant in a time zone, as `YYYY-MM-DD`."""
    return _date(at, ZoneInfo(timezone)).isoformat()


def period_of(at: float) -> str:
    """The accounting month of an instant, in UTC, as `YYYY-MM`."""
    return _date(at, UTC).isoformat()[:7]


def period_after(period: str) -> str:
    """The accounting month after this one."""
    year, month = int(period[:4]), int(period[5:])
    return f"{year + month // 12:04d}-{month % 12 + 1:02d}"


def period_start(period: str) -> float:
    """The first instant of an accounting month, in unix seconds.

    Raises ValueError when it is not `YYYY-MM` or of a year that no books are kept for.
    """
    if not _PERIOD.fullmatch(period):
        raise ValueError(f"an accounting month is written YYYY-MM, not {period!r}")
    if not YEAR_FIRST <= int(period[:4]) <= YEAR_LAST:
        raise ValueError(f"an accounting month lies in the years {YEAR_FIRST} to {YEAR_LAST}, not in {period[:4]}")
    return datetime.strptime(period, "%Y-%m").replace(tzinfo=UTC).timestamp()


def _edges(kind: WindowKind, today: date) -> tuple[date, date]:
    if kind == WindowKind.DAY:
        return today, today + timedelta(days=1)
    if kind == WindowKind.WEEK:
        monday = today - timedelta(days=today.weekday())
        return monday, monday + timedelta(days=7)
    first = today.replace(day=1)
    return first, (first + timedelta(days=32)).replace(day=1)


def _date(at: float, zone: tzinfo) -> date:
    # Whole seconds: rounding to microseconds would carry the last instant of a day into the next.
    return datetime.fromtimestamp(floor(at), zone).date()


def _midnight(day: date, zone: ZoneInfo) -> float:
    # Where a clock change skips midnight, fold=0 gives the instant of the change: the first moment of that day.
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()
