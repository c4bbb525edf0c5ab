"""The real decoding processes, shared by all gateways and tests of this process: a start costs more than a test."""

from __future__ import annotations

import atexit
from functools import cache

from gateway.media.decoders import Decoders
from gateway.media.workers import Workers


class SharedWorkers(Workers):
    """Real workers that outlive whoever uses them."""

    async def close(self) -> None:
        """Keep them for the next gateway; they end with the tests."""


@cache
def _shared() -> SharedWorkers:
    workers = SharedWorkers(2)
    atexit.register(workers.end)
    return workers


def shared_workers(_size: int = 0, _memory_bytes_max: int = 0) -> Workers:
    """Stands where the composition names `Workers`."""
    return _shared()


def decoders() -> Decoders:
    """Decoders over the shared workers."""
    return Decoders(_shared())
