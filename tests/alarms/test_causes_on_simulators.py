"""Alarms caused at the vendor's simulator, over real sockets in virtual time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.alarms.seen import causes, every_minute, watching
from tests.support.gateway import fresh_database
from tests.support.vendors import SocketLoop, world

pytestmark = pytest.mark.anyio
RUNWAY = 'vidgate_provider_runway_seconds{provider="segmind"}'


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": SocketLoop}


@causes("VidgateCreditRunwayShort")
async def test_the_vendors_credits_run_dry(tmp_path: Path, template: Path) -> None:
    """A render every two minutes, and the vendor says what is left: days at first, then hours, in the end nothing."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SocketLoop)
    fresh_database(tmp_path, template)
    sections = {"segmind": {"routes": ("segmind/svd",)}}
    async with world(tmp_path, loop, sections=sections, polling={"balance_every_s": 60}) as place:
        gateway = place.gateway
        place.segmind.switch(credits_micros=33_000_000, free_credits_micros=0)

        async def now_and_then() -> None:
            await place.send()
            await gateway.clock.sleep(120)

        async with watching(gateway) as seen:
            await every_minute(gateway, 25, now_and_then)
            place.segmind.switch(credits_micros=place.segmind.charged_micros())
            await every_minute(gateway, 2, now_and_then)
    runway_s = [float(scrape.get(RUNWAY, "inf")) for scrape in seen.scrapes]
    short = next(minute for minute, left_s in enumerate(runway_s) if left_s < 12 * 3600)
    assert 20 < short < 38, runway_s
    assert runway_s[10] > 24 * 3600
    assert runway_s[-1] == 0
    seen.judge(tmp_path, "VidgateCreditRunwayShort", quiet_until=short + 9, fires_at=short + 11)
