"""How long a render takes on machines of our own, by what they measured on others. Pure.

A shape that was measured takes what it took. Any other takes what the nearest measured one took, in proportion to its
work. That is true of frames and of guidance passes, and nearly so of pixels: attention within a frame grows with their
square, so that a first render at a larger frame takes longer than is told here, and one at a smaller frame less long.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# What a render does without guidance it does once a step, with guidance twice.
GUIDED, UNGUIDED = 2, 1
GUIDANCE = ("max_guidance_scale", "guidance_scale")
# A frame of another size is the less alike: of what takes how long there, not all is in proportion.
PIXELS_COUNT = 2.0


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides how much one step computes: frames, pixels of each, and how often the network sees them."""

    frames: int
    pixels: int
    passes: int

    @property
    def frame_pixels(self) -> int:
        """What is read, decoded and written once a render: its seconds beside the steps are in proportion to it."""
        return self.frames * self.pixels

    @property
    def work(self) -> int:
        """What is computed in a step: its seconds are in proportion to it."""
        return self.frame_pixels * self.passes


@dataclass(frozen=True, slots=True)
class Measured:
    """What renders of one shape took: a step, and everything beside the steps. Without a shape it is true of any."""

    step_s: float
    fixed_s: float
    shape: Shape | None = None

    def at(self, shape: Shape | None) -> Measured:
        """The same pace at another shape, in proportion to its work."""
        if shape is None or self.shape is None:
            return self
        step_s = self.step_s * (shape.work / self.shape.work)
        return Measured(step_s, self.fixed_s * (shape.frame_pixels / self.shape.frame_pixels), shape)


# What one machine has measured of a model, the newest first; nothing before its first render.
Pace = tuple[Measured, ...]


def shape_of(values: Mapping[str, Any]) -> Shape | None:
    """The shape of a render by its canonical parameters; None where its size is not among them."""
    width, height, frames = (_count(values.get(name)) for name in ("width", "height", "num_frames"))
    if not width or not height:
        return None
    scale = next((values[name] for name in GUIDANCE if isinstance(values.get(name), int | float)), None)
    return Shape(frames or 1, width * height, UNGUIDED if scale is not None and scale <= 1 else GUIDED)


def steps_of(values: Mapping[str, Any]) -> int | None:
    """The steps that are really run: with a strength, only that share of them; None where nobody says how many."""
    steps, strength = _count(values.get("num_inference_steps")), values.get("strength")
    if steps is None or not isinstance(strength, int | float):
        return steps
    return min(steps, int(steps * strength))


def expected(pace: Sequence[Measured], shape: Shape | None) -> Measured | None:
    """What a machine takes for this shape, None before it measured anything; of an unknown shape, what it took last."""
    if not pace:
        return None
    return pace[0] if shape is None else min(pace, key=lambda one: _unlike(one.shape, shape)).at(shape)


def render_s(pace: Sequence[Measured], values: Mapping[str, Any]) -> float | None:
    """Seconds of a machine for a render with these canonical parameters; None when nobody can tell."""
    known, steps = expected(pace, shape_of(values)), steps_of(values)
    return None if known is None or steps is None else known.fixed_s + known.step_s * steps


def mean_render_s(paces: Sequence[Pace], values: Mapping[str, Any]) -> float | None:
    """The same over several machines: the mean of those that can tell."""
    told = [seconds for pace in paces if (seconds := render_s(pace, values)) is not None]
    return sum(told) / len(told) if told else None


def _unlike(known: Shape | None, wanted: Shape) -> float:
    """How far a measured shape is from another one; one that is true of any is the last resort."""
    if known is None:
        return math.inf
    pixels = abs(math.log(known.pixels / wanted.pixels))
    return PIXELS_COUNT * pixels + abs(math.log(known.frames * known.passes / (wanted.frames * wanted.passes)))


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
