"""What came of a simulated week: the figures while it runs, and the report that people and machines read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.charts import Series, lines, page, stacked

HOUR_S = 3600.0
DAY_S = 86_400.0


@dataclass(slots=True)
class RouteFigures:
    """One route: calls made, refused before they began, renders failed, delivered, and money. Times in seconds."""

    calls: int = 0
    refused: int = 0
    failed: int = 0
    delivered: int = 0
    spend_micros: int = 0
    peak_in_flight: int = 0


@dataclass(slots=True)
class AccountFigures:
    """One account: credit hour by hour, what was bought on top, and when it was first too small for a render."""

    credit_micros: list[int | None] = field(default_factory=list)
    spend_micros: list[int] = field(default_factory=list)
    topped_up_micros: int = 0
    dry_at_h: float | None = None


@dataclass(slots=True)
class KindFigures:
    """One kind of request: what was asked, what came in time and late, and how long it took, seconds."""

    jobs: int = 0
    in_time: int = 0
    late: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    times_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sample:
    """What stands on the accounts at the end of an hour."""

    hour: int
    credit_micros: dict[str, int | None]


class Figures:
    """Counts while a simulation runs; `report` makes the whole of it."""

    def __init__(self, days: int, routes: Sequence[str], accounts: Sequence[str]) -> None:
        self._hours = days * 24
        self.jobs = 0
        self.routes = {name: RouteFigures() for name in routes}
        self.accounts = {name: AccountFigures(spend_micros=[0] * self._hours) for name in accounts}
        self.kinds: dict[str, KindFigures] = {}
        self._in_flight = 0
        self._peaks = [0] * self._hours
        self._waiting_peaks = [0] * self._hours
        self._waits_s: list[float] = []

    def arrived(self, kind: str) -> None:
        """One more request."""
        self.jobs += 1
        self.kinds.setdefault(kind, KindFigures()).jobs += 1

    def started(self, now: float, route: str, on_route: int, waited_s: float) -> None:
        """A vendor accepted a render; `on_route` run there now, and the job had waited so long."""
        self._in_flight += 1
        figures, hour = self.routes[route], self._hour(now)
        figures.peak_in_flight = max(figures.peak_in_flight, on_route)
        self._peaks[hour] = max(self._peaks[hour], self._in_flight)
        self._waits_s.append(waited_s)

    def stopped(self) -> None:
        """A render ended."""
        self._in_flight -= 1

    def waiting(self, now: float, jobs: int) -> None:
        """So many jobs have nothing under way now."""
        hour = self._hour(now)
        self._waiting_peaks[hour] = max(self._waiting_peaks[hour], jobs)

    def delivered(self, kind: str, route: str, took_s: float, deadline_s: float) -> None:
        """A job has its video."""
        self.routes[route].delivered += 1
        figures = self.kinds[kind]
        figures.times_s.append(took_s)
        if took_s <= deadline_s:
            figures.in_time += 1
        else:
            figures.late += 1

    def lost(self, kind: str, why: str) -> None:
        """A job ended without a video."""
        self.kinds[kind].lost[why] += 1

    def spent(self, now: float, route: str, amount_micros: int) -> None:
        """A vendor billed a render."""
        self.routes[route].spend_micros += amount_micros
        self.accounts[route.partition("/")[0]].spend_micros[self._hour(now)] += amount_micros

    def dry(self, account: str, now: float) -> None:
        """An account could not pay for a render."""
        figures = self.accounts[account]
        figures.dry_at_h = now / HOUR_S if figures.dry_at_h is None else figures.dry_at_h

    def sample(self, sample: Sample) -> None:
        """Keep what stands on the accounts."""
        for name, credit in sample.credit_micros.items():
            self.accounts[name].credit_micros.append(credit)

    def _hour(self, now: float) -> int:
        return min(self._hours - 1, int(now // HOUR_S))

    def report(self, name: str, seed: int) -> dict[str, Any]:
        """Everything as JSON: money in micro-USD, times in seconds unless the name says hours."""
        return {
            "scenario": name,
            "seed": seed,
            "days": self._hours // 24,
            "jobs": self.jobs,
            "spend_micros": sum(one.spend_micros for one in self.routes.values()),
            "in_time": sum(one.in_time for one in self.kinds.values()),
            "late": sum(one.late for one in self.kinds.values()),
            "lost": sum(sum(one.lost.values()) for one in self.kinds.values()),
            "peak_in_flight": max(self._peaks),
            "peak_waiting": max(self._waiting_peaks),
            "wait_p50_s": quantile(self._waits_s, 0.5),
            "wait_p95_s": quantile(self._waits_s, 0.95),
            "kinds": {name: _kind(one) for name, one in self.kinds.items()},
            "routes": {name: _route(one) for name, one in self.routes.items()},
            "providers": {name: self._account(one) for name, one in self.accounts.items()},
            "hours": {"in_flight": self._peaks, "waiting": self._waiting_peaks},
        }

    def _account(self, one: AccountFigures) -> dict[str, Any]:
        last_day = sum(one.spend_micros[-24:])
        credit = one.credit_micros[-1] if one.credit_micros else None
        runway_h = credit / last_day * 24.0 if credit is not None and last_day > 0 else None
        return {
            "spend_micros": sum(one.spend_micros),
            "busiest_day_micros": max(sum(one.spend_micros[day : day + 24]) for day in range(0, self._hours, 24)),
            "credit_left_micros": credit,
            "topped_up_micros": one.topped_up_micros,
            "dry_at_h": one.dry_at_h,
            "runway_h": runway_h,
            "spend_by_hour_micros": one.spend_micros,
            "credit_by_hour_micros": one.credit_micros,
        }


def _kind(one: KindFigures) -> dict[str, Any]:
    return {
        "jobs": one.jobs,
        "in_time": one.in_time,
        "late": one.late,
        "lost": dict(one.lost),
        "p50_s": quantile(one.times_s, 0.5),
        "p95_s": quantile(one.times_s, 0.95),
    }


def _route(one: RouteFigures) -> dict[str, Any]:
    return {
        "calls": one.calls,
        "refused": one.refused,
        "failed": one.failed,
        "delivered": one.delivered,
        "spend_micros": one.spend_micros,
        "peak_in_flight": one.peak_in_flight,
    }


def quantile(values: Sequence[float], share: float) -> float | None:
    """The value under which this share lies; None of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def plot(report: dict[str, Any]) -> str:
    """The report as one HTML page with its charts in it."""
    hours = list(range(report["days"] * 24))
    providers = report["providers"]
    spend = [Series(name, [micros / 1e6 for micros in one["spend_by_hour_micros"]]) for name, one in providers.items()]
    credit = [
        Series(name, [(micros or 0) / 1e6 for micros in one["credit_by_hour_micros"]], colour)
        for colour, (name, one) in enumerate(providers.items())
        if one["credit_left_micros"] is not None
    ]
    load = [Series("running", report["hours"]["in_flight"]), Series("waiting", report["hours"]["waiting"])]
    labels = [f"day {hour // 24 + 1}" if hour % 24 == 0 else "" for hour in hours]
    charts = [
        ("Spend an hour, by provider", stacked(labels, spend, unit="$")),
        ("Renders running and jobs waiting, the most in each hour", lines(labels, load, unit="")),
    ]
    if credit:
        charts.append(("Credit left", lines(labels, credit, unit="$")))
    summary = (
        f"{report['jobs']:,} jobs in {report['days']} days, ${report['spend_micros'] / 1e6:,.2f}; "
        f"{report['in_time']:,} in time, {report['late']:,} late, {report['lost']:,} without a video. "
        f"Seed {report['seed']}."
    )
    return page(report["scenario"], summary, charts)
