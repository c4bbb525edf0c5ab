"""What a replay says: what was beside what would have been, as JSON and as a page of charts. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from gateway.charts import Series, lines, page, stacked

Decision = Literal["real", "kept", "moved", "lost"]
LOST = "no video"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job, or would have: route, vendor's cost in micro-USD, odds of being in time, and seconds.

    `real` is what happened; `kept` the same under the new decision; `moved` an estimate; `lost` had no route in time.
    """

    route: str | None
    cost_micros: int
    in_time: float
    took_s: float | None
    decision: Decision


@dataclass(frozen=True, slots=True)
class Replayed:
    """One job as it was and as it would have been."""

    job: str
    created_at: float
    was: Outcome
    would: Outcome


def report(replayed: Sequence[Replayed], *, left_out: int, asked: dict[str, Any]) -> dict[str, Any]:
    """Everything as JSON: money in micro-USD, times in seconds. `left_out` jobs ended by the caller's doing."""
    moves = Counter(
        (one.was.route or LOST, one.would.route or LOST) for one in replayed if one.would.decision != "kept"
    )
    return {
        "asked": asked,
        "jobs": len(replayed),
        "left_out": left_out,
        "decisions": dict(Counter(one.would.decision for one in replayed)),
        "was": _side([one.was for one in replayed]),
        "would": _side([one.would for one in replayed]),
        "moves": [{"from": old, "to": new, "jobs": count} for (old, new), count in moves.most_common(12)],
        "days": _days(replayed),
    }


def _side(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    times = sorted(one.took_s for one in outcomes if one.took_s is not None)
    return {
        "cost_micros": sum(one.cost_micros for one in outcomes),
        "in_time": round(sum(one.in_time for one in outcomes), 3),
        "lost": sum(1 for one in outcomes if one.route is None),
        "p50_s": times[len(times) // 2] if times else None,
        "mix": dict(Counter(one.route or LOST for one in outcomes).most_common()),
    }


def _days(replayed: Sequence[Replayed]) -> list[dict[str, Any]]:
    days: dict[str, list[Replayed]] = {}
    for one in replayed:
        days.setdefault(datetime.fromtimestamp(one.created_at, UTC).date().isoformat(), []).append(one)
    return [
        {
            "day": day,
            "jobs": len(ones),
            "was_micros": sum(one.was.cost_micros for one in ones),
            "would_micros": sum(one.would.cost_micros for one in ones),
            "was_in_time": sum(one.was.in_time for one in ones),
            "would_in_time": sum(one.would.in_time for one in ones),
        }
        for day, ones in sorted(days.items())
    ]


def plot(told: dict[str, Any]) -> str:
    """The report as one HTML page with its charts in it."""
    days = told["days"]
    every = max(1, len(days) // 10)
    labels = [one["day"][5:] if number % every == 0 else "" for number, one in enumerate(days)]
    cost = [
        Series("was", [one["was_micros"] / 1e6 for one in days]),
        Series("would have been", [one["would_micros"] / 1e6 for one in days]),
    ]
    in_time = [
        Series("was", [100 * one["was_in_time"] / one["jobs"] for one in days]),
        Series("would have been", [100 * one["would_in_time"] / one["jobs"] for one in days]),
    ]
    routes = sorted(told["was"]["mix"].keys() | told["would"]["mix"].keys())
    mix = [Series(name, [told[side]["mix"].get(name, 0) for side in ("was", "would")]) for name in routes]
    was, would = told["was"], told["would"]
    summary = (
        f"{told['jobs']:,} jobs: ${was['cost_micros'] / 1e6:,.2f} was, ${would['cost_micros'] / 1e6:,.2f} would have "
        f"been; {was['in_time']:,.0f} in time was, {would['in_time']:,.1f} would have been. "
        f"{told['decisions'].get('kept', 0):,} decisions stay as they were; the others are estimates."
    )
    charts = [
        ("Cost a day, as vendors charge", lines(labels, cost, unit="$")),
        ("In time, percent of the day's jobs", lines(labels, in_time, unit="")),
        ("Jobs by route", stacked(["was", "would have been"], mix, unit="")),
    ]
    return page("Replay", summary, charts)
