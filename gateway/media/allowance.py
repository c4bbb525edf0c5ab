"""What opening one file may cost: memory above that of an idle worker, processor time, and time on the wall. Pure.

A small file is never allowed much, whatever it declares; a large one may cost in proportion to the bytes that its
sender had to send for it.
"""

from __future__ import annotations

from dataclasses import dataclass

MEBIBYTE = 1024 * 1024
MEMORY_BYTES_MIN = 64 * MEBIBYTE
# A smooth photograph of 12 megapixels in half a megabyte of WebP takes 230 MiB to open: its reader keeps four canvases.
MEMORY_PER_BYTE_SENT = 512
# The most that any reader and the steps after it keep for a pixel: WebP's canvases and the picture itself.
MEMORY_PER_PIXEL = 20
# The limit counts whole seconds and strikes within one more: five in all.
CPU_S_MIN = 4
CPU_S_PER_MEBIBYTE = 1
CPU_S_MAX = 60
# What is ours already is cut, scaled and written anew: nobody outside can make that cost more than it must.
OWN_CPU_S = 60
# On a busy machine a process waits for its turn: the clock on the wall is the last resort.
WALL_PER_CPU = 6


@dataclass(frozen=True, slots=True)
class Allowance:
    """The bounds of one job of a worker."""

    memory_bytes: int
    cpu_s: int

    @property
    def wall_s(self) -> float:
        """How long the whole job may take."""
        return float(WALL_PER_CPU * self.cpu_s)


def for_file(size_bytes: int, memory_bytes_max: int, *, pixels: int | None = None) -> Allowance:
    """What a stranger's file may cost; `pixels` are those its header declares, where that is known."""
    memory_bytes = MEMORY_PER_BYTE_SENT * size_bytes
    if pixels is not None:
        memory_bytes = min(memory_bytes, MEMORY_BYTES_MIN + 2 * size_bytes + MEMORY_PER_PIXEL * pixels)
    cpu_s = min(CPU_S_MAX, CPU_S_MIN + CPU_S_PER_MEBIBYTE * (size_bytes // MEBIBYTE))
    return Allowance(min(max(memory_bytes, MEMORY_BYTES_MIN), memory_bytes_max), cpu_s)


def for_own(size_bytes: int, memory_bytes_max: int, *, pixels: int) -> Allowance:
    """What a step may cost that begins with a file of vidgate's own making, or one that was opened whole before."""
    memory_bytes = MEMORY_BYTES_MIN + 2 * size_bytes + MEMORY_PER_PIXEL * pixels
    return Allowance(min(memory_bytes, memory_bytes_max), OWN_CPU_S)
