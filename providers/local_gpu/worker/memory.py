"""What to give up when a card's memory does not suffice, one step at a time. Pure: no PyTorch here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Stage = Literal["denoise", "decode"]


@dataclass(frozen=True, slots=True)
class Footprint:
    """How much a render holds at once: frames decoded together, both guidance passes together, the idle parts too."""

    chunk: int
    split: bool = False
    offload: bool = False


def smaller(footprint: Footprint, stage: Stage) -> Footprint | None:
    """The next smaller footprint for the stage that ran out of memory; None when nothing is left to give up.

    Decoding takes fewer frames at a time down to one; denoising runs its two guidance passes one after the other; then
    the parts that do not compute leave the card.
    """
    if stage == "decode" and footprint.chunk > 1:
        return replace(footprint, chunk=footprint.chunk // 2)
    if stage == "denoise" and not footprint.split:
        return replace(footprint, split=True)
    if not footprint.offload:
        return replace(footprint, offload=True)
    return None
