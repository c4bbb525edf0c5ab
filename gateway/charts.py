"""Small charts as SVG inside one HTML page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 860, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 28
# Okabe and Ito's colours: told apart by the colour-blind too.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#999999")
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 900px; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a;
  background: #fff }
h1 { font-size: 1.4rem } h2 { font-size: 1rem; margin: 2rem 0 .25rem }
svg { width: 100%; height: auto } text { font: 11px system-ui, sans-serif; fill: #555 }
.key { display: flex; gap: 1.25rem; flex-wrap: wrap; font-size: 13px } .key i { display: inline-block; width: 12px;
  height: 12px; border-radius: 2px; margin-right: 6px; vertical-align: -1px }
@media (prefers-color-scheme: dark) { body { background: #15171a; color: #e8e8e8 } text { fill: #aaa } }
"""


@dataclass(frozen=True, slots=True)
class Series:
    """One line or one layer: a name and a value for each label."""

    name: str
    values: Sequence[float]


def page(title: str, summary: str, charts: Sequence[tuple[str, str]]) -> str:
    """A whole page: title, a sentence, and each chart under its heading."""
    parts = "".join(f"<h2>{escape(heading)}</h2>{chart}" for heading, chart in charts)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
        f"<h1>{escape(title)}</h1><p>{escape(summary)}</p>{parts}</html>"
    )


def lines(labels: Sequence[str], series: Sequence[Series], *, unit: str) -> str:
    """A line for each series over the labels."""
    top = _ceiling(max((value for one in series for value in one.values), default=0.0))
    drawn = []
    for number, one in enumerate(series):
        points = " ".join(f"{_x(i, len(labels)):.1f},{_y(v, top):.1f}" for i, v in enumerate(one.values))
        colour = COLOURS[number % len(COLOURS)]
        drawn.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
    return _framed(labels, series, top, unit, "".join(drawn))


def stacked(labels: Sequence[str], series: Sequence[Series], *, unit: str) -> str:
    """A bar for each label, made of one layer a series."""
    totals = [sum(one.values[i] for one in series) for i in range(len(labels))]
    top = _ceiling(max(totals, default=0.0))
    width = max(1.0, (WIDTH - LEFT - RIGHT) / max(1, len(labels)) * 0.85)
    below = [0.0] * len(labels)
    drawn = []
    for number, one in enumerate(series):
        for i, value in enumerate(one.values):
            if value > 0:
                y, base = _y(below[i] + value, top), _y(below[i], top)
                box = f'x="{_x(i, len(labels)) - width / 2:.1f}" y="{y:.1f}" width="{width:.1f}"'
                drawn.append(f'<rect {box} height="{base - y:.1f}" fill="{COLOURS[number % len(COLOURS)]}"/>')
                below[i] += value
    return _framed(labels, series, top, unit, "".join(drawn))


def _framed(labels: Sequence[str], series: Sequence[Series], top: float, unit: str, drawn: str) -> str:
    grid = []
    for step in range(5):
        value = top * step / 4
        y = _y(value, top)
        grid.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#8884"/>')
        grid.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{unit}{value:,.4g}</text>')
    for i, label in enumerate(labels):
        if label:
            x = _x(i, len(labels))
            grid.append(f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(label)}</text>')
    names = "".join(
        f'<span><i style="background:{COLOURS[number % len(COLOURS)]}"></i>{escape(one.name)}</span>'
        for number, one in enumerate(series)
    )
    told = escape(", ".join(one.name for one in series))
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{told}">'
    return f'<div class="key">{names}</div>{head}{"".join(grid)}{drawn}</svg>'


def _x(index: int, count: int) -> float:
    return LEFT + (index + 0.5) * (WIDTH - LEFT - RIGHT) / max(1, count)


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)


def _ceiling(value: float) -> float:
    """The next round number at or above: 1, 2, 2.5 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1.0, 2.0, 2.5, 5.0, 10.0) if step * power >= value * 0.999)
