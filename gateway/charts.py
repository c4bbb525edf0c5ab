"""Small charts as SVG inside one HTML page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 860, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 28
GRID_LINES = 6  # at most, the one at zero not counted
FEW = 40  # up to so many points each is marked, and so a single one is seen at all
WRITTEN_FROM = 16  # a layer of a bar that is at least so high and wide has its value written in it
WRITTEN_WIDTH = 40
# Okabe and Ito's colours: told apart by the colour-blind too.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#999999")
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 900px; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a;
  background: #fff }
h1 { font-size: 1.4rem } h2 { font-size: 1rem; margin: 2rem 0 .25rem }
svg { width: 100%; height: auto } text { font: 11px system-ui, sans-serif; fill: #555 }
.on { fill: #000; font-weight: 600 } polyline { stroke-linejoin: round }
.key { display: flex; gap: 1.25rem; flex-wrap: wrap; font-size: 13px } .key i { display: inline-block; width: 12px;
  height: 12px; border-radius: 2px; margin-right: 6px; vertical-align: -1px }
@media (prefers-color-scheme: dark) { body { background: #15171a; color: #e8e8e8 } text { fill: #aaa }
  .on { fill: #000 } }
"""


@dataclass(frozen=True, slots=True)
class Series:
    """One line or one layer: a name and a value for each label. `colour` keeps one name alike on several charts."""

    name: str
    values: Sequence[float]
    colour: int | None = None


def page(title: str, summary: str, charts: Sequence[tuple[str, str]]) -> str:
    """A whole page: title, a sentence, and each chart under its heading."""
    parts = "".join(f"<h2>{escape(heading)}</h2>{chart}" for heading, chart in charts)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
        f"<h1>{escape(title)}</h1><p>{escape(summary)}</p>{parts}</html>"
    )


def lines(labels: Sequence[str], series: Sequence[Series], *, unit: str) -> str:
    """A line for each series over the labels."""
    step, top = _scale(max((value for one in series for value in one.values), default=0.0))
    drawn = []
    for number, one in enumerate(series):
        points = [(_x(i, len(labels)), _y(value, top)) for i, value in enumerate(one.values)]
        path, colour = " ".join(f"{x:.1f},{y:.1f}" for x, y in points), _colour(one, number)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        if len(labels) <= FEW:
            drawn.extend(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points)
    return _framed(labels, series, Axis(step, top, unit), "".join(drawn))


def stacked(labels: Sequence[str], series: Sequence[Series], *, unit: str) -> str:
    """A bar for each label, made of one layer a series."""
    totals = [sum(one.values[i] for one in series) for i in range(len(labels))]
    step, top = _scale(max(totals, default=0.0))
    width = min(160.0, max(1.0, (WIDTH - LEFT - RIGHT) / max(1, len(labels)) * 0.85))
    below = [0.0] * len(labels)
    drawn = []
    for number, one in enumerate(series):
        for i, value in enumerate(one.values):
            if value > 0:
                y, base, x = _y(below[i] + value, top), _y(below[i], top), _x(i, len(labels))
                box = f'x="{x - width / 2:.1f}" y="{y:.1f}" width="{width:.1f}" height="{base - y:.1f}"'
                drawn.append(f'<rect {box} fill="{_colour(one, number)}"/>')
                if base - y >= WRITTEN_FROM and width >= WRITTEN_WIDTH:
                    middle = f'x="{x:.1f}" y="{(y + base) / 2 + 4:.1f}"'
                    drawn.append(f'<text class="on" {middle} text-anchor="middle">{unit}{_number(value)}</text>')
                below[i] += value
    return _framed(labels, series, Axis(step, top, unit), "".join(drawn))


@dataclass(frozen=True, slots=True)
class Axis:
    """The values beside a chart: a line each `step` up to `top`."""

    step: float
    top: float
    unit: str


def _framed(labels: Sequence[str], series: Sequence[Series], axis: Axis, drawn: str) -> str:
    grid = []
    for number in range(round(axis.top / axis.step) + 1):
        value = axis.step * number
        y = _y(value, axis.top)
        grid.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#8884"/>')
        grid.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{axis.unit}{_number(value)}</text>')
    for i, label in enumerate(labels):
        if label:
            x, floor = _x(i, len(labels)), HEIGHT - BOTTOM
            grid.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{floor}" y2="{floor + 5}" stroke="#888"/>')
            grid.append(f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(label)}</text>')
    names = "".join(
        f'<span><i style="background:{_colour(one, number)}"></i>{escape(one.name)}</span>'
        for number, one in enumerate(series)
    )
    told = escape(", ".join(one.name for one in series))
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{told}">'
    return f'<div class="key">{names}</div>{head}{"".join(grid)}{drawn}</svg>'


def _colour(one: Series, number: int) -> str:
    return COLOURS[(number if one.colour is None else one.colour) % len(COLOURS)]


def _number(value: float) -> str:
    """Four figures are enough to read, and whole thousands stay whole."""
    return f"{value:,.0f}" if abs(value) >= 1000.0 else f"{value:.4g}"


def _x(index: int, count: int) -> float:
    return LEFT + (index + 0.5) * (WIDTH - LEFT - RIGHT) / max(1, count)


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)


def _scale(value: float) -> tuple[float, float]:
    """The distance of the grid's lines, 1, 2 or 5 times a power of ten, and the first of them at or above the value."""
    if value <= 0:
        return 1.0, 1.0
    power = 10.0 ** math.floor(math.log10(value / GRID_LINES))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power * GRID_LINES >= value * 0.999)
    return step, step * math.ceil(value / step * 0.999)
