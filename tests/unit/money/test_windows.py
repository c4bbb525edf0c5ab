"""Calendar windows: edges in local time, also where clocks change."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.money.windows import (
    Window,
    WindowKind,
    local_day,
    period_after,
    period_of,
    period_start,
    window_at,
)

ZONES = (
    "UTC",
    "America/New_York",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Asia/Beirut",
    "Africa/Cairo",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Kiritimati",
)
times = st.floats(1_577_836_800, 2_524_608_000)  # 2020 to 2050


def instant(text: str) -> float:
    """Unix seconds of an ISO date and time."""
    return datetime.fromisoformat(text).timestamp()


@given(times, st.sampled_from(list(WindowKind)), st.sampled_from(ZONES))
def test_every_instant_lies_in_its_window_and_so_do_its_edges(at: float, kind: WindowKind, zone: str) -> None:
    """The start belongs to the window, the end to the next one, and windows leave no gap."""
    window = window_at(kind, at, zone)
    assert window.starts_at <= at
    assert window_at(kind, window.starts_at, zone) == window
    if window.ends_at is not None:
        assert at < window.ends_at
        assert window_at(kind, window.ends_at, zone).starts_at == window.ends_at


@given(times, st.sampled_from(ZONES))
def test_windows_begin_at_local_midnight(at: float, zone: str) -> None:
    """A day begins with its first local instant, a week on a Monday, a month on the first."""
    for kind in (WindowKind.DAY, WindowKind.WEEK, WindowKind.MONTH):
        start = datetime.fromtimestamp(window_at(kind, at, zone).starts_at, ZoneInfo(zone))
        just_before = datetime.fromtimestamp(start.timestamp() - 1, ZoneInfo(zone))
        assert just_before.date() < start.date()
        assert kind is not WindowKind.WEEK or start.weekday() == 0
        assert kind is not WindowKind.MONTH or start.day == 1


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-08T12:00:00-04:00", 23), ("2026-11-01T12:00:00-05:00", 25), ("2026-06-01T12:00Z", 24)]
)
def test_a_day_is_as_long_as_its_clock_says(day: str, hours: int) -> None:
    """A change of clocks makes a day of 23 or 25 hours, not a shifted one."""
    window = window_at(WindowKind.DAY, instant(day), "America/New_York")
    assert window.ends_at is not None
    assert window.ends_at - window.starts_at == hours * 3600


def test_the_last_instant_of_a_month_is_still_that_month() -> None:
    """Off by nothing: the edge itself is the next month."""
    edge = instant("2026-11-01T00:00:00+00:00")
    assert window_at(WindowKind.MONTH, edge - 0.001, "UTC") == Window(instant("2026-10-01T00:00:00+00:00"), edge)
    assert window_at(WindowKind.MONTH, edge, "UTC").starts_at == edge


def test_the_same_instant_is_another_day_elsewhere() -> None:
    """Windows follow the team's calendar."""
    at = instant("2026-12-31T23:30:00+00:00")
    assert local_day(at, "UTC") == "2026-12-31"
    assert local_day(at, "Asia/Kathmandu") == "2027-01-01"


def test_total_never_ends() -> None:
    """A total budget is one window for ever."""
    assert window_at(WindowKind.TOTAL, 5.0, "UTC") == Window(0.0, None)


def test_an_unknown_zone_is_an_error() -> None:
    """A wrong time zone is not quietly UTC."""
    with pytest.raises(ZoneInfoNotFoundError):
        window_at(WindowKind.DAY, 5.0, "Mars/Olympus")


@given(times)
def test_accounting_months_follow_each_other_in_utc(at: float) -> None:
    """A month's start lies in it, and the next one's after it."""
    period = period_of(at)
    following = period_start(period_after(period))
    assert period_start(period) <= at < following
    assert period_of(following) == period_after(period)
    assert datetime.fromtimestamp(following, UTC).day == 1


def test_december_is_followed_by_january() -> None:
    """The year turns."""
    assert period_after("2026-12") == "2027-01"


@pytest.mark.parametrize(
    "text", ["2026", "2026-13", "2026-1", "26-1-1", "", "1969-12", "9001-01", "0000-01", "٢٠٢٦-10"]
)
def test_what_is_no_month_is_refused(text: str) -> None:
    """An accounting month is written YYYY-MM, and lies in years that a calendar can count on from."""
    with pytest.raises(ValueError, match="accounting month"):
        period_start(text)
