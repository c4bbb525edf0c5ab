"""A price as data: terms over a request's parameters, and factors by tiers of fps, motion or any other number. Pure.

A formula is a list of terms, each `usd` times a quantity:

    call         1
    frame        num_frames
    second       seconds of video: num_frames / fps
    step         num_inference_steps
    sample       samples
    gpu_second   `gpu_seconds` where measured, else the term's own estimate

A term may include some units (`included`) and may count once for every sample (`each: sample`). Tiers multiply the sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from gateway.money.amounts import ceil_micros, decimal_usd
from providers.vocabulary import Scalar

Confidence = Literal["exact", "published", "measured", "average", "assumed"]
Per = Literal["call", "frame", "second", "step", "sample", "gpu_second"]

# From the surest to the least sure: a price is as sure as its least sure figure.
CONFIDENCES: tuple[Confidence, ...] = ("exact", "published", "measured", "average", "assumed")


def _decimal(value: object) -> Decimal:
    if not isinstance(value, str | int | Decimal):
        raise ValueError('write numbers of money as quoted decimals, such as "0.1659"')
    return decimal_usd(value, "figure")


Figure = Annotated[Decimal, BeforeValidator(_decimal)]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GpuEstimate(_Data):
    """GPU seconds of a render before it has run: a start, plus so much a frame, a step, and a frame and step."""

    base_s: Figure = Decimal(0)
    frame_s: Figure = Decimal(0)
    step_s: Figure = Decimal(0)
    frame_step_s: Figure = Decimal(0)


class Term(_Data):
    """One figure of a formula, with where it is from and how sure it is."""

    per: Per
    usd: Figure
    source: str = Field(min_length=1)
    confidence: Confidence
    included: Figure = Decimal(0)
    each: Literal["call", "sample"] = "call"
    estimate: GpuEstimate | None = None

    @model_validator(mode="after")
    def _estimate_belongs_to_gpu_seconds(self) -> Self:
        if (self.per == "gpu_second") != (self.estimate is not None):
            raise ValueError("`estimate` belongs to `per: gpu_second`, and is needed there")
        return self


class Band(_Data):
    """Up to and with `up_to` of the tier's parameter (None: above all others) the price is times `factor`."""

    up_to: Figure | None = None
    factor: Figure


class Tiers(_Data):
    """Factors by bands of one parameter, the lowest band first; the last one is open."""

    parameter: str = Field(min_length=1)
    bands: tuple[Band, ...] = Field(min_length=1)
    source: str = Field(min_length=1)
    confidence: Confidence

    @model_validator(mode="after")
    def _bands_ascend_and_end_open(self) -> Self:
        edges = [band.up_to for band in self.bands[:-1]]
        closed = [edge for edge in edges if edge is not None]
        if len(closed) != len(edges) or self.bands[-1].up_to is not None:
            raise ValueError("every band but the last needs `up_to`, and the last has none")
        if sorted(set(closed)) != closed:
            raise ValueError("the bands of a tier must ascend")
        return self

    def band(self, number: Decimal) -> Band:
        """The band in which a number lies."""
        return next(band for band in self.bands if band.up_to is None or number <= band.up_to)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a price: what for, how many, at how much, and what it comes to in micro-USD."""

    label: str
    quantity: str
    usd: str
    amount_micros: int


class Formula(_Data):
    """A route's price from a date on. `worst_factor` turns the expected cost into the most it is held for."""

    free: bool = False
    terms: tuple[Term, ...] = ()
    tiers: tuple[Tiers, ...] = ()
    worst_factor: Annotated[Figure, Field(ge=1, le=100)] = Decimal(1)

    @model_validator(mode="after")
    def _free_or_priced(self) -> Self:
        if self.free == bool(self.terms):
            raise ValueError("a price has terms, or says `free: true`")
        return self

    def lines(self, parameters: Mapping[str, Scalar]) -> tuple[Line, ...] | None:
        """The lines of the price for these parameters; None when one that it needs is missing or not a number."""
        lines: list[Line] = []
        for term in self.terms:
            quantity = _quantity(term, parameters)
            if quantity is None:
                return None
            amount_micros = ceil_micros(term.usd * quantity)
            lines.append(Line(f"per {term.per}", f"{quantity.normalize():f}", f"{term.usd:f}", amount_micros))
        for tier in self.tiers:
            number = _number(parameters, tier.parameter)
            if number is None:
                return None
            factor = tier.band(number).factor
            sum_micros = sum(line.amount_micros for line in lines)
            change_micros = ceil_micros(Decimal(sum_micros) * factor / 1_000_000) - sum_micros
            lines.append(Line(f"{tier.parameter} {number:f}", f"times {factor:f}", "", change_micros))
        return tuple(lines)

    def confidence(self) -> Confidence:
        """How sure the least sure figure is."""
        figures = [*(term.confidence for term in self.terms), *(tier.confidence for tier in self.tiers)]
        return max(figures, key=CONFIDENCES.index, default="exact")


def _number(parameters: Mapping[str, Scalar], name: str) -> Decimal | None:
    value = parameters.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    number = Decimal(str(value))
    return number if number.is_finite() and number >= 0 else None


def _quantity(term: Term, parameters: Mapping[str, Scalar]) -> Decimal | None:
    units = _UNITS[term.per](term, parameters)
    times = _number(parameters, "samples") if term.each == "sample" else Decimal(1)
    if units is None or times is None:
        return None
    return max(Decimal(0), units - term.included) * times


def _one(_term: Term, _parameters: Mapping[str, Scalar]) -> Decimal | None:
    return Decimal(1)


def _count_of(name: str) -> Callable[[Term, Mapping[str, Scalar]], Decimal | None]:
    return lambda _term, parameters: _number(parameters, name)


def _video_seconds(_term: Term, parameters: Mapping[str, Scalar]) -> Decimal | None:
    frames, fps = _number(parameters, "num_frames"), _number(parameters, "fps")
    return frames / fps if frames is not None and fps else None


def _gpu_seconds(term: Term, parameters: Mapping[str, Scalar]) -> Decimal | None:
    if "gpu_seconds" in parameters:
        return _number(parameters, "gpu_seconds")
    estimate = term.estimate or GpuEstimate()
    frames, steps = _number(parameters, "num_frames"), _number(parameters, "num_inference_steps")
    if (frames is None and estimate.frame_s + estimate.frame_step_s) or (
        steps is None and estimate.step_s + estimate.frame_step_s
    ):
        return None
    frames, steps = frames or Decimal(0), steps or Decimal(0)
    per_frame = estimate.frame_s * frames + estimate.frame_step_s * frames * steps
    return estimate.base_s + per_frame + estimate.step_s * steps


_UNITS: Mapping[Per, Callable[[Term, Mapping[str, Scalar]], Decimal | None]] = {
    "call": _one,
    "frame": _count_of("num_frames"),
    "second": _video_seconds,
    "step": _count_of("num_inference_steps"),
    "sample": _count_of("samples"),
    "gpu_second": _gpu_seconds,
}
