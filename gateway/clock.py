"""The one place that reads the time and sleeps; everything else is handed a clock."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """Real time: unix seconds, and asyncio's sleep."""

    def now(self) -> float:
        """Unix time in seconds."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Return after this many seconds."""
        await asyncio.sleep(max(0.0, seconds))
