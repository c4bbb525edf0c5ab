"""Threads for decoding and encoding, so that the event loop never waits for pixels.

Pillow and PyAV let go of the interpreter lock while they work, so threads are enough. Their number is what bounds the
memory that pictures can take: at most so many are open at once, each within its own limits.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
Result = TypeVar("Result")

WORKERS = min(8, max(2, os.cpu_count() or 1))
_pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="vidgate-media")


async def in_worker(function: Callable[P, Result], /, *args: P.args, **kwargs: P.kwargs) -> Result:
    """Run a function on one of the media threads and return its result."""
    return await asyncio.get_running_loop().run_in_executor(_pool, partial(function, *args, **kwargs))
